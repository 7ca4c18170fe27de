# SPDX-License-Identifier: Apache-2.0
"""The measures of spread, by hand; and what Optim Blue promises in them."""

import pytest
import torch

import smnoise
from smnoise.measures.spread import radial_spectrum, spread


def masks_of(shown: list[list[str]]) -> smnoise.MaskBatch:
    """Masks from pictures, # for a visible token."""
    visible = torch.tensor([[[c == "#" for c in row] for row in rows] for rows in shown])
    count = int(visible[0].sum())
    outputs = smnoise.ops.threshold(visible.flatten(1).float(), count)
    return smnoise.MaskBatch(*outputs, (1, *visible.shape[1:]), count)


def test_by_hand():
    found = spread(masks_of([["#.#..", ".....", "....#"], ["##...", ".#...", "....."]]))
    first = [2, 2, (2**2 + 2**2) ** 0.5]  # to the nearest visible one, of each
    assert found.nearest == pytest.approx((sum(first) + 1 + 1 + 1) / 6)
    assert found.touching4 == pytest.approx((0 + 1) / 2)
    assert found.touching8 == pytest.approx((0 + 1) / 2)
    assert found.void == pytest.approx((5**0.5 + (1 + 3**2) ** 0.5) / 2)
    assert (found.seen_least, found.seen_most) == (0, 1)


def test_diagonal_neighbours():
    assert spread(masks_of([["#..", ".#.", "..."]]))[1:3] == (0, 1)
    assert spread(masks_of([["#..", "..#", "..."]]))[1:3] == (0, 0)


def test_a_volume_has_26_neighbours():
    shown = torch.zeros(1, 27)
    shown[0, [0, 13]] = 1  # a corner and the middle
    masks = smnoise.MaskBatch(*smnoise.ops.threshold(shown, 2), (3, 3, 3), 2)
    assert spread(masks)[:3] == (pytest.approx(3**0.5), 0, 1)


def test_stripes_have_the_power_of_their_frequency():
    frequency, power = radial_spectrum(masks_of([["#.#.#.#."] * 8]), bins=4)
    assert frequency.tolist() == [1 / 16, 3 / 16, 5 / 16, 7 / 16]
    assert power[:3].tolist() == pytest.approx([0, 0, 0])
    assert power[3] > 1


def test_random_masks_have_a_flat_spectrum():
    _, power = radial_spectrum(smnoise.White3D((1, 32, 32), 0.75)(range(300)), bins=8)
    assert power.tolist() == pytest.approx([1] * 8, abs=0.05)


@pytest.mark.parametrize("masks", ["complementary", "independent"])
def test_optim_blue_keeps_its_distance(masks):
    """On a spectrogram of AudioMAE; random masks have 1.36, 0.56 and 0.78."""
    found = spread(smnoise.OptimBlue((64, 8), 0.8, masks=masks)(range(400)))
    assert found.nearest >= 2.0
    assert found.touching4 <= 0.02
    assert found.touching8 <= 0.12
    white = spread(smnoise.White3D((1, 64, 8), 0.8)(range(400)))
    assert white.nearest == pytest.approx(1.36, abs=0.02)
    assert found.void < white.void - 1


def test_blue_power_is_at_high_frequencies():
    _, power = radial_spectrum(smnoise.OptimBlue((64, 8), 0.8)(range(100)), bins=8)
    assert max(power[:4]) < 0.3
    assert min(power[-2:]) > 1.2


def test_independent_masks_show_no_token_more_often_than_another():
    """Complementary ones do so by construction. Here: within what chance leaves of 2000 masks."""
    seen = (~smnoise.OptimBlue((14, 14), 0.75, masks="independent")(range(2000)).mask).double().mean(0)
    assert (seen - 0.25).abs().max() < 5 * (0.25 * 0.75 / 2000) ** 0.5


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(ValueError, match="at least two visible"):
        spread(smnoise.White3D((1, 4, 4), num_visible=1)(range(2)))
    with pytest.raises(ValueError, match="at least two visible"):
        spread(smnoise.White3D((1, 4, 4), num_visible=4)([]))
    with pytest.raises(ValueError, match="planes"):
        radial_spectrum(smnoise.White3D((2, 4, 4), num_visible=4)([0]))
    with pytest.raises(ValueError, match="was not computed"):
        spread(smnoise.White3D((1, 4, 4), num_visible=4)([0], outputs="mask"))
    for measure in (spread, radial_spectrum):
        with pytest.raises(TypeError, match=r"masks must be a MaskBatch.* got Tensor"):
            measure(smnoise.White3D((1, 4, 4), num_visible=4)([0]).mask)
