# SPDX-License-Identifier: Apache-2.0
"""Masks for a batch of clips or sounds of several lengths, with an exact count for each."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import torch

from .. import ops
from ..backends import outside_capture
from ..ops import ALL_OUTPUTS
from ..spec import as_grid, as_int, as_ratio, visible_of_ratio, with_ones
from ..tensors import INTEGERS, check_tensors
from .base import Sampler, as_seed, batch_indices
from .counts import scorer_of


class RaggedBatch(NamedTuple):
    """Masks of B rows, of which row b has its first `tokens[b]` of L tokens; the rest is padding."""

    mask: torch.Tensor
    """bool [B, L], True = masked; False in the padding, of which nothing is to be predicted."""
    ids_keep: torch.Tensor
    """int64 [B, K], the visible tokens of each row, ascending, then 0."""
    ids_mask: torch.Tensor
    """int64 [B, M], the masked tokens, ascending, then 0."""
    ids_restore: torch.Tensor
    """int64 [B, L], where each token stands in cat(ids_keep, ids_mask); 0 in the padding."""
    tokens: torch.Tensor
    """int64 [B], tokens of each row."""
    num_visible: torch.Tensor
    """int64 [B], visible tokens of each row."""

    @property
    def keep_valid(self) -> torch.Tensor:
        """bool [B, K], True where ids_keep names a token: what attention may look at."""
        return torch.arange(self.ids_keep.shape[1], device=self.tokens.device) < self.num_visible[:, None]

    @property
    def mask_valid(self) -> torch.Tensor:
        """bool [B, M], True where ids_mask names a token: what the loss is of."""
        hidden = (self.tokens - self.num_visible)[:, None]
        return torch.arange(self.ids_mask.shape[1], device=self.tokens.device) < hidden

    @property
    def valid(self) -> torch.Tensor:
        """bool [B, L], True where a row has a token."""
        return torch.arange(self.ids_restore.shape[1], device=self.tokens.device) < self.tokens[:, None]


@dataclass(frozen=True)
class Ragged:
    """Masks of rows of several lengths, at the same ratio of each, exactly (contract/extensions.md, 14).

    >>> sampler = Ragged(grid=(64, 8), mask_ratio=0.8, strategy="green-2d")
    >>> masks = sampler([0, 1], lengths=[64, 20])
    >>> masks.num_visible.tolist(), masks.mask.sum(1).tolist(), masks.ids_keep.shape
    ([102, 32], [410, 128], torch.Size([2, 102]))

    A row's mask depends on its sample index and its length: not on the rows beside it, nor, where the noise is a field,
    on the longest length that the grid has.

    Args:
        grid: tokens along (T, H, W), (H, W) or (L,) of the longest row. Lengths count steps along the first of them,
            frames of a clip, time steps of a spectrogram (time, frequency).
        mask_ratio: share of each row's tokens that is masked, in (0, 1): of a row of n tokens
            floor(n * (1 - mask_ratio)) stay visible, the ratio read as the decimal it is written as.
        strategy: "random", a colour such as "green-3d", or a function of your own (`smnoise.register`), which gives
            scores; 2D colours are cut in the whole row, not frame by frame.
        parameters: keyword arguments of the strategy that JSON can hold, such as {"sigma1": (0.4, 1.5)}.
        seed: 0 .. 2^64 - 1; a call may give another one, also as a tensor.

    Raises:
        ValueError, TypeError: for a parameter that cannot give such a mask, when the sampler is made.
    """

    grid: tuple[int, ...]
    mask_ratio: float
    strategy: str = field(default="random", kw_only=True)
    parameters: Mapping[str, Any] = field(default_factory=dict, kw_only=True, hash=False)
    seed: int = field(default=0, kw_only=True)

    def __post_init__(self):
        whole = as_grid(with_ones(self.grid))
        given = tuple(self.grid) if isinstance(self.grid, (tuple, list)) else whole
        scorer, parameters = scorer_of(self.strategy, whole, self.parameters)
        values = {
            "grid": whole[3 - len(given) :],
            "mask_ratio": as_ratio(self.mask_ratio),
            "parameters": parameters,
            "seed": as_int("seed", self.seed, 0, 2**64 - 1),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)
        self._scorer: Sampler  # declared here: in the class they would be fields
        self._on: dict[torch.device, torch.Tensor]
        object.__setattr__(self, "_scorer", scorer)
        object.__setattr__(self, "_on", {})
        if not self.counts[-1]:
            raise ValueError(
                f"mask_ratio {self.mask_ratio} leaves none of {math.prod(whole)} tokens visible; take a smaller "
                "one, or a larger grid"
            )

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_on": {}}  # a process that unpickles it may lack the devices

    @property
    def steps(self) -> int:
        """The longest length."""
        return self.grid[0]

    @property
    def per_step(self) -> int:
        """Tokens of a step."""
        return math.prod(self.grid[1:])

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """Visible tokens of a row of 0, 1, .. steps."""
        return tuple(visible_of_ratio(n * self.per_step, self.mask_ratio) for n in range(self.steps + 1))

    @cached_property
    def shortest(self) -> int:
        """The fewest steps of which a token is visible."""
        return next(n for n, count in enumerate(self.counts) if count)

    def __call__(
        self,
        samples=None,
        *,
        lengths,
        longest: int | None = None,
        batch_size: int | None = None,
        step: int | torch.Tensor | None = None,
        rank: int = 0,
        world_size: int = 1,
        seed: int | torch.Tensor | None = None,
        device: torch.device | str | None = None,
        backend: str = "auto",
        sigma_table: torch.Tensor | None = None,
        origin=None,
    ) -> RaggedBatch:
        """Masks for a batch.

        Args:
            lengths: integers [B], a sequence or a tensor where the masks are made: steps of each row,
                `shortest` .. `steps`.
            longest: steps that the lists of ids have room for, at least the largest length. By default that, or, where
                lengths are on a GPU, which nothing waits for, and in compiled code, the grid's `steps`.
            others: as of every sampler's call; mask is always as wide as the grid.

        Raises TypeError or ValueError for lengths that are none. On a GPU nothing waits to look: a length beyond the
        grid's or below 0 is brought to the nearest there is, and one below `shortest` shows no token.
        """
        samples = batch_indices(samples, batch_size, step, rank, world_size, device)
        seed = as_seed(self.seed if seed is None else seed, samples.device)
        lengths = self._lengths(lengths, samples)
        if longest is None:
            seen = lengths.device.type == "cpu" and len(lengths) and not torch.compiler.is_compiling()
            longest = int(lengths.max()) if seen else self.steps
        longest = as_int("longest", longest, self.shortest, self.steps)
        visible = self._counts_on(samples.device)[lengths]
        scores = self._scorer.scores(
            seed, samples, backend, **self._scorer._given(sigma_table, origin, samples)
        )
        tokens, keep = lengths * self.per_step, self.counts[longest]
        hide = longest * self.per_step - keep
        results = ops.ragged_threshold(scores, tokens, visible, keep, hide, backend, ALL_OUTPUTS)
        return RaggedBatch(*results, tokens, visible)

    def _lengths(self, lengths, samples: torch.Tensor) -> torch.Tensor:
        if not isinstance(lengths, torch.Tensor):
            if not hasattr(lengths, "__len__") or isinstance(lengths, (str, bytes, dict)):
                raise TypeError(f"lengths must be integers, one for each row, got {lengths!r}")
            values = [as_int(f"lengths[{i}]", n, self.shortest, self.steps) for i, n in enumerate(lengths)]
            lengths = torch.tensor(values, dtype=torch.int64, device=samples.device)
        check_tensors(lengths=lengths)
        if lengths.dtype not in INTEGERS:
            raise TypeError(f"lengths must be integers, such as int64, got {lengths.dtype}")
        if lengths.dim() != 1 or len(lengths) != len(samples):
            raise ValueError(f"lengths must have shape [B], {len(samples)} rows; got {tuple(lengths.shape)}")
        if lengths.device != samples.device:
            raise ValueError(
                f"lengths are on {lengths.device} but samples are on {samples.device}; put both on one device"
            )
        lengths = lengths.to(torch.int64)
        if lengths.device.type == "cpu" and not torch.compiler.is_compiling():
            for i, n in enumerate(lengths.tolist()):
                as_int(f"lengths[{i}]", n, self.shortest, self.steps)
        return lengths.clamp(0, self.steps)

    def _counts_on(self, device: torch.device) -> torch.Tensor:
        if device not in self._on:
            if device.type == "cuda":
                outside_capture("uploading the counts of a sampler")
            self._on[device] = torch.tensor(self.counts, dtype=torch.int64, device=device)
        return self._on[device]
