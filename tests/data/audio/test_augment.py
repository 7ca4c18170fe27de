# SPDX-License-Identifier: Apache-2.0
"""What fine-tuning does to sounds: mixtures with the right labels, stripes, whole rows of patches dropped."""

import pytest
import torch

from smnoise.data.audio.augment import kept_patches, mixup, spec_augment, token_dropping

SEED = 3


def a_batch(samples, classes=4):
    generator = torch.Generator().manual_seed(0)
    waves = torch.randn(len(samples), 50, generator=generator)
    lengths = torch.randint(1, 51, (len(samples),), generator=generator)
    targets = torch.nn.functional.one_hot(torch.arange(len(samples)) % classes, classes).float()
    return waves, lengths, targets, torch.tensor(samples)


def test_a_mixture_and_its_label_have_the_same_shares():
    waves, lengths, targets, samples = a_batch(list(range(64)), classes=64)
    mixed, longer, labels = mixup(waves, lengths, targets, samples, seed=SEED, chance=1.0)
    shares = []
    for i in range(64):
        assert labels[i].sum().item() == pytest.approx(1)
        partner = next(int(j) for j in labels[i].nonzero() if j != i)
        share = labels[i, i].item()
        torch.testing.assert_close(mixed[i], share * waves[i] + (1 - share) * waves[partner])
        assert longer[i] == max(lengths[i], lengths[partner])
        shares.append(share)
    shares = torch.tensor(shares)
    assert abs(shares.mean() - 0.5) < 0.05
    assert shares.std() == pytest.approx((1 / 84) ** 0.5, rel=0.3)  # of Beta(10, 10)


def test_so_many_are_mixed_and_the_others_left_as_they_are():
    waves, lengths, targets, samples = a_batch(list(range(400)), classes=400)
    mixed, _, labels = mixup(waves, lengths, targets, samples, seed=SEED, chance=0.5)
    alone = labels.max(dim=1).values == 1
    assert 150 < alone.sum() < 250
    assert torch.equal(mixed[alone], waves[alone])
    same = mixup(waves, lengths, targets, samples, seed=SEED, chance=0.0)
    assert all(torch.equal(a, b) for a, b in zip(same, (waves, lengths, targets), strict=True))
    one = a_batch([5])
    assert torch.equal(mixup(*one, seed=SEED, chance=1.0)[0], one[0])


def test_which_clip_is_mixed_and_how_much_is_a_function_of_its_number():
    waves, lengths, targets, samples = a_batch(list(range(8)), classes=8)
    labels = mixup(waves, lengths, targets, samples, seed=SEED, chance=0.5)[2]
    again = mixup(waves, lengths, targets, samples, seed=SEED, chance=0.5)[2]
    assert torch.equal(labels, again)
    order = torch.tensor([3, 1, 0, 2, 7, 6, 5, 4])
    moved = mixup(waves[order], lengths[order], targets[order], samples[order], seed=SEED, chance=0.5)[2]
    own, own_moved = labels.diagonal()[order], moved[torch.arange(8), order]
    assert torch.equal(own, own_moved)
    assert not torch.equal(labels, mixup(waves, lengths, targets, samples, seed=4, chance=0.5)[2])


def test_stripes_are_no_wider_than_allowed_and_reach_everywhere():
    samples = torch.arange(300)
    stripes = spec_augment(torch.ones(300, 40, 16), samples, seed=SEED, bins=5, frames=12, value=-7.0)
    hidden = stripes == -7
    assert torch.equal(hidden | (stripes == 1), torch.ones_like(hidden))
    frames, bins = hidden.all(dim=2), hidden.all(dim=1)
    assert torch.equal(hidden, frames[:, :, None] | bins[:, None, :])
    for stripe, most in ((frames, 12), (bins, 5)):
        widths = stripe.sum(dim=1)
        assert set(widths.tolist()) == set(range(most))  # as torchaudio: below it
        assert (stripe.int().diff(dim=1) == 1).sum(dim=1).max() == 1  # one stripe, not two
        assert stripe.any(dim=0).all()


def test_stripes_may_be_wider_than_the_spectrogram_or_off():
    samples = torch.arange(50)
    wide = spec_augment(torch.ones(50, 40, 16), samples, seed=SEED, bins=192, frames=0, value=0.0)
    assert (wide == 0).all(dim=1).sum(dim=1).max() == 15
    none = spec_augment(torch.ones(50, 40, 16), samples, seed=SEED, bins=0, frames=0, value=0.0)
    assert (none == 1).all()
    one = spec_augment(torch.ones(1, 40, 16), samples[7:8], seed=SEED, bins=192, frames=0, value=0.0)
    assert torch.equal(one[0], wide[7])


def test_whole_times_and_frequencies_are_dropped():
    masks = token_dropping(torch.arange(20), (64, 8), seed=SEED, drop_time=0.2, drop_freq=0.2)
    assert masks.grid == (1, 64, 8)
    assert masks.num_visible == 51 * 6  # of AudioMAE's own count
    assert masks.ids_keep.shape == (20, 306)
    assert masks.ids_keep.dtype == torch.int64
    assert (masks.ids_keep.diff(dim=1) > 0).all()
    kept = torch.zeros(20, 512, dtype=torch.bool).scatter_(1, masks.ids_keep, True).view(20, 64, 8)
    times, freqs = kept.any(dim=2), kept.any(dim=1)
    assert torch.equal(kept, times[:, :, None] & freqs[:, None, :])
    assert set(times.sum(dim=1).tolist()) == {51}
    assert set(freqs.sum(dim=1).tolist()) == {6}
    assert len({tuple(row) for row in masks.ids_keep.tolist()}) == 20
    one = token_dropping(torch.tensor([13]), (64, 8), seed=SEED, drop_time=0.2, drop_freq=0.2)
    assert torch.equal(one.ids_keep[0], masks.ids_keep[13])


def test_every_row_is_dropped_as_often():
    masks = token_dropping(torch.arange(4000), (10, 4), seed=SEED, drop_time=0.3, drop_freq=0.0)
    counts = torch.bincount(masks.ids_keep.flatten(), minlength=40) / 4000
    assert counts.view(10, 4).std(dim=1).max() == 0
    assert (counts - 0.7).abs().max() < 0.03


def test_what_is_left():
    assert kept_patches((64, 8), 0.0, 0.0) == (64, 8)
    assert kept_patches((10, 10), 0.3, 0.9) == (7, 1)  # not fooled by 10 * (1 - 0.9) < 1
    for drop in ((0.99, 0.0), (-0.1, 0.0)):
        with pytest.raises(ValueError, match="leave a patch"):
            kept_patches((64, 8), *drop)
