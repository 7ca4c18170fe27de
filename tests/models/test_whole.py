# SPDX-License-Identifier: Apache-2.0
"""Rows of several lengths: what a padded row gives, and teaches, is what it gives alone."""

import pytest
import torch

from smnoise import Ragged, Random
from smnoise.models.audiomae import AudioMAE
from smnoise.models.common import Size
from smnoise.models.whole import Heard, WholeAudioMAE

PATCH, GRID = 4, (12, 3)
LENGTHS = (5, 12, 2, 7)
SIZE = Size(32, 2, 2, 24, 4, 2)


@pytest.fixture(params=["local", "global"])
def model(request):
    torch.manual_seed(0)
    made = WholeAudioMAE(SIZE, GRID, patch=PATCH, decoder=request.param)
    with torch.no_grad():  # away from zeros and ones, which would hide what is mixed up
        for parameter in made.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return made.eval()


@pytest.fixture
def sounds():
    return torch.randn(4, GRID[0] * PATCH, GRID[1] * PATCH, generator=torch.Generator().manual_seed(1))


SAMPLER = Ragged(GRID, 0.7, strategy="green-2d")


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def cut(sounds, row):
    return sounds[row : row + 1, : LENGTHS[row] * PATCH]


def test_one_length_is_what_a_plain_model_makes_of_it(model, sounds):
    """Loss, prediction and gradients, of the whole grid: by the plain model's own code."""
    plain = AudioMAE(SIZE, GRID, patch=PATCH, decoder="local" if model.local else "global").eval()
    plain.load_state_dict(model.state_dict())
    masks = SAMPLER(range(4), lengths=[12] * 4)
    usual = Random((1, *GRID), 0.7)(range(4))
    usual = usual._replace(ids_keep=masks.ids_keep, ids_mask=masks.ids_mask)
    (loss, prediction), (wanted, expected) = model(sounds, masks), plain(sounds, usual)
    torch.testing.assert_close(prediction, expected, atol=2e-5, rtol=2e-4)
    torch.testing.assert_close(loss, wanted, atol=1e-5, rtol=1e-5)
    mine, its = gradients(model, loss), gradients(plain, wanted)
    assert mine.keys() == its.keys()
    for name in mine:
        torch.testing.assert_close(mine[name], its[name], atol=2e-5, rtol=1e-3)


@pytest.mark.parametrize("longest", [None, 12])
@pytest.mark.parametrize("filling", [0.0, 1e3])
def test_a_padded_row_is_that_row_alone(model, sounds, filling, longest):
    """Whatever stands in the padding, and however much of it there is."""
    padded = sounds.clone()
    for row, length in enumerate(LENGTHS):
        padded[row, length * PATCH :] = filling
    masks = SAMPLER(range(4), lengths=LENGTHS, longest=longest)
    loss, prediction = model(padded, masks)
    each = model.losses(prediction, padded, masks)
    sums = {}
    for row, length in enumerate(LENGTHS):
        alone = SAMPLER([row], lengths=[length])
        hidden = length * GRID[1] - int(alone.num_visible)
        assert hidden == int(masks.mask_valid[row].sum())
        own_loss, own = model(cut(sounds, row), alone)
        assert own.shape == (1, hidden, PATCH * PATCH)
        torch.testing.assert_close(prediction[row, :hidden], own[0], atol=2e-5, rtol=2e-4)
        torch.testing.assert_close(each[row], own_loss, atol=1e-5, rtol=1e-5)
        for name, value in gradients(model, own_loss).items():
            sums[name] = sums.get(name, 0) + value / 4
    torch.testing.assert_close(loss, each.mean())
    together = gradients(model, loss)
    assert together.keys() == sums.keys()
    for name in sums:
        scale = sums[name].abs().max().item()
        torch.testing.assert_close(together[name], sums[name], atol=1e-4 * max(scale, 1e-3), rtol=1e-3)


def test_a_plain_model_is_another(model, sounds):
    """Without attention's masks the same rows come out otherwise: the test above can fail."""
    masks = SAMPLER(range(4), lengths=LENGTHS)
    _, prediction = model(sounds, masks)
    seen = masks._replace(tokens=torch.full((4,), 36))  # as if all were real
    _, other = model(sounds, seen)
    assert (prediction[0, :5] - other[0, :5]).abs().max() > 1e-3


def test_features_are_of_a_rows_own_patches(model, sounds):
    steps = torch.tensor(LENGTHS)
    padded = sounds.clone()
    for row, length in enumerate(LENGTHS):
        padded[row, length * PATCH :] = 7.0
    features, tokens = model.features(Heard(padded, steps)), model.tokens(Heard(padded, steps))
    for row, length in enumerate(LENGTHS):
        alone = model.features(cut(sounds, row))
        torch.testing.assert_close(features[row], alone[0], atol=2e-5, rtol=2e-4)
        own = model.tokens(cut(sounds, row))[0]
        again = own[torch.arange(36) % (3 * length)]
        torch.testing.assert_close(tokens[row], again, atol=2e-5, rtol=2e-4)


def test_recomputing_changes_nothing(model, sounds):
    masks = SAMPLER(range(4), lengths=LENGTHS)
    plain = gradients(model, model(sounds, masks)[0])
    for part in (model, model.encoder):
        part.checkpoint_blocks = True
        part.training = True  # its blocks stay as they are, without dropout
    again = gradients(model, model(sounds, masks)[0])
    for name in plain:
        torch.testing.assert_close(again[name], plain[name])


def test_masks_that_do_not_fit_are_refused(model, sounds):
    masks = SAMPLER(range(4), lengths=LENGTHS)
    with pytest.raises(ValueError, match="do not fit 3 spectrograms"):
        model(sounds[:3], masks)
    short = Ragged((6, 3), 0.7)(range(4), lengths=[6] * 4)
    with pytest.raises(ValueError, match="18 tokens do not fit 4 spectrograms with 36"):
        model(sounds, short)


def test_published_positions_are_refused():
    with pytest.raises(ValueError, match="code a place by the length"):
        WholeAudioMAE(SIZE, GRID, patch=PATCH, positions="published")
