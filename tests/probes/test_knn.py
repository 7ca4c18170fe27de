# SPDX-License-Identifier: Apache-2.0
"""The k-NN probe of a run that goes on: what the probe command says of its checkpoints, and no change to the run."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from media import write_video

from smnoise import DataError
from smnoise.train import audio, probe, video
from smnoise.train.run import checkpoint, log

CLASSES = ("first", "second")
TRAINERS = {"video": video, "audio": audio}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """train/ and test/, with two classes each that pictures and sounds tell apart, and a broken file in test/."""
    folder = tmp_path_factory.mktemp("data")
    for side, count in (("train", 4), ("test", 3)):
        for label, name in enumerate(CLASSES):
            place = folder / side / name
            place.mkdir(parents=True)
            for n in range(count):
                write_video(place / f"{n}.mp4", 20 + n, moving=bool(label))
                wave = np.random.default_rng([count, n, label]).standard_normal(6000)
                if label:
                    wave = np.cumsum(wave) / 20
                soundfile.write(place / f"{n}.wav", (0.05 * wave).astype(np.float32), 8000, subtype="FLOAT")
    for suffix in ("mp4", "wav"):
        (folder / "test" / CLASSES[0] / f"broken.{suffix}").write_bytes(b"nothing")
    return folder


@pytest.fixture(params=["video", "audio"])
def trainer(request):
    return request.param


@pytest.fixture
def config(trainer, data, tmp_path):
    common = {
        "data": data / "train",
        "out": tmp_path / "run",
        "model": "tiny",
        "patch": 8,
        "mask_ratio": 0.75,
        "batch_size": 4,
        "accumulate": 1,
        "epochs": 3,
        "warmup_epochs": 1,
        "base_lr": 0.128,
        "min_lr": 0.001,
        "workers": 0,
        "device": "cpu",
        "log_every": 1,
        "save_every": 3,
    }
    if trainer == "video":
        return video.Config(**common, frames=4, stride=2, size=32)
    return audio.Config(**common, rate=8000, frames=32, mels=32)


def probed(config, data, every=2):
    return replace(config, knn_every=every, knn_train=data / "train", knn_test=data / "test")


def losses(config):
    return {r["step"]: r["loss"] for r in log.read(config.out) if "loss" in r}


def scores(config):
    return [r for r in log.read(config.out) if "knn_accuracy" in r]


def same_weights(one, two):
    first, second = (checkpoint.newest(c.out)[:2] for c in (one, two))
    return all(torch.equal(a[name], b[name]) for a, b in zip(first, second, strict=True) for name in a)


def test_a_probe_changes_no_bit_and_says_what_the_probe_command_says(trainer, config, data, tmp_path):
    pretrain = TRAINERS[trainer].pretrain
    pretrain(config)
    watched = replace(probed(config, data), out=tmp_path / "watched")
    model = pretrain(watched)
    assert model.training
    assert losses(watched) == losses(config)
    assert same_weights(watched, config)
    found = scores(watched)
    assert [r["step"] for r in found] == [0, 2, 4, 6]
    command = probe.Config(run=watched.out, train=data / "train", test=data / "test", probes=("nearest",), batch_size=4,
                           all_checkpoints=True, device="cpu")  # fmt: skip
    by_step = {at["step"]: at for at in probe.probe_run(command)["checkpoints"]}
    for at in (found[0], found[-1]):
        for name in ("accuracy", "mean_average_precision"):
            assert at[f"knn_{name}"] == by_step[at["step"]][f"nearest_{name}"]
    told = [r["event"] for r in log.read(watched.out) if "broken." in r.get("event", "")]
    assert len(told) == 1
    assert told[0].endswith("(a file of the k-NN probe)")


def test_a_stopped_run_goes_on_with_the_same_bits_and_scores(trainer, config, data, tmp_path):
    pretrain = TRAINERS[trainer].pretrain
    pretrain(whole := probed(config, data))
    stopped = replace(whole, out=tmp_path / "stopped")
    asked = iter([False, False, True])
    pretrain(stopped, stop=lambda: next(asked))
    pretrain(replace(stopped, resume=True))
    assert losses(stopped) == losses(whole)
    assert same_weights(stopped, whole)
    assert scores(stopped) == scores(whole)


def test_sets_that_cannot_be_read_are_found_out_before_the_first_step(trainer, config, data, tmp_path):
    pretrain = TRAINERS[trainer].pretrain
    with pytest.raises(DataError, match=r"has a class 'first'; the classes of .* are test, train"):
        pretrain(replace(probed(config, data), knn_train=data))
    for name in CLASSES:
        (tmp_path / "bad" / name).mkdir(parents=True)
        for suffix in ("mp4", "wav"):
            (tmp_path / "bad" / name / f"0.{suffix}").write_bytes(b"nothing")
    with pytest.raises(DataError, match="none of the 2"):
        pretrain(replace(probed(config, data), knn_test=tmp_path / "bad"))
    assert not losses(config)
