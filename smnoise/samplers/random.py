# SPDX-License-Identifier: Apache-2.0
"""Masks without structure: uniformly random ones, and tubes of them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from .. import ops
from ..spec import ColorSpec, as_choice, as_grid, as_int, with_ones
from .base import Sampler
from .repeated import repeat_frames, visible_per_frame


@dataclass(frozen=True)
class Random(Sampler):
    """Uniformly random masks: MAE's, AudioMAE's and MAE-ST's. `White3D`'s masks, to the bit.

    >>> Random(grid=(64, 8), mask_ratio=0.8).visible_per_sample
    102

    Args:
        grid: tokens along (T, H, W), (H, W) or (L,).
        mask_ratio: share of tokens that is masked, in (0, 1). floor(tokens * (1 - mask_ratio)) stay visible, the ratio
            read as the decimal it is written as; per="frame": of each frame.
        num_visible: visible tokens per sample, instead of a ratio; per="frame": a multiple of T.
        per: "clip", or "frame" to show equally many tokens in every time step.
        seed: 0 .. 2^64 - 1; a call may give another one, also as a tensor.

    Raises:
        ValueError, TypeError: for a parameter that cannot give such a mask, when the sampler is made.
    """

    _op = staticmethod(ops.color_mask)
    _scored = True

    grid: tuple[int, ...]
    mask_ratio: float | None = None
    num_visible: int | None = field(default=None, kw_only=True)
    per: str = field(default="clip", kw_only=True)
    seed: int = field(default=0, kw_only=True)

    def __post_init__(self):
        grid = as_grid(with_ones(self.grid))
        self._put(grid=grid, seed=as_int("seed", self.seed, 0, 2**64 - 1))
        per_frame = as_choice("per", self.per, ("clip", "frame")) == "frame"
        visible = visible_per_frame(self, grid) if per_frame else self._resolve_visible(math.prod(grid))
        spec = ColorSpec("white", grid, visible, per=self.per)
        self._put_spec(spec)

    @property
    def visible_per_sample(self) -> int:
        """V, visible tokens per sample."""
        return self._spec.groups * self._spec.visible


@dataclass(frozen=True)
class Tube(Sampler):
    """VideoMAE's masks: the same tokens of every frame, drawn uniformly.

    >>> Tube(grid=(8, 14, 14), mask_ratio=0.9).visible_per_sample, Tube((8, 14, 14), num_visible=160).num_visible
    (152, 160)

    VideoMAE itself rounds what is *hidden* down and so shows 20 tokens of a frame, 160 of a clip, at 0.9: ask for
    num_visible=160, or take `smnoise.presets["videomae-tube"]`.

    Args:
        grid: tokens along (T, H, W).
        mask_ratio: share of each frame that is masked, in (0, 1): floor(H * W * (1 - mask_ratio)) of it stay visible.
        num_visible: visible tokens per sample, instead of a ratio; a multiple of T.
        seed: 0 .. 2^64 - 1; a call may give another one, also as a tensor.

    Raises:
        ValueError, TypeError: for a parameter that cannot give such a mask, when the sampler is made; for a count that
            no tube has, with the nearest ones that some have.
    """

    _op = staticmethod(ops.color_mask)

    grid: tuple[int, int, int]
    mask_ratio: float | None = None
    num_visible: int | None = field(default=None, kw_only=True)
    seed: int = field(default=0, kw_only=True)

    def __post_init__(self):
        grid = as_grid(self.grid)
        self._put(grid=grid, seed=as_int("seed", self.seed, 0, 2**64 - 1))
        spec = ColorSpec("white", (1, *grid[1:]), visible_per_frame(self, grid), per="frame")
        self._put_spec(spec)

    @property
    def visible_per_sample(self) -> int:
        """V, visible tokens per sample, over all its frames."""
        return self.grid[0] * self._spec.visible

    @property
    def _times(self) -> int:
        return self.grid[0]

    def _masks(self, *arguments, **tables):
        return repeat_frames(super()._masks(*arguments, **tables), self.grid[0], self._spec.visible)
