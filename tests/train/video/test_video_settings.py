# SPDX-License-Identifier: Apache-2.0
"""The VideoMAE trainer's settings: rates, what cannot work, the command line, the recipe."""

import os
from dataclasses import fields, replace

import pytest
import torch

from smnoise import DataError
from smnoise.train.recipes import parse
from smnoise.train.run import log
from smnoise.train.settings import recipe_fields
from smnoise.train.video import Config, pretrain

from .runs import run_command, weights


def test_the_learning_rate_warms_up_and_falls_along_a_cosine(config):
    pretrain(config)
    rates = [r["lr"] for r in log.read(config.out) if "lr" in r]
    peak = 0.128 * 4 / 256
    assert rates[0] < peak / 2
    assert max(rates) == pytest.approx(peak, rel=1e-6)
    at = rates.index(max(rates))
    assert rates[: at + 1] == sorted(rates[: at + 1])
    assert rates[at:] == sorted(rates[at:], reverse=True)
    assert rates[-1] < 0.1 * peak


def test_a_warm_up_as_long_as_the_run_is_told(config, tmp_path):
    pretrain(replace(config, epochs=1, warmup_epochs=1))
    assert any(
        "warmup_epochs 1 is not less than epochs 1" in r.get("event", "") for r in log.read(config.out)
    )
    pretrain(shorter := replace(config, epochs=1, warmup_epochs=0.5, out=tmp_path / "shorter"))
    assert not any("warmup" in r.get("event", "") for r in log.read(shorter.out))


def test_vectors_and_the_mask_token_do_not_decay(config, monkeypatch):
    seen = []
    adamw = torch.optim.AdamW
    monkeypatch.setattr(torch.optim, "AdamW", lambda groups, **kw: seen.extend(groups) or adamw(groups, **kw))
    model = pretrain(replace(config, epochs=1))
    still = {id(p) for group in seen if group["weight_decay"] == 0 for p in group["params"]}
    names = {name for name, p in model.named_parameters() if id(p) in still}
    assert "mask_token" in names
    assert all(p.dim() == 1 or n == "mask_token" for n, p in model.named_parameters() if n in names)
    assert all(p.dim() > 1 for n, p in model.named_parameters() if n not in names)


def test_a_gpu_that_is_not_there_is_an_error(config, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="torch sees no GPU"):
        pretrain(replace(config, device="cuda"))


def test_a_folder_that_cannot_be_written_is_found_before_training(config, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        pretrain(replace(config, out=tmp_path / "file" / "run"))


def test_too_little_data_for_one_step_is_an_error(config):
    with pytest.raises(DataError, match="less than one step of 400"):
        pretrain(replace(config, batch_size=400))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"size": 30}, "multiple"),
        ({"frames": 5}, "multiple"),
        ({"mask_ratio": 1.0}, r"\(0, 1\)"),
        ({"mask_ratio": 0.999}, "visible"),
        ({"batch_size": 0}, "batch_size"),
        ({"epochs": -1}, "epochs"),
        ({"workers": -1}, "workers"),
        ({"base_lr": 0.0}, "base_lr"),
        ({"min_lr": 1.0}, "min_lr"),
        ({"seed": -1}, "seed"),
        ({"clip_grad": -1.0}, "clip_grad"),
        ({"short_side": 0}, "short_side"),
        ({"warmup_epochs": float("nan")}, "warmup_epochs"),
        ({"weight_decay": float("nan")}, "weight_decay"),
        ({"keep_every": 9}, "multiple of save_every 6"),
        ({"knn_every": 3}, "needs knn_every, knn_train and knn_test"),
        ({"knn_train": "x", "knn_test": "y"}, "needs knn_every, knn_train and knn_test"),
        ({"knn_every": 3, "knn_train": "x"}, "needs knn_every, knn_train and knn_test"),
        ({"knn_every": 3, "knn_train": "x", "knn_test": "y", "shard": True}, "--all-checkpoints"),
        ({"decode_ratio": 1.0}, "leave decoder_mask at none"),
        ({"decoder_mask": "white", "decode_ratio": 0.01}, "visible"),
        ({"decoder_mask": "white", "decode_ratio": 0.04}, "leaves no token to decode"),
    ],
)
def test_a_config_that_cannot_work_is_never_made(config, change, words):
    with pytest.raises(ValueError, match=words):
        replace(config, **change)


def test_the_command_line(videos, tmp_path):
    size = [
        "--model",
        "tiny",
        "--frames",
        "4",
        "--stride",
        "2",
        "--size",
        "32",
        "--patch",
        "16",
        "--batch-size",
        "3",
    ]
    length = ["--epochs", "2", "--warmup-epochs", "0", "--workers", "1", "--log-every", "1"]
    done = run_command(
        "--data", str(videos), "--out", f"{tmp_path}/run", *size, *length, "--mask-ratio", "0.5"
    )
    assert done.returncode == 0, done.stderr
    assert "step 2/2" in done.stdout
    assert (tmp_path / "run" / "checkpoints" / "step-00000002" / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "/nowhere", "--out", "x"], "neither a folder"),
        (["--data", ".", "--out", "x", "--mask-ratio", "1.5"], "(0, 1)"),
        (["--data", ".", "--out", "x", "--mask", "pink"], "pink"),
    ],
)
def test_errors_on_the_command_line_are_one_message_not_a_traceback(arguments, words, tmp_path):
    done = run_command(*arguments)
    assert done.returncode != 0
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not os.path.exists("x")


def test_the_recipe_is_all_of_the_config_but_how_and_where_it_runs():
    elsewhere = {"data", "out", "resume", "recipe", "batch_size", "accumulate", "device", "dtype", "compile",
                 "checkpoint_blocks", "shard", "workers", "reader", "cache_mib", "frames_cache", "log_every",
                 "tensorboard", "save_every", "keep_every", "knn_every", "knn_train", "knn_test", "mask", "mask_ratio",
                 "num_visible", "sigma1", "sigma2", "boundary", "per", "decoder_mask",
                 "teacher"}  # fmt: skip
    assert set(recipe_fields(Config)) == {f.name for f in fields(Config)} - elsewhere


def test_to_resume_out_is_enough(config, tmp_path):
    """The other settings are the run's; what is given besides is compared, and told."""
    whole = replace(config, out=tmp_path / "whole")
    done = weights(pretrain(whole))
    stopped = iter([False] * 3 + [True] * 99)
    pretrain(config, stop=lambda: next(stopped))
    again = parse(Config, "", ["--resume", "--out", str(config.out), "--log-every", "2", "--workers", "1"])
    assert again == replace(config, resume=True, log_every=2, workers=1)
    assert all(torch.equal(done[n], value) for n, value in weights(pretrain(again)).items())
    events = [r["event"] for r in log.read(config.out) if "event" in r]
    assert "log_every: 1 then, 2 now" in events
    assert "workers: 0 then, 1 now" in events
    assert parse(Config, "", ["--resume", "--out", str(config.out), "--mask", "tube"]).mask == "tube"
