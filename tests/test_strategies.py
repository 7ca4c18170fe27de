# SPDX-License-Identifier: Apache-2.0
"""Every strategy by its name: exact counts, purity, no token left out; and the statistics that make each what it is."""

import doctest
import importlib
import json
import math
import pickle
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

import smnoise
from smnoise import STRATEGIES, MaskBatch, presets, reference, strategy
from smnoise.backends.outputs import NAMES
from smnoise.samplers import KINDS

VIDEO, SPECTROGRAM, LINE = (8, 14, 14), (64, 8), (48,)


def grid_of(name: str) -> tuple[int, ...]:
    return LINE if name.endswith("-1d") else SPECTROGRAM if "bars" in name or name == "optim-blue" else VIDEO


def made(name: str, **parameters):
    return strategy(name, grid_of(name), **{"mask_ratio": 0.75, **parameters})


def volume(name: str, samples=range(40), **parameters) -> torch.Tensor:
    """bool [B, T, H, W], True = visible."""
    return ~made(name, **parameters)(samples).volume()


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


def test_blocks_within_the_grid_favour_the_border_and_those_that_stick_out_do_not():
    def corner_and_middle(name, **parameters):
        share = volume(name, range(2000), **parameters).double().mean((0, 1))
        return share[0, 0].item(), share[7, 7].item()

    corner, middle = corner_and_middle("block")
    assert corner > 0.7
    assert middle < 0.1
    for name in ("block", "multiblock", "inverse-block"):
        for share in corner_and_middle(name, placement="overhang"):
            assert share == pytest.approx(0.25, abs=0.06)


@pytest.mark.parametrize("side", [1, 2, 3, 4, 7])
def test_a_box_that_is_placed_by_its_centre_begins_half_its_side_before_it(side):
    """Every token is the centre equally often; what sticks out of the grid is cut off."""
    sampler = smnoise.InverseBlock(
        (5, 7), 0.5, size=(side if side < 6 else 5, side), placement="centre", num_boxes=1
    )
    spec, found = replace(sampler.spec, visible=1), Counter()
    for sample in range(1400):
        levels = reference.strategy_scores(0, sample, spec).view(np.uint32) >> 18
        shown = (levels == levels.max()).reshape(5, 7)
        rows, columns = np.flatnonzero(shown.any(1)), np.flatnonzero(shown.any(0))
        assert np.array_equal(shown, shown.any(1)[:, None] & shown.any(0))
        found[rows[0], rows[-1] + 1, columns[0], columns[-1] + 1] += 1
    height, width = sampler.size[1:]
    expected = Counter()
    for y in range(5):
        for x in range(7):
            top, left = y - height // 2, x - width // 2
            expected[max(0, top), min(5, top + height), max(0, left), min(7, left + width)] += 40
    assert set(found) == set(expected)
    for box, count in expected.items():
        assert abs(found[box] - count) < 5 * math.sqrt(count), box


def test_a_number_of_boxes_is_laid_and_the_count_met_at_random():
    """Of too many tokens in boxes some are shown, or hidden, of too few all, and others beside; those at random."""
    how = {"size": (4, 4), "num_boxes": 2, "placement": "inside"}
    kinds = [smnoise.InverseBlock((20, 20), num_visible=n, **how) for n in (9, 60)]
    kinds += [smnoise.Block((20, 20), num_visible=n, **how) for n in (391, 340)]
    n = 3000
    few, many, hidden_few, hidden_many = (~kind(range(n)).mask for kind in kinds)
    scores = (
        np.stack([reference.strategy_scores(0, i, kinds[0].spec) for i in range(n)]).view(np.uint32) >> 18
    )
    boxed = torch.from_numpy(scores == scores.max())
    assert set(boxed.sum(1).tolist()) <= set(range(16, 33))
    assert boxed.sum(1).unique().numel() > 5
    assert not (few & ~boxed).any()
    assert not (boxed & ~many).any()
    assert not (~hidden_few & ~boxed).any()
    assert not (boxed & hidden_many).any()
    for some, of in ((few, boxed), (many & ~boxed, ~boxed), (~hidden_many & ~boxed, ~boxed)):
        share, number = some.sum() / of.sum(), of.sum(0)  # of each token, how often it could have been chosen
        error = (share * (1 - share) / number).sqrt()
        assert ((some.sum(0) / number - share).abs() < 6 * error).all()


def repaired(grid, side: int, boxes: int, visible: int, masks: int) -> np.ndarray:
    """Masks as data2vec 2 and EAT draw them, bool [N, H, W]: boxes about tokens drawn with replacement, of which what
    lies in the grid is shown; then tokens are hidden or shown at random until the count is met."""
    random, (height, width) = np.random.default_rng(5), grid
    y, x = np.arange(height)[:, None], np.arange(width)
    shown = np.zeros((masks, height, width), bool)
    for _ in range(boxes):
        top, left = (random.integers(n, size=(masks, 1, 1)) - side // 2 for n in grid)
        shown |= (y >= top) & (y < top + side) & (x >= left) & (x < left + side)
    score = (shown + random.random(shown.shape)).reshape(masks, -1)
    edge = np.partition(score, -visible, axis=1)[:, -visible]
    return (score >= edge[:, None]).reshape(shown.shape)


def alone(shown: np.ndarray) -> np.ndarray:
    """[N]: visible tokens without a visible one beside, above or below."""
    padded = np.pad(shown, ((0, 0), (1, 1), (1, 1)))
    near = padded[:, 2:, 1:-1] | padded[:, :-2, 1:-1] | padded[:, 1:-1, 2:] | padded[:, 1:-1, :-2]
    return (shown & ~near).sum((1, 2))


@pytest.mark.parametrize(("name", "side", "boxes"), [("eat", 5, 5), ("data2vec2", 3, 5)])
def test_inverse_blocks_of_recipes_have_the_published_law(name, side, boxes):
    """Against the published procedure, over 10000 masks of each, to five standard errors."""
    sampler, n = presets[name](), 10000
    ours = (~sampler(range(n)).volume()[:, 0]).numpy()
    theirs = repaired(sampler.grid[1:], side, boxes, sampler.visible_per_sample, n)
    share = theirs.mean(0)
    error = np.sqrt(2 * share * (1 - share) / n)
    assert (np.abs(ours.mean(0) - share) < 5 * error).all()
    one, other = alone(ours), alone(theirs)
    assert abs(one.mean() - other.mean()) < 5 * math.sqrt((one.var() + other.var()) / n)
    # What the official programs were found to have, in two digits: the mean of the corners, of the first and last
    # time steps (rows), of the outer frequencies (columns), of the middle.
    found = ours.mean(0)
    corners, rows, columns = found[[0, 0, -1, -1], [0, -1, 0, -1]].mean(), found[[0, -1]], found[:, [0, -1]]
    middle = found[found.shape[0] // 4 : -found.shape[0] // 4, 3:-3]
    measured = [corners, rows.mean(), columns.mean(), middle.mean()]
    assert measured == pytest.approx(
        [0.09, 0.12, 0.15, 0.24] if name == "eat" else [0.1, 0.15, 0.15, 0.21], abs=0.015
    )


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


def boxes_of(hidden: torch.Tensor) -> bool:
    """Whether [H, W] is a union of rectangles of at least two by two: no token sticks out alone."""
    h, w = hidden.shape
    square = hidden[:-1, :-1] & hidden[1:, :-1] & hidden[:-1, 1:] & hidden[1:, 1:]
    covered = torch.zeros_like(hidden)
    for dy in (0, 1):
        for dx in (0, 1):
            covered[dy : h - 1 + dy, dx : w - 1 + dx] |= square
    return torch.equal(covered, hidden)


@pytest.mark.parametrize("name", ["block", "multiblock"])
def test_blocks_hide_rectangles_over_the_whole_clip(name):
    for shown in volume(name, range(30), mask_ratio=None, num_visible=8 * 60):
        frames = shown.flatten(1).unique(dim=0)
        assert len(frames) == 1  # 60 tokens a frame: the last block is cut along whole tubes
    near = 0
    for shown in volume(name, range(200), mask_ratio=0.5):
        near += boxes_of(~shown[0])
    assert near > 60  # a cut block may leave a row's end of one token


def test_blocks_have_the_sizes_that_were_asked_for():
    """One block is enough here, and none is cut: its own rectangle is what is hidden."""
    sampler = smnoise.Block((14, 14), num_visible=196 - 12, size=(3, 4))
    places = set()
    for hidden in sampler(range(400)).mask.unflatten(1, (14, 14)):
        rows, columns = hidden.any(1).nonzero()[:, 0], hidden.any(0).nonzero()[:, 0]
        assert (len(rows), len(columns)) == (3, 4)
        assert torch.equal(hidden, hidden.any(1)[:, None] & hidden.any(0))
        places.add((int(rows[0]), int(columns[0])))
    assert {y for y, _ in places} == set(range(12))
    assert {x for _, x in places} == set(range(11))


def test_a_block_that_is_cut_keeps_whole_rows_or_columns():
    """Of a block as large as the grid half is hidden, in a compact piece from one of four sides."""
    sides = set()
    for hidden in smnoise.Block((10, 12), num_visible=60, size=(10, 12))(range(60)).mask.unflatten(
        1, (10, 12)
    ):
        whole_rows, whole_columns = hidden.all(1).sum().item(), hidden.all(0).sum().item()
        assert (whole_rows, whole_columns) in {(5, 0), (0, 6)}
        sides.add((whole_rows, bool(hidden[0, 0])))
    assert len(sides) == 4


def test_inverse_blocks_show_rectangles():
    for shown in volume("inverse-block", range(50), mask_ratio=None, num_visible=8 * 9, placement="inside"):
        rows, columns = shown[0].any(1), shown[0].any(0)
        assert (int(rows.sum()), int(columns.sum())) == (3, 3)
        assert torch.equal(shown[0], rows[:, None] & columns)
        assert torch.equal(shown, shown[:1].expand_as(shown))


def test_blocks_of_a_part_of_the_clip_begin_and_end():
    masks = ~smnoise.Block(VIDEO, 0.25, scale=(0.3, 0.3), duration=(0.25, 0.5))(range(20)).mask
    masks = masks.unflatten(1, VIDEO)
    assert ((~masks).flatten(2).sum(2).double().std(1) > 10).all()


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


@pytest.mark.parametrize(("ratio", "first"), [(0.25, "1110"), (0.5, "1100"), (0.75, "1000")])
def test_running_cells_are_the_four_masks_of_videomaev2(target, ratio, first):
    """A cell of 2 x 2 places, read row by row, of which the first ones are shown; each step shows the previous places,
    around the cell. The four masks begin at its four rotations."""
    grid = (4, 4, 6) if target.backend == "triton" else VIDEO
    expected = set()
    for phase in range(4):
        steps = []
        for t in range(grid[0]):
            turns = phase + t
            cell = np.array([first[(place + turns) % 4] == "1" for place in range(4)]).reshape(2, 2)
            steps.append(np.tile(cell, (grid[1] // 2, grid[2] // 2)))
        expected.add(np.stack(steps).tobytes())
    sampler = presets["videomaev2-decoder"](grid, ratio)
    masks = target.strategy_mask(sampler.spec, range(16 if target.backend == "triton" else 40))["mask"]
    assert {(~mask).numpy().tobytes() for mask in masks} == expected


PUBLISHED = {
    "videomae-tube": (VIDEO, 160), "videomaev2-decoder": (VIDEO, 784), "mae-st": (VIDEO, 156), "mgmae": (VIDEO, 152),
    "mae": ((14, 14), 49), "audiomae": (SPECTROGRAM, 102), "audiomae-2d": (SPECTROGRAM, 95),
    "cav-mae": (SPECTROGRAM, 128), "cav-mae-image": ((14, 14), 49), "beit": ((14, 14), 121), "ijepa": ((14, 14), 98),
    "vjepa-short": (VIDEO, 580), "vjepa-long": (VIDEO, 297), "data2vec2": ((14, 14), 39), "eat": (SPECTROGRAM, 102),
}  # fmt: skip


@pytest.mark.parametrize("name", presets)
def test_presets_have_the_published_counts(name):
    grid, visible = PUBLISHED[name]
    sampler = presets[name](seed=9)
    assert sampler.seed == 9
    masks = sampler(range(4))
    assert masks.grid == ((1,) * (3 - len(grid))) + grid
    assert (~masks.mask).sum(1).tolist() == [visible] * 4
    assert smnoise.from_json(sampler.to_json()) == sampler
    assert presets[name].__doc__


@pytest.mark.parametrize(
    ("name", "boxes", "scale", "hidden"), [("vjepa-short", 8, 0.15, 0.627), ("vjepa-long", 2, 0.7, 0.812)]
)
def test_blocks_of_vjepa_hide_what_the_published_ones_do(name, boxes, scale, hidden):
    """The published procedure: one size a batch, drawn evenly by its aspect, and so many blocks of it; a mask that
    hides everything is drawn again. Its mean is our count, to half a percent of all tokens; a token is visible about as
    often, though here every mask has the count that there is the mean."""
    random, shown = np.random.default_rng(7), []
    while len(shown) < 12000:
        if len(shown) % 8 == 0:
            aspect, area = random.uniform(0.75, 1.5), int(196 * scale)
            h, w = (min(14, round(math.sqrt(a))) for a in (area * aspect, area / aspect))
        seen = np.ones((14, 14), bool)
        for _ in range(boxes):
            y, x = random.integers(15 - h), random.integers(15 - w)
            seen[y : y + h, x : x + w] = False
        if seen.any():
            shown.append(seen)
    theirs = np.mean(shown, axis=0)
    assert 1 - theirs.mean() == pytest.approx(hidden, abs=0.005)
    sampler = presets[name]()
    assert sampler.mask_ratio == pytest.approx(hidden, abs=0.005)
    ours = (~sampler(range(6000)).volume()).double().mean((0, 1)).numpy()
    assert np.abs(ours - theirs).max() < 0.06


def test_presets_have_the_published_structure():
    tube = ~presets["videomae-tube"]()(range(3)).volume()
    assert (tube.sum((2, 3)) == 20).all()
    assert torch.equal(tube, tube[:, :1].expand_as(tube))
    assert (presets["mgmae"]()(range(3)).volume().logical_not().sum((2, 3)) == 19).all()
    assert len(set(presets["mae-st"]()([0]).volume().logical_not().sum((2, 3))[0].tolist())) > 1
    assert presets["videomae-tube"]((8, 14, 14), 0.75).visible_per_sample == 392  # UCF101: 49 a frame
    assert presets["videomae-tube"](grid=(16, 14, 14)).visible_per_sample == 320
    assert presets["audiomae-2d"]((32, 8)).visible_per_sample == 9 * 5


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
        (lambda: strategy("grean-3d", VIDEO, 0.9), ValueError, r"got 'grean-3d', did you mean green-3d\?"),
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
