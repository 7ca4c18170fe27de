# SPDX-License-Identifier: Apache-2.0
"""noise_at of the C++ backend."""

from __future__ import annotations

from ctypes import byref
from functools import lru_cache

import torch

from ..spec import ColorSpec, point_tables
from . import cpu
from .plan import Points, points_of


@lru_cache(maxsize=64)
def _points(spec: ColorSpec) -> Points:
    t = point_tables(spec)
    first = None if t.first is None else t.first.ctypes.data
    return points_of(spec, t, t.taps.ctypes.data, t.radius.ctypes.data, first).holding(t)


def noise_at(seed, samples, places: torch.Tensor, spec: ColorSpec, sigma_table=None) -> torch.Tensor:
    samples, places = samples.contiguous(), places.contiguous()
    table = None if sigma_table is None else sigma_table.contiguous()
    out = torch.empty(places.shape[:2], dtype=torch.float32, device="cpu")
    status = cpu._load()[0].smn_noise_at(
        byref(_points(spec)), cpu.CODES[cpu.isa()], cpu.threads(), cpu._parallel(),
        seed.data_ptr(), samples.data_ptr(), places.data_ptr(), *places.shape[:2],
        None if table is None else table.data_ptr(), out.data_ptr(),
    )  # fmt: skip
    cpu._check(status)
    return out
