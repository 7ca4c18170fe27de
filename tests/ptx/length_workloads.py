# SPDX-License-Identifier: Apache-2.0
"""Cases for the lengths of rankings that have code of their own, beside those of workloads.py.

Which code ranks n tokens is a matter of n and of the threads of a block: few threads make small grids long.
"""

from __future__ import annotations

from collections.abc import Iterator

from smnoise.spec import ColorSpec

from . import workloads
from .workloads import WANTED, Case, mask_of, samples_of

# Of 32 threads: two keys a thread, seven, thirteen, and more than are held.
GRIDS = ((1, 7, 9), (1, 12, 16), (1, 20, 20), (1, 20, 24))


def few_warps(quick: bool) -> Iterator[Case]:
    """Every colour kernel, every length; where nothing is filtered, many scores are equal."""
    sigmas = {"sigma1": (0.4, 0.6), "sigma2": (0.9, 1.2)}
    for i, boundary in enumerate(("field", "wrap")):
        for color in ("red", "green"):
            for j, grid in enumerate(GRIDS):
                for truncate in (4.0, 0.01):
                    spec = ColorSpec(color, grid, 20 + j, boundary=boundary, truncate=truncate, **sigmas)
                    name = f"one warp, {color}, {boundary}, {grid}, {truncate}"
                    run = mask_of("color_mask", spec, i, WANTED[(i + j) % len(WANTED)], samples=samples_of(j))
                    yield Case(name, run, threads=32)
                    # A cut among equal scores, far from where it is expected.
                    most = grid[1] * grid[2] - 1
                    spec = ColorSpec(color, grid, most, boundary=boundary, truncate=truncate, **sigmas)
                    yield Case(
                        f"{name}, {most}", mask_of("color_mask", spec, j, samples=samples_of(i)), threads=32
                    )


def colors(quick: bool) -> Iterator[Case]:
    yield from workloads.colors(quick)
    yield from few_warps(quick)


GROUPS = {"colors": (colors, workloads.GROUPS["colors"][1])}
