# SPDX-License-Identifier: Apache-2.0
"""optim_blue: the reference's bits on every target, what the contract promises of a partition, what is refused."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from cases import BLUE_CORNERS, SAMPLES, blue_specs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import smnoise
from smnoise import OptimBlue, reference
from smnoise.backends import cpu
from smnoise.backends.outputs import NAMES
from smnoise.spec import OptimBlueSpec

SPEC = OptimBlueSpec((1, 7, 9), 12)  # five masks and a rest of three


def assert_same_as_reference(target, spec, samples, seed=0):
    got = target.optim_blue(spec, samples, seed)
    want = [row for sample in samples for row in reference.optim_blue(seed, sample, spec)]
    assert len(got["mask"]) == len(want)
    for i, row in enumerate(want):
        for name in NAMES:
            assert torch.equal(got[name][i], torch.from_numpy(getattr(row, name))), f"{name} of row {i}"


def slow(target) -> bool:
    """Triton's interpreter takes a second and more for each partition."""
    return target.backend == "triton" and target.device == "cpu"


@pytest.mark.parametrize("name", BLUE_CORNERS)
def test_equals_the_reference(target, name):
    samples = [0, 2**64 - 1] if slow(target) else SAMPLES
    assert_same_as_reference(target, BLUE_CORNERS[name], samples, seed=2**64 - 3)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(blue_specs(), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_equals_the_reference_for_any_parameters(target, spec, seed, sample):
    if slow(target):
        spec = replace(spec, grid=(1, 2, spec.grid[2] + 1), visible=1 + spec.visible % spec.grid[2], steps=7)
    assert_same_as_reference(target, spec, [sample, sample ^ 1], seed)


@pytest.mark.parametrize("masks", ["complementary", "independent", "views"])
def test_a_row_depends_on_its_own_sample_only(target, masks):
    """Whether or not rows beside each other share a partition."""
    spec = replace(SPEC, masks=masks, steps=16)
    samples = torch.arange(7 if slow(target) else 23)
    per = spec.rows_per_sample
    rows = {n: v.unflatten(0, (-1, per)) for n, v in target.optim_blue(spec, samples).items()}
    order = torch.tensor([3, 3, 0, 6, 1, 2, 2, 5])
    for name, got in target.optim_blue(spec, samples[order]).items():
        assert torch.equal(got.unflatten(0, (-1, per)), rows[name][order]), name
    cut = [target.optim_blue(spec, part) for part in samples.split([1, 2, len(samples) - 3])]
    for name in NAMES:
        assert torch.equal(torch.cat([part[name] for part in cut]), rows[name].flatten(0, 1)), name


def test_samples_that_do_not_lie_side_by_side_in_memory(target):
    samples = torch.arange(12).reshape(6, 2).t()[1]  # 1, 3, 5, ...: strides of 2
    got = target.optim_blue(replace(SPEC, steps=4), samples)
    assert torch.equal(got["mask"], target.optim_blue(replace(SPEC, steps=4), samples.tolist())["mask"])


def test_the_thread_count_changes_nothing(target):
    before = torch.get_num_threads()
    spec, results = replace(SPEC, steps=16), []
    try:
        for threads in (1, 2, 3, 7):
            torch.set_num_threads(threads)
            results.append(target.optim_blue(spec, range(3 if slow(target) else 64)))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        for name in NAMES:
            assert torch.equal(other[name], results[0][name]), name


def test_an_output_that_is_not_wanted_is_not_computed(target):
    spec = replace(SPEC, steps=8)
    full = target.optim_blue(spec, range(2))
    for name in NAMES:
        got = target.optim_blue(spec, range(2), outputs=name)
        assert torch.equal(got[name], full[name])
        assert all(got[other].shape == (0,) for other in NAMES if other != name)


def test_an_empty_batch_gives_empty_outputs(target):
    for spec in (SPEC, replace(SPEC, masks="views")):
        got = target.optim_blue(spec, [])
        assert [tuple(got[n].shape) for n in NAMES] == [(0, 63), (0, 12), (0, 51), (0, 63)]


def test_masks_of_a_partition_are_complementary(target):
    spec = replace(SPEC, steps=32)
    for first in (0, 5 * 2**40):
        mask = target.optim_blue(spec, range(first, first + 5))["mask"]
        assert (~mask).sum(1).tolist() == [12] * 5
        assert sorted((~mask).sum(0).tolist()) == [0] * 3 + [1] * 60


def test_views_are_the_masks_of_one_partition_and_independent_ones_the_first_of_each(target):
    spec = replace(SPEC, steps=8)
    shared = target.optim_blue(spec, range(15))
    views = target.optim_blue(replace(spec, masks="views"), range(3))
    single = target.optim_blue(replace(spec, masks="independent"), range(3))
    for name in NAMES:
        assert torch.equal(views[name], shared[name])
        assert torch.equal(single[name], shared[name][::5])


def test_no_global_generator_is_read_or_written(target):
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    target.optim_blue(replace(SPEC, steps=2), [0])
    assert torch.equal(torch.random.get_rng_state(), state)


def test_samples_and_seeds_matter(target):
    spec = replace(SPEC, steps=8)
    masks = target.optim_blue(spec, [0, 1, 5, 2**32 * 5, 2**63])["mask"]
    assert len({m.numpy().tobytes() for m in masks}) == 5
    for seed in (1, 2**32):
        assert not torch.equal(target.optim_blue(spec, [0], seed=seed)["mask"], masks[:1])


def energy(label: np.ndarray, spec) -> int:
    """Crowding of all pairs of tokens of one mask, from the definition: for each pair, what lies between them."""
    t, y, x = np.unravel_index(np.arange(spec.tokens), spec.grid)
    total = 0
    for p in range(spec.tokens):
        for q in range(p):
            if label[p] < 0 or label[p] != label[q]:
                continue
            step = [abs(int(v[p]) - int(v[q])) for v in (t, y, x)]
            far = max(step)
            if far > spec.delta or any(d not in (0, far) for d in step):
                continue
            axes = tuple(d > 0 for d in step)
            if axes == (False, True, True):
                falling = (y[p] - y[q]) * (x[p] - x[q]) > 0
                weight = spec.weights[2 if falling else 3]
            else:
                weight = spec.weights[{
                    (False, False, True): 0, (False, True, False): 1, (True, False, False): 4,
                    (True, True, True): 6,
                }.get(axes, 5)]  # fmt: skip
            total += int(64 * weight / far**spec.decay + 0.5)
    return total


@pytest.mark.parametrize("name", ["image", "volume", "one mask, many in the rest"])
def test_swaps_lower_the_energy_and_never_raise_it(name):
    spec = replace(
        BLUE_CORNERS[name], weights=tuple(w + 0.1 * i for i, w in enumerate(BLUE_CORNERS[name].weights))
    )
    energies = [
        energy(reference.partition(3, 1, replace(spec, steps=steps)), spec) for steps in range(0, 40, 3)
    ]
    assert energies == sorted(energies, reverse=True)
    assert energies[-1] < energies[0]


def test_a_stranger_orientation_is_not_a_neighbour():
    """A knight's move apart, or further than delta: no crowding, so that nothing is swapped."""
    for step in ((0, 1, 2), (0, 0, 5), (1, 2, 1)):
        assert step not in dict(reference.crowding(None, 4, (1.0,) * 7, 2.0))
    assert dict(reference.crowding(None, 2, (1.0, 0.0, 0.7, 0.5), 1.0)) == {
        (0, 0, 1): 64, (0, 0, -1): 64, (0, 0, 2): 32, (0, 0, -2): 32,
        (0, 1, 1): 45, (0, -1, -1): 45, (0, 2, 2): 22, (0, -2, -2): 22,
        (0, 1, -1): 32, (0, -1, 1): 32, (0, 2, -2): 16, (0, -2, 2): 16,
    }  # fmt: skip


def test_a_grid_of_one_time_step_is_the_plane():
    """The extension to volumes changes nothing of section 7."""
    plane = OptimBlue((8, 9), 0.8, steps=64)
    assert plane == OptimBlue((1, 8, 9), 0.8, steps=64, weights=(1, 1, 0.7, 0.7, 5, 5, 5))
    assert plane.grid == plane(range(2)).grid == (1, 8, 9)


class TestSampler:
    def test_batches_and_views(self):
        sampler = OptimBlue((64, 8), 0.8)
        assert (sampler.num_masks, sampler.visible_per_sample, sampler.num_tokens) == (5, 102, 512)
        masks = sampler(batch_size=10, step=1)
        views = sampler.views(torch.tensor([2, 3]))
        assert torch.equal(masks.mask, views.mask)
        assert views.batch_size == 10
        assert sampler.views([2], outputs="ids_keep").mask is None

    def test_a_partition_shows_each_token_once_but_for_the_rest(self):
        sampler = OptimBlue((64, 8), 0.8)
        assert sampler.rest == 2
        seen = (~sampler(range(500)).mask).unflatten(0, (100, 5)).sum(1)  # of each partition
        assert seen.max() == 1
        assert seen.sum(1).tolist() == [510] * 100
        assert len((seen == 0).nonzero()[:, 1].unique()) > 100  # not always the same two

    def test_large_grids_are_made_from_a_ratio_too(self):
        assert OptimBlue((128, 64), 0.8).num_masks == 5
        assert OptimBlue((8, 28, 28), 0.9).rest == 2
        mask = OptimBlue((160, 128), 0.8, steps=2)([1]).mask
        assert mask.sum() == 160 * 128 - 4096

    def test_another_grid_in_the_place_of_one(self):
        """dataclasses.replace, from a plane to a volume: the weights along time are the usual ones."""
        assert replace(OptimBlue((14, 14), 0.75), grid=(2, 14, 14)) == OptimBlue((2, 14, 14), 0.75)
        assert OptimBlue(np.array([14, 14]), 0.75) == OptimBlue((14, 14), 0.75)
        assert OptimBlue((2, 4, 4), 0.75, weights=(1, 1, 0.7, 0.7)) == OptimBlue((2, 4, 4), 0.75)

    def test_views_of_a_step(self):
        sampler = OptimBlue((6, 6), 0.75, steps=4)
        assert torch.equal(sampler.views(batch_size=2, step=3).mask, sampler.views([6, 7]).mask)
        with pytest.raises(ValueError, match="batch_size needs step"):
            sampler.views(batch_size=2)

    def test_is_a_value(self):
        sampler = OptimBlue((14, 14), num_visible=49, masks="independent", decay=1, seed=2**64 - 1)
        assert smnoise.from_json(sampler.to_json()) == sampler
        assert hash(sampler) == hash(
            OptimBlue([14, 14], num_visible=49, masks="independent", decay=1.0, seed=2**64 - 1)
        )

    def test_in_a_stream(self):
        stream = smnoise.MaskStream(OptimBlue((6, 6), 0.8), batch_size=4)
        first, second = stream(), stream()
        assert torch.equal(torch.cat([first.mask, second.mask]), OptimBlue((6, 6), 0.8)(range(8)).mask)

    def test_compiled(self):
        torch._dynamo.reset()
        sampler = OptimBlue((6, 6), 0.8, steps=8)

        @torch.compile(fullgraph=True)
        def step(number):
            return sampler(batch_size=4, step=number).ids_keep + 0, sampler.views(
                number + torch.arange(2)
            ).mask & True

        for number in range(3):
            keep, views = step(torch.tensor(number))
            assert torch.equal(keep, sampler(batch_size=4, step=number).ids_keep)
            assert torch.equal(views, sampler.views([number, number + 1]).mask)

    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            (
                {"mask_ratio": 0.999},
                ValueError,
                "between 1 and 511 of the 512 tokens of a mask must be visible, got 0",
            ),
            ({"mask_ratio": 1.0}, ValueError, "mask_ratio must be in"),
            ({"mask_ratio": math.nan}, ValueError, "mask_ratio"),
            ({"mask_ratio": None}, ValueError, "either mask_ratio or num_visible"),
            ({"mask_ratio": None, "num_visible": 512}, ValueError, "between 1 and 511"),
            ({"mask_ratio": None, "num_visible": True}, TypeError, "num_visible must be an integer"),
            ({"weights": (1, 1, -0.1, 1)}, ValueError, "weights must not be negative"),
            ({"weights": (0, 0, 0, 0)}, ValueError, "give no crowding at all"),
            ({"weights": (1e-3,) * 4}, ValueError, "give no crowding at all"),
            ({"weights": (math.nan, 1, 1, 1)}, ValueError, "weights must be a number"),
            ({"weights": (math.inf, 1, 1, 1)}, ValueError, "weights must be a number"),
            ({"weights": (1, 1, 1)}, ValueError, "weights must be 4 numbers"),
            ({"weights": 1.0}, ValueError, "weights must be 4 numbers"),
            ({"weights": "aaaa"}, TypeError, "weights"),
            ({"weights": (1e6,) * 4, "decay": -3.0}, ValueError, "crowding weights S add up to"),
            ({"decay": math.inf}, ValueError, "decay"),
            ({"delta": 0}, ValueError, "delta must be in"),
            ({"delta": 2.0}, TypeError, "delta must be an integer"),
            ({"steps": -1}, ValueError, "steps must be in"),
            ({"grid": (0, 8)}, ValueError, "grid H must be in"),
            ({"grid": 8}, TypeError, "grid"),
            ({"grid": (8,)}, ValueError, "grid"),
            ({"grid": (1024, 1024)}, ValueError, "tokens; at most"),
            ({"grid": (512, 512), "mask_ratio": 0.999}, ValueError, "crowding numbers"),
            ({"masks": "views"}, ValueError, "masks must be one of complementary, independent"),
            ({"seed": -1}, ValueError, "seed"),
        ],
    )
    def test_bad_parameters_are_refused(self, change, error, message):
        with pytest.raises(error, match=message):
            OptimBlue(**({"grid": (64, 8), "mask_ratio": 0.8} | change))


def test_a_grid_too_large_for_triton_is_refused_not_wrong():
    from smnoise.backends import triton

    if triton.why_not():
        pytest.skip(triton.why_not())
    device = triton.DEVICES[0]
    with pytest.raises(smnoise.BackendError, match="use backend cuda or cpu"):
        OptimBlue((64, 64), 0.8)([0], device=device, backend="triton")


def test_a_large_workspace(monkeypatch):
    """K * L numbers of one partition: 32 MiB here, beyond what a thread keeps."""
    spec = OptimBlueSpec((1, 64, 64), 2, steps=2)
    monkeypatch.setattr(cpu, "_forced_isa", None)
    samples = torch.tensor([0])
    mask = smnoise.ops.optim_blue(torch.tensor(0), samples, spec.to_json(), "cpu")[0]
    assert torch.equal(mask[0], torch.from_numpy(reference.optim_blue(0, 0, spec)[0].mask))
