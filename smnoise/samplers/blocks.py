# SPDX-License-Identifier: Apache-2.0
"""Masks that hide, or show, boxes of drawn sizes and places."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..spec import as_blue_grid, as_tuple
from ._strategy import Strategy


class Boxes(Strategy, abstract=True):
    _inverse: bool
    size: Any

    def __post_init__(self):
        grid, size = as_blue_grid(self.grid), self.size
        if size is not None:
            size = tuple(size) if np.iterable(size) and not isinstance(size, str) else size
            size = (grid[0], *size) if isinstance(size, tuple) and len(size) == 2 else size
            size = as_tuple("size", size, 3, "two integers (y, x) or three (t, y, x), counted in tokens")
        given = {n: getattr(self, n) for n in ("scale", "aspect", "duration", "placement", "num_boxes")}
        self._prepare("blocks", grid, size=size, inverse=self._inverse, **given)
        self._put(**{n: getattr(self._spec, n) for n in (*given, "size")})


@dataclass(frozen=True)
class Block(Boxes):
    """Boxes are hidden, one after the other, until so many tokens are: BEiT's, I-JEPA's and V-JEPA's masks, but exact.

    The count is met by cutting the last box: of it a part is hidden that keeps whole rows or columns. With num_boxes
    just so many boxes are laid, as in most published programs, and the count is met at random: tokens of boxes are left
    visible, or others hidden, until it holds.

    The defaults are BEiT's. `smnoise.strategy("multiblock", ...)` has I-JEPA's and V-JEPA's sizes, and
    `smnoise.presets` the published settings.

    Boxes lie within the grid, as published. The border and above all the corners are therefore visible more often than
    the middle: on 14 x 14 tokens at 0.75 a corner in 85% of the masks and the middle in 2%, at 0.9 in 70% and 0.1%.
    placement="overhang" lets boxes stick out of the grid, each covering every token equally often: 28% and 23% at 0.75.
    With placement="centre" every token is a box's centre equally often, and what sticks out is cut off: 55% and 13%.

    >>> masks = Block(grid=(14, 14), mask_ratio=0.4)(batch_size=2, step=0)
    >>> masks.mask.sum(1).tolist()
    [79, 79]

    Args:
        grid: tokens along (T, H, W), or (H, W) for images and spectrograms.
        mask_ratio: share of tokens that is masked, in (0, 1).
        num_visible: visible tokens per sample, instead of a ratio.
        scale: range (low, high) of a box's area, as a share of H * W.
        aspect: range of its height over width, drawn evenly on a logarithmic scale.
        duration: range of its length along t, as a share of T; (1, 1) is the whole clip, as in V-JEPA.
        size: (y, x) or (t, y, x) of every box in tokens, instead of scale, aspect and duration.
        placement: where boxes may lie along y and x: "inside" the grid; with "overhang" anywhere where a token of the
            grid lies in them, each place equally often; with "centre" about any token. A side of n tokens has
            n // 2 of them before its centre.
        num_boxes: how many boxes are laid, 1 to 1024, whatever they cover; by default as many as the count needs.
        seed: 0 .. 2^64 - 1; a call may give another one, also as a tensor.

    Raises:
        ValueError, TypeError: for a parameter that cannot give such a mask, when the sampler is made.
    """

    _inverse = False

    grid: tuple[int, ...]
    mask_ratio: float | None = None
    num_visible: int | None = field(default=None, kw_only=True)
    scale: tuple[float, float] = field(default=(0.08, 0.4), kw_only=True)
    aspect: tuple[float, float] = field(default=(0.3, 1 / 0.3), kw_only=True)
    duration: tuple[float, float] = field(default=(1.0, 1.0), kw_only=True)
    size: tuple[int, ...] | None = field(default=None, kw_only=True)
    placement: str = field(default="inside", kw_only=True)
    num_boxes: int | None = field(default=None, kw_only=True)
    seed: int = field(default=0, kw_only=True)


@dataclass(frozen=True)
class InverseBlock(Boxes):
    """Boxes are shown until so many tokens are: the masks of data2vec 2 and EAT.

    The count is met by cutting the last box, or with num_boxes at random, as there. By default boxes may stick out of
    the grid (overhang), so that every token is visible about equally often. With placement="centre", as published, a
    corner of 14 x 14 tokens is visible in 13% of the masks at 0.75 and the middle in 27%; with "inside" in 4% and 33%.

    `smnoise.presets["data2vec2"]` and `["eat"]` have the published settings.

    >>> InverseBlock(grid=(64, 8), mask_ratio=0.8, size=(5, 5)).visible_per_sample
    102

    Args:
        size: (y, x) or (t, y, x) of every box in tokens, or None for boxes of `scale`, `aspect` and `duration`.
        grid, mask_ratio, num_visible, scale, aspect, duration, placement, num_boxes, seed: as in `Block`.
    """

    _inverse = True

    grid: tuple[int, ...]
    mask_ratio: float | None = None
    num_visible: int | None = field(default=None, kw_only=True)
    scale: tuple[float, float] = field(default=(0.05, 0.1), kw_only=True)
    aspect: tuple[float, float] = field(default=(0.75, 1.5), kw_only=True)
    duration: tuple[float, float] = field(default=(1.0, 1.0), kw_only=True)
    size: tuple[int, ...] | None = field(default=(3, 3), kw_only=True)
    placement: str = field(default="overhang", kw_only=True)
    num_boxes: int | None = field(default=None, kw_only=True)
    seed: int = field(default=0, kw_only=True)
