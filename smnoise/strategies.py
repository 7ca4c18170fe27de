# SPDX-License-Identifier: Apache-2.0
"""Every strategy by a short name, for configurations, studies and benchmarks."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import MISSING, fields
from functools import partial

from . import pools  # noqa: F401  (its sampler is one of KINDS once it is imported)
from .samplers.bars import Frame, FrequencyBars, TimeBars, TimeFrequencyBars
from .samplers.base import KINDS, Sampler
from .samplers.blocks import Block, InverseBlock
from .samplers.cells import Grid, RunningCell
from .samplers.color import COLOR_KINDS
from .samplers.flat import FLAT_KINDS
from .samplers.optim_blue import OptimBlue
from .samplers.random import Random, Tube, with_ones
from .spec import COLORS, as_choice


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


def from_json(text: str, *, pool=None) -> Sampler:
    """The sampler that `to_json` wrote. Raises ValueError for anything else.

    pool: for a `PoolSampler`, whose JSON names its pool by hash: that pool.

    >>> from_json(strategy("tube", (2, 4, 4), 0.5).to_json()) == strategy("tube", (2, 4, 4), 0.5)
    True
    """
    try:
        values = json.loads(text)
    except (json.JSONDecodeError, TypeError, RecursionError) as error:
        raise ValueError(f"not the JSON of a sampler: {error}") from None
    name = values.pop("sampler", None) if isinstance(values, dict) else None
    if not isinstance(name, str) or name not in KINDS:
        raise ValueError(f"expected an object whose 'sampler' is one of {', '.join(KINDS)}; got {text[:80]}")
    kind = KINDS[name]
    if values.pop("contract", 1) != 1:
        raise ValueError("this version of smnoise implements contract 1 only")
    unknown = set(values) - {f.name for f in fields(kind)}  # type: ignore[arg-type]  # a dataclass
    if unknown:
        raise ValueError(f"unknown parameters of {kind.__name__}: {sorted(unknown)}")
    required = {f.name for f in fields(kind) if f.init and f.default is MISSING}  # type: ignore[arg-type]
    if missing := required - set(values):
        raise ValueError(f"the JSON of a {name} needs {', '.join(sorted(missing))}")
    try:
        return kind._of_parameters(values, pool)
    except TypeError as error:
        raise ValueError(f"not the JSON of a {name}: {error}") from None
