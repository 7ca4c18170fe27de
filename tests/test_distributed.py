# SPDX-License-Identifier: Apache-2.0
"""Several processes train as one with a larger batch: the same clips and masks, the same losses within rounding."""

from dataclasses import replace

import launch
import numpy as np
import pytest
import soundfile
import torch
from media import write_video

from smnoise.train import audio, checkpoint, log, video
from smnoise.train.numbered import Share

RECORDER = '''
import hashlib, os, sys
from pathlib import Path

from smnoise.train import {trainer} as trainer

kind = getattr(trainer, "{model}")
forward = kind.forward

def record(self, inputs, masks):
    """A line for each clip that this process sees: what it is made of, and its mask."""
    with open(Path(os.environ["SEEN"]) / os.environ.get("RANK", "0"), "a") as seen:
        for clip, mask in zip(inputs, masks.mask):
            rows = (clip.cpu().numpy().tobytes(), mask.cpu().numpy().tobytes())
            print(*(hashlib.sha256(row).hexdigest() for row in rows), file=seen)
    return forward(self, inputs, masks)

kind.forward = record
trainer.main()
'''
MODELS = {"video": "VideoMAE", "audio": "AudioMAE"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for n in range(3):
        write_video(folder / f"{n}.mp4", 24 + 5 * n, moving=True)
        wave = np.random.default_rng(n).standard_normal(12000) * np.sin(np.arange(12000) / (5 + n))
        soundfile.write(folder / f"{n}.wav", (0.1 * wave).astype(np.float32), 8000, subtype="FLOAT")
    return folder


def config_of(trainer, data, out):
    common = {
        "data": data,
        "out": out,
        "model": "tiny",
        "patch": 8,
        "mask_ratio": 0.75,
        "batch_size": 2,
        "accumulate": 2,
        "epochs": 2,
        "warmup_epochs": 1,
        "base_lr": 0.128,
        "min_lr": 0.001,
        "workers": 0,
        "device": "cpu",
        "log_every": 1,
        "save_every": 2,
    }
    if trainer == "video":
        return video.Config(**common, frames=4, stride=2, size=32, clips_per_video=4)
    return audio.Config(**common, rate=8000, frames=32, mels=32, clips_per_file=4, statistics="auto")


@pytest.fixture(params=["video", "audio"])
def trainer(request):
    return request.param


@pytest.fixture
def config(trainer, data, tmp_path):
    return config_of(trainer, data, tmp_path / "run")


def losses(config):
    return {r["step"]: r["loss"] for r in log.read(config.out) if "loss" in r}


def recorded(trainer, config, tmp_path, ranks):
    """Train, and return the clips that the processes saw, sorted within each step."""
    script, seen = tmp_path / "recorder.py", tmp_path / f"seen by {ranks}"
    script.write_text(RECORDER.format(trainer=trainer, model=MODELS[trainer]))
    seen.mkdir()
    done = launch.run(str(script), config, ranks=ranks, environment={"SEEN": str(seen)})
    assert done.returncode == 0, done.stdout
    per_rank = [(seen / str(rank)).read_text().splitlines() for rank in range(ranks)]
    share = config.batch_size * config.accumulate
    steps = range(0, len(per_rank[0]), share)
    return [sorted(line for lines in per_rank for line in lines[at : at + share]) for at in steps]


def test_two_processes_are_two_accumulated_passes(trainer, config, tmp_path):
    """Clips and masks bit for bit, losses and weights within rounding; a resumed run may change from one to other."""
    both = replace(config, accumulate=1, out=tmp_path / "both")
    assert recorded(trainer, config, tmp_path, 1) == recorded(trainer, both, tmp_path, 2)
    assert losses(both) == pytest.approx(losses(config), rel=1e-5)
    assert list(losses(both)) == list(range(1, 7))
    alone, together = (checkpoint.newest(c.out)[0] for c in (config, both))
    for name, value in alone.items():
        torch.testing.assert_close(together[name], value, atol=1e-4, rtol=0)

    longer = replace(both, resume=True)
    for folder in checkpoint.steps(both.out)[:1]:
        (folder / "state.json").write_text("damaged")  # so that it goes back to step 4
    done = launch.run(trainer, replace(longer, accumulate=2))
    assert done.returncode == 0, done.stdout
    assert "resumed after step 4" in done.stdout
    assert losses(longer) == pytest.approx(losses(config), rel=1e-5)


def test_another_global_batch_is_another_recipe(config, trainer):
    assert launch.run(trainer, replace(config, epochs=1)).returncode == 0
    done = launch.run(trainer, replace(config, epochs=1, resume=True), ranks=2)
    assert done.returncode != 0
    assert "clips_per_step: 4 then, 8 now" in done.stdout


@pytest.mark.parametrize("size", [1, 2, 4])
def test_a_step_is_the_same_samples_for_any_number_of_processes(size):
    """8 batches of 3 a step, over `size` processes, from step 5 on."""
    steps = [
        sorted(sample for rank in ranks for sample in rank)
        for ranks in zip(
            *(
                [list(share)[at : at + 24 // size] for at in range(0, len(share), 24 // size)]
                for share in (Share(range(40, 56), 3, rank, size) for rank in range(size))
            ),
            strict=True,
        )
    ]
    assert steps == [list(range(120, 144)), list(range(144, 168))]
