# SPDX-License-Identifier: Apache-2.0
"""Recipes by name give the published numbers, on any number of GPUs that they are for."""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from smnoise.launched import LAUNCHED
from smnoise.train import audio, recipes, video
from smnoise.train.optim import adamw
from smnoise.train.recipes import RECIPES, parse

# Published: epochs, warm-up, global batch, peak and last learning rate, tokens, visible tokens, weight decay.
PUBLISHED = {
    "videomae-base-k400": (800, 40, 2048, 1.2e-3, 8e-5, 1568, 0.05),
    "videomae-base-ssv2": (800, 40, 2048, 1.2e-3, 8e-5, 1568, 0.05),
    "audiomae-base-audioset": (33, 3, 512, 4e-4, 0, 512, 1e-4),
}
PLACE = ["--data", "somewhere", "--out", "elsewhere"]


@pytest.fixture
def launched(monkeypatch):
    """Pretend that torchrun started so many processes."""

    def launch(processes):
        for name in LAUNCHED:
            monkeypatch.setenv(name, "0")
        monkeypatch.setenv("WORLD_SIZE", str(processes))

    return launch


def config_type(name):
    return {"video": video, "audio": audio}[RECIPES[name].trainer].Config


@pytest.mark.parametrize("name", RECIPES)
def test_the_published_batch_and_learning_rate_come_out(name, launched):
    base, gpus = name.rsplit("-", 1)
    launched(int(gpus.removesuffix("gpu")))
    config = parse(config_type(name), "", ["--recipe", name, *PLACE])
    epochs, warmup, clips, peak, last, tokens, decay = PUBLISHED[base]
    assert (config.epochs, config.warmup_epochs, config.weight_decay) == (epochs, warmup, decay)
    assert config.clips_per_step == clips
    assert adamw([{"params": []}], config).defaults["lr"] == pytest.approx(peak)
    assert config.min_lr * clips / 256 == pytest.approx(last)
    assert config.sampler().num_tokens == tokens
    assert (config.model, config.betas, config.clip_grad) == ("base", (0.9, 0.95), None)
    assert config.data == Path("somewhere")


def test_there_is_one_for_1_8_and_64_gpus():
    assert set(RECIPES) == {f"{base}-{gpus}gpu" for base in PUBLISHED for gpus in (1, 8, 64)}


def test_another_number_of_processes_needs_another_share_of_the_work(launched):
    arguments = ["--recipe", "videomae-base-k400-8gpu", *PLACE]
    launched(2)
    with pytest.raises(ValueError, match=r"2048 clips a step on 8 GPUs; 2 x 64 x 4 are 512"):
        parse(video.Config, "", arguments)
    assert parse(video.Config, "", [*arguments, "--accumulate", "16"]).clips_per_step == 2048
    assert parse(video.Config, "", [*arguments, "--batch-size", "8"]).clips_per_step == 64  # as they wish


def test_the_command_line_goes_before_the_recipe(launched):
    launched(8)
    config = parse(video.Config, "", ["--recipe=videomae-base-ssv2-8gpu", *PLACE, "--epochs", "2400"])
    assert (config.stride, config.epochs) == (2, 2400)


def test_a_runs_own_config_is_a_recipe(tmp_path):
    """But for where it was and what it ran on."""
    before = audio.Config(data=Path("a"), out=Path("b"), model="tiny", resume=True, device="cpu", views=2,
                          knn_every=5, knn_train=Path("c"), knn_test=Path("d"), keep_every=1000,
                          statistics=(-7.0, 4.0), mask="green-3d", sigma1=(0.5, 1.0), clip_grad=0.5)  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(asdict(before), default=str))
    config = parse(audio.Config, "", ["--recipe", f"@{tmp_path}/config.json", *PLACE])
    now = {"data": Path("somewhere"), "out": Path("elsewhere"), "resume": False, "device": "auto",
           "recipe": f"@{tmp_path}/config.json",
           "knn_every": 0, "knn_train": None, "knn_test": None}  # fmt: skip
    assert asdict(config) == asdict(before) | now


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("videomae", None, r"one for this trainer \(videomae-base-k400-1gpu, .*got 'videomae'"),
        ("audiomae-base-audioset-8gpu", None, "one for this trainer"),
        ("@missing.json", None, "cannot be read"),
        ("@file.json", "{", "cannot be read"),
        ("@file.json", "[1]", "must be a JSON object"),
        ("@file.json", '{"mels": 3}', "has settings that this trainer has not: mels"),
        ("@file.json", '{"epochs": 0}', "epochs must be at least 1"),
        ("@file.json", '{"epochs": "3"}', "@file.json: epochs must be int, got '3'"),
        ("@file.json", '{"epochs": true}', "epochs must be int, got True"),
        ("@file.json", '{"batch_size": 2.5}', "batch_size must be int, got 2.5"),
        ("@file.json", '{"compile": "false"}', "compile must be bool, got 'false'"),
        ("@file.json", '{"model": "giant"}', "model must be .*'huge'.*, got 'giant'"),
        ("@file.json", '{"betas": [0.9]}', r"betas must be tuple.*, got \(0.9,\)"),
        ("@file.json", '{"mask": 5}', "mask must be str, got 5"),
    ],
)
def test_a_recipe_that_cannot_be_used_is_an_error(tmp_path, monkeypatch, name, content, words):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path("file.json").write_text(content)
    with pytest.raises(ValueError, match=words):
        parse(video.Config, "", ["--recipe", name, *PLACE])


def test_a_run_to_resume_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match=r"no run to resume in .*nowhere: it has no config\.json"):
        parse(video.Config, "", ["--resume", "--out", str(tmp_path / "nowhere")])
    with pytest.raises(ValueError, match="no run to resume in elsewhere"):
        parse(video.Config, "", ["--resume", *PLACE])


def test_without_a_recipe_it_is_the_defaults():
    assert parse(video.Config, "", PLACE) == video.Config(data=Path("somewhere"), out=Path("elsewhere"))
    assert recipes.required(video.Config) == ["out", "data"]


@pytest.mark.parametrize("trainer", ["video", "audio"])
def test_the_command_knows_its_recipes_and_its_name(trainer):
    """Started as a module, when its classes are of __main__."""
    command = [sys.executable, "-m", f"smnoise.train.{trainer}"]
    name = next(name for name, recipe in RECIPES.items() if recipe.trainer == trainer and recipe.gpus == 1)
    done = subprocess.run([*command, "--recipe", name, *PLACE], capture_output=True, text=True)
    assert done.returncode == 1
    assert "somewhere is neither a folder" in done.stderr
    shown = subprocess.run([*command, "--help"], capture_output=True, text=True)
    assert f"usage: python -m smnoise.train.{trainer} [-h]" in shown.stdout
