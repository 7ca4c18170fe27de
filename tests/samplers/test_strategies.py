# SPDX-License-Identifier: Apache-2.0
"""Every strategy by its name: exact counts, purity, no token left out; and the statistics that make each what it is."""

import doctest
import importlib
import json
import math
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

import smnoise
from smnoise import STRATEGIES, MaskBatch, presets, strategy
from smnoise.backends.outputs import NAMES
from smnoise.samplers import KINDS

from .by_name import LINE, SPECTROGRAM, VIDEO, grid_of, made, volume


@pytest.mark.parametrize("name", STRATEGIES)
class TestEveryStrategy:
    def test_counts_are_exact_and_outputs_agree(self, name):
        tokens = math.prod(grid_of(name))
        for share in (0.1, 0.5, 0.8):
            visible = max(8, round(tokens * share / 8) * 8)
            masks = made(name, mask_ratio=None, num_visible=visible, seed=3)(range(5))
            assert isinstance(masks, MaskBatch)
            assert masks.num_tokens == tokens
            assert masks.num_visible == visible
            assert (~masks.mask).sum(1).tolist() == [visible] * 5
            order = torch.cat([masks.ids_keep, masks.ids_mask], 1)
            assert torch.equal(order.gather(1, masks.ids_restore), torch.arange(tokens).expand(5, -1))
            for mask, keep, hide in zip(masks.mask, masks.ids_keep, masks.ids_mask, strict=True):
                assert torch.equal(keep, torch.nonzero(~mask)[:, 0])
                assert torch.equal(hide, torch.nonzero(mask)[:, 0])

    def test_a_mask_is_a_function_of_seed_and_sample(self, name):
        sampler = made(name, mask_ratio=0.7, seed=11)  # leaves a part of a frame, bar or place
        whole = sampler(range(20))
        order = torch.tensor([7, 3, 19, 0, 3])
        assert torch.equal(sampler(order).ids_keep, whole.ids_keep[order])
        parts = [sampler(part).ids_restore for part in torch.arange(20).split([1, 6, 13])]
        assert torch.equal(torch.cat(parts), whole.ids_restore)
        assert torch.equal(sampler(batch_size=5, step=1, rank=1, world_size=2).mask, whole.mask[15:20])
        assert len({m.numpy().tobytes() for m in whole.mask}) == 20
        other = sampler(range(20), seed=12).mask
        assert not torch.equal(other, whole.mask)
        assert torch.equal(replace(sampler, seed=12)(range(20)).mask, other)

    def test_outputs_that_are_not_wanted_are_none(self, name):
        sampler = made(name)
        full = sampler([4, 5])
        for wanted in NAMES:
            got = sampler([4, 5], outputs=wanted)
            assert torch.equal(getattr(got, wanted), getattr(full, wanted))
            assert all(getattr(got, n) is None for n in NAMES if n != wanted)

    def test_no_token_is_always_hidden_or_always_visible(self, name):
        shown = volume(name, range(600)).float().mean(0)
        assert shown.min() > 0
        assert shown.max() < 1

    def test_a_sampler_is_a_value(self, name):
        sampler = made(name, seed=2**64 - 1)
        for copy in (
            smnoise.from_json(sampler.to_json()),
            pickle.loads(pickle.dumps(sampler)),
            replace(sampler),
        ):
            assert copy == sampler
            assert hash(copy) == hash(sampler)
            assert torch.equal(copy([3]).mask, sampler([3]).mask)
        assert json.loads(sampler.to_json())["sampler"] in KINDS
        plain, numpy = (made(name, mask_ratio=None, num_visible=n) for n in (16, np.int64(16)))
        assert smnoise.from_json(numpy.to_json()) == numpy == plain

    def test_the_reference_agrees(self, name):
        if grid_of(name) == VIDEO:
            sampler = strategy(name, (4, 7, 6), num_visible=40)
        else:
            sampler = strategy(name, (12, 5) if grid_of(name) == SPECTROGRAM else LINE, num_visible=20)
        got, want = sampler([1, 2]), sampler([1, 2], backend="reference")
        for one, other in zip(got.tensors, want.tensors, strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize(
    "module", ["samplers.bars", "samplers.cells", "samplers.flat", "samplers.random", "strategies"]
)
def test_examples_in_docstrings(module):
    failed, tried = doctest.testmod(importlib.import_module(f"smnoise.{module}"))
    assert (failed, tried > 0) == (0, True)


UNBIASED = [
    "random",
    "tube",
    "frame",
    "grid",
    "time-bars",
    "frequency-bars",
    "bars",
    "white-2d",
    "green-2d-tube",
]


@pytest.mark.parametrize("name", UNBIASED)
def test_every_token_is_visible_equally_often(name):
    """To six standard deviations of a fair coin's mean, over 4000 samples."""
    shown = volume(name, range(4000)).double().mean(0)
    assert (shown - 0.25).abs().max() < 6 * math.sqrt(0.25 * 0.75 / 4000)


@pytest.mark.parametrize("name", ["tube", *(n for n in STRATEGIES if n.endswith("-tube"))])
def test_no_token_of_a_tube_differs_between_frames(name):
    shown = volume(name)
    assert torch.equal(shown, shown[:, :1].expand_as(shown))
    assert shown[:, 0].sum((1, 2)).tolist() == [49] * 40


@pytest.mark.parametrize("name", ["white-2d", "green-2d"])
def test_frames_of_2d_colours_have_one_count_and_masks_of_their_own(name):
    shown = volume(name)
    assert (shown.sum((2, 3)) == 49).all()
    assert not (shown[:, 1:] == shown[:, :-1]).all((2, 3)).any()
    # Independent: what two neighbouring frames show in common is what chance gives, 1/16 of the tokens.
    both = (shown[:, 1:] & shown[:, :-1]).double().mean()
    assert both == pytest.approx(1 / 16, abs=0.003)


def touching(shown: torch.Tensor) -> float:
    """Share of visible tokens whose right neighbour is visible."""
    return (shown[..., 1:] & shown[..., :-1]).sum().item() / shown[..., :-1].sum().item()


@pytest.mark.parametrize("dimensions", ["1d", "2d", "2d-tube", "3d"])
def test_colours_order_by_how_visible_tokens_touch(dimensions):
    share = {
        c: touching(volume(f"{c}-{dimensions}", range(300)))
        for c in ("white", "red", "blue", "green", "purple")
    }
    assert share["blue"] < share["white"] < share["green"] < share["red"]
    assert share["white"] == pytest.approx(0.25, abs=0.02)
    assert share["purple"] != pytest.approx(share["white"], abs=0.005)


def test_a_window_of_red_noise_shows_its_border_slightly_more_often_and_a_torus_does_not():
    """In percent of the mean, as docs/masks/colors-flat.md has it; one standard error is 0.3."""

    def excess(boundary):
        shown = ~smnoise.Red2D((14, 14), 0.9, boundary=boundary)(range(30000), outputs="mask").mask
        share = shown.double().mean(0).view(14, 14)
        inner = share[1:-1, 1:-1].sum()
        return 100 * ((share.sum() - inner).item() / 52 / share.mean().item() - 1)

    assert 2.7 < excess("field") < 5.8
    assert abs(excess("wrap")) < 1.5


def test_random_masks_are_those_of_white_noise():
    for per in ("clip", "frame"):
        random = smnoise.Random(VIDEO, 0.9, per=per, seed=4)
        assert torch.equal(random([5]).mask, smnoise.White3D(VIDEO, 0.9, per=per, seed=4)([5]).mask)


def whole(shown: torch.Tensor, axis: int) -> tuple[int, int]:
    """How many indices along an axis of [T, H, W] are shown whole, and how many in part."""
    shares = shown.movedim(axis, 0).flatten(1).double().mean(1)
    return int((shares == 1).sum()), int(((shares > 0) & (shares < 1)).sum())


@pytest.mark.parametrize(
    ("name", "axis", "of_one"), [("frame", 0, 196), ("time-bars", 1, 8), ("frequency-bars", 2, 64)]
)
def test_frames_and_bars_are_shown_whole_but_for_one(name, axis, of_one):
    for count, part in ((2, 0), (3, 0), (1, of_one // 2), (2, 1), (0, 1)):
        masks = volume(name, range(25), mask_ratio=None, num_visible=count * of_one + part)
        assert {whole(shown, axis) for shown in masks} == {(count, int(part > 0))}
    chosen = {tuple(m.movedim(axis, 0).flatten(1).all(1).tolist()) for m in volume(name, range(200))}
    assert len(chosen) > 20


def test_bars_of_both_kinds_cross():
    """AudioMAE's 2D mode: what is visible is a product of just 19 time steps and 5 frequencies."""
    for shown in ~smnoise.TimeFrequencyBars(SPECTROGRAM, kept=(19, 5))(range(50)).volume()[:, 0]:
        steps, frequencies = shown.any(1), shown.any(0)
        assert (int(steps.sum()), int(frequencies.sum())) == (19, 5)
        assert torch.equal(shown, steps[:, None] & frequencies)


@pytest.mark.parametrize("kept", [None, (19, 5), (1, 8)])
def test_bars_of_both_kinds_grow_by_one_bar_at_a_time(kept):
    before = torch.zeros(64, 8, dtype=torch.bool)
    for visible in range(1, 512, 3):
        shown = ~smnoise.TimeFrequencyBars(SPECTROGRAM, num_visible=visible, kept=kept)([3]).volume()[0, 0]
        assert (before & ~shown).sum() == 0
        steps, frequencies = int(shown.any(1).sum()), int(shown.any(0).sum())
        assert visible > (steps - 1) * frequencies or visible > steps * (frequencies - 1)
        before = shown


def test_a_grid_shows_the_same_places_of_every_cell():
    for shown in volume("grid", range(20)):
        cells = shown.unflatten(2, (7, 2)).unflatten(1, (7, 2))
        assert torch.equal(cells, cells[:1, :1, :, :1].expand_as(cells))
    assert len({m.numpy().tobytes() for m in volume("grid", range(60))[:, 0, :2, :2]}) == 4
    part = volume("grid", range(20), mask_ratio=0.9)
    assert (part.sum((1, 2, 3)) == 156).all()
    assert len({tuple((shown.nonzero() % 3)[:, 1:].unique(dim=0).flatten().tolist()) for shown in part}) > 3
    assert {len((shown.nonzero() % 3)[:, 1:].unique(dim=0)) for shown in part} <= {1, 2}


def test_a_running_cell_moves_back_by_one_place():
    phases = set()
    for shown in volume("running-cell", range(60), mask_ratio=0.5):
        cells = shown.unflatten(2, (7, 2)).unflatten(1, (7, 2))  # t, cell, y, cell, x
        assert torch.equal(cells, cells[:, :1, :, :1].expand_as(cells))
        places = cells[:, 0, :, 0].flatten(1)
        assert (places.sum(1) == 2).all()
        for t in range(7):
            assert torch.equal(places[t + 1], places[t].roll(-1))
        phases.add(tuple(places[0].tolist()))
    assert len(phases) == 4
    odd = ~smnoise.RunningCell((7, 13, 15), 0.5, cell=(2, 3))([0, 1]).volume()
    assert odd.sum((1, 2, 3)).tolist() == [682, 682]


def test_a_tube_of_another_count_is_refused_with_the_nearest_ones():
    for kind in (smnoise.Tube, smnoise.Green2D):
        with pytest.raises(ValueError, match=r"multiple of the 8 frames.*got 156, nearest: 152 or 160"):
            kind(VIDEO, num_visible=156)
    with pytest.raises(ValueError, match=r"got 3, nearest: 8$"):
        smnoise.Tube(VIDEO, num_visible=3)
    with pytest.raises(ValueError, match="multiple of the 8 frames"):
        smnoise.Random(VIDEO, num_visible=100, per="frame")


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: strategy("cube", VIDEO, 0.9), ValueError, "one of random, tube, frame"),
        (lambda: strategy("grean-3d", VIDEO, 0.9), ValueError, r"got 'grean-3d', did you mean green-3d, "),
        (lambda: strategy("random", VIDEO), ValueError, "either mask_ratio or num_visible"),
        (lambda: strategy("random", VIDEO, 0.9, per="row"), ValueError, "clip, frame"),
        (lambda: strategy("tube", VIDEO, 1.5), ValueError, r"\(0, 1\)"),
        (lambda: strategy("tube", VIDEO, num_visible=8.0), TypeError, "num_visible"),
        (lambda: strategy("frame", (14, 14), 0.5), ValueError, "T > 1"),
        (lambda: strategy("time-bars", VIDEO, 0.5), ValueError, "time, frequency"),
        (lambda: strategy("bars", SPECTROGRAM, 0.5, kept=(65, 1)), ValueError, r"kept must be in 1\.\.64"),
        (lambda: strategy("bars", SPECTROGRAM), ValueError, "either mask_ratio or num_visible"),
        (lambda: strategy("grid", VIDEO, 0.5, cell=2), TypeError, "cell"),
        (lambda: strategy("grid", VIDEO, 0.5, cell=(2, 15)), ValueError, r"cell \(1, 2, 15\) .*larger than"),
        (lambda: strategy("running-cell", VIDEO, 0.5, cell=(2, 2, 2)), ValueError, "one time step"),
        (lambda: strategy("block", VIDEO, 0.5, size=3), TypeError, "size"),
        (lambda: strategy("block", VIDEO, 0.5, scale=(0.5, 0.1)), ValueError, "scale"),
        (lambda: strategy("inverse-block", (2, 2), 0.5), ValueError, "give a size that fits"),
        (lambda: strategy("block", VIDEO, 0.5, placement="center"), ValueError, "inside, overhang, centre"),
        (lambda: strategy("block", VIDEO, 0.5, num_boxes=0), ValueError, r"num_boxes must be in 1\.\.1024"),
        (lambda: strategy("green-2d", VIDEO, 0.5, tube=1), TypeError, "tube"),
        (lambda: strategy("green-2d", VIDEO, 0.5, anisotropy=(1, 1, 1)), ValueError, "two factors"),
        (lambda: strategy("green-1d", VIDEO, 0.5), ValueError, r"grid must be \(L,\)"),
        (lambda: strategy("green-1d", 48, 0.5), ValueError, r"grid must be \(L,\)"),
        (lambda: strategy("random", VIDEO, 0.5, seed=-1), ValueError, "seed"),
        (lambda: smnoise.samplers.Color2D(VIDEO, 0.5), TypeError, "Green2D"),
        (lambda: strategy("grid", VIDEO, num_visible=(2, 2)), TypeError, "num_visible must be an integer"),
        (lambda: strategy("block", np.array(3), 0.5), TypeError, "grid must be two integers"),
        (lambda: strategy("random", VIDEO, 0.5, per=np.array([1, 2])), ValueError, "clip, frame"),
        (lambda: presets["audiomae-2d"](mask_ratio=0.5), TypeError, "two numbers, of time and of frequency"),
        (lambda: presets["audiomae-2d"](mask_ratio=(0.5, 1.0)), ValueError, r"\(0, 1\)"),
        (lambda: presets["data2vec2"]((400, 400)), ValueError, "lays 4800 blocks of 3 x 3, and at most 1024"),
        *(
            (lambda name=name, ratio=ratio: presets[name](mask_ratio=ratio), ValueError, "mask_ratio")
            for name in presets
            if name != "audiomae-2d"
            for ratio in (0, 1, -0.5, float("nan"), float("inf"), 10**400)
        ),
        (lambda: smnoise.samplers.Color1D(LINE, 0.5), TypeError, "Green1D"),
    ],
)
def test_what_cannot_work_is_never_made(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_tubes_in_compiled_code():
    torch._dynamo.reset()
    sampler = made("green-2d-tube")

    @torch.compile(fullgraph=True)
    def step(seed, number):
        masks = sampler(batch_size=4, step=number, seed=seed)
        return [masks.mask.float(), *(ids + 0 for ids in masks.tensors[1:])]

    for number in range(2):
        got = step(torch.tensor(5), torch.tensor(number))
        want = sampler(batch_size=4, step=number, seed=5).tensors
        for one, other in zip(got, want, strict=True):
            assert torch.equal(one, other.to(one.dtype))


def test_streams_take_any_strategy():
    stream = smnoise.MaskStream(made("tube"), 4)
    stream()
    assert torch.equal(stream().mask, made("tube")(batch_size=4, step=1).mask)


def test_the_cell_of_a_grid_with_one_visible_token_has_places_that_are_numbered():
    assert smnoise.Grid((1, 4096, 64), num_visible=1)([0]).ids_keep.shape == (1, 1)
