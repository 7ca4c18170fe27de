# SPDX-License-Identifier: Apache-2.0
"""The masks there are: strategies, and the masks of published recipes, with their counts.

    smnoise list                     # all of them
    smnoise list green               # whose name or class has "green" in it
    smnoise list '*-2d' --json       # by a pattern of the shell

What is shown is what `smnoise.sampler_of`, --mask of the trainers and every other command take. Counts are those of
the usual grid: 8 x 14 x 14 of a clip with 0.9 masked, 64 x 8 of a spectrogram with 0.8, a recipe's own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any

from tyro.conf import Positional


@dataclass(frozen=True)
class Options:
    """List masks."""

    pattern: Positional[str] = "*"
    """A part of the name or class, or a pattern with * and ?, whatever the case."""
    json: bool = False
    """Print JSON."""


def run(options: Options) -> int:
    from ..nearest import hint
    from .output import print_json, print_table

    rows = listed()
    wanted = options.pattern.casefold()
    if not set(wanted) & set("*?["):
        wanted = f"*{wanted}*"
    found = [row for row in rows if any(fnmatch(row[of].casefold(), wanted) for of in ("name", "class"))]
    if not found:
        names = [row["name"] for row in rows]
        raise ValueError(f"no mask is called like {options.pattern!r}{hint(options.pattern, names)}")
    if options.json:
        print_json(found)
        return 0
    for kind in ("strategy", "published recipe"):
        part = [row for row in found if row["kind"] == kind]
        if part:
            cells = [
                [
                    row["name"],
                    row["class"],
                    " x ".join(map(str, row["grid"])),
                    f"{row['num_visible']} of {row['tokens']}",
                    row["about"],
                ]
                for row in part
            ]
            print_table((kind, "class", "grid", "visible", "what it is"), cells)
            print()
    return 0


def listed() -> list[dict[str, Any]]:
    """What there is, in order."""
    from .. import STRATEGIES, presets
    from .strategies import Budget

    rows = []
    for kind, names in (("strategy", STRATEGIES), ("published recipe", presets)):
        for name in names:
            sampler = Budget().sampler(name)
            grid = [n for n in sampler.grid if n > 1]
            rows.append(
                {
                    "name": name,
                    "kind": kind,
                    "class": type(sampler).__name__,
                    "grid": grid,
                    "tokens": sampler.num_tokens,
                    "num_visible": sampler.visible_per_sample,
                    "about": _sentence(names[name] if kind != "strategy" else type(sampler), name),
                }
            )
    return rows


def _sentence(documented, name: str) -> str:
    """The first one of its docstring, and what tells it from others of its class."""
    text = " ".join((documented.__doc__ or "").split("\n\n")[0].split())
    first = re.split(r"[.;] | \(contract", text)[0].rstrip(".")
    if name == "multiblock":
        return "Boxes of 15% to 20% of a frame over the whole clip are hidden: V-JEPA's and I-JEPA's masks, but exact"
    return f"{first}; one frame's in all" if name.endswith("2d-tube") else first
