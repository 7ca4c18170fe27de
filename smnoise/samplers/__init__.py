# SPDX-License-Identifier: Apache-2.0
"""Samplers: frozen descriptions of a masking strategy, called for masks.

sampler = smnoise.Green3D(grid=(8, 14, 14), mask_ratio=0.9)
masks = sampler(batch_size=32, step=step)
"""

from __future__ import annotations

import json
from dataclasses import MISSING, fields

from .bars import Frame, FrequencyBars, TimeBars, TimeFrequencyBars
from .base import KINDS, Sampler, sample_indices
from .blocks import Block, InverseBlock
from .cells import Grid, RunningCell
from .color import COLOR_KINDS, Blue3D, Color3D, Green3D, Purple3D, Red3D, White3D
from .flat import (
    FLAT_KINDS,
    Blue1D,
    Blue2D,
    Color1D,
    Color2D,
    Green1D,
    Green2D,
    Purple1D,
    Purple2D,
    Red1D,
    Red2D,
    White1D,
    White2D,
)
from .optim_blue import OptimBlue
from .presets import presets
from .random import Random, Tube
from .registry import STRATEGIES, strategy

__all__ = [
    "COLOR_KINDS",
    "FLAT_KINDS",
    "KINDS",
    "STRATEGIES",
    "Block",
    "Blue1D",
    "Blue2D",
    "Blue3D",
    "Color1D",
    "Color2D",
    "Color3D",
    "Frame",
    "FrequencyBars",
    "Green1D",
    "Green2D",
    "Green3D",
    "Grid",
    "InverseBlock",
    "OptimBlue",
    "Purple1D",
    "Purple2D",
    "Purple3D",
    "Random",
    "Red1D",
    "Red2D",
    "Red3D",
    "RunningCell",
    "Sampler",
    "TimeBars",
    "TimeFrequencyBars",
    "Tube",
    "White1D",
    "White2D",
    "White3D",
    "from_json",
    "presets",
    "sample_indices",
    "strategy",
]


def from_json(text: str, *, pool=None) -> Sampler:
    """The sampler that `to_json` wrote. Raises ValueError for anything else.

    pool: for a `PoolSampler`, whose JSON names its pool by hash: that pool.

    >>> from_json(White3D((2, 4, 4), 0.5, seed=3).to_json()) == White3D((2, 4, 4), 0.5, seed=3)
    True
    """
    from .. import pools  # noqa: F401  (its sampler is one of KINDS once it is imported)

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
