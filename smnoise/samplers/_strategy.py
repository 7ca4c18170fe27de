# SPDX-License-Identifier: Apache-2.0
"""What the samplers of contract/extensions.md, 5 have in common."""

from __future__ import annotations

import math

from .. import ops
from ..spec import StrategySpec, as_int
from .base import Sampler


class Strategy(Sampler, abstract=True):
    """Frames, bars, blocks or cells at an exact count of tokens."""

    _op = staticmethod(ops.strategy_mask)

    def _prepare(self, kind: str, grid: tuple[int, int, int], **parameters) -> None:
        """Check everything and put the checked values into the fields that have the same names."""
        self._put(grid=grid, seed=as_int("seed", self.seed, 0, 2**64 - 1))
        spec = StrategySpec(kind, grid, self._resolve_visible(math.prod(grid)), **parameters)
        self._put_spec(spec)

    @property
    def spec(self) -> StrategySpec:
        """The parameters without the seed, the ratio resolved to a count."""
        return self._spec

    @property
    def visible_per_sample(self) -> int:
        """V, visible tokens per sample."""
        return self._spec.visible
