# SPDX-License-Identifier: Apache-2.0
"""The AudioMAE trainer's settings: the published recipe, what cannot work, the command line."""

import os
import subprocess
import sys
from dataclasses import fields, replace

import pytest

from smnoise.data.audio.fbank import DATA_SETS
from smnoise.train.audio import Config
from smnoise.train.pretrained.audio import trained
from smnoise.train.settings import recipe_fields

from .runs import start


def test_the_defaults_are_the_published_recipe_but_for_the_batch(sounds, tmp_path):
    recipe = Config(data=sounds, out=tmp_path)
    assert (recipe.grid, recipe.sampler().visible_per_sample) == ((1, 64, 8), 102)
    assert (
        recipe.clips_per_step == 64
    )  # ten files are enough for 33 epochs of it; the recipes have the published 512
    assert (recipe.epochs, recipe.warmup_epochs, recipe.min_lr) == (33, 3, 0)
    assert (recipe.base_lr, recipe.weight_decay, recipe.betas) == (2e-4, 1e-4, (0.9, 0.95))
    assert recipe.known_statistics() == DATA_SETS["audioset"][1:]
    assert recipe.gain
    assert not recipe.roll


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"frames": 30}, "multiples of patch 8"),
        ({"mels": 20}, "multiples of patch 8"),
        ({"rate": 10}, "window"),
        ({"mask_ratio": 1.0}, r"\(0, 1\)"),
        ({"mask_ratio": 0.99}, "visible"),
        ({"mask_ratio": 0.99, "mask": "random"}, "visible"),
        ({"mask": '{"sampler": "OptimBlue", "delta": 0}'}, "delta"),
        ({"mask": "optim-bleu"}, "did you mean optim-blue"),
        ({"num_visible": 4}, "just one of them"),
        ({"sigma1": (0.4, 1.0)}, "OptimBlue has no sigma1"),
        ({"statistics": (1.0, 0.0)}, "positive deviation"),
        ({"statistics": (float("nan"), 1.0)}, "positive deviation"),
        ({"statistics": "imagenet"}, "audioset"),
        ({"batch_size": 0}, "batch_size"),
        ({"measured_clips": 0}, "measured_clips"),
        ({"workers": -1}, "workers"),
        ({"base_lr": 0.0}, "base_lr"),
        ({"min_lr": 1.0}, "min_lr"),
        ({"seed": -1}, "seed"),
        ({"clip_grad": -1.0}, "clip_grad"),
        ({"weight_decay": float("nan")}, "weight_decay"),
    ],
)
def test_a_config_that_cannot_work_is_never_made(config, change, words):
    with pytest.raises(ValueError, match=words):
        replace(config, **change)


def test_the_command_line(config):
    done = start(replace(config, epochs=1), "--statistics", "-7.5", "4", "--no-gain", "--mask-ratio", "0.5")
    said, _ = done.communicate(timeout=120)
    assert done.returncode == 0, said
    assert "step 3/3" in said
    assert trained(config.out)[1].statistics == (-7.5, 4.0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "/nowhere", "--out", "x"], "neither a folder"),
        (["--data", ".", "--out", "x", "--mask-ratio", "1.5"], "(0, 1)"),
        (["--data", ".", "--out", "x", "--mask", "pink"], "pink"),
    ],
)
def test_errors_on_the_command_line_are_one_message_not_a_traceback(arguments, words):
    done = subprocess.run(
        [sys.executable, "-m", "smnoise.train.audio", *arguments], capture_output=True, text=True
    )
    assert done.returncode != 0
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not os.path.exists("x")


def test_the_recipe_is_all_of_the_config_but_how_and_where_it_runs():
    """batch_size and accumulate are in it as their product over all processes, clips_per_step; the mask as JSON."""
    elsewhere = {"data", "out", "resume", "recipe", "batch_size", "accumulate", "device", "dtype", "compile",
                 "checkpoint_blocks", "shard", "workers", "log_every", "tensorboard", "save_every", "keep_every",
                 "knn_every", "knn_train", "knn_test", "mask", "mask_ratio", "num_visible", "sigma1", "sigma2",
                 "boundary", "per", "teacher",
                 }  # fmt: skip
    assert set(recipe_fields(Config)) == {f.name for f in fields(Config)} - elsewhere
