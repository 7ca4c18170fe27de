# SPDX-License-Identifier: Apache-2.0
"""Context and targets for predictors in latent space (JEPA): disjoint sets of exact sizes, cut from one ranking."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import ops
from ..levels import distance_to, levels, split
from ..masks import MaskBatch
from ..nearest import Named
from ..ops import ALL_OUTPUTS
from ..spec import ColorSpec, as_grid, as_int, with_ones
from .base import Sampler, as_bias
from .counts import scorer_of
from .indices import as_seed, batch_indices

MAX_SETS = 64
APART = 1 << 20  # between the windows of noise of two sets, along t
PERIOD_T = 1 << 28  # of the noise


class Separation(NamedTuple):
    """Means over all target tokens of a batch."""

    touching: float
    """Share of target tokens with a context token beside, above, below, before or after."""
    distance: float
    """City-block distance from a target token to the nearest context token."""


class ContextBatch(NamedTuple):
    """Context and targets of B samples."""

    context: MaskBatch
    """The context visible, all other tokens masked."""
    targets: Tensor
    """int64 [B, M, N]: M sets of N tokens to be predicted, each ascending."""

    def masks_enc(self) -> list[Tensor]:
        """[int64 [B, C]], as the collators of I-JEPA and V-JEPA give them: what the encoder sees."""
        return [self.context.need("ids_keep")]

    def masks_pred(self) -> list[Tensor]:
        """M times int64 [B, N], as those collators give them: what is predicted."""
        return list(self.targets.unbind(1))

    def target_mask(self) -> Tensor:
        """bool [B, L], True for the tokens of any target."""
        ids = self.targets.flatten(1)
        return torch.zeros(len(ids), self.context.num_tokens, dtype=torch.bool, device=ids.device).scatter(
            1, ids, True
        )

    def band(self) -> Tensor:
        """bool [B, L], True for the tokens that are neither seen nor predicted."""
        return self.context.need("mask") & ~self.target_mask()

    def distances(self) -> Tensor:
        """int64 [B, M, N], the city-block distance of each target token to the nearest context token."""
        found = distance_to(~self.context.volume()).flatten(1)
        return found.gather(1, self.targets.flatten(1)).view_as(self.targets)

    def separation(self) -> Separation:
        """How far targets lie from what is seen. Waits for a GPU."""
        found = self.distances()
        return Separation((found == 1).double().mean().item(), found.double().mean().item())


@dataclass(frozen=True)
class ContextTargets(Sampler):
    """A context and M target sets of exact sizes, cut from one ranking of the tokens (contract/extensions.md, 10): the
    context from the top, the targets from the bottom. What lies between is a guard band, neither seen nor predicted.

    >>> sampler = ContextTargets((8, 16, 16), num_context=512, num_target=256, target_sets=4)
    >>> sets = sampler.sets(batch_size=2, step=0)
    >>> sets.context.ids_keep.shape, sets.targets.shape, sets.band().sum(1).tolist()
    (torch.Size([2, 512]), torch.Size([2, 4, 256]), [512, 512])

    Called as other samplers are, it gives the masks of the context alone, with all other tokens masked.

    Args:
        grid: tokens along (T, H, W), (H, W) or (L,).
        num_context: tokens that the encoder sees.
        num_target: tokens of each target set.
        target_sets: M, 1 .. 64. Each set lies where a noise of its own is large: a window of the same field, 2^20
            further along t for each set.
        strategy: "random", a colour such as "green-3d", or, with one target set, a function of your own.
        parameters: keyword arguments of the strategy that JSON can hold, such as {"sigma1": (2.0, 2.0)}.
        seed: 0 .. 2^64 - 1; a call may give another one, also as a tensor.

    Raises:
        ValueError, TypeError: for a parameter that cannot give such sets, when the sampler is made.
    """

    _scored = True

    grid: tuple[int, int, int]
    num_context: int = field(kw_only=True)
    num_target: int = field(kw_only=True)
    target_sets: int = field(default=1, kw_only=True)
    strategy: str = field(default="green-3d", kw_only=True)
    parameters: Mapping[str, Any] = field(default_factory=dict, kw_only=True, hash=False)
    seed: int = field(default=0, kw_only=True)

    def __post_init__(self):
        self._put(grid=as_grid(with_ones(self.grid)), seed=as_int("seed", self.seed, 0, 2**64 - 1))
        tokens = self.num_tokens
        for name, most in (
            ("num_context", tokens - 1),
            ("num_target", tokens - 1),
            ("target_sets", MAX_SETS),
        ):
            self._put(**{name: as_int(name, getattr(self, name), 1, most)})
        if self.num_context + self.target_sets * self.num_target > tokens:
            raise ValueError(
                f"context and targets overlap: {self.num_context} + {self.target_sets} x {self.num_target} tokens of "
                f"{tokens}; take fewer"
            )
        scorer, parameters = scorer_of(self.strategy, self.grid, self.parameters)
        self._scorer: Sampler  # declared here: in the class they would be fields
        self._fields: tuple[str, ...]
        self._put(parameters=parameters, _scorer=scorer, _spec=scorer._spec, _spec_json=scorer._spec_json)
        self._put(_fields=self._windows() if self.target_sets > 1 else ())

    def _windows(self) -> tuple[str, ...]:
        """The JSON of the noise of each target set."""
        spec = self._scorer._spec
        if not isinstance(spec, ColorSpec):
            raise ValueError(
                f"{self.strategy} has no noise for several target sets; use target_sets=1, or a colour"
            )
        if self.grid[0] > APART // 2:
            raise ValueError(
                f"several target sets need a grid of at most {APART // 2} time steps, got {self.grid[0]}"
            )
        t, y, x = spec.origin
        places = ((t + (j + 1) * APART) % PERIOD_T for j in range(self.target_sets))
        return tuple(replace(spec, origin=(place, y, x)).to_json() for place in places)

    @property
    def visible_per_sample(self) -> int:
        """The tokens of the context."""
        return self.num_context

    @property
    def _colored(self) -> bool:
        return self._scorer._colored

    def scores(self, seed: Tensor, samples: Tensor, backend: str = "auto", **tables) -> Tensor:
        """What is ranked, float32 [B, L]. Arguments as in `Sampler.scores`."""
        return self._scorer.scores(seed, samples, backend, **tables)

    def _masks(self, spec, seed, samples, backend: str, outputs: str, **tables) -> MaskBatch:
        return self._cut(self.scores(seed, samples, backend, **tables), seed, samples, backend, outputs)

    def _cut(self, scores, seed, samples, backend: str, outputs: str) -> MaskBatch:
        return self._batch(ops.threshold(scores, self.num_context, 1, backend, outputs), outputs, self.grid)

    def sets(
        self,
        samples=None,
        *,
        batch_size: int | None = None,
        step: int | Tensor | None = None,
        rank: int = 0,
        world_size: int = 1,
        seed: int | Tensor | None = None,
        device: torch.device | str | None = None,
        backend: str = "auto",
        bias: Tensor | None = None,
        bias_weight: float = 1.0,
        sigma_table: Tensor | None = None,
        origin=None,
    ) -> ContextBatch:
        """Make context and targets for a batch. Arguments and errors are those of every sampler's call, see
        `Sampler.scores` for the shapes. A bias, float32 [B, L], moves the ranking, so that tokens with more of it are
        context more often, and targets less often.
        """
        samples = batch_indices(samples, batch_size, step, rank, world_size, device)
        seed = as_seed(self.seed if seed is None else seed, samples.device)
        tables = self._given(sigma_table, origin, samples)
        scores = self.scores(seed, samples, backend, **tables)
        if bias is not None:
            scores = ops.add_bias(scores, as_bias(bias, len(samples), self.grid), bias_weight, backend)
        context = self._cut(scores, seed, samples, backend, ALL_OUTPUTS)
        ids = levels(scores, bottom=(self.target_sets * self.num_target,), backend=backend).bottom[0]
        if self.target_sets == 1:
            return ContextBatch(context, ids[:, None])
        noise = (ops.color_noise(seed, samples, spec, backend, **tables).flatten(1) for spec in self._fields)
        return ContextBatch(context, split(ids, torch.stack(list(noise), dim=1), backend))


def _preset(strategy: str, context: str, targets: str, **parameters) -> Callable[..., ContextTargets]:
    def made(grid=(8, 16, 16), target_sets: int = 1, seed: int = 0) -> ContextTargets:
        grid = as_grid(with_ones(grid))
        tokens, sets = math.prod(grid), as_int("target_sets", target_sets, 1, MAX_SETS)
        return ContextTargets(
            grid,
            num_context=math.floor(tokens * Fraction(context)),
            num_target=math.floor(tokens * Fraction(targets)) // sets,
            target_sets=sets,
            strategy=strategy,
            parameters=parameters,
            seed=seed,
        )

    return made


COARSE = {"sigma1": (2.0, 2.0), "sigma2": (6.0, 6.0)}
context_presets: Named[Callable[..., ContextTargets]] = Named(
    "preset",
    {
        "random": _preset("random", "0.25", "0.75"),
        "green": _preset("green-3d", "0.25", "0.75"),
        "green-band": _preset("green-3d", "0.25", "0.5"),
        "green-far": _preset("green-3d", "0.15", "0.5"),
        "green-coarse": _preset("green-3d", "0.25", "0.5", **COARSE),
    },
)
"""Context and targets by name: each takes grid, target_sets and seed, and gives a `ContextTargets`."""
