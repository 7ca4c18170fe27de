# SPDX-License-Identifier: Apache-2.0
"""levels, split, distance_to and ContextTargets: disjoint sets of exact sizes, equal to the reference everywhere."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import smnoise
from smnoise import reference, reference_levels
from smnoise.levels import distance_to, levels, split
from smnoise.spec import ColorSpec

INF, NAN = float("inf"), float("nan")


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_levels_of_any_scores(target, data):
    few = data.draw(st.booleans())
    value = st.sampled_from([0.0, -0.0, 1.0, NAN, -INF]) if few else st.floats(width=32)
    scores = torch.tensor(data.draw(st.lists(value, min_size=2, max_size=60))).float()[None].repeat(2, 1)
    scores[1] = scores[1].flip(0)
    tokens = scores.shape[1]
    sizes = data.draw(st.lists(st.integers(1, max(1, tokens // 3)), min_size=1, max_size=4))
    sizes = [min(s, tokens - 1) for s in sizes]
    while sum(sizes) > tokens:
        sizes.pop()
    cut = data.draw(st.integers(0, len(sizes)))
    got = levels(scores.to(target.device), sizes[:cut], sizes[cut:], target.backend)
    for i in range(2):
        want = reference_levels.levels(scores[i].numpy(), sizes[:cut], sizes[cut:])
        for found, expected in zip(got, want, strict=True):
            assert [ids[i].tolist() for ids in found] == [ids.tolist() for ids in expected]


def test_sets_that_take_all_tokens(target):
    scores = torch.randn(3, 24, generator=torch.Generator().manual_seed(0)).to(target.device)
    got = levels(scores, (5, 7), (4, 8), target.backend)
    everything = torch.cat([*got.top, *got.bottom], 1).sort(1).values.cpu()
    assert torch.equal(everything, torch.arange(24).expand(3, 24))


@pytest.mark.parametrize("sets", [1, 2, 5])
def test_split_is_the_reference(target, sets):
    generator = torch.Generator().manual_seed(sets)
    ids = torch.stack([torch.randperm(60, generator=generator)[: 4 * sets].sort().values for _ in range(3)])
    fields = torch.randn(3, sets, 60, generator=generator).round(decimals=1)  # with ties
    got = split(ids.to(target.device), fields.to(target.device), target.backend).cpu()
    for i in range(3):
        assert np.array_equal(got[i], reference_levels.split(ids[i].numpy(), fields[i].numpy()))
    assert torch.equal(got.flatten(1).sort(1).values, ids)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.tuples(*[st.integers(1, 6)] * 3), st.integers(0, 99), st.floats(0, 1))
def test_distance_is_the_reference(grid, seed, share):
    members = torch.rand(2, *grid, generator=torch.Generator().manual_seed(seed)) < share
    got = distance_to(members)
    assert got.dtype == torch.int64
    for i in range(2):
        assert np.array_equal(got[i], reference_levels.distance_to(members[i].numpy()))


def test_distance_is_scipys():
    ndimage = pytest.importorskip("scipy.ndimage")
    members = torch.rand(1, 9, 20, 31, generator=torch.Generator().manual_seed(0)) < 0.01
    want = ndimage.distance_transform_cdt(~members[0].numpy(), metric="taxicab")
    assert np.array_equal(distance_to(members)[0], want)


# --- the sampler

SAMPLER = smnoise.ContextTargets((3, 6, 7), num_context=30, num_target=11, target_sets=4, seed=9)


@pytest.mark.parametrize(
    ("strategy", "boundary"), [("green-3d", "field"), ("red-3d", "wrap"), ("random", None)]
)
def test_context_and_targets_are_the_reference(target, strategy, boundary):
    parameters = {"boundary": boundary} if boundary else {}
    sampler = smnoise.ContextTargets(
        (3, 6, 7),
        num_context=30,
        num_target=11,
        target_sets=4,
        strategy=strategy,
        parameters=parameters,
        seed=9,
    )
    sets = sampler.sets(torch.tensor([0, 7], device=target.device), backend=target.backend)
    color = "white" if strategy == "random" else strategy[:-3]
    for i, sample in enumerate((0, 7)):
        first, *fields = (
            reference.color_noise(
                9, sample, ColorSpec(color, (3, 6, 7), 1, origin=(j << 20, 0, 0), **parameters)
            ).reshape(-1)
            for j in range(5)
        )
        top, bottom = reference_levels.levels(first, (30,), (44,))
        assert np.array_equal(sets.context.ids_keep[i].cpu(), top[0])
        assert np.array_equal(sets.targets[i].cpu(), reference_levels.split(bottom[0], np.stack(fields)))


def test_sets_are_disjoint_and_exact():
    sets = SAMPLER.sets(range(50))
    both = torch.cat([sets.context.ids_keep, sets.targets.flatten(1)], 1)
    assert (both.sort(1).values.diff(dim=1) > 0).all()
    assert sets.band().sum(1).tolist() == [126 - 30 - 44] * 50
    assert torch.equal(sets.band() | sets.target_mask(), sets.context.mask)
    assert [m.shape for m in sets.masks_enc() + sets.masks_pred()] == [(50, 30)] + [(50, 11)] * 4
    assert torch.equal(SAMPLER(range(50)).mask, sets.context.mask)
    one = SAMPLER.sets(batch_size=10, step=4)
    assert torch.equal(one.targets, sets.targets[40:])


def test_target_sets_are_compact_and_alike():
    """Share of a set's tokens with a neighbour in it; the last set, which is what the others left, is no other."""
    sets = smnoise.ContextTargets((4, 14, 14), num_context=196, num_target=98, target_sets=4).sets(range(60))
    place = torch.cartesian_prod(*(torch.arange(n, dtype=torch.float64) for n in (4, 14, 14)))

    def touching(ids):
        apart = torch.cdist(place[ids], place[ids]).add(9 * torch.eye(98))
        return (apart.amin(2) == 1).double().mean().item()

    shuffled = sets.targets.flatten(1)[:, torch.randperm(392, generator=torch.Generator().manual_seed(0))]
    assert all(0.86 < touching(sets.targets[:, j]) < 0.91 for j in range(4))
    assert touching(shuffled[:, :98]) < 0.65


def test_a_band_keeps_targets_away_from_the_context():
    touching = [
        smnoise.context_presets[name]().sets(range(16)).separation().touching
        for name in ("random", "green", "green-band", "green-far", "green-coarse")
    ]
    assert touching == sorted(touching, reverse=True)
    assert touching[0] > 0.75
    assert touching[-1] < 0.05


def test_distances_are_those_of_the_targets():
    sets = SAMPLER.sets([3])
    every = reference_levels.distance_to(~sets.context.volume()[0].numpy()).reshape(-1)
    assert np.array_equal(sets.distances()[0], every[sets.targets[0].numpy()])
    assert sets.separation().touching == (sets.distances() == 1).double().mean()


def test_json_presets_and_compiled_steps():
    again = smnoise.from_json(SAMPLER.to_json())
    assert again == SAMPLER
    assert hash(again) == hash(SAMPLER)
    preset = smnoise.context_presets["green-band"]((8, 14, 14), target_sets=8, seed=3)
    assert (preset.num_context, preset.num_target, preset.seed) == (392, 98, 3)
    torch._dynamo.reset()

    @torch.compile(fullgraph=True, backend="eager")
    def step(number):
        sets = SAMPLER.sets(batch_size=2, step=number)
        return sets.context.ids_keep + 0, sets.targets + 0, sets.distances() + 0

    for number in range(2):
        want = SAMPLER.sets(batch_size=2, step=number)
        keep, targets, distances = step(torch.tensor(number))
        assert torch.equal(keep, want.context.ids_keep)
        assert torch.equal(targets, want.targets)
        assert torch.equal(distances, want.distances())


def test_a_registered_function_has_one_target_set():
    @smnoise.register("test-levels-rising")
    def rising(seed, samples, grid):
        return torch.arange(float(grid[0] * grid[1] * grid[2])).expand(len(samples), -1)

    given = {"grid": (1, 3, 4), "num_context": 2, "num_target": 3, "strategy": "test-levels-rising"}
    sets = smnoise.ContextTargets(**given).sets([0])
    assert sets.context.ids_keep.tolist() == [[10, 11]]
    assert sets.targets.tolist() == [[[0, 1, 2]]]
    with pytest.raises(ValueError, match="no noise for several target sets"):
        smnoise.ContextTargets(**given, target_sets=2)


SCORES = torch.zeros(2, 16)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: levels(SCORES, (10,), (7,)), ValueError, "overlap: 10 [+] 7 = 17 tokens of 16"),
        (lambda: levels(SCORES), ValueError, "at least one set"),
        (lambda: levels(SCORES, (16,)), ValueError, r"top\[0\] must be in 1..15"),
        (lambda: levels(SCORES, (), (0,)), ValueError, r"bottom\[0\]"),
        (lambda: levels(SCORES, 3), TypeError, "top must be sizes"),
        (lambda: levels(SCORES, (2.0,)), TypeError, r"top\[0\] must be an integer"),
        (lambda: levels(SCORES.double(), (2,)), TypeError, "float32"),
        (lambda: levels(SCORES[0], (2,)), ValueError, r"\[B, L\]"),
        (
            lambda: split(torch.zeros(2, 4).long(), torch.zeros(2, 3, 9)),
            ValueError,
            "4 tokens cannot be cut into 3",
        ),
        (lambda: split(torch.zeros(2, 4).long(), torch.zeros(3, 2, 9)), ValueError, "split needs ids"),
        (lambda: split(torch.zeros(2, 4), torch.zeros(2, 2, 9)), TypeError, "int64 ids"),
        (lambda: distance_to(torch.zeros(1, 2, 2, 2)), TypeError, "bool"),
        (lambda: distance_to(torch.zeros(2, 2, dtype=torch.bool)), ValueError, r"\[B, T, H, W\]"),
    ],
)
def test_rejects(call, error, words):
    with pytest.raises(error, match=words):
        call()


@pytest.mark.parametrize(
    ("parameters", "error", "words"),
    [
        ({"num_target": 60}, ValueError, "overlap: 30 [+] 2 x 60 tokens of 126"),
        ({"num_context": 0}, ValueError, "num_context must be in 1..125"),
        ({"num_context": 2.5}, TypeError, "num_context must be an integer"),
        ({"num_target": 126}, ValueError, "num_target must be in 1..125"),
        ({"target_sets": 0}, ValueError, "target_sets must be in 1..64"),
        ({"strategy": "optim-blue"}, ValueError, "OptimBlue does not cut"),
        ({"strategy": "multiblock"}, ValueError, "Block does not cut"),
        ({"parameters": {"seed": 3}}, ValueError, "seed cannot be among"),
        ({"grid": (2**20, 1, 4), "strategy": "random"}, ValueError, "at most 524288 time steps"),
    ],
)
def test_sampler_rejects(parameters, error, words):
    given = {"grid": (3, 6, 7), "num_context": 30, "num_target": 11, "target_sets": 2}
    with pytest.raises(error, match=words):
        smnoise.ContextTargets(**given | parameters)
