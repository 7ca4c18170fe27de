# SPDX-License-Identifier: Apache-2.0
"""Samplers on the command line: what `smnoise.sampler_of` takes, with the grid of a published recipe unless given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..samplers.base import Sampler

VIDEO, AUDIO, LINE = (8, 14, 14), (64, 8), (512,)
OF_PLANES = ("optim-blue", "time-bars", "frequency-bars", "bars")


@dataclass(frozen=True)
class Budget:
    """The grid and how much of it stays visible."""

    grid: tuple[int, ...] | None = None
    """Tokens along T H W, or along time and frequency. By default that of the published recipe: 8 14 14 for VideoMAE,
    64 8 for AudioMAE."""
    mask_ratio: float | None = None
    """Share of tokens that is masked; by default 0.9, of planes 0.8."""
    num_visible: int | None = None
    """Visible tokens, instead of a ratio."""
    seed: int = 0
    """0 .. 2^64 - 1."""

    def sampler(self, name: str, usual_grid: tuple[int, ...] | None = None) -> Sampler:
        """The sampler of what `smnoise.sampler_of` takes.

        usual_grid: where none is given; by default the published one for that strategy.

        Raises ValueError for an unknown name, and for a budget that the strategy cannot keep.
        """
        from .. import presets, sampler_of

        names_grid = (
            name.lstrip().startswith("{") or name.startswith("@") or name.endswith((".json", ".safetensors"))
        )
        if usual_grid is None and not names_grid and name not in presets:
            usual_grid = AUDIO if name in OF_PLANES else LINE if name.endswith("-1d") else VIDEO
        return sampler_of(
            name,
            self.grid,
            self.mask_ratio,
            num_visible=self.num_visible,
            usual_grid=usual_grid,
            seed=self.seed,
        )
