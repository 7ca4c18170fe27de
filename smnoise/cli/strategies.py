# SPDX-License-Identifier: Apache-2.0
"""Samplers on the command line: a strategy by its short name, or what a sampler's `to_json` wrote."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
        """The sampler of a short name or a published recipe; of a pool's .safetensors file; or of a .json file, or of
        JSON itself, which have a budget of their own.

        usual_grid: where none is given; by default the published one for that strategy.

        Raises ValueError for an unknown name, and for a budget that the strategy cannot keep.
        """
        from .. import STRATEGIES, from_json, presets, strategy

        if name.lstrip().startswith("{") or name.endswith(".json"):
            given = [n for n in ("grid", "mask_ratio", "num_visible") if getattr(self, n) is not None]
            if given:
                raise ValueError(f"the JSON of a sampler has its own {given[0]}; leave it out")
            return from_json(name if name.lstrip().startswith("{") else Path(name).read_text())
        if name.endswith(".safetensors"):
            from .. import PoolSampler, pools

            pool = pools.load(name)
            window: Any = self.grid or (None if pool.num_visible else usual_grid)  # PoolSampler checks it
            ratio = (
                0.9
                if (self.mask_ratio, self.num_visible, pool.num_visible) == (None,) * 3
                else self.mask_ratio
            )
            return PoolSampler(pool, window, ratio, num_visible=self.num_visible, seed=self.seed)
        if name in presets:
            if self.num_visible is not None:
                raise ValueError(
                    f"{name} has the count of its recipe; give mask_ratio or nothing, not num_visible"
                )
            own = {"grid": self.grid or usual_grid, "mask_ratio": self.mask_ratio, "seed": self.seed}
            return presets[name](**{key: value for key, value in own.items() if value is not None})
        if name not in STRATEGIES:
            close = difflib.get_close_matches(name, [*STRATEGIES, *presets], n=3)
            raise ValueError(
                f"strategy must be one of {', '.join(STRATEGIES)}; a recipe's: {', '.join(presets)}; or the JSON of a "
                f"sampler; got {name!r}{f', did you mean {close[0]}?' if close else ''}"
            )
        grid = (
            self.grid
            or usual_grid
            or (AUDIO if name in OF_PLANES else LINE if name.endswith("-1d") else VIDEO)
        )
        ratio = self.mask_ratio
        if ratio is None and self.num_visible is None:
            ratio = 0.9 if len(grid) == 3 and grid[0] > 1 else 0.8
        return strategy(name, tuple(grid), ratio, num_visible=self.num_visible, seed=self.seed)
