# SPDX-License-Identifier: Apache-2.0
"""Masks that repeat one small cell over the grid."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from ..spec import as_blue_grid, as_tuple
from ..spec.checks import as_visible
from ._strategy import Strategy


@dataclass(frozen=True)
class Grid(Strategy):
    """A regular grid: the same places of every cell are visible (MAE's grid masks, at any ratio).

    The places of a cell are shown in an order that each sample draws; where the count is no whole number of places,
    tokens of one more place are shown at random.

    >>> Grid(grid=(14, 14), mask_ratio=0.75).cell, Grid(grid=(8, 14, 14), mask_ratio=0.9).cell
    ((1, 2, 2), (1, 3, 3))

    Args:
        grid: tokens along (T, H, W), or (H, W) for images and spectrograms.
        mask_ratio: share of tokens that is masked, in (0, 1).
        num_visible: visible tokens per sample, instead of a ratio.
        cell: (y, x) or (t, y, x), sides in tokens. By default (1, n, n), as if n * n tokens had to share a visible
            one: n = sqrt(tokens / visible), rounded, 2 to 64. All frames then show the same places.
        seed: 0 .. 2^64 - 1; a call may give another one, also as a tensor.

    Raises:
        ValueError, TypeError: for a parameter that cannot give such a mask, when the sampler is made.
    """

    grid: tuple[int, ...]
    mask_ratio: float | None = None
    num_visible: int | None = field(default=None, kw_only=True)
    cell: tuple[int, ...] | None = field(default=None, kw_only=True)
    seed: int = field(default=0, kw_only=True)

    def __post_init__(self):
        grid = as_blue_grid(self.grid)
        cell = self.cell
        if cell is None:
            tokens = math.prod(grid)
            visible = as_visible(self._resolve_visible(tokens), tokens, "clip")
            n = min(max(2, round(math.sqrt(tokens / visible))), 64)  # more places than 4096 are not numbered
            cell = (1, min(n, grid[1]), min(n, grid[2]))
        self._prepare("cells", grid, cell=as_cell(cell))
        self._put(cell=self._spec.cell)


def as_cell(cell) -> tuple[int, ...]:
    """(y, x) as (1, y, x)."""
    cell = tuple(cell) if np.iterable(cell) and not isinstance(cell, str) else cell
    cell = (1, *cell) if isinstance(cell, tuple) and len(cell) == 2 else cell
    return as_tuple("cell", cell, 3, "two integers (y, x) or three (t, y, x), counted in tokens")


@dataclass(frozen=True)
class RunningCell(Strategy):
    """A cell whose visible places move by one with every time step: VideoMAEv2's masks for the decoder.

    Places are numbered row by row; at t + 1 the places before those of time t are visible, around the cell, in the
    direction of VideoMAEv2. A sample draws where it begins: with cells of c places there are just c different masks
    where the count is a whole number of places; with 2 x 2 places and ratios of 0.25, 0.5 and 0.75 they are just the
    four masks of VideoMAEv2. It rounds other ratios down to quarters (0.6 hides half there); here the count is exact,
    and tokens of one more place are shown at random. Sides need not be multiples of the cell's.

    >>> RunningCell(grid=(8, 14, 14), mask_ratio=0.5)([0]).volume()[0, :3, 0, :4].tolist()
    [[False, False, False, False], [False, True, False, True], [True, True, True, True]]

    Args:
        grid: tokens along (T, H, W).
        mask_ratio: share of tokens that is masked, in (0, 1).
        num_visible: visible tokens per sample, instead of a ratio.
        cell: (y, x), sides in tokens.
        seed: 0 .. 2^64 - 1; a call may give another one, also as a tensor.

    Raises:
        ValueError, TypeError: for a parameter that cannot give such a mask, when the sampler is made.
    """

    grid: tuple[int, int, int]
    mask_ratio: float | None = None
    num_visible: int | None = field(default=None, kw_only=True)
    cell: tuple[int, ...] = field(default=(2, 2), kw_only=True)
    seed: int = field(default=0, kw_only=True)

    def __post_init__(self):
        self._prepare("running", as_blue_grid(self.grid), cell=as_cell(self.cell))
        self._put(cell=self._spec.cell)
