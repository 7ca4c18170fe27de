# SPDX-License-Identifier: Apache-2.0
"""The reference against other people's code and against what the noise must be; the tables behind it."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy import ndimage, stats

from smnoise import Green3D, reference
from smnoise.spec import COLORS, ColorSpec, tables

GREEN = ColorSpec("green", (8, 14, 14), 156)


@pytest.mark.parametrize("sigma", [0.4, 1.0, 2.3])
def test_the_wrapped_filter_is_scipys(sigma):
    spec = ColorSpec("red", (6, 9, 11), 3, boundary="wrap", sigma1=(sigma, sigma), anisotropy=(1, 2, 0.7))
    white = reference.window(3, 4, spec).astype(np.float64)
    for axis, scale in enumerate(spec.anisotropy):
        white = ndimage.gaussian_filter1d(white, sigma * scale, axis=axis, mode="wrap", truncate=4.0)
    np.testing.assert_allclose(reference.low_pass(3, 4, spec, sigma), white, atol=2e-7)


def test_the_field_is_scipys_away_from_its_border():
    reach = 12
    big = ColorSpec("white", (8 + 2 * reach, 14 + 2 * reach, 14 + 2 * reach), 3, origin=(-reach,) * 3)
    white = reference.window(0, 9, big).astype(np.float64)
    band = ndimage.gaussian_filter(white, 0.8, truncate=4.0) - ndimage.gaussian_filter(
        white, 2.0, truncate=4.0
    )
    inner = slice(reach, -reach)
    noise = reference.color_noise(0, 9, GREEN, sigmas=(0.8, 2.0))
    np.testing.assert_allclose(noise, band[inner, inner, inner], atol=2e-7)


def test_colours_are_made_of_the_same_parts():
    fields = {c: reference.color_noise(1, 2, ColorSpec(c, (3, 5, 7), 9), sigmas=(0.9, 1.7)) for c in COLORS}
    assert np.array_equal(fields["blue"], fields["white"] - fields["red"])
    assert np.array_equal(fields["purple"], fields["white"] - fields["green"])


def test_white_noise_is_uniform_and_uncorrelated():
    values = reference.white(5, 6, *np.ix_(range(16), range(32), range(64)))
    assert values.dtype == np.float32
    assert stats.kstest(values.flatten() + 0.5, "uniform").pvalue > 1e-3
    for axis in range(3):
        a, b = np.delete(values, 0, axis), np.delete(values, -1, axis)
        assert abs(np.corrcoef(a.flatten(), b.flatten())[0, 1]) < 0.02


def test_sigmas_are_drawn_evenly_and_apart():
    bank1, bank2 = reference.bank((0.4, 1.5)), reference.bank((1.4, 3.0))
    first = reference.first_partner(bank1, bank2)
    drawn = np.array([reference.draw_sigmas(0, sample, first) for sample in range(4000)])
    assert stats.chisquare(np.bincount(drawn[:, 0], minlength=32)).pvalue > 1e-3
    assert all(bank2[j] >= bank1[i] + 0.05 for i, j in drawn)


def test_every_token_is_visible_equally_often():
    """The field has no border: no token is favoured. 4000 masks, binomial noise of 0.0047 each."""
    share = 1 - Green3D((4, 8, 8), 0.9)(torch.arange(4000)).mask.float().mean(0)
    assert (share - 25 / 256).abs().max() < 5 * math.sqrt(25 / 256 * (231 / 256) / 4000)


def test_taps_are_far_from_where_rounding_could_differ():
    """Taps are float64 rounded once to float32. Another libm's exp may differ in the last bit or two of a
    float64; the default taps stay the same then, because none lies within 16 such bits of a tie."""
    for sigma in itertools.chain(*GREEN.banks):
        g = [math.exp(-(k * k) / (2 * sigma * sigma)) for k in range(int(4 * sigma + 0.5) + 1)]
        total = g[0] + 2 * sum(g[1:])
        for value in (v / total for v in g):
            rounded = np.float32(value)
            for neighbour in (np.nextafter(rounded, np.float32(0)), np.nextafter(rounded, np.float32(1))):
                tie = (Fraction(float(rounded)) + Fraction(float(neighbour))) / 2
                assert abs(Fraction(value) - tie) > 16 * Fraction(math.ulp(value))


def test_tables_hold_the_references_taps():
    t = tables(GREEN)
    for b, bank in enumerate(GREEN.banks):
        for i, sigma in enumerate(bank):
            g = reference.taps(sigma, 4.0)
            for axis in range(3):
                assert t.radius[b, i, axis] == len(g) - 1
                assert np.array_equal(t.taps[b, i, axis], np.pad(g, (0, t.taps.shape[-1] - len(g))))
