# SPDX-License-Identifier: Apache-2.0
"""Cases of any small parameters, the same in every run."""

from __future__ import annotations

import math
import random

import numpy as np

from smnoise.backends.layout import SHARED_BYTES
from smnoise.backends.outputs import NAMES
from smnoise.spec import ColorSpec, OptimBlueSpec, StrategySpec

from .workloads import KIB, Case, filter_of, mask_of, samples_of, threshold_of, without_scores


def random_case(group: str, number: int) -> Case:
    """Of any small parameters."""
    g = random.Random(f"{group} {number}")
    while True:
        try:
            return RANDOM[group](g, f"random {number}")
        except ValueError:  # parameters that do not go together: others, then
            continue


def _random_inputs(g: random.Random) -> dict:
    samples = samples_of(*(g.choice((g.randrange(2**64), g.randrange(20))) for _ in range(g.randint(1, 5))))
    wanted = tuple(n for n in NAMES if g.random() < 0.7) or NAMES
    return {"number": g.randrange(5), "samples": samples, "wanted": wanted}


def _random_color(g: random.Random, name: str) -> Case:
    grid = tuple(g.choice((1, 2, 3, 5, 8, 9, 14)) for _ in range(3))
    per = g.choice(("clip", "frame"))
    tokens = math.prod(grid[per == "frame" :])
    spec = ColorSpec(
        g.choice(("white", "red", "blue", "green", "purple")), grid, g.randint(1, max(1, tokens - 1)), per=per,
        boundary=g.choice(("field", "wrap")), sigma1=g.choice(((0.4, 1.5), (0.3, 0.3), (0.5, 2.5))),
        sigma2=g.choice(((1.4, 3.0), (2.6, 2.9))), anisotropy=(g.choice((0, 0.5, 1)), g.choice((0.5, 1)), 1),
        origin=tuple(g.choice((0, -9, 12345)) for _ in range(3)), truncate=g.choice((4.0, 2.0)),
    )  # fmt: skip
    shared = g.choice((SHARED_BYTES, SHARED_BYTES, 40 * KIB, 16 * KIB, 8 * KIB))
    return Case(f"{name}: {spec}", mask_of("color_mask", spec, **_random_inputs(g)), shared=shared)


def _random_threshold(g: random.Random, name: str) -> Case:
    n, groups = g.randint(2, 700), g.randint(1, 3)
    scores = np.random.default_rng(g.randrange(2**31)).standard_normal((2, n * groups)).astype(np.float32)
    if g.random() < 0.5:
        scores = np.round(scores * g.choice((1, 2, 8)))
    visible, wanted = g.randint(1, n - 1), _random_inputs(g)["wanted"]
    return Case(f"{name}: {n}, {groups}, {visible}", threshold_of(scores, visible, groups, wanted))


def _random_gaussian(g: random.Random, name: str) -> Case:
    size = (g.randint(1, 3), *(g.randint(1, 20) for _ in range(3)))
    volume = np.random.default_rng(g.randrange(2**31)).standard_normal(size).astype(np.float32)
    radius, wrap = tuple(g.randint(0, 9) for _ in range(3)), g.random() < 0.5
    if not wrap:
        radius = tuple(min(r, (n - 1) // 2) for r, n in zip(radius, size[1:], strict=True))
    return Case(f"{name}: {size}, {radius}, {wrap}", filter_of(volume, radius, wrap))


def _random_blue(g: random.Random, name: str) -> Case:
    grid = g.choice(((3, 7), (5, 5), (2, 3, 4), (9, 4), (1, 2), (5, 1, 6)))
    masks = g.choice(("complementary", "independent", "views"))
    spec = OptimBlueSpec(
        grid, g.randint(1, math.prod(grid) - 1), steps=g.randint(0, 12), masks=masks, delta=g.randint(1, 5),
        weights=(1.0, *(g.choice((0.0, 0.7, 1.0)) for _ in range(3 if len(grid) == 2 else 6))),
    )  # fmt: skip
    shared = g.choice((SHARED_BYTES, 1100))
    return Case(f"{name}: {spec}", mask_of("optim_blue", spec, **_random_inputs(g)), shared=shared)


def _random_strategy(g: random.Random, name: str) -> Case:
    grid = tuple(g.choice((1, 2, 3, 8, 10)) for _ in range(3))
    kind, tokens = g.choice(("axis", "bars", "blocks", "cells", "running")), math.prod(grid)
    more = {
        "axis": {"axis": g.randrange(3)}, "bars": {"pace": (g.randint(1, grid[1]), g.randint(1, grid[2]))},
        "cells": {"cell": tuple(g.randint(1, n) for n in grid)},
        "running": {"cell": (1, g.randint(1, grid[1]), g.randint(1, grid[2]))},
        "blocks": {"inverse": g.random() < 0.5, "overhang": g.random() < 0.5,
                   "duration": g.choice(((1, 1), (0.3, 0.7)))},
    }[kind]  # fmt: skip
    spec = StrategySpec(kind, grid, g.randint(1, max(1, tokens - 1)), **more)
    shared = g.choice((SHARED_BYTES, without_scores(spec)))
    return Case(f"{name}: {spec}", mask_of("strategy_mask", spec, **_random_inputs(g)), shared=shared)


RANDOM = {"colors": _random_color, "threshold": _random_threshold, "gaussian": _random_gaussian,
          "optim_blue": _random_blue, "strategies": _random_strategy}  # fmt: skip
