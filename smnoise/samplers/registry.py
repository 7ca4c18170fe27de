# SPDX-License-Identifier: Apache-2.0
"""Every strategy by a short name, for configurations, studies and benchmarks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ..spec import COLORS, as_choice
from .bars import Frame, FrequencyBars, TimeBars, TimeFrequencyBars
from .base import Sampler
from .blocks import Block, InverseBlock
from .cells import Grid, RunningCell
from .color import COLOR_KINDS
from .flat import FLAT_KINDS
from .optim_blue import OptimBlue
from .random import Random, Tube, with_ones


def _color_3d(kind, grid, *arguments, **parameters):
    return kind(with_ones(grid), *arguments, **parameters)


STRATEGIES: dict[str, Callable[..., Sampler]] = {
    "random": Random,
    "tube": Tube,
    "frame": Frame,
    "block": Block,
    "multiblock": partial(Block, scale=(0.15, 0.2), aspect=(0.75, 1.5)),
    "inverse-block": InverseBlock,
    "grid": Grid,
    "running-cell": RunningCell,
    "time-bars": TimeBars,
    "frequency-bars": FrequencyBars,
    "bars": TimeFrequencyBars,
    **{f"{c}-3d": partial(_color_3d, COLOR_KINDS[f"{c.title()}3D"]) for c in COLORS},
    **{f"{c}-2d": FLAT_KINDS[f"{c.title()}2D"] for c in COLORS},
    **{f"{c}-2d-tube": partial(FLAT_KINDS[f"{c.title()}2D"], tube=True) for c in COLORS},  # type: ignore[call-arg]
    **{f"{c}-1d": FLAT_KINDS[f"{c.title()}1D"] for c in COLORS},
    "optim-blue": OptimBlue,
}


def strategy(
    name: str,
    grid: tuple[int, ...],
    mask_ratio: float | None = None,
    *,
    num_visible: int | None = None,
    seed: int = 0,
    **parameters,
) -> Sampler:
    """The sampler of a name, all of which take the same arguments.

    >>> strategy("tube", (8, 14, 14), num_visible=160)
    Tube(grid=(8, 14, 14), mask_ratio=None, num_visible=160, seed=0)

    Args:
        name: one of `smnoise.STRATEGIES`.
        grid: tokens along (T, H, W); where it makes sense (H, W); for the 1D colours (L,).
        mask_ratio, num_visible: one of them. num_visible counts tokens per sample, whatever the strategy. A ratio is of
            the tokens of a sample; for tubes and 2D colours of each frame, since each shows equally many.
        seed: 0 .. 2^64 - 1.
        parameters: others of the sampler's own.

    Raises:
        ValueError, TypeError: for an unknown name, and whatever the sampler itself refuses.
    """
    kind = STRATEGIES[as_choice("strategy", name, STRATEGIES)]
    return kind(grid, mask_ratio, num_visible=num_visible, seed=seed, **parameters)
