# SPDX-License-Identifier: Apache-2.0
"""A page of measurements of any sampler, beside random masks of the same budget, and its numbers as JSON.

    smnoise report green-3d --out pictures/green-3d            # green-3d.json, .png and .pdf
    smnoise report optim-blue --grid 64 8 --out pictures/optim-blue --formats png svg

The page shows masks; how often each token is visible, against what chance does; the power of the noise with the band
that the filters promise; the power of the masks in space and time; distances between visible tokens; and how long a
token stays visible from one step to the next. Masks that flicker from one step to the next, or that have holes in a
spectrum, are named.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from .strategies import Budget


@dataclass(frozen=True)
class Options:
    """Measure a sampler."""

    strategy: Positional[str]
    """Short name, such as green-3d or optim-blue; a sampler's JSON or .json file; or a pool's .safetensors."""
    out: Path
    """Path of the files without their endings."""
    budget: Budget = field(default_factory=Budget)
    count: int = 512
    """Masks to measure."""
    formats: tuple[Literal["png", "pdf", "svg"], ...] = ("png", "pdf")
    """Of the page."""
    theme: Literal["paper", "slides", "dark"] = "paper"
    """Size of letters, and the background."""
    json: bool = False
    """Print the numbers, and the paths, as JSON."""


def run(options: Options) -> int:
    from ..viz import style
    from ..viz.report import report
    from .output import print_json, progress

    sampler = options.budget.sampler(options.strategy)
    # Of a sampler that is given as JSON, or drawn from a file, its kind is the name.
    of_file = options.strategy.endswith((".json", "}", ".safetensors"))
    name = type(sampler).__name__ if of_file else options.strategy
    with style.in_theme(options.theme), progress("measuring masks", 2 * options.count) as step:
        values, paths = report(
            sampler, name, options.out, count=options.count, formats=options.formats, step=step
        )
    if options.json:
        print_json({**values, "files": [str(path) for path in paths]})
        return 0
    touching = [
        found["distance to the nearest visible token"]["share touching"]
        for found in (values, values["random masks of the same budget"])
    ]
    seen, visible = values["visibility of a token"], values["visible tokens"]["promised"]
    print(f"{name}: {visible} of {values['tokens']} tokens visible in each of {options.count} masks")
    print(
        f"  a token is visible in {seen['least']:.3f} to {seen['most']:.3f} of them, expected {seen['expected']:.3f}"
    )
    print(f"  {touching[0]:.3f} of the visible tokens touch another one (random masks: {touching[1]:.3f})")
    for said in values["signs"].values():
        print(f"  {said}")
    print("\n".join(map(str, paths)))
    return 0
