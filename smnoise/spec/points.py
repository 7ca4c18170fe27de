# SPDX-License-Identifier: Apache-2.0
"""The tables of noise at points, which every backend reads (extension 15)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .. import reference, reference_points
from .color import ColorSpec, tables

MAX_POINT_RADIUS = 32
REACH = (
    1 << 19,
    1 << 15,
    1 << 18,
)  # of coordinates along t, y, x: where float32 has sixteenths and noise is new


@dataclass(frozen=True)
class PointTables:
    """Computed once, in float64, rounded once."""

    taps: np.ndarray  # float32 [2 banks, 32, 3 axes t y x, 16 phases, side], zero behind each row's taps
    radius: np.ndarray  # int32 [2, 32, 3]
    first: np.ndarray | None  # int32 [32]; None for colours of one sigma

    @property
    def side(self) -> int:
        """Lattice places along an axis that the largest filter reads, at most."""
        return self.taps.shape[-1]


def check_points_spec(spec: ColorSpec) -> None:
    """Raise ValueError for what is not defined, or not supported, at points."""
    if spec.boundary != "field":
        raise ValueError('points lie in the unbounded field: take boundary="field", not "wrap"')
    if max(spec.max_radius) > MAX_POINT_RADIUS:
        raise ValueError(
            f"filter radii (truncate * sigma * anisotropy) at points must be at most {MAX_POINT_RADIUS}, got "
            f"{spec.max_radius}; lower sigma, anisotropy or truncate, and take a smaller step"
        )


@lru_cache(maxsize=64)
def point_tables(spec: ColorSpec) -> PointTables:
    """Compute the tables of a spec, which are kept for specs that were used last. Raises ValueError as
    `check_points_spec` does.
    """
    check_points_spec(spec)
    of_grid = tables(spec)
    side = 2 * int(of_grid.radius.max()) + 2
    taps = np.zeros((2, reference.BANK, 3, reference_points.PHASES, side), np.float32)
    taps_of = lru_cache(maxsize=None)(reference_points.point_taps)
    for b, bank in enumerate(spec.banks if spec.color != "white" else ()):
        for i, sigma in enumerate(bank):
            for axis, scale in enumerate(spec.anisotropy):
                for phase in range(reference_points.PHASES):
                    g = taps_of(sigma * scale, spec.truncate, phase)
                    if len(g) <= side:  # longer in a bank that the colour does not use
                        taps[b, i, axis, phase, : len(g)] = g
    return PointTables(taps, of_grid.radius, of_grid.first)
