# SPDX-License-Identifier: Apache-2.0
"""Pools of masks: what is drawn from them, by a plain NumPy reference."""

import json
import math
import pickle
from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import smnoise
from smnoise import PoolSampler, ops, pools

from .drawn import AXES, GREEN, GRID, MASKS, NOISE, TORUS, check

SUBSETS = ["".join(c) for n in range(4) for c in combinations(AXES, n)]


@pytest.mark.parametrize("axes", SUBSETS)
@pytest.mark.parametrize("what", ["crop", "flip", "roll"])
def test_each_augmentation_is_numpys(what, axes):
    others = dict.fromkeys({"crop", "flip", "roll"} - {what}, "")
    check(PoolSampler(NOISE, GRID, num_visible=17, **{**others, what: axes}), 3, range(12))
    if what != "crop":
        check(PoolSampler(MASKS, **{**others, what: axes}), 3, range(12))


@settings(max_examples=40)
@given(st.data())
def test_all_together_are_numpys(data):
    size = tuple(data.draw(st.integers(1, n)) for n in (4, 9, 17))
    size = (1, 1, 2) if math.prod(size) == 1 else size
    grid = tuple(data.draw(st.integers(1, n)) for n in size)
    grid = size if math.prod(grid) == 1 else grid
    per = data.draw(st.sampled_from(("clip", "frame"))) if grid[1] * grid[2] > 1 else "clip"
    visible = data.draw(st.integers(1, math.prod(grid[per == "frame" :]) - 1))
    crop, flip, roll = (data.draw(st.sampled_from(SUBSETS)) for _ in range(3))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    noise = torch.randint(
        -3, 4, (data.draw(st.integers(1, 5)), *size), generator=generator
    ).float()  # with ties
    seed = data.draw(st.integers(0, 2**64 - 1))
    samples = data.draw(st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=6))
    sampler = PoolSampler(
        pools.NoisePool(noise), grid, num_visible=visible, per=per, crop=crop, flip=flip, roll=roll
    )
    check(sampler, seed, samples)
    if per == "clip":
        scores = noise[:, : grid[0], : grid[1], : grid[2]].flatten(1)
        masks = pools.MaskPool.of_masks(ops.threshold(scores, visible, outputs="mask")[0], grid)
        check(PoolSampler(masks, flip=flip, roll=roll), seed, samples)


SAMPLERS = {
    "masks": PoolSampler(MASKS),
    "masks as they are": PoolSampler(MASKS, flip=""),
    "noise": PoolSampler(NOISE, GRID, 0.8),
    "noise per frame": PoolSampler(NOISE, GRID, num_visible=7, per="frame", flip="tyx"),
    "torus": PoolSampler(TORUS, GRID, 0.8),
}


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
def test_a_mask_is_a_pure_function_of_seed_and_sample(sampler):
    samples = [0, 5, 2**63, 5, 2**64 - 1, 77]
    whole = sampler(samples)
    assert (~whole.mask).sum(1).tolist() == [sampler.visible_per_sample] * 6 == [whole.num_visible] * 6
    for i, sample in enumerate(samples):
        assert torch.equal(sampler([sample]).ids_restore[0], whole.ids_restore[i])
    assert torch.equal(sampler(batch_size=3, step=5, rank=1, world_size=2).mask, sampler(range(33, 36)).mask)
    assert not torch.equal(sampler(range(9), seed=1).mask, sampler(range(9)).mask)
    assert sampler([]).mask.shape == (0, math.prod(GRID))
    only = sampler(samples, outputs="ids_keep")
    assert only.mask is None
    assert torch.equal(only.ids_keep, whole.ids_keep)


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
def test_json_names_the_pool(sampler):
    text = sampler.to_json()
    assert smnoise.from_json(text, pool=sampler.pool) == sampler
    with pytest.raises(ValueError, match=f"{sampler.pool.sha256}: load it"):
        smnoise.from_json(text)
    other = MASKS if sampler.pool is NOISE else NOISE
    with pytest.raises(ValueError, match=f"not of {other.sha256}"):
        smnoise.from_json(text, pool=other)
    with pytest.raises(ValueError, match="not drawn from a pool"):
        smnoise.from_json(GREEN.to_json(), pool=other)


def test_a_compiled_step_draws_new_masks_each_time():
    torch._dynamo.reset()
    graphs_before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    samplers = SAMPLERS["masks"], SAMPLERS["torus"]
    streams = [smnoise.MaskStream(sampler, 4) for sampler in samplers]

    @torch.compile(fullgraph=True)
    def step():
        return [stream().ids_restore + 0 for stream in streams]

    for number in range(3):
        for found, sampler in zip(step(), samplers, strict=True):
            assert torch.equal(found, sampler(batch_size=4, step=number).ids_restore)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == graphs_before + 1


@pytest.mark.parametrize("name", ["masks", "torus"])
def test_export_with_a_dynamic_batch(name):
    class Module(torch.nn.Module):
        def forward(self, seed, samples):
            return SAMPLERS[name](samples, seed=seed).ids_restore

    batch = torch.export.Dim("batch", min=2, max=1024)
    seed, samples = torch.tensor(5), torch.arange(100, 117)
    program = torch.export.export(Module(), (seed, samples[:3]), dynamic_shapes=(None, {0: batch}))
    assert torch.equal(program.module()(seed, samples), SAMPLERS[name](samples, seed=5).ids_restore)


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
def test_a_pickled_sampler_leaves_other_devices_behind(sampler):
    """As for the workers of a data loader."""
    sampler._on(torch.device("meta"))
    sampler.pool.on(torch.device("meta"))
    found = pickle.loads(pickle.dumps(sampler))
    assert found == sampler
    assert list(found.pool._copies) == [torch.device("cpu")]
    assert not found._tables
    assert torch.equal(found(range(5)).mask, sampler(range(5)).mask)


def test_masks_come_from_every_pattern_window_and_mirror_image():
    """A volume of distinct numbers tells where each of its values came from."""
    volume = torch.arange(2 * 4 * 5, dtype=torch.float32).view(2, 1, 4, 5)
    sampler = PoolSampler(pools.NoisePool(volume), (1, 3, 3), num_visible=1)
    scores = sampler.scores(torch.tensor(0), torch.arange(2000))
    found = {tuple(row) for row in scores.int().tolist()}
    assert len(found) == 2 * (2 * 3) * 4  # patterns, windows, flips
    counts = torch.unique(scores, dim=0, return_counts=True)[1]
    assert counts.min() > 2000 / 48 / 2.5


def test_a_roll_needs_no_seam_on_a_torus():
    assert PoolSampler(TORUS, GRID, 0.8).roll == "tyx"
    assert PoolSampler(NOISE, GRID, 0.8).roll == ""
    assert pools.build_masks(smnoise.Green3D(GRID, 0.8, boundary="wrap"), 2).periodic


def test_patterns_are_the_samplers_own():
    assert torch.equal(MASKS.masks(), GREEN(range(20)).mask)
    large = smnoise.Green3D((4, 9, 8), 0.5, seed=5)
    assert torch.equal(NOISE.data, large.noise(range(7)))
    assert pools.build_noise(GREEN, 1).size == (5, 8, 9)
    assert MASKS.source == {"sampler": json.loads(GREEN.to_json())}
    blue = smnoise.OptimBlue((8, 6), num_visible=12)
    assert torch.equal(pools.build_masks(blue, 9).masks(), blue(range(9)).mask)
    per_frame = smnoise.Green3D(GRID, 0.8, per="frame")
    assert torch.equal(pools.build_masks(per_frame, 3).masks(), per_frame(range(3)).mask)


@pytest.mark.parametrize("name", smnoise.STRATEGIES)
def test_a_pool_of_any_strategy(name):
    grid = (30,) if name.endswith("1d") else (6, 8) if "bars" in name else (4, 6, 8)
    sampler = smnoise.strategy(name, grid, 0.75)
    pool = pools.build_masks(sampler, 9)
    assert torch.equal(pool.masks(), sampler(range(9)).mask)
    check(PoolSampler(pool), 1, range(4))


def test_many_patterns_are_made_in_parts(monkeypatch, capfd):
    monkeypatch.setattr(pools.build, "CHUNK", 8 * math.prod(GRID))
    told = []
    assert pools.build_masks(GREEN, 20, progress=lambda *made: told.append(made)) == MASKS
    assert told == [(8, 20), (16, 20), (20, 20)]
    pools.build_noise(GREEN, 3, progress=True)
    assert "3/3" in capfd.readouterr().out


@pytest.mark.parametrize("at", [0, 5, 11])
def test_what_is_wrong_is_found_in_any_slice(monkeypatch, at):
    monkeypatch.setattr("smnoise.pools.pool.SLICE_BYTES", 100)
    noise = torch.zeros(12, 2, 3, 4)
    noise[at, 1, 2, 3] = math.nan
    with pytest.raises(ValueError, match=f"volume {at} holds"):
        pools.NoisePool(noise)
    masks = torch.zeros(12, 3, dtype=torch.uint8)
    masks[:, 0] = 7
    masks[at, 1] = 1
    with pytest.raises(ValueError, match=f"mask {at} has 4 bits"):
        pools.MaskPool(masks, (2, 3, 4), 21)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: pools.build_masks(GREEN, 0), ValueError, "number of patterns"),
        (lambda: pools.build_masks(GREEN, 2.0), TypeError, "integer"),
        (lambda: pools.build_masks("Green3D", 2), TypeError, "smnoise's"),
        (lambda: pools.build_noise(smnoise.OptimBlue((4, 4), 0.5), 2), TypeError, "use build_masks"),
        (lambda: pools.build_noise(GREEN, 2, (4, 4)), ValueError, "three integers"),
        (lambda: pools.build_noise(GREEN, 2, (1, 1, 1)), ValueError, "two tokens"),
        (lambda: pools.MaskPool(torch.zeros(2, 3), (2, 3, 4), 5), TypeError, "uint8"),
        (lambda: pools.MaskPool(torch.zeros(2, 4, dtype=torch.uint8), (2, 3, 4), 5), ValueError, r"\[K, 3\]"),
        (lambda: pools.MaskPool(torch.zeros(0, 3, dtype=torch.uint8), (2, 3, 4), 5), ValueError, "1 to"),
        (lambda: pools.MaskPool(MASKS.data, GRID, 16), ValueError, "mask 0 has 73 bits"),
        (lambda: pools.MaskPool(MASKS.data, GRID, 90), ValueError, "89 of the 90"),
        (lambda: pools.MaskPool.of_masks(torch.zeros(2, 90), GRID), TypeError, "bool"),
        (lambda: pools.MaskPool.of_masks(torch.eye(90).bool()[:2, :80], GRID), ValueError, r"\[K, 12\]"),
        (lambda: pools.NoisePool(torch.zeros(2, 3, 4)), ValueError, r"\[K, T, H, W\]"),
        (lambda: pools.NoisePool(torch.zeros(2, 3, 4, 4).double()), TypeError, "float32"),
        (lambda: pools.NoisePool(torch.full((2, 3, 4, 4), math.inf)), ValueError, "volume 0"),
        (lambda: pools.NoisePool(torch.zeros(2, 0, 4, 4)), ValueError, "grid T"),
        (lambda: pools.NoisePool(torch.zeros(2, 3, 4, 4), source={1, 2}), TypeError, "JSON"),
        (lambda: pools.MaskPool(MASKS.data.numpy(), GRID, 17), TypeError, "torch.from_numpy"),
        (
            lambda: pools.MaskPool.of_masks([[True, False]], GRID),
            TypeError,
            "must be a tensor, got a Python list",
        ),
        (lambda: pools.NoisePool(None), TypeError, "must be a tensor, got None"),
        (lambda: pools.save("pool", "a"), TypeError, "MaskPool"),
        (lambda: PoolSampler("pool", GRID, 0.9), TypeError, "MaskPool or a NoisePool"),
        (
            lambda: PoolSampler(NOISE, (5, 5, 6), 0.9),
            ValueError,
            r"fit into that of the pool's patterns, \(4, 9",
        ),
        (lambda: PoolSampler(MASKS, (3, 5, 5)), ValueError, "must be that"),
        (lambda: PoolSampler(NOISE, GRID), ValueError, "mask_ratio or num_visible"),
        (lambda: PoolSampler(NOISE, GRID, 0.9, num_visible=9), ValueError, "just one"),
        (lambda: PoolSampler(NOISE, GRID, num_visible=90), ValueError, "89 of the 90"),
        (lambda: PoolSampler(MASKS, num_visible=18), ValueError, "show 17 of 90"),
        (lambda: PoolSampler(MASKS, num_visible=17.0), TypeError, "num_visible must be an integer"),
        (lambda: PoolSampler(MASKS, mask_ratio=0.5), ValueError, "show 17 of 90"),
        (lambda: PoolSampler(MASKS, per="frame"), ValueError, "show 17 of 30"),
        (lambda: PoolSampler(NOISE, GRID, 0.9, per="row"), ValueError, "clip, frame"),
        (lambda: PoolSampler(MASKS, crop="x"), ValueError, "cannot be cropped"),
        (lambda: PoolSampler(MASKS, flip="z"), ValueError, "flip must be axes"),
        (lambda: PoolSampler(MASKS, flip="xx"), ValueError, "at most once"),
        (lambda: PoolSampler(MASKS, roll=True), TypeError, "roll must be axes"),
        (lambda: PoolSampler(MASKS, seed=-1), ValueError, "seed"),
    ],
)
def test_what_cannot_be_is_refused(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_axes_in_any_order_are_the_same_sampler():
    assert PoolSampler(NOISE, GRID, 0.9, flip="xt") == PoolSampler(NOISE, GRID, 0.9, flip="tx")
