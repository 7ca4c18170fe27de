# SPDX-License-Identifier: Apache-2.0
"""Flicker and holes are named where they are, and nowhere else."""

import json
from dataclasses import replace

import pytest

from smnoise.cli import main
from smnoise.measures.signs import signs, signs_of
from smnoise.measures.spectra import Spectrum, measure
from smnoise.strategies import sampler_of

VIDEO, SOUND = (8, 14, 14), (1, 64, 8)


@pytest.mark.parametrize(
    ("mask", "grid", "ratio", "found"),
    [
        ("green-3d", VIDEO, 0.9, []),
        ("red-3d", VIDEO, 0.9, []),
        ("tube", VIDEO, 0.9, []),
        ("green-2d-tube", VIDEO, 0.9, []),
        ("block", VIDEO, 0.9, []),
        ("random", VIDEO, 0.9, ["flicker"]),
        ("blue-3d", VIDEO, 0.9, ["flicker"]),
        ("green-2d", VIDEO, 0.9, ["flicker"]),
        ("running-cell", VIDEO, 0.75, ["flicker", "hole in time"]),
        ("optim-blue", SOUND, 0.8, []),
        ("random", SOUND, 0.8, []),
    ],
)
def test_what_is_named(mask, grid, ratio, found):
    for seed in range(3):
        assert [sign.name for sign in signs_of(sampler_of(mask, grid, ratio, seed=seed))] == found


def test_sigmas_that_are_narrow_in_time_flicker():
    green = {"grid": VIDEO, "mask_ratio": 0.9}
    assert signs_of(sampler_of("green-3d", **green, anisotropy=(0.25, 1.0, 1.0)))[0].name == "flicker"
    assert not signs_of(sampler_of("green-3d", **green, anisotropy=(1.0, 1.0, 1.0)))


def test_a_hole_in_the_noise_is_where_its_spectrum_has_one():
    found = measure(sampler_of("green-3d", VIDEO, 0.9), 16)
    assert not signs(found)
    power = found.noise.measured.power.clone()
    power[10] = 0.05 * power[11]
    torn = replace(found.noise, measured=Spectrum(found.noise.measured.frequency, power))
    (sign,) = signs(replace(found, noise=torn))
    assert sign.name == "hole in the noise"
    assert f"at {torn.measured.frequency[10]:.2f} cycles" in sign.said


def test_masks_with_a_single_visible_token_have_no_signs():
    assert signs_of(sampler_of("random", (2, 2, 2), num_visible=1)) == []


def test_the_report_names_them(tmp_path, capsys):
    out = tmp_path / "page"
    assert main(["report", "random", "--out", str(out), "--count", "16", "--formats", "png"]) == 0
    assert "flicker: the token one time step after" in capsys.readouterr().out
    assert list(json.loads(out.with_suffix(".json").read_text())["signs"]) == ["flicker"]
