# SPDX-License-Identifier: Apache-2.0
"""The public functions with any arguments: the answer is right, or the documented error says what was expected.

SMNOISE_FUZZ_EXAMPLES=5000 pytest tests/test_fuzz.py      # that many new examples of each kind, instead of the same few
"""

from __future__ import annotations

import json
import math
import os
import re
from collections import Counter
from dataclasses import asdict, fields
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch
from cases import cut_out
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import smnoise
from smnoise import ops
from smnoise.adapters.huggingface import checked
from smnoise.data.audio import fbank
from smnoise.measures.spread import radial_spectrum, spread
from smnoise.samplers import COLOR_KINDS

EXAMPLES = int(os.environ.get("SMNOISE_FUZZ_EXAMPLES", 0))
fuzz = settings(
    max_examples=EXAMPLES or 60,
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
LARGEST = 300_000  # values behind a mask that is also made; a thousandth of it tokens. Larger ones are only described
tried: Counter[str] = Counter()


@pytest.fixture(scope="module", autouse=True)
def report():
    """How many examples were right, and how many refused; shown by pytest -s."""
    yield
    print("\n" + "\n".join(f"{name}: {count}" for name, count in sorted(tried.items())))


OF_TORCH = "Expected a value of type|Overflow when unpacking long|no tensor arguments"


def attempt(name: str, call, *args, **kw):
    """What call gives; None if it refuses its arguments as documented."""
    try:
        result = call(*args, **kw)
    except (TypeError, ValueError, smnoise.SmnoiseError) as error:
        if len(str(error)) < 10:
            raise AssertionError("a message that says nothing") from error
        tried[f"{name}: refused"] += 1
        return None
    except RuntimeError as error:
        if not re.search(OF_TORCH, str(error)):  # for a Python type that the schema of an op does not have
            raise
        tried[f"{name}: refused"] += 1
        return None
    tried[f"{name}: worked"] += 1
    return result


# --- arguments


@st.composite
def mostly(draw, good, *bad):
    """Good values seven times of eight, so that several arguments are often right together."""
    return draw(good if draw(st.integers(0, 7)) else st.one_of(*bad) if bad else junk)


numbers = st.one_of(
    st.integers(-3, 20),
    st.sampled_from([2**31, 2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), 10**400, -(10**400)]),
    st.floats(-2, 9),
    st.sampled_from([math.nan, math.inf, -math.inf, 5e-324, 1e-9, 1e300, -0.0, 0.9999999999999999]),
    st.sampled_from([True, False, 3 + 0j, Fraction(1, 3), Decimal("0.5"), Decimal("nan")]),
    st.sampled_from(
        [np.int8(3), np.uint64(2**64 - 1), np.float32(0.9), np.float16("nan"), np.bool_(True), np.array(2)]
    ),
    st.sampled_from([torch.tensor(2), torch.tensor([0.5]), torch.tensor(True)]),
)
junk = st.recursive(
    numbers | st.none() | st.text(max_size=5) | st.binary(max_size=3) | st.just(object()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.lists(inner, max_size=5).map(tuple),
        st.dictionaries(st.text(max_size=3), inner, max_size=2),
        st.lists(st.integers(0, 9), max_size=4).map(np.array),
        st.lists(st.integers(0, 9), max_size=4).map(torch.tensor),
    ),
    max_leaves=6,
)
sizes = st.integers(1, 6)
ratios = st.floats(0.01, 0.99) | st.sampled_from([0.9, np.float32(0.9), 0.8, Fraction(3, 4)])
grids = st.tuples(sizes, sizes, sizes)
low_high = st.tuples(st.floats(0.05, 1.5), st.floats(0, 1)).map(lambda v: (v[0], v[0] + v[1]))


@st.composite
def arguments(draw, good: dict, optional: tuple = ()) -> dict:
    """Good arguments, without some of the optional ones, and often one or two replaced by something else."""
    chosen = {n: draw(s) for n, s in good.items() if n not in optional or draw(st.booleans())}
    others = sorted(set(good) - {"device"})  # which is torch's to check
    for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
        chosen[draw(st.sampled_from(others))] = draw(junk)
    return chosen


COLOR = {
    "grid": grids, "mask_ratio": ratios, "num_visible": st.integers(1, 30), "per": st.sampled_from(["clip", "frame"]),
    "sigma1": low_high, "sigma2": low_high.map(lambda v: (v[0] + 1, v[1] + 1.5)),
    "boundary": st.sampled_from(["field", "wrap"]), "anisotropy": st.tuples(*[st.floats(0, 1.5)] * 3),
    "origin": st.tuples(*[st.integers(-(2**30), 2**30)] * 3), "truncate": st.floats(0.1, 5),
    "seed": st.integers(0, 2**64 - 1),
}  # fmt: skip
BLUE = {
    "grid": st.tuples(sizes, sizes) | grids, "mask_ratio": ratios, "num_visible": st.integers(1, 30),
    "masks": st.sampled_from(["complementary", "independent"]), "delta": st.integers(1, 9),
    "weights": st.tuples(*[st.floats(0, 9)] * 4) | st.tuples(*[st.floats(0, 9)] * 7), "decay": st.floats(-2, 5),
    "steps": st.integers(0, 300), "seed": st.integers(0, 2**64 - 1),
}  # fmt: skip
CALL = {
    "samples": st.one_of(
        st.lists(st.integers(0, 2**64 - 1), max_size=4),
        st.lists(st.integers(-(2**63), 2**63 - 1), max_size=4).map(lambda v: torch.tensor(v, dtype=torch.int64)),
        st.integers(0, 4).map(range),
        st.lists(st.integers(0, 255), max_size=4).map(lambda v: np.array(v, np.uint8)),
        st.sampled_from([torch.arange(6)[::2], torch.arange(3, dtype=torch.uint8), torch.tensor(4).expand(3)]),
    ),
    "batch_size": st.integers(1, 5), "step": st.integers(0, 2**40) | st.just(torch.tensor(7)),
    "rank": st.integers(0, 2), "world_size": st.integers(1, 4),
    "seed": st.none() | st.integers(0, 2**64 - 1) | st.just(torch.tensor([3])),
    "device": st.sampled_from([None, "cpu", torch.device("cpu")]),
    "backend": st.sampled_from(["auto", "cpu", "reference"]),
    "outputs": st.sets(st.sampled_from(["mask", "ids_keep", "ids_mask", "ids_restore"]), min_size=1).map(",".join),
}  # fmt: skip


def one_count(values: dict) -> dict:
    """Of mask_ratio and num_visible the first, if both are there; both are refused together."""
    return {n: v for n, v in values.items() if n != "num_visible" or "mask_ratio" not in values}


colors = arguments(COLOR, optional=tuple(n for n in COLOR if n not in ("grid", "num_visible")))
blues = arguments(BLUE, optional=tuple(n for n in BLUE if n not in ("grid", "num_visible")))
BY_SAMPLE = {n: s for n, s in CALL.items() if n not in ("batch_size", "step", "rank", "world_size")}
BY_STEP = {n: s for n, s in CALL.items() if n != "samples"} | {
    "rank": st.integers(0, 2),
    "world_size": st.integers(3, 4),
}
SETTINGS = ("seed", "device", "backend", "outputs")
calls = arguments(BY_SAMPLE, optional=SETTINGS) | arguments(BY_STEP, optional=SETTINGS) | arguments(CALL)


# --- what must be true of an answer


def check_masks(masks: smnoise.MaskBatch, sampler, rows: int | None = None) -> None:
    tokens, visible = sampler.num_tokens, sampler.visible_per_sample
    assert (masks.num_tokens, masks.num_visible, masks.num_masked) == (tokens, visible, tokens - visible)
    assert 0 < visible < tokens
    assert rows is None or masks.batch_size == rows
    everything = torch.arange(tokens).expand(masks.batch_size, tokens)
    if masks.mask is not None:
        assert masks.mask.dtype == torch.bool
        assert (masks.mask.sum(1) == tokens - visible).all()
        if getattr(sampler, "per", "clip") == "frame":
            assert (masks.volume().flatten(2).sum(2) == (tokens - visible) // sampler.grid[0]).all()
    for ids, width in ((masks.ids_keep, visible), (masks.ids_mask, tokens - visible)):
        if ids is not None:
            assert ids.shape == (masks.batch_size, width)
            assert ids.dtype == torch.int64
            assert (ids.diff(dim=1) > 0).all()
            assert ((ids >= 0) & (ids < tokens)).all()
    if masks.mask is not None and masks.ids_keep is not None:
        assert not masks.mask.gather(1, masks.ids_keep).any()
    if masks.mask is not None and masks.ids_mask is not None:
        assert masks.mask.gather(1, masks.ids_mask).all()
    if masks.ids_restore is not None:
        assert torch.equal(masks.ids_restore.sort(1).values, everything)
        if masks.ids_keep is not None and masks.ids_mask is not None:
            both = torch.cat([masks.ids_keep, masks.ids_mask], 1)
            assert torch.equal(both.gather(1, masks.ids_restore), everything)


def check_sampler(sampler) -> None:
    again = smnoise.from_json(sampler.to_json())
    assert again == sampler
    assert hash(again) == hash(sampler)
    assert again._spec_json == sampler._spec_json
    assert type(sampler)(**asdict(sampler)) == sampler


def small(sampler) -> bool:
    return getattr(sampler._spec, "slab", 0) <= LARGEST and sampler.num_tokens <= LARGEST // 1000


def run_sampler(name: str, sampler, call: dict) -> None:
    check_sampler(sampler)
    if not small(sampler) or len(str(call.get("batch_size"))) > 2:
        return
    masks = attempt(f"{name} call", sampler, **call)
    if masks is None:
        return
    check_masks(masks, sampler)
    named = {n.strip() for n in call.get("outputs", ops.ALL_OUTPUTS).split(",")}
    assert {n for n in masks._fields[:4] if getattr(masks, n) is not None} == named
    reference = sampler(**{**call, "backend": "reference"})
    for got, want in zip(masks.tensors, reference.tensors, strict=True):
        assert torch.equal(got, want)


# --- samplers


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


# --- ops


def tensors(*dtypes, rank: int, largest: int = 6):
    """Of a random shape and type: sometimes empty, of another rank, strided or expanded."""

    @st.composite
    def make(draw):
        shape = draw(st.lists(st.integers(1, largest), min_size=rank, max_size=rank))
        if draw(st.integers(0, 9)) == 0:
            shape = draw(st.lists(st.integers(0, largest), max_size=rank + 1))
        dtype = draw(st.sampled_from(dtypes))
        generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
        values = torch.randn(shape, generator=generator, dtype=torch.float64) * 3
        if dtype.is_floating_point and draw(st.integers(0, 3)) == 0 and values.numel():
            special = torch.tensor([math.nan, math.inf, -math.inf, -0.0, 0.0, 1e38], dtype=torch.float64)
            values.view(-1)[:: draw(st.integers(1, 3))] = special[draw(st.integers(0, 5))]
        tensor = values.to(dtype) if dtype.is_floating_point else (values.abs() * 9).to(dtype)
        if draw(st.booleans()) and tensor.dim() > 1:
            tensor = tensor.transpose(0, -1).contiguous().transpose(0, -1)
        return tensor

    return make()


OTHERS = (torch.float64, torch.bfloat16, torch.int64, torch.bool)


@fuzz
@given(
    mostly(tensors(torch.float32, rank=2, largest=40), tensors(*OTHERS, rank=2), junk),
    mostly(st.lists(st.integers(0, 9), min_size=1, max_size=4)), st.booleans(), junk, st.integers(0, 9),
    mostly(st.sampled_from(["auto", "cpu", "reference"])),
)  # fmt: skip
def test_slot_threshold(scores, counts, with_line, other, seed, backend):
    line = None
    if with_line and isinstance(scores, torch.Tensor) and scores.dim() == 2 and type(counts) is list:
        line = torch.randn(len(scores), len(counts), generator=torch.Generator().manual_seed(seed))
    elif with_line:
        line = other
    got = attempt("slot_threshold", ops.slot_threshold, scores, counts, line, backend)
    if got is None:
        return
    want = ops.slot_threshold(scores, counts, line, "reference")
    assert all(torch.equal(g, w) for g, w in zip(got, want, strict=True))
    shown = (~got[0]).view(len(scores), len(counts), -1).sum(2)
    for row in shown.tolist():
        assert row == list(counts) if line is None else sorted(row) == sorted(counts)


@fuzz
@given(
    mostly(tensors(torch.float32, rank=2, largest=40), tensors(*OTHERS, rank=2), junk),
    mostly(st.integers(1, 9)), mostly(st.integers(1, 3)), mostly(st.sampled_from(["auto", "cpu", "reference"])),
    mostly(CALL["outputs"]),
)  # fmt: skip
def test_threshold(scores, visible, groups, backend, outputs):
    got = attempt("threshold", ops.threshold, scores, visible, groups, backend, outputs)
    if got is None:
        return
    visible, groups = int(visible), int(groups)
    batch, tokens = scores.shape
    wanted = {n.strip() for n in outputs.split(",")}
    whole = ops.threshold(scores, visible, groups, "reference")
    masks = smnoise.MaskBatch(*whole, (groups, 1, tokens // groups), groups * visible)
    assert (masks.volume().flatten(2).sum(2) == tokens // groups - visible).all()
    assert masks.batch_size == batch
    for name, found, want in zip(masks._fields, got, whole, strict=False):
        assert torch.equal(found, want) if name in wanted else found.shape == (0,)


@fuzz
@given(
    mostly(tensors(torch.float32, rank=4), tensors(*OTHERS, rank=4), junk),
    mostly(st.lists(st.floats(0, 2), min_size=3, max_size=3)), mostly(st.floats(0.1, 5)),
    mostly(st.sampled_from(["wrap", "valid"])),
)  # fmt: skip
def test_gaussian_filter(volume, sigma, truncate, boundary):
    arguments = (volume, sigma, truncate, boundary)
    got = attempt("gaussian_filter", ops.gaussian_filter, *arguments, "cpu")
    if got is None:
        return
    want = ops.gaussian_filter(*arguments, "reference")
    assert got.shape == want.shape
    assert boundary == "valid" or got.shape == volume.shape
    assert torch.equal(got.nan_to_num(1.5), want.nan_to_num(1.5))


@st.composite
def clips(draw):
    """pixels, ids and patch that mostly fit."""
    patch = [draw(st.integers(1, 3)) for _ in range(3)]
    grid = [draw(st.integers(1, 3)) for _ in range(3)]
    batch, channels = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    size = (batch, channels, *(p * g for p, g in zip(patch, grid, strict=True)))
    pixels = torch.randint(0, 256, size, dtype=torch.uint8, generator=generator)
    if draw(st.booleans()):
        pixels = pixels.float() / 7
    ids = torch.randint(0, math.prod(grid), (batch, draw(st.integers(1, 4))), generator=generator)
    if draw(st.integers(0, 7)) == 0:
        ids.view(-1)[0] = draw(st.sampled_from([-1, math.prod(grid), 2**62, -(2**63)]))
    return {"pixels": pixels, "ids": ids, "patch": tuple(patch)}


@st.composite
def changed(draw, case, strategies):
    """A case with some of its entries replaced."""
    values = draw(case)
    if not draw(st.integers(0, 2)):
        name = draw(st.sampled_from(sorted(strategies)))
        values[name] = draw(strategies[name])
    return values


CLIP_CHANGES = {
    "pixels": tensors(torch.uint8, torch.float32, torch.float64, torch.int64, rank=5, largest=4) | st.none(),
    "ids": tensors(torch.int64, torch.int32, torch.float32, rank=2) | st.none(),
    "patch": junk | st.lists(st.integers(-1, 3), max_size=4),
}


@fuzz
@given(changed(clips(), CLIP_CHANGES), tensors(torch.float32, rank=1, largest=3), st.data())
def test_gather_patches(clip, scale, data):
    channels = clip["pixels"].shape[1] if clip["pixels"] is not None and clip["pixels"].dim() > 1 else 1
    if data.draw(st.integers(0, 5)):
        scale = torch.linspace(0.5, 2, channels)
    shift = torch.linspace(-1, 1, channels)
    got = attempt("gather_patches", ops.gather_patches, scale=scale, shift=shift, **clip)
    if got is not None:
        want = (cut_out(**clip) * scale.double()[:, None] + shift.double()[:, None]).float().double()
        torch.testing.assert_close(got.double(), want, rtol=1e-6, atol=1e-4, equal_nan=True)


@fuzz
@given(changed(clips(), CLIP_CHANGES), st.booleans(), st.booleans(), mostly(st.floats(0, 1)), st.data())
def test_patch_loss(clip, eps_inside, normalise, eps, data):
    prediction = torch.randn(2, 2, 8, generator=torch.Generator().manual_seed(0))
    whole = clip["pixels"] is not None and clip["pixels"].dim() == 5 and clip["ids"] is not None
    if data.draw(st.integers(0, 5)) and isinstance(clip["patch"], tuple) and whole:
        values = math.prod(clip["patch"]) if all(isinstance(p, int) for p in clip["patch"]) else 3
        if 0 < values < 100:
            prediction = torch.randn(
                *clip["ids"].shape,
                values * clip["pixels"].shape[1],
                generator=torch.Generator().manual_seed(1),
            )
    prediction = prediction.to(data.draw(st.sampled_from([torch.float32, torch.bfloat16, torch.float64])))
    prediction.requires_grad_()
    loss = attempt(
        "patch_loss", ops.patch_loss, prediction, eps_inside=eps_inside, normalise=normalise, eps=eps, **clip
    )
    if loss is None:
        return
    loss.backward()
    unit = 255 if clip["pixels"].dtype == torch.uint8 else 1
    target = cut_out(**clip) / unit
    if normalise:
        variance, mean = torch.var_mean(target, dim=-1, keepdim=True)
        eps = float(np.float32(float(eps)))  # which may be a tensor of one element
        target = (target - mean) / ((variance + eps).sqrt() if eps_inside else variance.sqrt() + eps)
    apart = prediction.detach().double() - target.transpose(2, 3).flatten(2)
    if not apart.isfinite().all() or target.abs().max() > 1e3:
        return  # next to flat patches divided by nothing, which rounding decides
    assert loss.item() == pytest.approx(apart.square().mean().item(), rel=2e-4, abs=1e-6)
    want = (2 * apart / apart.numel()).to(prediction.dtype).double()
    tolerance = 2e-2 if prediction.dtype == torch.bfloat16 else 1e-3
    torch.testing.assert_close(prediction.grad.double(), want, rtol=tolerance, atol=tolerance)


@st.composite
def decoders(draw):
    batch, tokens, width = draw(st.integers(1, 3)), draw(st.integers(2, 9)), draw(st.integers(1, 5))
    order = torch.stack(
        [torch.randperm(tokens, generator=torch.Generator().manual_seed(i)) for i in range(batch)]
    )
    visible = draw(st.integers(1, tokens - 1))
    generator = torch.Generator().manual_seed(9)
    return {
        "visible": torch.randn(batch, visible, width, generator=generator),
        "mask_token": torch.randn(width, generator=generator),
        "positions": torch.randn(tokens, width, generator=generator),
        "ids_keep": order[:, :visible].contiguous(), "ids_mask": order[:, visible:],
        "in_grid": draw(st.booleans()),
    }  # fmt: skip


DECODER_CHANGES = {
    "visible": tensors(torch.float32, torch.bfloat16, torch.int64, rank=3),
    "mask_token": tensors(torch.float32, rank=1) | st.none(),
    "positions": tensors(torch.float32, torch.float64, rank=2), "ids_keep": tensors(torch.int64, torch.int32, rank=2),
    "ids_mask": tensors(torch.int64, rank=2), "in_grid": st.booleans(),
}  # fmt: skip


@fuzz
@given(changed(decoders(), DECODER_CHANGES))
def test_decoder_tokens(case):
    got = attempt("decoder_tokens", ops.decoder_tokens, **case)
    if got is None:
        return
    rows = []
    for b, (keep, mask) in enumerate(zip(case["ids_keep"], case["ids_mask"], strict=True)):
        row = torch.cat([case["visible"][b].float(), case["mask_token"].expand(len(mask), -1)])
        ids = torch.cat([keep, mask])
        if case["in_grid"] and len(set(ids.tolist())) < len(ids):
            return  # tokens given twice, which the caller promises not to
        row = row + case["positions"][ids]
        rows.append(row[ids.argsort()] if case["in_grid"] else row)
    torch.testing.assert_close(got, torch.stack(rows), equal_nan=True)


@fuzz
@given(
    st.sampled_from(["color_mask", "optim_blue", "color_noise"]),
    mostly(st.just(torch.tensor(3)), tensors(torch.int64, torch.float32, rank=0), junk),
    mostly(st.just(torch.arange(3)), tensors(torch.int64, torch.int32, rank=1), junk),
    mostly(st.sampled_from([
        smnoise.Green3D((2, 3, 4), 0.75).spec.to_json(), smnoise.OptimBlue((4, 5), 0.75).spec.to_json(),
    ]), st.text(), junk, st.just('{"color": "green"}'), st.just("[]"), st.just("1e999")),
    mostly(CALL["backend"]),
)  # fmt: skip
def test_ops_of_masks(name, seed, samples, spec, backend):
    got = attempt(name, getattr(ops, name), seed, samples, spec, backend)
    if got is not None and name != "color_noise":
        mask, ids_keep, _, _ = got
        assert mask.shape == (len(samples), 24 if name == "color_mask" else 20)
        assert ((~mask).sum(1) == ids_keep.shape[1]).all()


# --- what goes around masks


@fuzz
@given(
    arguments({"sample_rate": st.integers(200, 1500), "num_mels": st.integers(1, 30),
               "window_ms": st.integers(5, 30), "shift_ms": st.integers(3, 15)}),
    tensors(torch.float32, torch.float16, torch.int16, rank=2, largest=200),
    st.none() | tensors(torch.int64, rank=1, largest=4),
)  # fmt: skip
def test_log_mel(parameters, waves, lengths):
    log_mel = attempt("LogMel", fbank.LogMel, **parameters)
    if log_mel is None:
        return
    features = attempt("LogMel call", log_mel, waves, lengths)
    if features is None:
        return
    frames = log_mel.num_frames(waves.shape[1])
    assert features.shape == (len(waves), frames, log_mel.num_mels)
    assert features.dtype == torch.float32
    if (waves.abs() < 1e4).all():
        assert features.isfinite().all()
    if lengths is not None:
        for row, length in zip(features, lengths.tolist(), strict=True):
            assert not row[log_mel.num_frames(length) :].any()
    for fitted in (frames + 2, max(0, frames - 1)):
        assert fbank.fit_length(features, fitted).shape == (len(waves), fitted, log_mel.num_mels)


@fuzz
@given(
    st.tuples(st.integers(1, 3), sizes, sizes), st.integers(0, 20), st.integers(0, 3), CALL["outputs"],
    mostly(st.integers(1, 20)),
)  # fmt: skip
def test_measures(grid, visible, rows, outputs, bins):
    sampler = attempt("White3D", smnoise.White3D, grid, num_visible=visible)
    if sampler is None:
        return
    masks = sampler(range(rows), outputs=outputs)
    found = attempt("spread", spread, masks)
    if found is not None:
        assert all(math.isfinite(v) for v in found)
        assert found.nearest >= 1
        assert 0 <= found.seen_least <= found.seen_most <= 1
    found = attempt("radial_spectrum", radial_spectrum, masks, bins)
    if found is not None:
        frequency, power = found
        assert frequency.shape == power.shape == (bins,)
        assert not (power < 0).any()
    for method in ("bool_masked_pos", "mae", "volume"):
        attempt(f"MaskBatch.{method}", getattr(masks, method))
    moved = attempt("MaskBatch.to", masks.to, "cpu")
    assert {f: v for f, v in moved._asdict().items() if f in ("grid", "num_visible")} == {
        "grid": masks.grid, "num_visible": masks.num_visible,
    }  # fmt: skip


class Clip(dict):
    """A model's config for `checked`: 4 frames of 12 x 16 pixels, grid (2, 3, 4)."""

    image_size, patch_size, num_frames, tubelet_size = (12, 16), 4, 4, 2


@fuzz
@given(
    mostly(
        st.tuples(st.integers(0, 3), st.integers(0, 24)).map(lambda v: torch.arange(24).expand(v[0], 24) < v[1]),
        junk, tensors(torch.bool, torch.uint8, rank=2, largest=24),
    ),
    mostly(st.none() | st.integers(0, 24)),
)  # fmt: skip
def test_checked(mask, num_masked):
    got = attempt("checked", checked, mask, Clip(), num_masked)
    if got is not None:
        assert got is mask
        counts = mask.sum(1)
        assert 0 < counts[0] < 24
        assert (counts == counts[0]).all()
        assert counts[0] == num_masked if num_masked is not None else counts[0] >= 12


def test_every_parameter_is_fuzzed():
    """A parameter that is added must be added above."""
    assert {f.name for f in fields(smnoise.Green3D)} == set(COLOR)
    assert {f.name for f in fields(smnoise.OptimBlue)} == set(BLUE)
    assert {f.name for kind in OTHER_KINDS for f in fields(smnoise.samplers.KINDS[kind])} <= set(OTHER)
