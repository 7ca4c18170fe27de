# SPDX-License-Identifier: Apache-2.0
"""Masks with a count of its own for each frame."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from .. import ops
from ..masks import MaskBatch
from ..spec import as_grid, as_int, with_ones
from .base import Sampler, without_scores
from .named import strategy as named_strategy

PURPOSE_COUNTS = 6


@dataclass(frozen=True)
class FrameCounts(Sampler):
    """A count of visible tokens for each frame, of any strategy that has scores of tokens (contract/extensions.md, 9).

    Three frames shown whole and 9 tokens of the fourth, as for models that predict a future frame from past ones:

    >>> sampler = FrameCounts(grid=(4, 14, 14), counts=(196, 196, 196, 9), strategy="green-3d")
    >>> sampler.visible_per_sample, (~sampler([0]).volume()).sum((2, 3)).tolist()
    (597, [[196, 196, 196, 9]])

    Args:
        grid: tokens along (T, H, W), (H, W) or (L,).
        counts: visible tokens of each frame, T integers, each 0 .. H * W; neither all tokens nor none in all. Or of
            equal parts of each frame, its tokens cut in their order: for a spectrogram (time, frequency) with one
            integer for each time step, of each time step.
        strategy: "random", a colour such as "green-3d", or a function of your own (`smnoise.register`).
        parameters: keyword arguments of the strategy that JSON can hold, such as {"sigma1": (0.4, 1.5)}.
        drawn: each sample draws which frame has which of the counts, all orders being equally probable. Else they are
            those of the frames in their order.
        seed: 0 .. 2^64 - 1; a call may give another one, also as a tensor.

    Raises:
        ValueError, TypeError: for a parameter that cannot give such a mask, when the sampler is made.
    """

    _scored = True

    grid: tuple[int, int, int]
    counts: tuple[int, ...]
    strategy: str = field(default="random", kw_only=True)
    parameters: Mapping[str, Any] = field(default_factory=dict, kw_only=True, hash=False)
    drawn: bool = field(default=False, kw_only=True)
    seed: int = field(default=0, kw_only=True)

    def __post_init__(self):
        if not isinstance(self.drawn, bool):
            raise TypeError(f"drawn must be True or False, got {self.drawn!r}")
        self._put(grid=as_grid(with_ones(self.grid)), seed=as_int("seed", self.seed, 0, 2**64 - 1))
        self._put(counts=as_counts(self.counts, self.grid))
        scorer, parameters = scorer_of(self.strategy, self.grid, self.parameters)
        self._scorer: Sampler  # declared here: in the class they would be fields
        self._put(parameters=parameters, _scorer=scorer, _spec=scorer._spec, _spec_json=scorer._spec_json)

    @property
    def visible_per_sample(self) -> int:
        """V, visible tokens per sample, over all its frames."""
        return sum(self.counts)

    @property
    def _colored(self) -> bool:
        return self._scorer._colored

    def scores(
        self, seed: torch.Tensor, samples: torch.Tensor, backend: str = "auto", **tables
    ) -> torch.Tensor:
        """What is thresholded in each frame, float32 [B, L]. Arguments as in `Sampler.scores`."""
        return self._scorer.scores(seed, samples, backend, **tables)

    def _masks(self, spec, seed, samples, backend: str, outputs: str, **tables) -> MaskBatch:
        return self._cut(self.scores(seed, samples, backend, **tables), seed, samples, backend, outputs)

    def _cut(self, scores, seed, samples, backend: str, outputs: str) -> MaskBatch:
        line = None
        if self.drawn:
            words = ops.random_words(seed, samples, PURPOSE_COUNTS, len(self.counts), backend)
            line = (words >> 8).float()
        results = ops.slot_threshold(scores, self.counts, line, backend, outputs)
        return self._batch(results, outputs, self.grid)


def as_counts(counts, grid: tuple[int, int, int]) -> tuple[int, ...]:
    """Counts of frames, or of equal parts of frames; TypeError or ValueError for what does not fit."""
    tokens = math.prod(grid)
    if not np.iterable(counts) or isinstance(counts, (str, bytes, Mapping)):
        raise TypeError(f"counts must be integers, one for each frame, got {counts!r}")
    counts = tuple(counts)
    if not counts or len(counts) % grid[0] or tokens % len(counts):
        raise ValueError(
            f"counts must have one integer for each of the {grid[0]} frames, or for equal parts of each frame of "
            f"{grid[1]} x {grid[2]} tokens; got {len(counts)}"
        )
    most = tokens // len(counts)
    counts = tuple(as_int(f"counts[{i}]", count, 0, most) for i, count in enumerate(counts))
    if not 0 < sum(counts) < tokens:
        raise ValueError(
            f"counts must leave at least one of {tokens} tokens visible and one masked; they show {sum(counts)}"
        )
    return counts


def scorer_of(strategy, grid, parameters) -> tuple[Sampler, dict]:
    """The sampler whose scores are cut, and its checked parameters. What it would show itself is not asked for."""
    if not isinstance(strategy, str):
        raise TypeError(f"strategy must be a name, such as 'green-3d', got {strategy!r}")
    if not isinstance(parameters, Mapping) or not all(isinstance(n, str) for n in parameters):
        raise TypeError(f"parameters must be keyword arguments by name, got {parameters!r}")
    if fixed := {"grid", "mask_ratio", "num_visible", "seed", "per"} & set(parameters):
        raise ValueError(
            f"{', '.join(sorted(fixed))} cannot be among the parameters of the strategy; leave it out"
        )
    if math.prod(grid) <= grid[0]:
        raise ValueError(f"grid {grid} has one token in each frame; at least two are needed")
    scorer = named_strategy(strategy, grid, num_visible=grid[0], **parameters)
    if not scorer._scored:
        raise ValueError(without_scores(scorer, others=""))
    return scorer, dict(parameters)
