# SPDX-License-Identifier: Apache-2.0
"""The public samplers: what they accept, what they say, what they refuse."""

import doctest
import json
import pickle
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
import torch

import smnoise
from smnoise import Green3D, samplers, spec
from smnoise.samplers import COLOR_KINDS, sample_indices
from smnoise.spec import visible_of_ratio

GRID = (8, 14, 14)


@pytest.mark.parametrize(
    "module", [samplers.color, samplers.optim_blue, spec.checks], ids=lambda m: m.__name__
)
def test_examples_in_docstrings(module):
    failed, tried = doctest.testmod(module)
    assert (failed, tried > 0) == (0, True)


@pytest.mark.parametrize("kind", COLOR_KINDS.values())
@pytest.mark.parametrize(
    "parameters",
    [
        {"mask_ratio": 0.9},
        {"num_visible": 10, "per": "frame", "seed": 2**64 - 1, "boundary": "wrap"},
        {"mask_ratio": 0.75, "sigma1": (0.5, 0.6), "sigma2": (2, 2), "origin": (-1, 2, 3), "truncate": 3,
         "anisotropy": (0, 1, 2.5)},
    ],
)  # fmt: skip
def test_samplers_are_values(kind, parameters):
    sampler = kind(GRID, **parameters)
    for copy in (smnoise.from_json(sampler.to_json()), pickle.loads(pickle.dumps(sampler)), replace(sampler)):
        assert copy == sampler
        assert hash(copy) == hash(sampler)
        assert torch.equal(copy([3]).mask, sampler([3]).mask)
    assert sampler != replace(sampler, seed=5)
    assert json.loads(sampler.to_json())["sampler"] == kind.__name__
    with pytest.raises(FrozenInstanceError):
        sampler.seed = 1


def test_lists_and_numpy_numbers_are_the_same_values():
    assert Green3D([np.int64(8), 14, 14], np.float32(0.9)) == Green3D(GRID, 0.9)
    assert Green3D(GRID, np.float64(0.9)) == Green3D(GRID, 0.9)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not the JSON"),
        ("[]", "Green3D"),
        ('{"sampler": "Pink3D"}', "Green3D"),
        ('{"sampler": "Green3D", "grid": [8, 14, 14], "mask_ratio": 0.9, "radius": 2}', "radius"),
        ('{"sampler": "Green3D", "grid": [8, 14, 14], "mask_ratio": 0.9, "contract": 2}', "contract 1"),
        ('{"sampler": "Green3D", "grid": [8, 14, 14], "mask_ratio": 1.9}', "mask_ratio"),
        ('{"sampler": ["Green3D"]}', "Green3D"),
        ('{"sampler": "Green3D"}', "grid"),
        (None, "not the JSON"),
    ],
)
def test_from_json_refuses(text, words):
    with pytest.raises(ValueError, match=words):
        smnoise.from_json(text)


@pytest.mark.parametrize(
    ("tokens", "ratio", "visible"),
    [(1568, 0.9, 156), (512, 0.8, 102), (1000, 0.9, 100), (10, 0.7, 3), (196, 0.75, 49), (100, 0.29, 71),
     (1000, 1e-9, 999)],
)  # fmt: skip
def test_a_ratio_is_read_as_the_decimal_it_is_written_as(tokens, ratio, visible):
    """1000 * (1 - 0.9) is 99.99999999999997 in floats: 99 would be wrong."""
    assert visible_of_ratio(tokens, ratio) == visible


def test_a_mask_knows_its_grid_counts_and_polarity():
    masks = Green3D(GRID, 0.9)(batch_size=4, step=2)
    assert (masks.grid, masks.num_tokens, masks.num_visible, masks.num_masked) == (GRID, 1568, 156, 1412)
    assert (masks.batch_size, masks.device.type) == (4, "cpu")
    assert masks.volume().shape == (4, *GRID)
    assert masks.mask.sum(1).tolist() == [1412] * 4  # True = masked
    bool_masked_pos = masks.bool_masked_pos()
    assert bool_masked_pos.dtype == torch.bool
    mask, ids_restore, ids_keep = masks.mae()
    assert mask.dtype == torch.float32
    assert torch.equal(mask.gather(1, ids_keep), torch.zeros(4, 156))
    # MAE's own use of ids_restore: visible first, mask tokens behind, unshuffled
    unshuffled = torch.cat([torch.zeros(4, 156), torch.ones(4, 1412)], 1).gather(1, ids_restore)
    assert torch.equal(unshuffled, mask)


def test_counts_per_frame():
    sampler = Green3D(GRID, num_visible=19, per="frame")
    masks = sampler([0])
    assert masks.num_visible == sampler.visible_per_sample == 8 * 19
    assert (~masks.volume()).sum((2, 3)).tolist() == [[19] * 8]
    assert Green3D(GRID, 0.9, per="frame").visible_per_sample == 8 * 19


def test_an_output_that_was_not_asked_for_is_none():
    masks = Green3D(GRID, 0.9)([0], outputs="ids_keep, ids_mask")
    assert masks.mask is None
    assert masks.ids_restore is None
    assert len(masks.tensors) == 2
    assert masks.to("cpu").mask is None
    with pytest.raises(ValueError, match="mask was not computed"):
        masks.bool_masked_pos()


def test_batches_steps_and_ranks_never_share_an_index():
    seen = torch.cat([sample_indices(s, 3, rank=r, world_size=4) for s in range(5) for r in range(4)])
    assert sorted(seen.tolist()) == list(range(60))
    sampler = Green3D(GRID, 0.9)
    whole = sampler(range(24, 36)).mask
    ranks = [sampler(batch_size=3, step=2, rank=r, world_size=4).mask for r in range(4)]
    assert torch.equal(torch.cat(ranks), whole)
    step = torch.tensor(2)
    assert torch.equal(sampler(batch_size=3, step=step, rank=1, world_size=4).mask, ranks[1])


@pytest.mark.parametrize(
    "samples",
    [
        range(0), range(3, 4), range(5, -9, -3), range(2**63 - 2, 2**63 + 3), range(2**64 - 1, 2**64),
        range(-(2**63), 2**63, 2**62), range(2**64 - 1, 0, -(2**63)), range(-(2**63), 2**64 - 1, 3 * 2**61),
    ],
)  # fmt: skip
def test_a_range_is_its_list(samples):
    sampler = smnoise.White3D((1, 2, 4), 0.5)
    assert torch.equal(sampler(samples).mask, sampler(list(samples)).mask)


@pytest.mark.parametrize("samples", [range(-(2**63) - 1, 0), range(2**64 - 3, 2**64 + 1), range(10**30)])
def test_a_range_of_what_are_no_indices_is_refused(samples):
    with pytest.raises(ValueError, match="samples must be in"):
        smnoise.White3D((1, 2, 4), 0.5)(samples)


def test_seeds():
    sampler = Green3D(GRID, 0.9, seed=2**64 - 1)
    mask = sampler([1]).mask
    for seed in (-1, torch.tensor(-1), torch.tensor([-1]), np.uint64(2**64 - 1)):
        assert torch.equal(Green3D(GRID, 0.9)([1], seed=seed).mask, mask)
    assert torch.equal(sampler([2**64 - 1]).mask, sampler(torch.tensor([-1])).mask)


@pytest.mark.parametrize("dtype", [torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8])
def test_integer_tensors_of_any_width(dtype):
    sampler = Green3D((2, 4, 4), 0.5)
    assert torch.equal(sampler(torch.tensor([5, 6], dtype=dtype)).mask, sampler([5, 6]).mask)


def test_noise_ranks_as_the_mask_does():
    sampler = Green3D(GRID, 0.9)
    noise = sampler.noise([4])
    assert noise.shape == (1, *GRID)
    assert torch.equal(noise.flatten().topk(156).indices.sort().values, sampler([4]).ids_keep[0])


@pytest.mark.parametrize(
    ("parameters", "error", "words"),
    [
        ({"grid": (8, 14)}, ValueError, "grid"),
        ({"grid": "8x14x14"}, TypeError, "grid"),
        ({"grid": (8, 14, 0)}, ValueError, "grid W"),
        ({"grid": (8, 14, -14)}, ValueError, "grid W"),
        ({"grid": (8, 14.0, 14)}, TypeError, "integer"),
        ({"grid": (True, 14, 14)}, TypeError, "integer"),
        ({"grid": (2**12, 2**12, 2**12)}, ValueError, "tokens"),
        ({"grid": (1, 1, 1)}, ValueError, "larger grid"),
        ({"mask_ratio": 0.0}, ValueError, r"\(0, 1\)"),
        ({"mask_ratio": 1.0}, ValueError, r"\(0, 1\)"),
        ({"mask_ratio": 90}, ValueError, r"\(0, 1\)"),
        ({"mask_ratio": -0.1}, ValueError, r"\(0, 1\)"),
        ({"mask_ratio": float("nan")}, ValueError, r"\(0, 1\).* got nan"),
        ({"mask_ratio": 10**400}, ValueError, r"\(0, 1\).* got inf"),
        ({"mask_ratio": "0.9"}, TypeError, "real number"),
        ({"mask_ratio": None}, ValueError, "either mask_ratio or num_visible"),
        ({"num_visible": 10}, ValueError, "either mask_ratio or num_visible"),
        ({"mask_ratio": None, "num_visible": 0}, ValueError, "1 and 1567"),
        ({"mask_ratio": None, "num_visible": 1568}, ValueError, "1 and 1567"),
        ({"mask_ratio": None, "num_visible": 10.5}, TypeError, "num_visible"),
        ({"mask_ratio": None, "num_visible": 196, "per": "frame"}, ValueError, "1 and 195"),
        ({"mask_ratio": 0.9999}, ValueError, "visible"),
        ({"per": "token"}, ValueError, "clip, frame"),
        ({"boundary": "reflect"}, ValueError, "field, wrap"),
        ({"sigma1": (1.5, 0.4)}, ValueError, "low <= high"),
        ({"sigma1": (0.0, 0.4)}, ValueError, "low <= high"),
        ({"sigma1": (0.4, float("inf"))}, ValueError, "sigma1"),
        ({"sigma1": 0.5}, TypeError, "range"),
        ({"sigma1": (0.4, 1.5, 2.0)}, ValueError, "range"),
        ({"sigma1": (1.4, 3.0), "sigma2": (0.4, 1.5)}, ValueError, "raise sigma2 or lower sigma1"),
        ({"sigma1": (2.0, 2.0), "sigma2": (2.0, 2.0)}, ValueError, "raise sigma2 or lower sigma1"),
        ({"anisotropy": (-1, 1, 1)}, ValueError, "negative"),
        ({"anisotropy": (1, 1)}, ValueError, "anisotropy"),
        ({"origin": (0, 0, 0.5)}, TypeError, "origin"),
        ({"truncate": 0}, ValueError, "truncate"),
        ({"truncate": 1e6}, ValueError, "filter radii"),
        ({"truncate": 1e3}, ValueError, "noise values"),
        ({"grid": (1, 2**16 + 1, 2)}, ValueError, "repeats itself"),
        ({"seed": -1}, ValueError, "seed"),
        ({"seed": 2**64}, ValueError, "seed"),
        ({"seed": 1.5}, TypeError, "seed"),
    ],
)
def test_a_sampler_that_cannot_work_is_never_made(parameters, error, words):
    with pytest.raises(error, match=words):
        Green3D(**{"grid": GRID, "mask_ratio": 0.9, **parameters})


def test_overlapping_ranges_are_fine_where_every_draw_has_a_partner():
    """The paper's own ranges overlap by 0.1; the contract redraws the second sigma, it does not clamp."""
    assert Green3D(GRID, 0.9, sigma1=(0.4, 2.0), sigma2=(1.4, 3.0))([0]).num_visible == 156


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({}, ValueError, "samples, or batch_size"),
        ({"samples": [0], "batch_size": 1, "step": 0}, ValueError, "samples, or batch_size"),
        ({"samples": [0], "step": 0}, ValueError, "step goes with batch_size"),
        ({"batch_size": 4}, ValueError, "needs step"),
        ({"batch_size": 0, "step": 0}, ValueError, "batch_size"),
        ({"batch_size": 4, "step": 0.5}, TypeError, "step"),
        ({"samples": {0: "a"}}, TypeError, "an array, a list or a range"),
        ({"samples": [0], "outputs": ["mask"]}, TypeError, "outputs must be a text"),
        ({"samples": [0], "outputs": None}, TypeError, "outputs must be a text"),
        ({"samples": [0], "backend": None}, TypeError, "backend must be a text"),
        ({"batch_size": 4, "step": torch.tensor(0.5)}, TypeError, "int64"),
        ({"batch_size": 4, "step": torch.zeros(2, dtype=torch.int64)}, TypeError, "one int64"),
        ({"batch_size": 4, "step": 0, "rank": 2, "world_size": 2}, ValueError, "rank"),
        ({"samples": torch.tensor([0.0])}, TypeError, "integers"),
        ({"samples": torch.tensor([True])}, TypeError, "integers"),
        ({"samples": torch.tensor(3)}, ValueError, r"\[B\]"),
        ({"samples": torch.zeros(2, 2, dtype=torch.int64)}, ValueError, r"\[B\]"),
        ({"samples": [0.5]}, TypeError, "integer"),
        ({"samples": [2**64]}, ValueError, "samples"),
        ({"samples": 7}, TypeError, "samples"),
        ({"samples": "7"}, TypeError, "samples"),
        ({"samples": {7}}, TypeError, "a list or a range"),
        ({"samples": (n for n in (1, 2))}, TypeError, "a list or a range"),
        ({"batch_size": 4, "step": 0, "world_size": 0}, ValueError, "world_size"),
        ({"batch_size": 4, "step": 2**62}, ValueError, "step"),
        ({"samples": torch.zeros(1, dtype=torch.int64), "device": "meta"}, ValueError, "move them first"),
        (
            {"samples": [0], "seed": torch.zeros((), device="meta", dtype=torch.int64)},
            ValueError,
            "one device",
        ),
        ({"samples": [0], "seed": torch.tensor(0.5)}, TypeError, "seed"),
        ({"samples": [0], "seed": 2**64}, ValueError, "seed"),
        ({"samples": [0], "outputs": "masks"}, ValueError, "masks"),
        ({"samples": [0], "backend": "tpu"}, ValueError, "tpu"),
    ],
)
def test_a_call_that_cannot_work_says_why(arguments, error, words):
    with pytest.raises(error, match=words):
        Green3D(GRID, 0.9)(**arguments)


def test_the_base_class_is_no_sampler():
    with pytest.raises(TypeError, match="Green3D"):
        samplers.Color3D(GRID, 0.9)
