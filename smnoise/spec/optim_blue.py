# SPDX-License-Identifier: Apache-2.0
"""The static parameters of Optim Blue masks (contract section 7), checked once, and the tables that backends read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .. import reference
from .checks import Spec, as_axes, as_choice, as_float, as_int, as_visible

MASKS = ("complementary", "independent", "views")

ALONG_TIME = (
    1.0,
    0.7,
    0.5,
)  # weights of the orientations with a step along t, where only the others are given
MAX_TOKENS = 1 << 18  # four a Philox call, whose counter has 16 bits for the call's place
MAX_CROWD = 1 << 24  # numbers in the crowding arrays of one partition
MAX_DELTA = 1 << 10
MAX_STEPS = 1 << 20
MAX_CROWDING = 1 << 28  # what a token can be crowded by, all weights together: keeps sums in int32


def as_blue_grid(grid) -> tuple[int, int, int]:
    """(H, W) or (T, H, W) as the latter; ValueError or TypeError for what is neither, or too large."""
    grid = tuple(grid) if np.iterable(grid) and not isinstance(grid, str) else grid
    if isinstance(grid, tuple) and len(grid) == 2:
        grid = (1, *grid)
    grid = as_axes(grid, "two integers (H, W) or three (T, H, W), counted in tokens")
    grid = tuple(as_int(f"grid {axis}", n, 1, MAX_TOKENS) for axis, n in zip("THW", grid, strict=True))
    if math.prod(grid) > MAX_TOKENS:
        raise ValueError(f"grid {grid} has {math.prod(grid)} tokens; at most {MAX_TOKENS} are supported")
    return grid


@dataclass(frozen=True)
class OptimBlueSpec(Spec):
    """Contract section 7, all static parameters. Fields as in `smnoise.OptimBlue`, but `visible` is the count per mask
    and `masks` says which masks of which partition the rows of a batch are (`rows_per_sample` each):

    complementary: sample n is mask n % K of partition n // K
    independent: sample n is mask 0 of partition n
    views: sample n gives K rows, all masks of partition n
    """

    grid: tuple[int, int, int]
    visible: int
    delta: int = 4
    weights: tuple[float, ...] = (1.0, 1.0, 0.7, 0.7, *ALONG_TIME)
    decay: float = 2.0
    steps: int = 256
    masks: str = "complementary"

    def __post_init__(self):
        def put(name, value):
            object.__setattr__(self, name, value)

        put("grid", as_blue_grid(self.grid))
        put("visible", as_visible(self.visible, self.tokens, "mask"))
        if self.num_masks * self.tokens > MAX_CROWD:
            raise ValueError(
                f"{self.num_masks} complementary masks of {self.tokens} tokens need {self.num_masks * self.tokens} "
                f"crowding numbers; at most {MAX_CROWD} are supported: lower mask_ratio, or use a smaller grid"
            )
        put("delta", as_int("delta", self.delta, 1, MAX_DELTA))
        put("steps", as_int("steps", self.steps, 0, MAX_STEPS))
        put("decay", as_float("decay", self.decay, 64))
        as_choice("masks", self.masks, MASKS)
        self._check_weights()

    def _check_weights(self):
        given = tuple(self.weights) if hasattr(self.weights, "__iter__") else self.weights
        if not isinstance(given, tuple) or len(given) not in (4, 7):
            raise ValueError(
                "weights must be 4 numbers, of the orientations (0,1), (1,0), (1,1), (1,-1) along (y, x), or 7: then "
                f"also of (1,0,0), (1,0,1) and (1,1,1) along (t, y, x); got {self.weights!r}"
            )
        weights = tuple(as_float("weights", w) for w in given)
        if min(weights) < 0:
            raise ValueError(f"weights must not be negative, got {self.weights}")
        flat = self.grid[0] == 1
        object.__setattr__(
            self, "weights", (*weights[:4], *(ALONG_TIME if flat else weights[4:] or ALONG_TIME))
        )
        crowding = sum(s for _, s in reference.crowding(self.grid, self.delta, self.weights, self.decay))
        if crowding > MAX_CROWDING:
            raise ValueError(
                f"the crowding weights S add up to {crowding:.3g}; at most {MAX_CROWDING:.3g} are supported: lower "
                "weights, or raise decay"
            )
        counted = self.weights[:4] if flat else self.weights
        if not any(s for _, s in reference.crowding(None, self.delta, counted, self.decay)):
            raise ValueError(
                f"weights {self.weights} with decay {self.decay} give no crowding at all: at least one "
                "int(64 * w / d^decay + 0.5) must be positive; raise weights"
            )

    @property
    def tokens(self) -> int:
        """L, tokens of a mask."""
        return math.prod(self.grid)

    @property
    def num_masks(self) -> int:
        """K, complementary masks of a partition."""
        return self.tokens // self.visible

    @property
    def rest(self) -> int:
        """Tokens that no mask of a partition reveals."""
        return self.tokens - self.num_masks * self.visible

    @property
    def rows_per_sample(self) -> int:
        """How many rows of a batch a sample gives: K for all masks of a partition, else 1."""
        return self.num_masks if self.masks == "views" else 1

    @cached_property
    def stamp(self) -> np.ndarray:
        """int32 [n, 4]: t, y, x of each displacement that can occur in the grid, and its crowding weight S."""
        entries = reference.crowding(self.grid, self.delta, self.weights, self.decay)
        return np.array([(*d, s) for d, s in entries], np.int32).reshape(-1, 4)

    @cached_property
    def table(self) -> np.ndarray:
        """S as int32 [2T - 1, 2H - 1, 2W - 1]; displacement 0 is in the middle."""
        table = np.zeros([2 * n - 1 for n in self.grid], np.int32)
        t, y, x = (self.stamp[:, axis] + n - 1 for axis, n in enumerate(self.grid))
        table[t, y, x] = self.stamp[:, 3]
        return table

    @cached_property
    def base(self) -> np.ndarray:
        """int32 [L]: S(q - p) is table.flat[centre + base[q] - base[p]]."""
        place = np.unravel_index(np.arange(self.tokens), self.grid)
        return np.ravel_multi_index(place, self.table.shape).astype(np.int32)

    @cached_property
    def ring(self) -> np.ndarray:
        """int32 [L]: numbers 0, 1, ..., equal where R of section 7 is; the rest keeps to its rings."""
        full = reference.full_crowding(self.grid, [(tuple(d), s) for *d, s in self.stamp.tolist()])
        return np.unique(full, return_inverse=True)[1].astype(np.int32)

    @property
    def centre(self) -> int:
        """Where displacement 0 lies in table.flat."""
        return self.table.size // 2
