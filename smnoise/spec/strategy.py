# SPDX-License-Identifier: Apache-2.0
"""The static parameters of masks made of frames, bars, blocks or cells (contract/extensions.md, 5), checked once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .. import reference
from .checks import MAX_TOKENS, Spec, as_choice, as_float, as_int, as_tuple, as_visible
from .optim_blue import as_blue_grid

STRATEGIES = ("axis", "bars", "blocks", "cells", "running")
PLACEMENTS = ("inside", "overhang", "centre")


def as_range(name: str, value, largest: float) -> tuple[float, float]:
    """Return a range (low, high) of positive numbers. Raises TypeError or ValueError for what is none."""
    low, high = (as_float(name, v) for v in as_tuple(name, value, 2, "a range (low, high)"))
    if not 0 < low <= high <= largest:
        raise ValueError(f"{name} must satisfy 0 < low <= high <= {largest:g}, got ({low}, {high})")
    return low, high


@dataclass(frozen=True)
class StrategySpec(Spec):
    """Extension 5. `visible` is the count per sample; of the other fields a kind reads its own:

    axis: `axis`, 0, 1 or 2 for t, y, x. bars: `pace`, (H, W) unless given. cells, running: `cell` (t, y, x).
    blocks: `size` (t, h, w), or `scale`, `aspect` and `duration`; `placement`, `num_boxes`, `inverse`.
    """

    kind: str
    grid: tuple[int, int, int]
    visible: int
    axis: int = 0
    pace: tuple[int, int] | None = None
    cell: tuple[int, int, int] = (1, 1, 1)
    size: tuple[int, int, int] | None = None
    scale: tuple[float, float] = (0.15, 0.2)
    aspect: tuple[float, float] = (0.75, 1.5)
    duration: tuple[float, float] = (1.0, 1.0)
    placement: str = "inside"
    num_boxes: int | None = None
    inverse: bool = False

    def __post_init__(self):
        def put(name, value):
            object.__setattr__(self, name, value)

        as_choice("kind", self.kind, STRATEGIES)
        put("grid", as_blue_grid(self.grid))
        put("visible", as_visible(self.visible, self.tokens, "clip"))
        put("axis", as_int("axis", self.axis, 0, 2))
        put("cell", self._sides("cell", self.cell))
        if self.kind == "bars" and self.pace is None:
            put("pace", self.grid[1:])
        if self.pace is not None:
            pace = as_tuple("pace", self.pace, 2, "two integers (rows, columns)")
            sides = zip(("rows", "columns"), pace, self.grid[1:], strict=True)
            put("pace", tuple(as_int(f"pace {name}", v, 1, n) for name, v, n in sides))
        if self.kind == "running" and self.cell[0] != 1:
            raise ValueError(f"a running cell has one time step, (1, y, x), got {self.cell}")
        if self.size is not None:
            put("size", self._sides("size", self.size))
        put("scale", as_range("scale", self.scale, 1))
        put("aspect", as_range("aspect", self.aspect, 1e3))
        put("duration", as_range("duration", self.duration, 1))
        as_choice("placement", self.placement, PLACEMENTS)
        if self.num_boxes is not None:
            put("num_boxes", as_int("num_boxes", self.num_boxes, 1, reference.BOXES))
        if not isinstance(self.inverse, bool):
            raise TypeError(f"inverse must be True or False, got {self.inverse!r}")
        if self.ranked > reference.LEVELS:
            raise ValueError(
                f"{self.kind} of grid {self.grid} rank {self.ranked} frames, bars or places; at most "
                f"{reference.LEVELS} are supported: use a smaller grid or cell"
            )

    def _sides(self, name: str, value) -> tuple[int, int, int]:
        sides = as_tuple(name, value, 3, "three integers (t, y, x), counted in tokens")
        t, y, x = (as_int(f"{name} {axis}", v, 1, MAX_TOKENS) for axis, v in zip("tyx", sides, strict=True))
        if not (t <= self.grid[0] and y <= self.grid[1] and x <= self.grid[2]):
            raise ValueError(
                f"{name} {(t, y, x)} (t, y, x) is larger than the grid {self.grid}; give a {name} that fits"
            )
        return t, y, x

    @property
    def tokens(self) -> int:
        """L, tokens of a sample."""
        return math.prod(self.grid)

    @property
    def ranked(self) -> int:
        """Things that are put in a random order: indices of an axis, bars or places of a cell."""
        if self.kind == "axis":
            return self.grid[self.axis]
        if self.kind == "bars":
            return self.grid[1] + self.grid[2]
        return math.prod(self.cell) if self.kind in ("cells", "running") else 0

    @property
    def boxed(self) -> int:
        """How many tokens must lie in boxes before no more are needed."""
        return self.visible if self.inverse else self.tokens - self.visible

    @cached_property
    def boxes(self) -> tuple[np.ndarray, np.ndarray]:
        """int32 durations [m] and sizes [n, 2] (h, w) that boxes are drawn from."""
        t, h, w = self.grid
        if self.size is not None:
            return np.array(self.size[:1], np.int32), np.array([self.size[1:]], np.int32)

        def side(length: float, most: int) -> int:
            return min(most, max(1, int(length + 0.5)))

        durations = [side(share * t, t) for share in reference.bank(self.duration)]
        low, high = self.aspect
        aspects = [low * (high / low) ** ((k + 0.5) / reference.BANK) for k in range(reference.BANK)]
        sizes = [
            (side(math.sqrt(scale * h * w * aspect), h), side(math.sqrt(scale * h * w / aspect), w))
            for scale in reference.bank(self.scale)
            for aspect in aspects
        ]
        return np.array(durations, np.int32), np.array(sizes, np.int32)
