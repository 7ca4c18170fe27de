# SPDX-License-Identifier: Apache-2.0
"""Masks of blocks: where boxes lie, how large they are, how many, and which of them is cut."""

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

import smnoise
from smnoise import reference

from .by_name import VIDEO, volume


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
