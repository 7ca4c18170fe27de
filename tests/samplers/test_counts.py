# SPDX-License-Identifier: Apache-2.0
"""FrameCounts: a count for each frame, of any strategy with scores."""

import numpy as np
import pytest
import torch

import smnoise
from smnoise import reference
from smnoise.spec import ColorSpec

CLIP = (4, 6, 7)
COUNTS = (42, 0, 5, 9)


def shown(masks: smnoise.MaskBatch) -> list[list[int]]:
    return (~masks.volume()).sum((2, 3)).tolist()


@pytest.mark.parametrize("drawn", [False, True])
@pytest.mark.parametrize("strategy", ["random", "green-3d", "red-2d"])
def test_is_the_reference(target, strategy, drawn):
    sampler = smnoise.FrameCounts(CLIP, COUNTS, strategy=strategy, drawn=drawn, seed=5)
    samples = torch.tensor([0, 1, 2**40], device=target.device)
    got = sampler(samples, backend=target.backend).to("cpu")
    color = {"random": "white"}.get(strategy, strategy[:-3])
    spec = ColorSpec(color, CLIP, 1, anisotropy=(float(strategy != "red-2d"), 1, 1))
    for i, sample in enumerate(samples.tolist()):
        scores = reference.color_noise(5, sample, spec).reshape(4, -1)
        line = (reference.random_words(5, sample, 6, 4) >> np.uint32(8)).astype(np.float32)
        want = reference.slot_threshold(scores, COUNTS, line if drawn else None)
        for found, expected in zip(got[:4], want, strict=True):
            assert torch.equal(found[i], torch.from_numpy(expected))


def test_equal_counts_are_masks_per_frame():
    given = smnoise.FrameCounts((8, 14, 14), (19,) * 8, strategy="green-3d", seed=3)(range(4))
    per_frame = smnoise.Green3D((8, 14, 14), num_visible=19, per="frame", seed=3)(range(4))
    assert all(torch.equal(a, b) for a, b in zip(given.tensors, per_frame.tensors, strict=True))


def test_drawn_orders_are_equally_probable():
    """Chi-squared over the 24 orders of four different counts; 49.7 is exceeded once in a thousand."""
    masks = smnoise.FrameCounts((4, 2, 2), (4, 2, 1, 0), drawn=True)(range(4800), outputs="mask")
    orders, times = torch.tensor(shown(masks)).unique(dim=0, return_counts=True)
    assert len(orders) == 24
    assert ((times - 200) ** 2 / 200).sum() < 49.7


def test_time_steps_of_a_spectrogram():
    counts = (0,) * 10 + (1,) * 20 + (2,) * 20 + (3,) * 14
    masks = smnoise.FrameCounts((64, 8), counts, drawn=True)([7])
    assert masks.num_visible == 102
    assert sorted((~masks.mask).view(64, 8).sum(1).tolist()) == sorted(counts)


def test_a_registered_function_ranks_tokens():
    @smnoise.register("test-counts-first")
    def first(seed, samples, grid):
        return -torch.arange(float(grid[0] * grid[1] * grid[2])).expand(len(samples), -1)

    masks = smnoise.FrameCounts((2, 2, 3), (2, 1), strategy="test-counts-first")([0])
    assert masks.ids_keep.tolist() == [[0, 1, 6]]


@pytest.mark.parametrize("drawn", [False, True])
def test_json_stream_and_compiled_steps(drawn):
    sampler = smnoise.FrameCounts(
        CLIP, list(COUNTS), strategy="green-3d", parameters={"boundary": "wrap"}, drawn=drawn
    )
    again = smnoise.from_json(sampler.to_json())
    assert again == sampler
    assert hash(again) == hash(sampler)
    assert torch.equal(
        smnoise.MaskStream(sampler, batch_size=2, step=3)().mask, sampler(batch_size=2, step=3).mask
    )
    torch._dynamo.reset()
    step = torch.compile(
        lambda number: sampler(batch_size=2, step=number).ids_keep + 0, fullgraph=True, backend="eager"
    )
    for number in range(2):
        assert torch.equal(step(torch.tensor(number)), sampler(batch_size=2, step=number).ids_keep)


@pytest.mark.parametrize(
    ("parameters", "error", "words"),
    [
        ({"counts": (1, 2, 3)}, ValueError, "each of the 4 frames"),
        ({"counts": ()}, ValueError, "each of the 4 frames"),
        ({"counts": (43, 0, 0, 0)}, ValueError, r"counts\[0\] must be in 0..42"),
        ({"counts": (1, 0, 0, -1)}, ValueError, r"counts\[3\]"),
        ({"counts": (0,) * 4}, ValueError, "at least one"),
        ({"counts": (42,) * 4}, ValueError, "at least one"),
        ({"counts": (1, 1, 1, 0.5)}, TypeError, r"counts\[3\] must be an integer"),
        ({"counts": 9}, TypeError, "counts must be integers"),
        ({"counts": "1111"}, TypeError, "counts must be integers"),
        ({"drawn": 1}, TypeError, "drawn"),
        ({"strategy": "optim-blue"}, ValueError, "OptimBlue does not cut"),
        ({"strategy": "block"}, ValueError, "Block does not cut"),
        ({"strategy": "green-2d-tube"}, ValueError, "Green2D does not cut"),
        ({"strategy": "gren-3d"}, ValueError, "did you mean green-3d"),
        ({"strategy": 3}, TypeError, "strategy must be a name"),
        ({"parameters": {"per": "frame"}}, ValueError, "per cannot be among"),
        ({"parameters": {"twist": 1}}, TypeError, "twist"),
        ({"parameters": [1]}, TypeError, "by name"),
        ({"grid": (4, 1, 1), "counts": (1, 0, 1, 0)}, ValueError, "one token in each frame"),
    ],
)
def test_rejects(parameters, error, words):
    with pytest.raises(error, match=words):
        smnoise.FrameCounts(**{"grid": CLIP, "counts": (1, 2, 3, 4)} | parameters)
