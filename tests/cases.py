# SPDX-License-Identifier: Apache-2.0
"""Parameters for the tests of masks: hand-picked corners, and random ones."""

from __future__ import annotations

import math

import torch
from hypothesis import strategies as st

from smnoise.spec import COLORS, ColorSpec, OptimBlueSpec, StrategySpec

CORNERS = {
    **{f"{color}-{boundary}": ColorSpec(color, (4, 7, 9), 25, boundary=boundary)
       for color in COLORS for boundary in ("field", "wrap")},
    "one frame": ColorSpec("green", (1, 14, 14), 19),
    "one row": ColorSpec("green", (1, 1, 17), 5),
    "two tokens": ColorSpec("green", (2, 1, 1), 1),
    "one token a frame visible": ColorSpec("green", (3, 5, 7), 1, per="frame"),
    "all but one visible": ColorSpec("green", (3, 5, 7), 104),
    "primes": ColorSpec("purple", (7, 13, 11), 333),
    "wide": ColorSpec("blue", (2, 3, 131), 100),
    "radius beyond the grid": ColorSpec("green", (2, 3, 5), 9, boundary="wrap", sigma2=(3.0, 9.0)),
    "per frame": ColorSpec("green", (5, 6, 7), 9, per="frame"),
    "time unfiltered": ColorSpec("green", (4, 8, 8), 50, anisotropy=(0.0, 1.0, 1.0)),
    "nothing filtered": ColorSpec("green", (4, 8, 8), 50, anisotropy=(0.0, 0.0, 0.0)),
    "stretched": ColorSpec("red", (3, 8, 8), 50, anisotropy=(0.3, 2.0, 0.7), sigma1=(1.0, 1.0)),
    "short filter": ColorSpec("green", (3, 8, 8), 50, truncate=1.25),
    "no filter left": ColorSpec("green", (3, 8, 8), 50, truncate=0.01),
    "negative origin": ColorSpec("green", (3, 8, 8), 50, origin=(-5, -17, -1003)),
    "origin behind every counter field": ColorSpec("red", (2, 6, 8), 20, origin=(2**28 - 1, 65530, 524280)),
    "video of 32 frames": ColorSpec("green", (16, 14, 14), 313),
    "spectrogram": ColorSpec("green", (1, 64, 8), 102),
}  # fmt: skip
SAMPLES = [0, 1, 2, 12345, 2**31, 2**32 + 5, 2**63 - 1, 2**64 - 1]


@st.composite
def specs(draw) -> ColorSpec:
    """Any parameters that are quick on the reference: at most 400 tokens, radii of at most 12."""
    grid = tuple(draw(st.integers(1, n)) for n in (6, 13, 13))
    if math.prod(grid) == 1:
        grid = (1, 1, 2)
    per = draw(st.sampled_from(("clip", "frame"))) if grid[1] * grid[2] > 1 else "clip"
    tokens = math.prod(grid[per == "frame" :])
    low1, low2 = draw(st.floats(0.05, 1.0)), draw(st.floats(1.2, 2.0))
    return ColorSpec(
        draw(st.sampled_from(COLORS)),
        grid,
        draw(st.integers(1, tokens - 1)),
        per=per,
        boundary=draw(st.sampled_from(("field", "wrap"))),
        sigma1=(low1, low1 + draw(st.floats(0, 0.1))),
        sigma2=(low2, low2 + draw(st.floats(0, 1.0))),
        anisotropy=tuple(draw(st.sampled_from((0.0, 0.5, 1.0, 1.3))) for _ in range(3)),
        origin=tuple(draw(st.integers(-(2**20), 2**20)) for _ in range(3)),
        truncate=draw(st.sampled_from((0.5, 2.0, 3.1, 4.0))),
    )


BLUE_CORNERS = {
    "spectrogram": OptimBlueSpec((1, 64, 8), 102),
    "image": OptimBlueSpec((1, 14, 14), 49),
    "one row": OptimBlueSpec((1, 1, 23), 5),
    "one column": OptimBlueSpec((1, 17, 1), 4),
    "two tokens": OptimBlueSpec((1, 1, 2), 1),
    "one visible": OptimBlueSpec((1, 3, 7), 1),
    "one mask, many in the rest": OptimBlueSpec((1, 6, 7), 25),
    "all but one visible": OptimBlueSpec((1, 5, 5), 24),
    "nothing in the rest": OptimBlueSpec((1, 6, 6), 6),
    "greedy only": OptimBlueSpec((1, 9, 8), 14, steps=0),
    "until nothing is crowded": OptimBlueSpec((1, 9, 8), 7, delta=1, steps=500),
    "one orientation": OptimBlueSpec((1, 9, 8), 14, weights=(0.0, 1.0, 0.0, 0.0)),
    "far": OptimBlueSpec((1, 9, 8), 14, delta=40, decay=0.5),
    "farther is worse": OptimBlueSpec((1, 9, 8), 14, decay=-1.0),
    "heavy": OptimBlueSpec((1, 9, 8), 14, weights=(30000.0, 1.0, 7.3, 0.001)),
    "as heavy as can be": OptimBlueSpec((1, 9, 8), 14, delta=1, weights=(1e6, 1e6, 0.0, 0.0)),
    "as heavy, one mask": OptimBlueSpec((1, 5, 6), 20, delta=1, weights=(1e6, 1e6, 0.0, 0.0)),
    "volume": OptimBlueSpec((3, 4, 5), 12),
    "volume of one row": OptimBlueSpec((9, 1, 1), 2),
    "more masks than lanes": OptimBlueSpec((1, 8, 12), 4),
}  # fmt: skip


@st.composite
def blue_specs(draw) -> OptimBlueSpec:
    """Any parameters that are quick on the reference: at most 240 tokens."""
    grid = (draw(st.sampled_from((1, 1, 1, 2, 3))), draw(st.integers(1, 10)), draw(st.integers(1, 8)))
    if math.prod(grid) == 1:
        grid = (1, 1, 2)
    tokens = math.prod(grid)
    ratio = draw(st.floats(0.3, 0.95))
    weights = tuple(draw(st.sampled_from((0.0, 0.3, 0.7, 1.0, 2.5))) for _ in range(6 if grid[0] > 1 else 3))
    return OptimBlueSpec(
        grid,
        min(max(1, int(tokens * (1 - ratio))), tokens - 1),
        delta=draw(st.integers(1, 6)),
        weights=(1.0, *weights),
        decay=draw(st.sampled_from((0.0, 0.5, 1.0, 2.0, 3.3))),
        steps=draw(st.sampled_from((0, 7, 100, 256))),
        masks=draw(st.sampled_from(("complementary", "independent", "views"))),
    )


STRATEGY_CORNERS = {
    "whole frames": StrategySpec("axis", (8, 7, 6), 84),
    "frames and a part of one": StrategySpec("axis", (5, 7, 6), 100),
    "rows in time": StrategySpec("axis", (3, 17, 4), 30, axis=1),
    "columns": StrategySpec("axis", (1, 9, 37), 100, axis=2),
    "an axis of one": StrategySpec("axis", (1, 5, 7), 9),
    "bars": StrategySpec("bars", (1, 64, 8), 95, pace=(19, 5)),
    "bars at the pace of the grid": StrategySpec("bars", (1, 13, 11), 60),
    "bars that run out of rows": StrategySpec("bars", (1, 6, 9), 53, pace=(6, 1)),
    "bars in time": StrategySpec("bars", (3, 5, 4), 17, pace=(1, 4)),
    "cells": StrategySpec("cells", (2, 14, 14), 98, cell=(1, 2, 2)),
    "cells that do not fit": StrategySpec("cells", (5, 7, 9), 100, cell=(2, 3, 4)),
    "a cell of one": StrategySpec("cells", (2, 4, 5), 11),
    "a cell as large as the grid": StrategySpec("cells", (2, 4, 5), 11, cell=(2, 4, 5)),
    "running": StrategySpec("running", (8, 6, 6), 144, cell=(1, 2, 2)),
    "running, odd sides": StrategySpec("running", (7, 5, 9), 101, cell=(1, 2, 3)),
    "blocks over the whole clip": StrategySpec("blocks", (4, 8, 9), 120),
    "blocks that begin and end": StrategySpec("blocks", (6, 8, 9), 180, scale=(0.1, 0.4), duration=(0.2, 0.7)),
    "blocks of one size": StrategySpec("blocks", (1, 9, 9), 40, size=(1, 2, 3)),
    "a block as large as the grid": StrategySpec("blocks", (2, 5, 6), 31, scale=(1.0, 1.0), aspect=(1.2, 1.2)),
    "blocks that stick out": StrategySpec("blocks", (2, 8, 9), 70, aspect=(0.3, 3.3), placement="overhang"),
    "inverse blocks": StrategySpec("blocks", (1, 14, 14), 39, size=(1, 3, 3), placement="overhang", inverse=True),
    "blocks about centres": StrategySpec("blocks", (2, 8, 9), 70, aspect=(0.3, 3.3), placement="centre"),
    "inverse about centres": StrategySpec("blocks", (1, 16, 8), 26, size=(1, 4, 5), placement="centre", inverse=True),
    "five that are too many": StrategySpec("blocks", (1, 9, 9), 33, size=(1, 5, 4), placement="centre", num_boxes=5),
    "five that are too few": StrategySpec("blocks", (2, 9, 9), 60, size=(1, 2, 2), num_boxes=5, inverse=True),
    "one block, and chance": StrategySpec("blocks", (3, 6, 5), 60, scale=(0.2, 0.9), duration=(0.2, 1.0), num_boxes=1),
    "inverse blocks in time": StrategySpec("blocks", (6, 7, 7), 50, size=(2, 3, 3), inverse=True),
    "one visible": StrategySpec("blocks", (1, 4, 4), 1, inverse=True),
    "one masked": StrategySpec("blocks", (1, 4, 4), 15),
}  # fmt: skip


@st.composite
def strategy_specs(draw) -> StrategySpec:
    """Any parameters that are quick on the reference: at most 400 tokens, and no hundreds of blocks."""
    grid = draw(st.integers(1, 5)), draw(st.integers(1, 9)), draw(st.integers(2, 9))
    tokens, kind = math.prod(grid), draw(st.sampled_from(("axis", "bars", "blocks", "cells", "running")))
    boxes = {}
    if kind == "blocks":
        low, flat = draw(st.floats(0.2, 0.6)), draw(st.floats(0.3, 1.0))
        length = draw(st.floats(0.5, 1.0))
        boxes = {
            "scale": (low, min(1.0, low + draw(st.floats(0, 0.4)))),
            "aspect": (flat, flat + draw(st.floats(0, 3.0))),
            "duration": (length, min(1.0, length + draw(st.floats(0, 0.5)))),
            "placement": draw(st.sampled_from(("inside", "overhang", "centre"))),
            "num_boxes": draw(st.sampled_from((None, None, 1, 2, 7))),
            "inverse": draw(st.booleans()),
        }
        if draw(st.booleans()):
            boxes["size"] = tuple(draw(st.integers(n // 2 + 1, n)) for n in grid)
    least = tokens // 4 if kind == "blocks" else 1
    return StrategySpec(
        kind,
        grid,
        draw(st.integers(max(1, least), max(1, tokens - 1 - least))),
        axis=draw(st.integers(0, 2)),
        pace=(draw(st.integers(1, grid[1])), draw(st.integers(1, grid[2]))),
        cell=tuple(
            draw(st.integers(1, 1 if kind == "running" and i == 0 else n)) for i, n in enumerate(grid)
        ),
        **boxes,
    )


def cut_out(pixels, ids, patch):
    """[B, N, C, P] float64, each patch sliced out."""
    t, h, w = patch
    across, down = pixels.shape[4] // w, pixels.shape[3] // h
    rows = []
    for b, row in enumerate(ids.tolist()):
        for i in row:
            x, y, z = i % across * w, i // across % down * h, i // (across * down) * t
            rows.append(pixels[b, :, z : z + t, y : y + h, x : x + w].flatten(1).double())
    return torch.stack(rows).unflatten(0, ids.shape)
