# SPDX-License-Identifier: Apache-2.0
"""strategy_mask: the reference's bits on every target, and what the definition promises of a mask."""

import json

import numpy as np
import pytest
import torch
from cases import SAMPLES, STRATEGY_CORNERS, strategy_specs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from smnoise import ops, reference
from smnoise.backends.outputs import NAMES
from smnoise.spec import StrategySpec

SPECS = [
    StrategySpec("axis", (4, 3, 5), 25),
    StrategySpec("bars", (1, 7, 5), 11),
    StrategySpec("blocks", (2, 6, 6), 40, scale=(0.2, 0.4), placement="overhang"),
    StrategySpec("running", (3, 4, 5), 25, cell=(1, 2, 2)),
]


def assert_same_as_reference(target, spec, samples, seed=0):
    got = target.strategy_mask(spec, samples, seed)
    for i, sample in enumerate(samples):
        want = reference.strategy_mask(seed, sample, spec)
        for name in NAMES:
            assert torch.equal(got[name][i], torch.from_numpy(getattr(want, name))), f"{name} of {sample}"


def slow(target) -> bool:
    """Triton's interpreter takes long for each block that is laid."""
    return target.backend == "triton" and target.device == "cpu"


@pytest.mark.parametrize("name", STRATEGY_CORNERS)
def test_equals_the_reference(target, name):
    samples = [0, 2**64 - 1] if slow(target) else SAMPLES
    assert_same_as_reference(target, STRATEGY_CORNERS[name], samples, seed=2**64 - 3)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(strategy_specs(), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_equals_the_reference_for_any_parameters(target, spec, seed, sample):
    if slow(target) and sample % 4:  # of these, a quarter
        return
    assert_same_as_reference(target, spec, [sample] if slow(target) else [sample, sample ^ 1], seed)


@pytest.mark.parametrize(
    "spec",
    [
        StrategySpec("axis", (1, 2, 4096), 3000, axis=2),
        StrategySpec("bars", (1, 2048, 5), 3001),
        StrategySpec("cells", (1, 128, 64), 1001, cell=(1, 64, 64)),
        StrategySpec("blocks", (4, 128, 128), 40000),  # scores that do not fit into shared memory
    ],
    ids=lambda s: s.kind,
)
def test_large_grids(target, spec):
    if slow(target):
        pytest.skip("minutes in Triton's interpreter")
    assert_same_as_reference(target, spec, [7])


def test_scores_are_the_definition():
    """Finite positive floats that order as (level, tie), and the threshold op's mask of them is the strategy's."""
    for spec in STRATEGY_CORNERS.values():
        scores = reference.strategy_scores(3, 5, spec)
        assert scores.min() >= np.finfo(np.float32).tiny
        assert scores.max() < 4
        mask = ops.threshold(torch.from_numpy(scores)[None], spec.visible)[0]
        assert torch.equal(mask[0], torch.from_numpy(reference.strategy_mask(3, 5, spec).mask))


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: s.kind)
def test_a_row_depends_on_its_own_sample_only(target, spec):
    if slow(target) and spec.kind != "blocks":
        pytest.skip("one kind is enough in Triton's interpreter")
    samples = torch.arange(5 if slow(target) else 13)
    whole = target.strategy_mask(spec, samples)
    order = torch.tensor([3, 0, 4, 0, 1])
    for name, rows in target.strategy_mask(spec, samples[order]).items():
        assert torch.equal(rows, whole[name][order]), name
    cut = [target.strategy_mask(spec, part) for part in samples.split([1, 2, len(samples) - 3])]
    for name in NAMES:
        assert torch.equal(torch.cat([part[name] for part in cut]), whole[name]), name


def test_samples_that_do_not_lie_side_by_side_in_memory(target):
    samples = torch.arange(6).reshape(3, 2).t()[1]
    got = target.strategy_mask(SPECS[0], samples)
    assert torch.equal(got["mask"], target.strategy_mask(SPECS[0], [1, 3, 5])["mask"])


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: s.kind)
def test_the_thread_count_changes_nothing(target, spec):
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 7):
            torch.set_num_threads(threads)
            results.append(target.strategy_mask(spec, range(2 if slow(target) else 40)))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(other[name], results[0][name]) for name in NAMES)


def test_an_output_that_is_not_wanted_is_not_computed(target):
    for spec in SPECS[:1] if slow(target) else SPECS:
        full = target.strategy_mask(spec, range(2))
        for name in NAMES[:2] if slow(target) else NAMES:
            got = target.strategy_mask(spec, range(2), outputs=name)
            assert torch.equal(got[name], full[name])
            assert all(got[other].shape == (0,) for other in NAMES if other != name)


def test_an_empty_batch_gives_empty_outputs(target):
    got = target.strategy_mask(SPECS[0], [])
    assert [tuple(got[n].shape) for n in NAMES] == [(0, 60), (0, 25), (0, 35), (0, 60)]


def test_samples_and_seeds_matter(target):
    for spec in SPECS[:1] if slow(target) else SPECS[:3]:
        masks = target.strategy_mask(spec, [0, 1, 2**32, 2**63])["mask"]
        assert len({m.numpy().tobytes() for m in masks}) == 4
        for seed in (1, 2**32):
            assert not torch.equal(target.strategy_mask(spec, [0], seed=seed)["mask"], masks[:1])


def test_no_global_generator_is_read_or_written(target):
    state = torch.random.get_rng_state()
    target.strategy_mask(SPECS[0], [0])
    assert torch.equal(torch.random.get_rng_state(), state)


def test_compiled():
    torch._dynamo.reset()
    texts = [spec.to_json() for spec in SPECS[1:3]]

    @torch.compile(fullgraph=True)
    def step(seed, samples):
        return [ops.strategy_mask(seed, samples, text)[0].float() * 2 for text in texts]

    for first in (0, 40):
        seed, samples = torch.tensor(first), torch.arange(first, first + 4)
        for got, text in zip(step(seed, samples), texts, strict=True):
            assert torch.equal(got, ops.strategy_mask(seed, samples, text)[0].float() * 2)


def test_the_boxes_of_a_spec():
    durations, sizes = StrategySpec("blocks", (8, 14, 14), 156, scale=(0.15, 0.15), aspect=(0.75, 1.5)).boxes
    assert set(durations.tolist()) == {8}
    height, width = sizes.T
    assert len(sizes) == 1024
    assert (height.min(), height.max(), width.min(), width.max()) == (5, 7, 4, 6)
    area = height * width / 196
    assert abs(area.mean() - 0.15) < 0.01


def test_a_spec_survives_json():
    for spec in STRATEGY_CORNERS.values():
        assert StrategySpec.from_json(spec.to_json()) == spec
        assert StrategySpec(**json.loads(spec.to_json())) == spec


@pytest.mark.parametrize(
    ("parameters", "error", "words"),
    [
        ({"kind": "stripes"}, ValueError, "axis, bars, blocks, cells, running"),
        ({"grid": (8, 14)}, ValueError, "visible"),
        ({"grid": (8, 0, 14)}, ValueError, "grid H"),
        ({"grid": (64, 64, 65)}, ValueError, "tokens"),
        ({"visible": 0}, ValueError, "between 1 and 1567"),
        ({"visible": 1568}, ValueError, "between 1 and 1567"),
        ({"visible": 1.5}, TypeError, "num_visible"),
        ({"axis": 3}, ValueError, "axis must be in 0..2"),
        ({"kind": "axis", "grid": (1, 1, 5000), "axis": 2}, ValueError, "at most 4096"),
        ({"kind": "bars", "grid": (1, 5000, 50), "visible": 5}, ValueError, "at most 4096"),
        ({"kind": "cells", "grid": (1, 100, 100), "cell": (1, 100, 100)}, ValueError, "at most 4096"),
        ({"cell": (1, 15, 2)}, ValueError, r"cell \(1, 15, 2\) .*larger than the grid"),
        ({"cell": (1, 2)}, ValueError, "three integers"),
        ({"kind": "running", "cell": (2, 2, 2)}, ValueError, "one time step"),
        ({"pace": (0, 1)}, ValueError, "pace rows"),
        ({"pace": (1, 15)}, ValueError, "pace columns"),
        ({"size": (9, 1, 1)}, ValueError, "give a size that fits"),
        ({"size": (0, 1, 1)}, ValueError, "size t must be in 1"),
        ({"scale": (0.0, 0.1)}, ValueError, "0 < low"),
        ({"scale": (0.2, 1.1)}, ValueError, "<= 1"),
        ({"scale": (0.3, 0.2)}, ValueError, "low <= high"),
        ({"aspect": (1, float("nan"))}, ValueError, "aspect"),
        ({"duration": 1.0}, TypeError, "range"),
        ({"inverse": 1}, TypeError, "True or False"),
        ({"placement": "corner"}, ValueError, "inside, overhang, centre"),
        ({"placement": True}, ValueError, "inside, overhang, centre"),
        ({"num_boxes": 0}, ValueError, r"num_boxes must be in 1\.\.1024"),
        ({"num_boxes": 1025}, ValueError, r"num_boxes must be in 1\.\.1024"),
        ({"num_boxes": 5.0}, TypeError, "num_boxes"),
    ],
)
def test_a_spec_that_cannot_work_is_never_made(parameters, error, words):
    with pytest.raises(error, match=words):
        StrategySpec(**{"kind": "blocks", "grid": (8, 14, 14), "visible": 156, **parameters})
