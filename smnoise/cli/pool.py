# SPDX-License-Identifier: Apache-2.0
"""Files of masks or noise, made ahead, that a PoolSampler draws from.

    smnoise pool build green-3d --patterns 3000 --out green.safetensors
    smnoise pool build green-3d --patterns 3000 --noise --size 12 20 20 --out noise.safetensors
    smnoise pool info green.safetensors                    # what the file says of itself
    smnoise pool info green.safetensors --check            # and whether its data is what it says

`smnoise sample`, `viz` and `report` take such a file as a strategy.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

from tyro.conf import Positional, subcommand

from .strategies import Budget

if TYPE_CHECKING:
    from ..samplers import Color3D


@dataclass(frozen=True)
class Build:
    """Make a pool."""

    strategy: Positional[str]
    """Short name, or a sampler's JSON or .json file."""
    out: Path
    """A .safetensors file."""
    patterns: int = 3000
    """How many; pattern k is what the sampler gives for sample k."""
    noise: bool = False
    """Keep the noise, from which masks of any ratio are cut later, in many places, instead of masks."""
    size: tuple[int, int, int] | None = None
    """Of a pattern of noise, T H W in tokens; by default somewhat larger than the grid."""
    budget: Budget = field(default_factory=Budget)
    json: bool = False
    """Print what the file says of itself as JSON."""


@dataclass(frozen=True)
class Info:
    """What a pool is."""

    file: Positional[Path]
    """Of smnoise pool build."""
    check: bool = False
    """Read all of it, and compare its data with its hash."""
    json: bool = False
    """Print JSON."""


@dataclass(frozen=True)
class ColorMAE:
    """Bring ColorMAE's noise into a pool's file."""

    file: Positional[Path]
    """An .npz archive of one stack of noise, [patterns, height, width]."""
    out: Path
    """A .safetensors file."""
    array: str | None = None
    """Name of the array in the archive, where it holds several."""
    json: bool = False
    """Print what the new file says of itself as JSON."""


@dataclass(frozen=True)
class Options:
    """Pools."""

    what: (
        Annotated[
            Build, subcommand("build", description="make a pool of a strategy's masks, or of its noise")
        ]
        | Annotated[Info, subcommand("info", description="what a file is, and whether it is whole")]
        | Annotated[
            ColorMAE, subcommand("colormae", description="a pool of the noise that ColorMAE has in .npz")
        ]
    )


def run(options: Options) -> int:
    from .. import pools
    from ..files import make_folder
    from .output import print_json

    what = options.what
    if not isinstance(what, Info) and what.out.suffix != ".safetensors":
        raise ValueError(
            f"out must end with .safetensors, by which other commands know a pool; got {what.out}"
        )
    if not isinstance(what, Info):
        make_folder(what.out.parent)  # what cannot be is found before the work, not after it
    if isinstance(what, Build):
        build(what)
    elif isinstance(what, ColorMAE):
        pools.save(pools.load_colormae(what.file, what.array), what.out)
    elif what.check:
        pools.load(what.file)
    path = what.file if isinstance(what, Info) else what.out
    found, checked = pools.info(path), isinstance(what, Info) and what.check
    if what.json:
        print_json({"file": str(path), **found, **({"checked": True} if checked else {})})
        return 0
    print(f"{path}: its data is what its hash says" if checked else path)
    print("\n".join(f"  {name}: {value}" for name, value in found.items()))
    return 0


def build(what: Build) -> None:
    """Make the pool, and write it."""
    from .. import pools

    if what.noise and (what.budget.mask_ratio is not None or what.budget.num_visible is not None):
        raise ValueError(
            "noise has no count of visible tokens, masks of any ratio are cut from it later; leave out mask_ratio and "
            "num_visible"
        )
    from .output import progress

    if what.size is not None and not what.noise:
        raise ValueError("size is that of noise: add --noise, or leave it out")
    sampler = what.budget.sampler(what.strategy)
    with progress("making patterns", what.patterns) as step:
        done = 0

        def report(made: int, _: int) -> None:
            nonlocal done
            step(made - done)
            done = made

        pool: pools.Pool
        if what.noise:
            colored = cast("Color3D", sampler)  # else build_noise says so
            pool = pools.build_noise(colored, what.patterns, what.size, progress=report)
        else:
            pool = pools.build_masks(sampler, what.patterns, progress=report)
    pools.save(pool, what.out)
