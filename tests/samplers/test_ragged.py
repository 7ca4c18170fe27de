# SPDX-License-Identifier: Apache-2.0
"""Ragged: each row has the exact count of its own length, and a mask that no other row or padding changes."""

import pickle

import pytest
import torch

import smnoise
from smnoise.spec import visible_of_ratio

SAMPLER = smnoise.Ragged((20, 3, 4), 0.8, strategy="green-3d")


@pytest.mark.parametrize("strategy", ["random", "green-3d", "blue-3d", "red-2d"])
def test_exact_counts_and_lists(strategy):
    sampler = smnoise.Ragged((20, 3, 4), 0.8, strategy=strategy)
    lengths = [20, 1, 7, 13]
    masks = sampler(range(4), lengths=lengths)
    assert masks.num_visible.tolist() == [visible_of_ratio(12 * n, 0.8) for n in lengths]
    assert masks.tokens.tolist() == [12 * n for n in lengths]
    for row, length in enumerate(lengths):
        tokens, shown = 12 * length, int(masks.num_visible[row])
        assert masks.mask[row].sum() == tokens - shown
        kept, hidden = masks.ids_keep[row, :shown], masks.ids_mask[row, : tokens - shown]
        assert torch.cat([kept, hidden]).sort().values.tolist() == list(range(tokens))
        assert not masks.mask[row, kept].any()
        assert masks.mask[row, hidden].all()
    assert torch.equal(masks.keep_valid.sum(1), masks.num_visible)
    assert torch.equal(masks.mask_valid.sum(1), masks.tokens - masks.num_visible)
    assert torch.equal(masks.valid.sum(1), masks.tokens)
    assert masks.ids_keep.shape == (4, 48)


def test_full_rows_are_the_strategy_s_own():
    plain = smnoise.Green3D((20, 3, 4), 0.8)(range(3))
    masks = SAMPLER(range(3), lengths=[20] * 3)
    assert torch.equal(masks.mask, plain.mask)
    assert torch.equal(masks.ids_keep, plain.ids_keep)
    assert torch.equal(masks.ids_restore, plain.ids_restore)


@pytest.mark.parametrize("strategy", ["random", "green-3d"])
def test_a_row_depends_on_its_sample_and_length_alone(strategy):
    """Not on the batch, nor on the longest row that the grid has room for."""
    small, large = (smnoise.Ragged((n, 3, 4), 0.8, strategy=strategy) for n in (9, 30))
    whole = large([5, 6, 7], lengths=[30, 9, 4])
    for row, (sample, length) in enumerate(((5, 30), (6, 9), (7, 4))):
        alone = large([sample], lengths=[length])
        count = int(alone.num_visible[0])
        assert torch.equal(whole.ids_keep[row, :count], alone.ids_keep[0])
        if length <= 9:
            assert torch.equal(small([sample], lengths=[length]).ids_keep, alone.ids_keep)


def test_lengths_count_the_first_axis_of_the_grid():
    """Time steps of a spectrogram (time, frequency), tokens of a line."""
    sound = smnoise.Ragged((64, 8), 0.75, strategy="green-2d")([0, 1], lengths=torch.tensor([64, 10]))
    assert sound.tokens.tolist() == [512, 80]
    line = smnoise.Ragged((50,), 0.5)([0], lengths=[11])
    assert line.num_visible.tolist() == [5]


def test_room_for_the_longest():
    masks = SAMPLER([1, 2], lengths=[3, 4], longest=10)
    assert masks.ids_keep.shape == (2, 24)
    assert masks.ids_mask.shape == (2, 96)
    assert masks.mask.shape == (2, 240)
    narrow = SAMPLER([1, 2], lengths=[3, 4])
    assert torch.equal(masks.ids_keep[:, : narrow.ids_keep.shape[1]], narrow.ids_keep)
    assert not masks.ids_keep[:, narrow.ids_keep.shape[1] :].any()


def test_a_compiled_step_takes_new_lengths():
    torch._dynamo.reset()

    @torch.compile(fullgraph=True)
    def kept(lengths, step):
        return SAMPLER(batch_size=2, step=step, lengths=lengths, longest=20).ids_keep + 0

    for step, lengths in ((0, [20, 3]), (5, [1, 9])):
        want = SAMPLER(batch_size=2, step=step, lengths=lengths, longest=20).ids_keep
        assert torch.equal(kept(torch.tensor(lengths), torch.tensor(step)), want)


def test_windows_and_sigmas():
    table = smnoise.sigma_table([0.0] * 31 + [1.0])
    plain = SAMPLER([1, 1], lengths=[9, 9])
    moved = SAMPLER([1, 1], lengths=[9, 9], origin=[(0, 0, 0), (9, 0, 0)], sigma_table=table)
    assert not torch.equal(plain.mask, moved.mask)
    assert not torch.equal(moved.mask[0], moved.mask[1])
    assert pickle.loads(pickle.dumps(SAMPLER)) == SAMPLER


@pytest.mark.parametrize(
    ("lengths", "more", "error", "words"),
    [
        ([20], {}, ValueError, "2 rows"),
        ([21, 3], {}, ValueError, r"lengths\[0\] must be in 1..20"),
        ([3, 0], {}, ValueError, r"lengths\[1\]"),
        ([3, 2.5], {}, TypeError, r"lengths\[1\]"),
        (torch.tensor([3, 21]), {}, ValueError, r"lengths\[1\]"),
        (torch.tensor([3.0, 2.0]), {}, TypeError, "integers"),
        (torch.tensor([3, 2], device="meta"), {}, ValueError, "meta"),
        (None, {}, TypeError, "one for each row"),
        ([3, 9], {"longest": 4}, ValueError, "keep=9"),
        ([3, 9], {"longest": 40}, ValueError, "longest"),
    ],
)
def test_lengths_are_checked(lengths, more, error, words):
    with pytest.raises(error, match=words):
        SAMPLER([0, 1], lengths=lengths, **more)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (((20, 3, 4), 1.0), ValueError, r"\(0, 1\)"),
        (((20, 3, 4), 0.999), ValueError, "none of 240"),
        (((20, 3, 4), 0.5, "optim-blue"), ValueError, "scores"),
        (((20, 3, 4), 0.5, "tube"), ValueError, "scores"),
    ],
)
def test_parameters_are_checked(arguments, error, words):
    grid, ratio, *strategy = arguments
    with pytest.raises(error, match=words):
        smnoise.Ragged(grid, ratio, **({"strategy": strategy[0]} if strategy else {}))
