# SPDX-License-Identifier: Apache-2.0
"""Samplers with any arguments: the masks are right, or the documented error says what was expected.

SMNOISE_FUZZ_EXAMPLES=5000 pytest tests/fuzz      # that many new examples of each kind, instead of the same few
"""

from __future__ import annotations

import json
from dataclasses import fields

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

import smnoise
from smnoise.samplers import COLOR_KINDS

from .answers import check_masks, check_sampler, run_sampler, small
from .examples import (
    BLUE,
    CALL,
    COLOR,
    arguments,
    attempt,
    blues,
    calls,
    colors,
    fuzz,
    grids,
    junk,
    mostly,
    one_count,
)


@fuzz
@given(st.sampled_from(sorted(COLOR_KINDS)), colors, calls)
def test_colour_samplers(kind, parameters, call):
    sampler = attempt("colour", COLOR_KINDS[kind], **one_count(parameters))
    if sampler is not None:
        run_sampler("colour", sampler, call)


@fuzz
@given(blues, calls, st.booleans())
def test_optim_blue(parameters, call, views):
    sampler = attempt("blue", smnoise.OptimBlue, **one_count(parameters))
    if sampler is None:
        return
    run_sampler("blue", sampler, call)
    if views and small(sampler):
        masks = sampler.views([0, 2**64 - 1])
        check_masks(masks, sampler, rows=2 * sampler.num_masks)
        shown = (~masks.mask).view(2, sampler.num_masks, -1).sum(1)
        assert (shown <= 1).all()
        assert (shown.sum(1) == sampler.num_tokens - sampler.rest).all()


# PoolSampler, which is there once somebody imports it, needs a pool.
# Custom needs a registered function; FrameCounts and ContextTargets have tests of their own.
APART = {"OptimBlue", "PoolSampler", "Custom", "FrameCounts", "ContextTargets"}
OTHER_KINDS = sorted(set(smnoise.samplers.KINDS) - set(COLOR_KINDS) - APART)
PLANES = ["Block", "InverseBlock", "Grid", "FrequencyBars", "TimeBars", "TimeFrequencyBars"]
ones, planes, few = (
    st.tuples(st.integers(2, 30)),
    st.tuples(st.integers(2, 9), st.integers(2, 9)),
    st.integers(1, 3),
)
OTHER = COLOR | {
    "anisotropy": st.tuples(*[st.floats(0, 1.5)] * 2), "tube": st.booleans(),
    "placement": st.sampled_from(["inside", "overhang", "centre"]), "num_boxes": st.none() | st.integers(1, 1024),
    "kept": st.tuples(few, few), "cell": st.tuples(few, few), "size": st.tuples(few, few) | st.tuples(few, few, few),
    "scale": st.tuples(st.floats(0.01, 0.5), st.floats(0.5, 1)),
    "aspect": st.tuples(st.floats(0.1, 1), st.floats(1, 9)),
    "duration": st.tuples(st.floats(0.1, 1), st.just(1.0)),
}  # fmt: skip


@fuzz
@given(st.sampled_from(OTHER_KINDS), st.data(), calls)
def test_other_strategies(kind, data, call):
    names = [f.name for f in fields(smnoise.samplers.KINDS[kind])]
    optional = tuple(n for n in names if n not in ("grid", "num_visible"))
    grid = ones if kind.endswith("1D") else planes if kind in PLANES else grids
    good = {n: OTHER[n] for n in names if n != "grid"} | {
        "grid": data.draw(st.sampled_from([grid] * 3 + [ones, grids]))
    }
    parameters = data.draw(arguments(good, optional=optional))
    sampler = attempt("strategy", smnoise.samplers.KINDS[kind], **one_count(parameters))
    if sampler is not None:
        run_sampler("strategy", sampler, call)


COUNTS = {
    "grid": grids, "counts": st.lists(st.integers(0, 9), min_size=1, max_size=12).map(tuple),
    "strategy": st.sampled_from(["random", "green-3d", "blue-2d", "tube", "block", "red-2d-tube"]),
    "parameters": st.just({}) | st.just({"boundary": "wrap"}) | st.just({"per": "frame"}),
    "drawn": st.booleans(), "seed": st.integers(0, 2**64 - 1),
}  # fmt: skip


@fuzz
@given(arguments(COUNTS, optional=("strategy", "parameters", "drawn", "seed")), calls, st.data())
def test_frame_counts(parameters, call, data):
    if data.draw(st.integers(0, 3)) and type(grid := parameters["grid"]) is tuple and len(grid) == 3:
        frame = st.integers(0, int(grid[1]) * int(grid[2]))
        parameters["counts"] = data.draw(st.lists(frame, min_size=grid[0], max_size=grid[0]))
    sampler = attempt("counts", smnoise.FrameCounts, **parameters)
    if sampler is None:
        return
    run_sampler("counts", sampler, call)
    shown = (~sampler([0, 1]).mask).view(2, len(sampler.counts), -1).sum(2)
    for row in shown.tolist():
        assert sorted(row) == sorted(sampler.counts) if sampler.drawn else tuple(row) == sampler.counts


SETS = {
    "grid": grids, "num_context": st.integers(1, 9), "num_target": st.integers(1, 5), "target_sets": st.integers(1, 4),
    "strategy": st.sampled_from(["random", "green-3d", "blue-2d", "tube", "block"]),
    "parameters": st.just({}) | st.just({"boundary": "wrap"}), "seed": st.integers(0, 2**64 - 1),
}  # fmt: skip


@fuzz
@given(arguments(SETS, optional=("target_sets", "strategy", "parameters", "seed")), calls)
def test_context_and_targets(parameters, call):
    sampler = attempt("sets", smnoise.ContextTargets, **parameters)
    if sampler is None:
        return
    run_sampler("sets", sampler, call)
    sets = sampler.sets([0, 2**64 - 1])
    assert sets.targets.shape == (2, sampler.target_sets, sampler.num_target)
    ids = torch.cat([sets.context.ids_keep, sets.targets.flatten(1)], 1).sort(1).values
    assert (ids.diff(dim=1) > 0).all()
    assert ids.min() >= 0
    assert ids.max() < sampler.num_tokens
    assert (sets.distances() > 0).all()


SCORED = [
    smnoise.Green3D((2, 3, 4), 0.75),
    smnoise.Random((2, 3, 4), 0.5, per="frame"),
    smnoise.FrameCounts((2, 3, 4), (12, 1), strategy="red-3d", drawn=True),
    smnoise.OptimBlue((4, 6), 0.75),
]


@fuzz
@given(
    st.sampled_from(SCORED),
    mostly(
        st.integers(0, 9).map(lambda n: torch.randn(2, 24, generator=torch.Generator().manual_seed(n))), junk
    ),
    mostly(st.floats(-3, 3)),
    mostly(
        st.none() | st.lists(st.integers(0, 9), min_size=32, max_size=32), st.lists(st.floats(), max_size=33)
    ),
)
def test_bias_and_sigma_table(sampler, bias, weight, weights):
    table = None if weights is None else attempt("sigma table", smnoise.sigma_table, weights)
    if table is not None:
        assert len(table) == 31
        assert (table.diff() >= 0).all()
        assert table[0] >= 0
        assert table[-1] <= 2**32
    call = {"bias": bias, "bias_weight": weight, "sigma_table": table}
    masks = attempt("bias", sampler, [3, 4], **call)
    if masks is not None:
        check_masks(masks, sampler)
        want = sampler([3, 4], backend="reference", **call)
        assert torch.equal(masks.mask, want.mask)


@fuzz
@given(colors | blues, st.sampled_from(sorted(smnoise.samplers.KINDS)), st.data())
def test_from_json(parameters, kind, data):
    values = {"sampler": kind, "contract": 1, **one_count(parameters)}
    text = json.dumps(values, default=str)
    if data.draw(st.booleans()):  # damaged
        at = data.draw(st.integers(0, len(text) - 1))
        text = text[:at] + data.draw(st.text(max_size=3)) + text[at + data.draw(st.integers(0, 9)) :]
    for source in (text, data.draw(junk | st.text())):
        sampler = attempt("from_json", smnoise.from_json, source)
        if sampler is not None:
            check_sampler(sampler)


@fuzz
@given(
    mostly(st.integers(0, 2**40)), mostly(st.integers(1, 9)), mostly(st.integers(0, 3)), mostly(st.integers(1, 9))
)  # fmt: skip
def test_sample_indices(step, batch_size, rank, world_size):
    if isinstance(batch_size, (int, np.integer)) and 1000 < batch_size <= 2**31:
        return  # right, but large
    got = attempt(
        "indices", smnoise.sample_indices, step, batch_size, rank=rank, world_size=world_size, device="cpu"
    )
    if got is not None:
        first = (int(step) * int(world_size) + int(rank)) * int(batch_size)
        assert got.tolist() == [first + i for i in range(batch_size)]


@fuzz
@given(
    arguments({"batch_size": st.integers(1, 4), "rank": st.integers(0, 2), "world_size": st.integers(3, 4),
               "step": st.integers(0, 2**40), "outputs": CALL["outputs"], "backend": CALL["backend"],
               "device": CALL["device"]}),
    st.integers(1, 3),
)  # fmt: skip
def test_mask_stream(parameters, calls):
    if len(str(parameters["batch_size"])) > 3:
        return
    sampler = smnoise.White3D((2, 3, 4), 0.75)
    stream = attempt("stream", smnoise.MaskStream, sampler, **parameters)
    if stream is None:
        return
    rest = {n: v for n, v in parameters.items() if n not in ("step", "device")}
    if int(parameters["step"]) > 2**50:
        return  # at the end of all sample numbers
    for step in range(calls):
        got = stream()
        check_masks(got, sampler)
        want = sampler(step=int(parameters["step"]) + step, **rest)
        assert all(torch.equal(g, w) for g, w in zip(got.tensors, want.tensors, strict=True))


def test_every_parameter_is_fuzzed():
    """A parameter that is added must be added above."""
    assert {f.name for f in fields(smnoise.Green3D)} == set(COLOR)
    assert {f.name for f in fields(smnoise.OptimBlue)} == set(BLUE)
    assert {f.name for kind in OTHER_KINDS for f in fields(smnoise.samplers.KINDS[kind])} <= set(OTHER)
