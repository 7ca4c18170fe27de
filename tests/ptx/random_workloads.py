# SPDX-License-Identifier: Apache-2.0
"""Cases of masks with random parameters, by number: the same number gives the same case in every run. Among them are
the sizes that decide which way a kernel goes: rows longer than a block has threads, filters longer than an unrolled
loop, memory that does not hold all, blocks of few warps."""

from __future__ import annotations

import math
import random

import numpy as np

from smnoise import sigma_table
from smnoise.backends.layout import SHARED_BYTES, THREADS, layout
from smnoise.backends.outputs import NAMES
from smnoise.spec import COLORS, ColorSpec, OptimBlueSpec, StrategySpec, tables

from .workloads import (
    KIB,
    Case,
    filter_of,
    mask_of,
    noise_of,
    samples_of,
    shared_for,
    slots_of,
    threshold_of,
    without_scores,
)


def random_case(group: str, number: int) -> Case:
    """Of any small parameters."""
    g = random.Random(f"{group} {number}")
    while True:
        try:
            return RANDOM[group](g, f"random {number}")
        except ValueError:  # parameters that do not go together: others, then
            continue


def _inputs(g: random.Random, most: int = 4) -> dict:
    samples = [g.choice((g.randrange(2**64), g.randrange(20))) for _ in range(g.randint(1, most))]
    wanted = tuple(n for n in NAMES if g.random() < 0.7) or NAMES
    return {"number": g.randrange(5), "samples": samples_of(*samples), "wanted": wanted}


def _threads(g: random.Random) -> int:
    return g.choice((THREADS, THREADS, 32, 96, 160, 224))


GRIDS = ((1, 1, 200), (1, 150, 2), (40, 3, 4), (33, 1, 1), (3, 8, 20), (2, 20, 8), (8, 14, 14), (5, 14, 14))


def _random_color(g: random.Random, name: str) -> Case:
    small = tuple(g.choice((1, 2, 3, 5, 8, 9, 14)) for _ in range(3))
    grid = g.choice((small, small, g.choice(GRIDS)))
    per = g.choice(("clip", "clip", "frame"))
    tokens = math.prod(grid[per == "frame" :])
    spec = ColorSpec(
        g.choice(COLORS), grid, g.randint(1, max(1, tokens - 1)), per=per, boundary=g.choice(("field", "wrap")),
        sigma1=g.choice(((0.4, 1.5), (0.3, 0.3), (0.5, 2.5), (4.0, 6.0))), sigma2=g.choice(((1.4, 3.0), (2.6, 7.9))),
        anisotropy=g.choice(((0, 0.5, 1), (1, 1, 1), (1.3, 1, 1), (0.5, 1, 0.5), (0, 0, 20), (0, 4, 0), (6, 0, 0))),
        origin=tuple(g.choice((0, -9, 12345)) for _ in range(3)), truncate=g.choice((4.0, 2.0, 0.5)),
    )  # fmt: skip
    torus = spec.boundary == "wrap"
    shared = g.choice((SHARED_BYTES, SHARED_BYTES, 40 * KIB, 16 * KIB, 8 * KIB, None))
    if shared is None:
        shared = shared_for(spec, torus and g.random() < 0.5, fused=False)
    layout(spec, tables(spec).taps.shape[-1], shared)  # raises ValueError where the filter does not fit
    if g.random() < 0.2:
        run = noise_of(spec, g.randrange(5))
    else:
        table = sigma_table([g.random() for _ in range(32)]) if g.random() < 0.2 else None
        run = mask_of("color_mask", spec, **_inputs(g, 2), table=table)
    return Case(f"{name}: {spec}", run, shared=shared, threads=_threads(g))


def _random_threshold(g: random.Random, name: str) -> Case:
    n, groups = g.choice((g.randint(2, 700), g.randint(700, 3000))), g.randint(1, 3)
    scores = np.random.default_rng(g.randrange(2**31)).standard_normal((2, n * groups)).astype(np.float32)
    if g.random() < 0.5:
        scores = np.round(scores * g.choice((1, 2, 8)))
    visible, wanted = g.randint(1, n - 1), _inputs(g)["wanted"]
    run = threshold_of(scores, visible, groups, wanted)
    return Case(f"{name}: {n}, {groups}, {visible}", run, threads=_threads(g))


def _random_slots(g: random.Random, name: str) -> Case:
    n, slots = g.randint(1, 900), g.randint(1, 5)
    scores = np.random.default_rng(g.randrange(2**31)).standard_normal((2, n * slots)).astype(np.float32)
    if g.random() < 0.5:
        scores = np.round(scores * g.choice((1, 2, 8)))
    counts = tuple(g.choice((0, n, g.randint(0, n))) for _ in range(slots))
    if not 0 < sum(counts) < n * slots:
        raise ValueError("nothing, or all, would be visible")
    line = [g.sample(range(slots), slots) for _ in scores] if g.random() < 0.5 else None
    run = slots_of(scores, counts, line, _inputs(g)["wanted"])
    return Case(f"{name}: {n}, {counts}, {line}", run, threads=_threads(g))


def _random_gaussian(g: random.Random, name: str) -> Case:
    size = (g.randint(1, 3), *(g.randint(1, 20) for _ in range(3)))
    volume = np.random.default_rng(g.randrange(2**31)).standard_normal(size).astype(np.float32)
    radius, wrap = tuple(g.randint(0, 9) for _ in range(3)), g.random() < 0.5
    if not wrap:
        radius = tuple(min(r, (n - 1) // 2) for r, n in zip(radius, size[1:], strict=True))
    return Case(f"{name}: {size}, {radius}, {wrap}", filter_of(volume, radius, wrap), threads=_threads(g))


def _random_blue(g: random.Random, name: str) -> Case:
    grid = g.choice(((3, 7), (5, 5), (2, 3, 4), (9, 4), (1, 2), (5, 1, 6), (12, 13), (20, 30), (3, 9, 11)))
    masks, tokens = g.choice(("complementary", "independent", "views")), math.prod(grid)
    spec = OptimBlueSpec(
        grid, g.randint(1 if tokens < 60 else tokens // 9, tokens - 1), steps=g.randint(0, 12), masks=masks,
        delta=g.choice((1, 2, 3, 4, 5, 14)), decay=g.choice((1.0, 0.0, -1.0)),
        weights=(g.choice((1.0, 1e6)), *(g.choice((0.0, 0.7, 1.0, 1e6)) for _ in range(3 if len(grid) == 2 else 6))),
    )  # fmt: skip
    shared = g.choice((SHARED_BYTES, 1100))
    workspace = g.choice((None, 8000))
    run = mask_of("optim_blue", spec, **_inputs(g, 4 if tokens < 60 else 2))
    return Case(f"{name}: {spec}", run, shared=shared, workspace=workspace)


def _random_strategy(g: random.Random, name: str) -> Case:
    grid = tuple(g.choice((1, 2, 3, 8, 10, 14)) for _ in range(3))
    if g.random() < 0.2:
        grid = g.choice(((1, 1, 700), (600, 1, 2), (1, 530, 3)))
    kind, tokens = g.choice(("axis", "bars", "blocks", "blocks", "cells", "running")), math.prod(grid)
    more = {
        "axis": {"axis": g.randrange(3)}, "bars": {"pace": (g.randint(1, grid[1]), g.randint(1, grid[2]))},
        "cells": {"cell": tuple(g.randint(1, n) for n in grid)},
        "running": {"cell": (1, g.randint(1, grid[1]), g.randint(1, grid[2]))},
        "blocks": {"inverse": g.random() < 0.5, "placement": g.choice(("inside", "overhang", "centre")),
                   "duration": g.choice(((1, 1), (0.3, 0.7))), "num_boxes": g.choice((None, None, 1, 3, 40))},
    }[kind]  # fmt: skip
    if kind == "blocks" and g.random() < 0.3:  # of so few tokens that there may be no end of boxes
        more["size"] = tuple(g.randint(1, min(n, 2)) for n in grid)
    spec = StrategySpec(kind, grid, g.randint(1, max(1, tokens - 1)), **more)
    shared = g.choice((SHARED_BYTES, without_scores(spec)))
    run = mask_of("strategy_mask", spec, **_inputs(g, 2))
    return Case(f"{name}: {spec}", run, shared=shared, threads=_threads(g))


def _random_words(g: random.Random, name: str) -> Case:
    batch, count, purpose = g.randint(1, 40), g.choice((1, 2, 3, 4, 5, 700)), g.randrange(16)
    given = _inputs(g, batch)
    given["seed"] = samples_of(g.randrange(2**64))[0]
    return Case(
        f"{name}: {purpose}, {count}",
        lambda b: {"words": b.random_words(given["seed"], given["samples"], purpose, count)},
        threads=_threads(g),
    )


RANDOM = {
    "colors": _random_color, "threshold": _random_threshold, "slots": _random_slots, "gaussian": _random_gaussian,
    "optim_blue": _random_blue, "strategies": _random_strategy, "words": _random_words,
}  # fmt: skip
