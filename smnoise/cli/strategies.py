# SPDX-License-Identifier: Apache-2.0
"""Samplers on the command line: a strategy by its short name, or what a sampler's `to_json` wrote."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..samplers.base import Sampler

VIDEO, AUDIO = (8, 14, 14), (64, 8)


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
        """The sampler of a strategy's short name, of a .json file, or of JSON itself, which have a budget of their own.

        usual_grid: where none is given; by default the published one for that strategy.

        Raises ValueError for an unknown name, and for a budget that the strategy cannot keep.
        """
        from .. import from_json

        if name.lstrip().startswith("{") or name.endswith(".json"):
            given = [n for n in ("grid", "mask_ratio", "num_visible") if getattr(self, n) is not None]
            if given:
                raise ValueError(f"the JSON of a sampler has its own {given[0]}; leave it out")
            return from_json(name if name.lstrip().startswith("{") else Path(name).read_text())
        grid = self.grid or usual_grid or (AUDIO if name.startswith("optim-blue") else VIDEO)
        ratio = self.mask_ratio
        if ratio is None and self.num_visible is None:
            ratio = 0.9 if len(grid) == 3 and grid[0] > 1 else 0.8
        return strategy(name, grid, mask_ratio=ratio, num_visible=self.num_visible, seed=self.seed)


def strategy(name: str, grid, *, mask_ratio=None, num_visible=None, seed: int = 0) -> Sampler:
    from ..samplers import Blue3D, Green3D, OptimBlue, Purple3D, Red3D, White3D

    kinds = {
        "green-3d": Green3D,
        "red-3d": Red3D,
        "blue-3d": Blue3D,
        "purple-3d": Purple3D,
        "random": White3D,
        "optim-blue": OptimBlue,
    }
    if name not in kinds:
        raise ValueError(
            f"strategy must be one of {', '.join(kinds)}, or the JSON of a sampler; got {name!r}"
        )
    if kinds[name] is not OptimBlue and len(grid) == 2:
        grid = (1, *grid)
    return kinds[name](tuple(grid), mask_ratio, num_visible=num_visible, seed=seed)
