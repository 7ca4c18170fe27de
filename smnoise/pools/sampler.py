# SPDX-License-Identifier: Apache-2.0
"""Masks drawn from a pool: which pattern, which window of it, mirrored or rolled, by each sample's own random words."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import NamedTuple

import torch
from torch import Tensor

from .. import ops
from ..backends import outside_capture
from ..masks import MaskBatch
from ..samplers.base import Sampler
from ..spec import as_choice, as_grid, as_int
from ..spec.checks import as_visible
from .pool import MaskPool, Pool, unpacked

AXES = "tyx"
PURPOSE_POOL = 5
WORDS = 8
"""Of a sample: 0 the pattern; 1, 2, 3 the window along t, y, x; 4 the flips; 5, 6, 7 the roll along t, y, x."""


class _Tables(NamedTuple):
    """What a sampler needs on a device, besides the pool."""

    choices: Tensor
    """int64 [8]: a word w picks (w * choices) >> 32."""
    axis: Tensor
    """int64 [T + H + W], the axis of each coordinate below."""
    at: Tensor
    """int64 [T + H + W], coordinates in the grid: 0 .. T - 1, then 0 .. H - 1, then 0 .. W - 1."""
    mirror: Tensor
    """What a flip adds to a coordinate."""
    size: Tensor
    """Of the pattern along each coordinate's axis."""
    stride: Tensor
    """Of the pattern along each coordinate's axis."""
    shown: Tensor
    """float32 [256, 8]: 1 for each bit of a byte that is not set, that is for each visible token."""
    flip_shift: Tensor
    """int64 [3], the place of the bit that flips an axis; a bit that is always 0 for an axis that is never flipped."""


@dataclass(frozen=True)
class PoolSampler(Sampler):
    """Masks drawn from a pool, with the call and the promises of every sampler: a mask is a pure function of (seed,
    sample index, pool and parameters), on every device and in any batch. Patterns are drawn with replacement.

    >>> pool = pools.build_noise(smnoise.Green3D((8, 14, 14), 0.9), 100, size=(12, 20, 20))
    >>> masks = PoolSampler(pool, (8, 14, 14), 0.9)(batch_size=32, step=0)
    >>> masks.mask.shape, masks.num_visible
    (torch.Size([32, 1568]), 156)

    Every augmentation keeps the exact count. What else it keeps:

    crop    all statistics of noise that does not know its place, as colour noise; but windows of one volume that
            overlap give similar masks. Only of noise: the count of a window of a mask is not fixed.
    flip    all statistics of colour noise, along any axis. Masks that look different in a mirror become others: Optim
            Blue with unequal weights of the two diagonals, patterns that run through time in one direction.
    roll    all statistics of periodic patterns (boundary="wrap"). Others get a seam where their ends meet.

    Masks of a pool of Optim Blue are not complementary to each other: patterns are drawn at random.

    Args:
        pool: a `MaskPool` or a `NoisePool`.
        grid: tokens along (T, H, W), by default the pool's size; of masks always that.
        mask_ratio, num_visible, per: of noise as in `smnoise.Green3D`. Masks have a count already.
        crop: axes along which the window is drawn, of "t", "y" and "x" (else it lies at the start). By default all,
            for noise.
        flip: axes along which half of the samples are mirrored. By default "yx".
        roll: axes along which a pattern is rolled before the window is cut. By default all of a periodic pool's, and
            none of another's.
        seed: 0 .. 2^64 - 1; a call may give another one, also as a tensor.

    The patterns are copied to a device when the first masks are made there. For code that is captured or compiled, make
    one batch before.

    Raises:
        ValueError, TypeError: for a parameter that does not fit the pool, when the sampler is made.
    """

    _spec_json = ""  # what is drawn from is no text; `_masks` reads the fields

    pool: Pool
    grid: tuple[int, int, int] | None = None
    mask_ratio: float | None = None
    num_visible: int | None = field(default=None, kw_only=True)
    per: str = field(default="clip", kw_only=True)
    crop: str | None = field(default=None, kw_only=True)
    flip: str = field(default="yx", kw_only=True)
    roll: str | None = field(default=None, kw_only=True)
    seed: int = field(default=0, kw_only=True)

    def __post_init__(self):
        if not isinstance(self.pool, Pool):
            raise TypeError(f"pool must be a MaskPool or a NoisePool, got {type(self.pool).__name__}")
        of_masks, size = isinstance(self.pool, MaskPool), self.pool.size
        grid = size if self.grid is None else as_grid(self.grid)
        if any(n > s for n, s in zip(grid, size, strict=True)) or (of_masks and grid != size):
            fit = "be" if of_masks else "fit into"
            raise ValueError(f"grid must {fit} that of the pool's patterns, {size}; got {grid}")
        self._put(
            grid=grid,
            crop=_axes("crop", self.crop, "" if of_masks else AXES),
            flip=_axes("flip", self.flip, "yx"),
            roll=_axes("roll", self.roll, AXES if self.pool.periodic else ""),
            seed=as_int("seed", self.seed, 0, 2**64 - 1),
        )
        if of_masks and self.crop:
            raise ValueError("masks cannot be cropped, the count of a window is not fixed; use a NoisePool")
        self._visible: int  # declared here: in the class they would be fields
        self._groups: int
        self._tables: dict[torch.device, _Tables]
        self._put(_visible=self._count(grid), _groups=grid[0] if self.per == "frame" else 1, _tables={})
        self._on(torch.device("cpu"))

    def _count(self, grid: tuple[int, int, int]) -> int:
        """Visible tokens per ranking, checked."""
        per_frame = as_choice("per", self.per, ("clip", "frame")) == "frame"
        tokens = math.prod(grid[per_frame:])
        if not isinstance(self.pool, MaskPool):
            count = as_visible(self._resolve_visible(tokens), tokens, self.per)
            if self.num_visible is not None:
                self._put(num_visible=count)
            return count
        count = self.pool.num_visible
        if self.num_visible is not None:
            self._put(num_visible=as_visible(self.num_visible, tokens, "clip"))
        given = self.mask_ratio is not None or self.num_visible is not None
        if per_frame or (given and self._resolve_visible(tokens) != count):
            raise ValueError(
                f"the pool's masks show {count} of {tokens} tokens, which cannot be changed: leave out mask_ratio, "
                "num_visible and per, or use a NoisePool"
            )
        return count

    @property
    def visible_per_sample(self) -> int:
        """V, visible tokens per sample, over all its frames."""
        return self._groups * self._visible

    def _on(self, device: torch.device) -> _Tables:
        if device not in self._tables:
            if device.type == "cuda":
                outside_capture("uploading the tables of a sampler")
            self._tables.setdefault(device, self._make_tables(device))  # as `Pool.on` does
        return self._tables[device]

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_tables": {}}  # a process that unpickles it may lack the devices

    def _make_tables(self, device: torch.device) -> _Tables:
        def of(*values):
            return torch.tensor(values, dtype=torch.int64, device=device)

        grid, crop, roll = self.grid, self.crop, self.roll
        assert grid is not None  # `__post_init__` has put what was left out
        assert crop is not None
        assert roll is not None
        size, every = self.pool.size, [(i, n, at) for i, n in enumerate(grid) for at in range(n)]
        strides = (size[1] * size[2], size[2], 1)
        windows = [s - n + 1 if a in crop else 1 for a, s, n in zip(AXES, size, grid, strict=True)]
        rolls = [s if a in roll else 1 for a, s in zip(AXES, size, strict=True)]
        return _Tables(
            shown=1 - unpacked(torch.arange(256, dtype=torch.uint8, device=device)[:, None], 8).float(),
            choices=of(len(self.pool), *windows, 8, *rolls),
            axis=of(*(i for i, _, _ in every)),
            at=of(*(at for _, _, at in every)),
            mirror=of(*(n - 1 - 2 * at for _, n, at in every)),
            size=of(*(size[i] for i, _, _ in every)),
            stride=of(*(strides[i] for i, _, _ in every)),
            flip_shift=of(*(2 - i if a in self.flip else 3 for i, a in enumerate(AXES))),
        )

    def _masks(self, spec, seed: Tensor, samples: Tensor, backend: str, outputs: str, **_) -> MaskBatch:
        return self._cut(self.scores(seed, samples, backend), seed, samples, backend, outputs)

    def _cut(self, scores, seed, samples, backend: str, outputs: str) -> MaskBatch:
        results = ops.threshold(scores, self._visible, self._groups, backend, outputs)
        return self._batch(results, outputs, self.grid)

    @property
    def _scored(self) -> bool:
        return not isinstance(self.pool, MaskPool)

    def scores(self, seed: Tensor, samples: Tensor, backend: str = "auto", **_) -> Tensor:
        """What is thresholded: float32 [B, L], the noise of each sample's window, or 1 for each visible token."""
        words = ops.random_words(seed, samples, PURPOSE_POOL, WORDS, backend)
        tables, data = self._on(samples.device), self.pool.on(samples.device)
        picks = (words * tables.choices) >> 32
        if not isinstance(self.pool, MaskPool):
            return self._window(data.flatten(), picks[:, 0] * math.prod(self.pool.size), picks, tables)
        # The picked patterns are unpacked first, eight tokens a byte; then they are gathered from as noise is.
        picked = data.index_select(0, picks[:, 0])
        shown = tables.shown.index_select(0, picked.flatten().int()).view(-1, 8 * data.shape[1])
        if not self.flip and not self.roll:
            return shown[:, : self.num_tokens]
        begin = torch.arange(picked.shape[0], device=picked.device) * shown.shape[1]
        return self._window(shown.flatten(), begin, picks, tables)

    def _window(self, patterns: Tensor, begin: Tensor, picks: Tensor, tables: _Tables) -> Tensor:
        """float32 [B, L]: of each sample's pattern, which begins at `begin`, the window, flipped and rolled, in one
        gather."""
        flips = (picks[:, 4:5] >> tables.flip_shift) & 1
        start = picks[:, 1:4] + picks[:, 5:8]
        flips, start = (v.index_select(1, tables.axis) for v in (flips, start))
        at = tables.at + flips * tables.mirror + start
        if self.roll:
            at = at % tables.size
        t, y, x = (at * tables.stride).split(self.grid, dim=1)
        rows = (begin[:, None] + t)[:, :, None] + y[:, None]
        places = rows[..., None] + x[:, None, None]
        return patterns.index_select(0, places.flatten()).view(picks.shape[0], self.num_tokens)

    def _parameters(self) -> dict:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {**values, "pool": self.pool.sha256}

    @classmethod
    def _of_parameters(cls, values: dict, pool: Pool | None) -> PoolSampler:
        named = values.get("pool")
        if not isinstance(pool, Pool):
            raise ValueError(
                f"a PoolSampler needs its pool, the one of sha256 {named}: load it, and give it to from_json as pool"
            )
        if pool.sha256 != named:
            raise ValueError(f"this sampler is one of the pool of sha256 {named}, not of {pool.sha256}")
        return cls(**{**values, "pool": pool})


def _axes(name: str, value: str | None, default: str) -> str:
    """Axes in the order t, y, x."""
    if value is None:
        return default
    if not isinstance(value, str):
        raise TypeError(f'{name} must be axes, a text such as "yx" (or "" for none), got {value!r}')
    if len(set(value)) != len(value) or not set(value) <= set(AXES):
        raise ValueError(f'{name} must be axes out of "t", "y" and "x", each at most once; got {value!r}')
    return "".join(a for a in AXES if a in value)
