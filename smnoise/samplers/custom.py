# SPDX-License-Identifier: Apache-2.0
"""A strategy of your own: a function that gives each token a score; the tokens with the largest stay visible.

    import torch
    import smnoise

    @smnoise.register("left-first")
    def left_first(seed, samples, grid):
        words = smnoise.ops.random_words(seed, samples, 15, grid[0] * grid[1] * grid[2])   # int64 [B, L], 32 bits each
        x = torch.arange(grid[2], device=samples.device).repeat(grid[0] * grid[1])
        return words / 2**32 - x

    masks = smnoise.strategy("left-first", (8, 14, 14), 0.9)(batch_size=32, step=0)

On a command line, and wherever a mask is named, "my_module:left_first" names it without being registered before.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from .. import ops
from ..masks import MaskBatch
from ..ops._library import check_seed_and_samples
from ..spec import as_choice, as_grid, as_int, with_ones
from ..spec.checks import as_visible
from ..tensors import check_tensors
from .base import Sampler
from .repeated import visible_per_frame

Scores = Callable[..., torch.Tensor]
# Of which float32 holds every value.
EXACT = (
    *(torch.bool, torch.uint8, torch.int8, torch.int16),
    *(torch.float16, torch.bfloat16, torch.float32),
)
FUNCTIONS: dict[str, Scores] = {}


@dataclass(frozen=True)
class Custom(Sampler):
    """Masks cut from the scores of a registered function: the tokens with the largest scores are visible, ties to the
    lower token. The count is exact whatever the scores are; a NaN counts as larger than all numbers (contract, 6).

    >>> @smnoise.register("checkers")
    ... def checkers(seed, samples, grid, first=0):
    ...     t, h, w = grid
    ...     places = torch.arange(h)[:, None] + torch.arange(w) + first
    ...     return (places % 2).expand(len(samples), t, h, w)
    >>> Custom((1, 2, 3), num_visible=3, name="checkers", parameters={"first": 1})([7]).ids_keep.tolist()
    [[0, 2, 4]]

    Args:
        grid: tokens along (T, H, W), (H, W) or (L,).
        mask_ratio: share of tokens that is masked, in (0, 1). floor(tokens * (1 - mask_ratio)) stay visible, the ratio
            read as the decimal it is written as; per="frame": of each frame.
        num_visible: visible tokens per sample, instead of a ratio; per="frame": a multiple of T.
        name: of the function; see `smnoise.register`.
        parameters: keyword arguments of the function that JSON can hold; it gets them as JSON has them, tuples as
            lists.
        per: "clip", or "frame" to rank each time step by itself.
        seed: 0 .. 2^64 - 1; a call may give another one, also as a tensor.

    Raises:
        ValueError, TypeError: for a parameter that cannot give such a mask, when the sampler is made; for scores of
            another shape, when it is called.
    """

    _scored = True

    grid: tuple[int, int, int]
    mask_ratio: float | None = None
    num_visible: int | None = field(default=None, kw_only=True)
    name: str = field(kw_only=True)
    parameters: Mapping[str, Any] = field(default_factory=dict, kw_only=True, hash=False)
    per: str = field(default="clip", kw_only=True)
    seed: int = field(default=0, kw_only=True)

    def __post_init__(self):
        grid = as_grid(with_ones(self.grid))
        if self.name not in FUNCTIONS:
            raise ValueError(
                f"no strategy {self.name!r} is registered; import the module that registers it first"
                + (f" (registered: {', '.join(FUNCTIONS)})" if FUNCTIONS else "")
            )
        if not isinstance(self.parameters, Mapping) or not all(isinstance(n, str) for n in self.parameters):
            raise TypeError(f"parameters must be keyword arguments by name, got {self.parameters!r}")
        try:
            parameters = json.loads(json.dumps(dict(self.parameters)))  # as a sampler of its JSON has them
        except (TypeError, ValueError, RecursionError) as error:
            raise TypeError(
                f"parameters must be what JSON can hold, got {self.parameters!r} ({error})"
            ) from None
        per_frame = as_choice("per", self.per, ("clip", "frame")) == "frame"
        self._put(grid=grid, seed=as_int("seed", self.seed, 0, 2**64 - 1), parameters=parameters)
        self._groups: int  # declared here: in the class they would be fields
        self._visible: int
        if per_frame:
            groups, count = grid[0], as_visible(visible_per_frame(self, grid), grid[1] * grid[2], "frame")
        else:
            groups, count = 1, as_visible(self._resolve_visible(math.prod(grid)), math.prod(grid), "clip")
        self._put(_groups=groups, _visible=count, _spec=None, _spec_json="")

    @property
    def visible_per_sample(self) -> int:
        """V, visible tokens per sample, over all its frames."""
        return self._groups * self._visible

    def _masks(
        self, spec, seed: torch.Tensor, samples: torch.Tensor, backend: str, outputs: str, **_
    ) -> MaskBatch:
        return self._cut(self.scores(seed, samples), seed, samples, backend, outputs)

    def _cut(self, scores, seed, samples, backend: str, outputs: str) -> MaskBatch:
        results = ops.threshold(scores, self._visible, self._groups, backend, outputs)
        return self._batch(results, outputs, self.grid)

    def scores(self, seed: torch.Tensor, samples: torch.Tensor, backend: str = "auto", **_) -> torch.Tensor:
        """What is thresholded, float32 [B, L]: the function's scores, or their ranks where float32 would round them."""
        check_seed_and_samples(seed, samples)
        scores = FUNCTIONS[self.name](seed.reshape(()), samples, self.grid, **self.parameters)
        shapes = (len(samples), self.num_tokens), (len(samples), *self.grid)
        if not isinstance(scores, torch.Tensor) or tuple(scores.shape) not in shapes:
            came = tuple(scores.shape) if isinstance(scores, torch.Tensor) else type(scores).__name__
            raise ValueError(f"{self.name} must give scores of shape {shapes[0]} or {shapes[1]}, gave {came}")
        if scores.device != samples.device or scores.is_complex():
            raise ValueError(
                f"{self.name} must give real scores on {samples.device}, gave {scores.dtype} on {scores.device}"
            )
        check_tensors(scores=scores)
        scores = scores.reshape(shapes[0])
        if scores.dtype in EXACT:
            return scores.to(torch.float32)
        order = scores.argsort(dim=1, descending=True, stable=True)
        places = torch.arange(self.num_tokens, dtype=torch.float32, device=scores.device)
        return torch.empty_like(scores, dtype=torch.float32).scatter_(1, order, -places.expand_as(order))
