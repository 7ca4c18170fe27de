# SPDX-License-Identifier: Apache-2.0
"""Optim Blue: complementary masks whose visible tokens keep their distance."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from .. import ops
from ..masks import MaskBatch
from ..ops import ALL_OUTPUTS
from ..spec import OptimBlueSpec, as_blue_grid, as_choice, as_int
from .base import Sampler
from .indices import as_seed, batch_indices


@dataclass(frozen=True)
class OptimBlue(Sampler):
    """Blue-noise masks by optimisation: visible tokens are spread evenly (contract section 7; arXiv 2503.16311, which
    calls them Optimized Blue and leaves delta, weights, decay and steps open: the values here are ours).

    A partition divides the grid into K = floor(L / V) masks and a rest of L - K * V tokens (`rest`). Together the masks
    reveal every token once, but for the rest, which is another one in each partition.

    Every token is visible equally often, whatever the rest: it is drawn at random, and a swap may take one of its
    tokens only for another at a place like that one, such as the border. On 14 x 14 tokens none is off the mean by more
    than 0.5% at 0.7, or 1.5% at 0.4, where K is 1.

    >>> sampler = OptimBlue(grid=(64, 8), mask_ratio=0.8)
    >>> masks = sampler(batch_size=5, step=0)  # K = 5: one partition
    >>> (~masks.mask).sum(0).max().item(), masks.ids_keep[0, :8].tolist()
    (1, [0, 11, 14, 17, 28, 30, 34, 40])

    Args:
        grid: tokens along (H, W), such as (time, frequency) of a spectrogram or (rows, columns) of an image; or along
            (T, H, W), an extension of ours (contract/extensions.md).
        mask_ratio: share of tokens that is masked, in (0, 1). floor(tokens * (1 - mask_ratio)) stay visible,
            the ratio read as the decimal it is written as.
        num_visible: visible tokens per mask, instead of a ratio.
        masks: "complementary": K consecutive samples share a partition and show no token twice; contiguous sample
            indices compute it once. "independent": each sample is the first mask of a
            partition of its own, at up to K times the cost.
        delta: how far a visible token crowds others, along each orientation.
        weights: of the orientations (0,1), (1,0), (1,1), (1,-1) along (y, x); for grids with T > 1 three more, of those
            along t, along t and one axis, along all three.
        decay: crowding falls with distance^-decay.
        steps: swaps tried after the greedy start; 0 is the greedy start alone.
        seed: 0 .. 2^64 - 1; a call may give another one, also as a tensor.

    Raises:
        ValueError, TypeError: for a parameter that cannot give such a mask, when the sampler is made.
    """

    _op = staticmethod(ops.optim_blue)

    grid: tuple[int, ...]
    mask_ratio: float | None = None
    num_visible: int | None = field(default=None, kw_only=True)
    masks: str = field(default="complementary", kw_only=True)
    delta: int = field(default=4, kw_only=True)
    weights: tuple[float, ...] = field(default=OptimBlueSpec.weights, kw_only=True)
    decay: float = field(default=2.0, kw_only=True)
    steps: int = field(default=256, kw_only=True)
    seed: int = field(default=0, kw_only=True)

    def __post_init__(self):
        grid = as_blue_grid(self.grid)
        self._put(grid=grid)
        as_choice("masks", self.masks, ("complementary", "independent"))
        parameters: dict[str, Any] = {
            "delta": self.delta,
            "weights": self.weights,
            "decay": self.decay,
            "steps": self.steps,
        }
        visible = self._resolve_visible(math.prod(self.grid))
        spec = OptimBlueSpec(grid, visible, masks=self.masks, **parameters)
        self._put(**{name: getattr(spec, name) for name in parameters})
        self._put(seed=as_int("seed", self.seed, 0, 2**64 - 1))
        self._put_spec(spec)
        self._put(_views_json=replace(spec, masks="views").to_json())

    @property
    def spec(self) -> OptimBlueSpec:
        """The parameters without the seed, the ratio resolved to a count."""
        return self._spec

    @property
    def visible_per_sample(self) -> int:
        """V, visible tokens per mask."""
        return self._spec.visible

    @property
    def num_masks(self) -> int:
        """K, complementary masks of a partition."""
        return self._spec.num_masks

    @property
    def rest(self) -> int:
        """Tokens that no mask of a partition reveals, L - K * V."""
        return self._spec.rest

    def views(
        self,
        clips=None,
        *,
        batch_size: int | None = None,
        step: int | torch.Tensor | None = None,
        rank: int = 0,
        world_size: int = 1,
        seed: int | torch.Tensor | None = None,
        device: torch.device | str | None = None,
        backend: str = "auto",
        outputs: str = ALL_OUTPUTS,
    ) -> MaskBatch:
        """All K masks of each clip at once: B * K rows, row b * K + k being mask k of clip b, as in
        `x.repeat_interleave(sampler.num_masks, 0)`. Clip c has partition c.

        Arguments and errors as for calling the sampler, with clips for samples.
        """
        clips = batch_indices(clips, batch_size, step, rank, world_size, device)
        seed = as_seed(self.seed if seed is None else seed, clips.device)
        views: str = self._views_json  # type: ignore[attr-defined]  # _put there
        return self._masks(views, seed, clips, backend, outputs)
