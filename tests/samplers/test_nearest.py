# SPDX-License-Identifier: Apache-2.0
"""Names, grids and arguments that are nearly right: the error says what was meant."""

import inspect
import pickle
from dataclasses import fields

import pytest

import smnoise
from smnoise.samplers.base import KINDS

CLIP = (8, 14, 14)


@pytest.mark.parametrize(
    ("wrong", "kind", "words"),
    [
        (lambda: smnoise.presets["videomae"], KeyError, "'videomae', did you mean videomae-tube"),
        (lambda: smnoise.presets["nonsense"], KeyError, "There are videomae-tube, videomaev2-decoder"),
        (lambda: smnoise.STRATEGIES["green"], KeyError, "did you mean green-3d"),
        (lambda: smnoise.context_presets["gren"], KeyError, "did you mean green"),
        (lambda: smnoise.strategy("Green3D", CLIP, 0.9), ValueError, "did you mean green-3d"),
        (lambda: smnoise.sampler_of("videomae"), ValueError, "did you mean videomae-tube"),
        (lambda: smnoise.Green3d, AttributeError, "did you mean Green3D"),
        (lambda: smnoise.Green3D((14, 14), 0.9), ValueError, r"mean \(1, 14, 14\), one picture, or \(8, 14, 14\)"),
        (lambda: smnoise.Tube((196,), 0.9), ValueError, r"did you mean \(1, 1, 196\)"),
        (lambda: smnoise.OptimBlue(512, 0.8), TypeError, "in brackets"),
        (lambda: smnoise.Green3D(8, 14, 14), TypeError, r"did you mean Green3D\(\(8, 14, 14\), mask_ratio=0.9\)"),
        (lambda: smnoise.Green2D(14, 14, 0.75), TypeError, r"did you mean Green2D\(\(14, 14\), 0.75\)"),
        (lambda: smnoise.Random(CLIP, 90), ValueError, "did you mean 0.9"),
        (lambda: smnoise.Random(CLIP, 0.9)(4), TypeError, "batch_size=4 with step=0 the first 4 masks"),
        (lambda: smnoise.Random(CLIP, 0.9, device="cuda"), TypeError, r"sampler\(samples, device=...\)"),
        (lambda: smnoise.Random(CLIP, ratio=0.9), TypeError, "Random has no ratio, did you mean mask_ratio"),
        (lambda: smnoise.Random(CLIP, sigma=1.0), TypeError, "its parameters are grid, mask_ratio"),
        (lambda: smnoise.Random(mask_ratio=0.9), TypeError, "missing a required argument: 'grid'"),
        (lambda: smnoise.Random(CLIP, 0.9, "cuda"), TypeError, "Random: too many positional arguments"),
    ],
)  # fmt: skip
def test_what_was_meant(wrong, kind, words):
    with pytest.raises(kind, match=words):
        wrong()


@pytest.mark.parametrize("name", KINDS)
def test_a_sampler_has_the_signature_of_its_fields(name):
    """Which the check of arguments must not hide: editors and help() show it."""
    shown = inspect.signature(KINDS[name]).parameters
    assert list(shown) == [f.name for f in fields(KINDS[name]) if f.init]


def test_names_are_copied_between_processes():
    copy = pickle.loads(pickle.dumps(smnoise.presets))
    assert copy == smnoise.presets
    with pytest.raises(KeyError, match="did you mean mae"):
        copy["mea"]
