# SPDX-License-Identifier: Apache-2.0
"""color_mask and color_noise: the reference's bits, on every target, however the batch is cut."""

import pytest
import torch
from cases import CORNERS, SAMPLES, specs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from targets import assert_same_as_reference

from smnoise import reference
from smnoise.backends import cpu
from smnoise.backends.outputs import NAMES
from smnoise.spec import ColorSpec

SPEC = ColorSpec("green", (4, 7, 9), 25)


@pytest.mark.parametrize("name", CORNERS)
def test_equals_the_reference(target, name):
    assert_same_as_reference(target, CORNERS[name], SAMPLES, seed=2**64 - 3)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(specs(), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_equals_the_reference_for_any_parameters(target, spec, seed, sample):
    assert_same_as_reference(target, spec, [sample, sample ^ 1], seed)


def test_a_row_depends_on_its_own_sample_only(target):
    samples = torch.arange(13)
    whole = target.color_mask(SPEC, samples)
    order = torch.tensor([7, 3, 12, 0, 3])
    for name, rows in target.color_mask(SPEC, samples[order]).items():
        assert torch.equal(rows, whole[name][order]), name
    cut = [target.color_mask(SPEC, part) for part in samples.split([1, 2, 3, 7])]
    for name in NAMES:
        assert torch.equal(torch.cat([part[name] for part in cut]), whole[name]), name


def test_the_thread_count_changes_nothing(target):
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3, 7):
            torch.set_num_threads(threads)
            results.append(target.color_mask(SPEC, range(11)))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        for name in NAMES:
            assert torch.equal(other[name], results[0][name]), name


def test_outputs_agree_and_counts_are_exact(target):
    for spec in (SPEC, ColorSpec("blue", (4, 6, 5), 7, per="frame")):
        visible = spec.groups * spec.visible
        got = target.color_mask(spec, range(9))
        mask, keep, hidden, restore = (got[n] for n in NAMES)
        assert (mask.dtype, keep.dtype, hidden.dtype, restore.dtype) == (torch.bool, *[torch.int64] * 3)
        assert torch.equal((~mask.unflatten(1, (spec.groups, -1))).sum(2),
                           torch.full((9, spec.groups), spec.visible))  # fmt: skip
        for i in range(9):
            assert torch.equal(keep[i], (~mask[i]).nonzero()[:, 0])
            assert torch.equal(hidden[i], mask[i].nonzero()[:, 0])
        tokens = torch.rand(9, mask.shape[1])
        both = torch.cat([tokens.gather(1, keep), tokens.gather(1, hidden)], 1)
        assert keep.shape == (9, visible)
        assert torch.equal(both.gather(1, restore), tokens)


def test_an_output_that_is_not_wanted_is_not_computed(target):
    full = target.color_mask(SPEC, range(5))
    for name in NAMES:
        got = target.color_mask(SPEC, range(5), outputs=name)
        assert torch.equal(got[name], full[name])
        assert all(got[other].shape == (0,) for other in NAMES if other != name)


def test_an_empty_batch_gives_empty_outputs(target):
    got = target.color_mask(SPEC, [])
    assert [tuple(got[n].shape) for n in NAMES] == [(0, 252), (0, 25), (0, 227), (0, 252)]


def test_windows_of_one_field_continue_each_other(target):
    """The contract's field has no seams: what two windows share is equal to the bit."""
    whole = target.color_noise(ColorSpec("green", (4, 10, 12), 1), [7])[0]
    part = target.color_noise(ColorSpec("green", (2, 5, 3), 1, origin=(2, 4, 9)), [7])[0]
    assert torch.equal(part, whole[2:4, 4:9, 9:12])


def test_no_global_generator_is_read_or_written(target):
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    first = target.color_mask(SPEC, range(3))["mask"]
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(target.color_mask(SPEC, range(3))["mask"], first)


def test_flushing_denormals_changes_nothing(target):
    """A long, narrow filter has denormal taps; torch.set_flush_denormal is per thread, ours must not care."""
    spec = ColorSpec("red", (1, 1, 40), 5, sigma1=(0.5, 0.5), truncate=28.0)
    assert (reference.taps(0.5, 28.0)[1:] < 1.2e-38).any()
    before = target.color_noise(spec, range(8))
    try:
        torch.set_flush_denormal(True)
        after = target.color_noise(spec, range(8))
    finally:
        torch.set_flush_denormal(False)
    assert torch.equal(after, before)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_the_default_dtype_changes_nothing(target, dtype):
    want = target.color_noise(SPEC, range(3)), target.color_mask(SPEC, range(3))
    cpu.why_not.cache_clear()
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(dtype)
        noise, masks = target.color_noise(SPEC, range(3)), target.color_mask(SPEC, range(3))
    finally:
        torch.set_default_dtype(before)
    assert noise.dtype == torch.float32
    assert torch.equal(noise, want[0])
    assert all(torch.equal(masks[n], want[1][n]) for n in NAMES)


def test_samples_and_seeds_matter(target):
    masks = target.color_mask(SPEC, [0, 1, 2**32, 2**63])["mask"]
    assert len({m.numpy().tobytes() for m in masks}) == 4
    assert not torch.equal(target.color_mask(SPEC, [0], seed=1)["mask"], masks[:1])
    assert not torch.equal(target.color_mask(SPEC, [0], seed=2**32)["mask"], masks[:1])
