# SPDX-License-Identifier: Apache-2.0
"""noise_at of the CUDA backend: a block a point."""

from __future__ import annotations

from ctypes import c_int64, c_void_p

import torch

from ..spec import ColorSpec, point_tables
from . import driver, once
from .plan import Points, points_of


@once
def _points(spec: ColorSpec, device: int) -> tuple[Points, int, int]:
    t = point_tables(spec)
    taps, radius = (driver.upload(array, device) for array in (t.taps, t.radius))
    first = None if t.first is None else driver.upload(t.first, device)
    shared = 4 * 2 * (t.side + 1) * t.side  # points_bytes of csrc/points_block.h
    return points_of(spec, t, taps, radius, first), driver.function(device, "noise_at"), shared


def noise_at(seed, samples, places: torch.Tensor, spec: ColorSpec, sigma_table=None) -> torch.Tensor:
    samples, places, device = samples.contiguous(), places.contiguous(), samples.device
    table = None if sigma_table is None else sigma_table.contiguous()
    out = torch.empty(places.shape[:2], dtype=torch.float32, device=device)
    with torch.cuda.device(device):
        struct, function, shared = _points(spec, device.index)
        if out.numel():
            pointers = [c_void_p(None if v is None else v.data_ptr()) for v in (seed, samples, table, places)]
            number, result = c_int64(places.shape[1]), c_void_p(out.data_ptr())
            driver.launch(function, (out.numel(), 1), shared, struct, *pointers, number, result)
    return out
