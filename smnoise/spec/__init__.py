# SPDX-License-Identifier: Apache-2.0
"""What an op is given as its `spec` string: canonical JSON of a frozen dataclass, without a seed and without a ratio
(the ratio has become a count). Samplers make one; users rarely do."""

from .checks import as_choice, as_float, as_int, as_ratio, as_tuple, signed64, visible_of_ratio, with_ones
from .color import COLORS, MAX_RADIUS, MAX_SLAB, ColorSpec, Tables, as_grid, search_start, tables
from .optim_blue import OptimBlueSpec, as_blue_grid
from .points import REACH, PointTables, check_points_spec, point_tables
from .strategy import StrategySpec

MASKS: dict[str, type[ColorSpec] | type[OptimBlueSpec] | type[StrategySpec]] = {
    "color_mask": ColorSpec,
    "optim_blue": OptimBlueSpec,
    "strategy_mask": StrategySpec,
}
"""What the ops that make masks are given, as JSON."""

__all__ = [
    "COLORS",
    "MASKS",
    "MAX_RADIUS",
    "MAX_SLAB",
    "REACH",
    "ColorSpec",
    "OptimBlueSpec",
    "PointTables",
    "StrategySpec",
    "Tables",
    "as_blue_grid",
    "as_choice",
    "as_float",
    "as_grid",
    "as_int",
    "as_ratio",
    "as_tuple",
    "check_points_spec",
    "point_tables",
    "search_start",
    "signed64",
    "tables",
    "visible_of_ratio",
    "with_ones",
]
