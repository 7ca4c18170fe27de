# SPDX-License-Identifier: Apache-2.0
"""Samplers: frozen descriptions of a masking strategy, called for masks.

sampler = smnoise.Green3D(grid=(8, 14, 14), mask_ratio=0.9)
masks = sampler(batch_size=32, step=step)
"""

from __future__ import annotations

import json
from dataclasses import fields

from .base import KINDS, Sampler, sample_indices
from .color import COLOR_KINDS, Blue3D, Color3D, Green3D, Purple3D, Red3D, White3D
from .optim_blue import OptimBlue

__all__ = [
    "COLOR_KINDS",
    "KINDS",
    "Blue3D",
    "Color3D",
    "Green3D",
    "OptimBlue",
    "Purple3D",
    "Red3D",
    "Sampler",
    "White3D",
    "from_json",
    "sample_indices",
]


def from_json(text: str, *, pool=None) -> Sampler:
    """The sampler that `to_json` wrote. Raises ValueError for anything else.

    pool: for a `PoolSampler`, whose JSON names its pool by hash: that pool.
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
    unknown = set(values) - {f.name for f in fields(kind)}
    if unknown:
        raise ValueError(f"unknown parameters of {kind.__name__}: {sorted(unknown)}")
    try:
        return kind._of_parameters(values, pool)
    except TypeError as error:
        raise ValueError(f"not the JSON of a {name}: {error}") from None
