# SPDX-License-Identifier: Apache-2.0
"""Several processes train as one with a larger batch: the same clips and masks, the same losses within rounding."""

import os
import re
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass, replace
from types import SimpleNamespace

import launch
import pytest
import torch
from media import write_clips_and_sounds
from safetensors.torch import load_file

from smnoise import CheckpointError
from smnoise.data.numbered import Share
from smnoise.models.videomae import VideoMAE
from smnoise.train import audio, video
from smnoise.train.run import checkpoint, log
from smnoise.train.run.gather import gather

pytestmark = pytest.mark.slow

RECORDER = '''
import hashlib, os, sys
from pathlib import Path

from smnoise.train import {trainer} as trainer

kind = getattr(trainer, "{model}")
forward = kind.forward

def record(self, inputs, masks):
    """A line for each clip that this process sees: what it is made of, and its mask."""
    with open(Path(os.environ["SEEN"]) / os.environ.get("RANK", "0"), "a") as seen:
        for clip, mask in zip(inputs, masks.ids_keep):
            if not clip.any():
                continue  # of the pass that counts for nothing
            rows = (clip.cpu().numpy().tobytes(), mask.cpu().numpy().tobytes())
            print(*(hashlib.sha256(row).hexdigest() for row in rows), file=seen)
    return forward(self, inputs, masks)

kind.forward = record
trainer.main()
'''
MODELS = {"video": "VideoMAE", "audio": "AudioMAE"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_clips_and_sounds(tmp_path_factory.mktemp("data"))


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
    done = launch.run([str(script)], config, ranks=ranks, environment={"SEEN": str(seen)})
    assert done.returncode == 0, done.stdout
    per_rank = [(seen / str(rank)).read_text().splitlines() for rank in range(ranks)]
    share = config.batch_size * config.accumulate
    steps = range(0, len(per_rank[0]), share)
    return [sorted(line for lines in per_rank for line in lines[at : at + share]) for at in steps]


@pytest.mark.parametrize("trainer", ["video", "audio"])
def test_two_processes_are_two_accumulated_passes(trainer, config, tmp_path):
    """Clips and masks bit for bit, losses and weights within rounding; a resumed run may change from one to other."""
    both = replace(config, accumulate=1, out=tmp_path / "both")
    assert recorded(trainer, config, tmp_path, 1) == recorded(trainer, both, tmp_path, 2)
    assert losses(both) == pytest.approx(losses(config), rel=1e-5)
    assert list(losses(both)) == list(range(1, 7))
    alone, together = (checkpoint.newest(c.out)[0] for c in (config, both))
    for name, value in alone.items():
        torch.testing.assert_close(together[name], value, atol=1e-4, rtol=0)

    go_back(both, 4)
    done = launch.run(trainer, replace(both, accumulate=2, resume=True))
    assert done.returncode == 0, done.stdout
    assert "resumed after step 4" in done.stdout
    assert losses(both) == pytest.approx(losses(config), rel=1e-5)


@dataclass
class Nothing:
    """Settings of a command whose options are given by themselves."""


@pytest.mark.parametrize("shard", [False, True], ids=["ddp", "shard"])
def test_fine_tuning_in_two_processes_is_two_accumulated_passes(data, tmp_path, shard):
    for side in ("train", "test"):
        (data / f"{side}.txt").write_text("".join(f"{n}.mp4 {n % 2}\n" for n in range(3)))
    alone, both = (SimpleNamespace(out=tmp_path / name) for name in ("alone", "both"))
    common = ["--train", data / "train.txt", "--test", data / "test.txt", "--from-scratch", "--model", "nano",
              "--frames", 4, "--stride", 2, "--size", 32, "--patch", 8, "--views", 2, "--epochs", 6, "--batch-size", 1,
              "--segments", 1, "--crops", 1, "--base-lr", 0.05, "--warmup-epochs", 1, "--drop-path", 0,
              "--workers", 0, "--device", "cpu", "--log-every", 1]  # fmt: skip
    for run, ranks, more in (
        (alone, 1, ["--accumulate", 2]),
        (both, 2, ["--accumulate", 1, *["--shard"] * shard]),
    ):
        options = map(str, ["--out", run.out, *common, *more])
        done = launch.run(["-m", "smnoise.train.finetune_video"], Nothing(), *options, ranks=ranks)
        assert done.returncode == 0, done.stdout
    assert len(losses(alone)) == 9
    assert losses(both) == pytest.approx(losses(alone), rel=1e-5)
    scores = [[r["score"] for r in log.read(c.out) if "score" in r] for c in (alone, both)]
    assert scores[0] == scores[1]


@pytest.mark.parametrize("trainer", ["audio"])
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


def go_back(config, step):
    """Damage newer checkpoints, so that the run is resumed from that step."""
    for folder in checkpoint.steps(config.out):
        if int(folder.name[-8:]) > step:
            (folder / "state.json").write_text("damaged")


def trained(trainer, config, *more, ranks=1):
    done = launch.run(trainer, config, *more, ranks=ranks)
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.parametrize("trainer", ["video", "audio"])
def test_a_sharded_run_is_the_run_and_goes_on_in_any_number_of_processes(trainer, config, tmp_path):
    trained(trainer, config)
    sharded = replace(config, accumulate=1, shard=True)
    trained(trainer, sharded := replace(sharded, out=tmp_path / "sharded"), ranks=2)
    assert losses(sharded) == pytest.approx(losses(config), rel=1e-5)
    newest = checkpoint.steps(sharded.out)[0]
    assert sum(file.name.startswith("shard-") for file in newest.iterdir()) == 2
    for found, expected in zip(
        checkpoint.newest(sharded.out)[:2], checkpoint.newest(config.out)[:2], strict=True
    ):
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, atol=1e-4, rtol=0)

    whole = losses(sharded)
    for ranks, more in ((2, {}), (4, {"batch_size": 1}), (1, {"accumulate": 2, "shard": False})):
        other = replace(sharded, resume=True, out=tmp_path / f"in {ranks}", **more)
        shutil.copytree(sharded.out, other.out)
        go_back(other, 4)
        assert "resumed after step 4" in trained(trainer, other, ranks=ranks)
        assert losses(other) == (whole if ranks == 2 else pytest.approx(whole, rel=1e-5))

    go_back(config, 4)
    assert "resumed after step 4" in trained(
        trainer, replace(config, accumulate=1, resume=True, shard=True), ranks=2
    )
    assert losses(config) == pytest.approx(whole, rel=1e-5)


@pytest.mark.parametrize("trainer", ["audio"])
def test_a_sharded_checkpoint_becomes_one_file(config, trainer, tmp_path):
    config = replace(config, accumulate=1, epochs=1, shard=True)
    trained(trainer, config, ranks=2)
    assert gather(config.out, tmp_path / "model.safetensors") == 3
    tensors = load_file(tmp_path / "model.safetensors")
    model = audio.untrained(config) if trainer == "audio" else VideoMAE("tiny", config.grid, patch=8)
    model.load_state_dict(tensors)
    other = torch.nn.Linear(1, 1)
    with pytest.raises(CheckpointError, match="another model"):
        checkpoint.resume(checkpoint.steps(config.out)[0], other, torch.optim.AdamW(other.parameters()))


@pytest.mark.parametrize("trainer", ["video"])
def test_sharding_needs_company(config, trainer):
    done = launch.run(trainer, replace(config, shard=True))
    assert done.returncode == 1
    assert "shard is for several processes" in done.stdout


@pytest.mark.parametrize("trainer", ["video"])
def test_three_processes_resume_with_the_same_bits(config, trainer, tmp_path):
    """Sums of three numbers depend on their order, hence on how gradients are put together for sending."""
    config = replace(config, batch_size=2, accumulate=1, epochs=3)
    trained(trainer, config, ranks=3)
    other = replace(config, out=tmp_path / "other", resume=True)
    shutil.copytree(config.out, other.out)
    go_back(other, 4)
    trained(trainer, other, ranks=3)
    assert losses(other) == losses(config)
    first, second = (checkpoint.newest(c.out)[0] for c in (config, other))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(("trainer", "shard"), [("video", False), ("audio", True)])
def test_bfloat16_and_recomputing_train(config, trainer, shard):
    config = replace(config, epochs=1, checkpoint_blocks=True, dtype="bfloat16", clip_grad=1.0, shard=shard)
    trained(trainer, replace(config, batch_size=1), ranks=2)
    assert len(losses(config)) == 3


@pytest.mark.parametrize("trainer", ["video", "audio"])
def test_sharded_weights_travel_as_bfloat16_and_a_resumed_run_has_the_same_bits(config, trainer, tmp_path):
    """Weights and moments stay float32; the losses are those of one process within bfloat16's rounding."""
    config = replace(config, dtype="bfloat16", workers=1)
    alone = replace(config, out=tmp_path / "alone")
    sharded = replace(config, accumulate=1, shard=True)
    trained(trainer, alone)
    script = tmp_path / "told.py"
    script.write_text(TOLD.format(trainer=trainer))
    done = launch.run([str(script)], sharded, ranks=2)
    assert done.returncode == 0, done.stdout
    assert re.findall(r"as (\S+), summed as (\S+)", done.stdout) == [("torch.bfloat16", "torch.float32")] * 2
    assert losses(sharded) == pytest.approx(losses(alone), rel=2e-2)
    for tensors in checkpoint.newest(sharded.out)[:2]:
        assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}

    other = replace(sharded, out=tmp_path / "other", resume=True)
    shutil.copytree(sharded.out, other.out)
    go_back(other, 4)
    assert "resumed after step 4" in trained(trainer, other, ranks=2)
    assert losses(other) == losses(sharded)
    first, second = (checkpoint.newest(c.out)[0] for c in (sharded, other))
    assert all(torch.equal(first[name], second[name]) for name in first)


TOLD = """
from smnoise.train import {trainer} as trainer, world

shard = world.fully_shard

def told(part, mp_policy, **more):
    if type(part).__name__.endswith("MAE"):
        print(f"as {{mp_policy.param_dtype}}, summed as {{mp_policy.reduce_dtype}}")
    return shard(part, mp_policy=mp_policy, **more)

world.fully_shard = told
trainer.main()
"""


@pytest.mark.parametrize("shard", [False, True], ids=["ddp", "shard"])
def test_compiled_models_train(data, tmp_path, shard):
    """Of one trainer: this takes minutes of compiling."""
    config = replace(
        config_of("video", data, tmp_path / "run"), epochs=1, batch_size=1, checkpoint_blocks=True
    )
    trained("video", replace(config, compile=True, shard=shard), ranks=2)
    trained("video", plain := replace(config, shard=shard, out=tmp_path / "plain"), ranks=2)
    assert losses(config) == pytest.approx(losses(plain), rel=1e-4)


DYING = '''
import os, signal
from pathlib import Path

from smnoise.train import {trainer} as trainer
from smnoise.train.run.ledger import Ledger

end, mark = Ledger.end, Path(os.environ["MARK"])

def last_words(self, step, *rest):
    """The second process ends after step 4, once, with an error or without a word."""
    if step == 5 and os.environ["RANK"] == "1" and not mark.exists():
        mark.touch()
        if os.environ["HOW"] == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError("the disk of the second machine is gone")
    end(self, step, *rest)

Ledger.end = last_words
trainer.main()
'''


@pytest.mark.parametrize(("trainer", "how"), [("video", "killed"), ("audio", "an error")])
def test_one_process_that_dies_ends_all_and_torchrun_starts_anew(config, trainer, tmp_path, how):
    config = replace(config, accumulate=1, workers=1)
    script, mark = tmp_path / "dying.py", tmp_path / "mark"
    script.write_text(DYING.format(trainer=trainer))
    environment = {"MARK": str(mark), "HOW": how}
    ended = launch.run([str(script)], config, ranks=2, environment=environment)
    assert ended.returncode != 0
    assert ("second machine is gone" in ended.stdout) == (how == "an error")
    assert max(losses(config)) == 4

    mark.unlink()
    other = replace(config, out=tmp_path / "restarted")
    done = launch.run([str(script)], other, ranks=2, restarts=1, environment=environment)
    assert done.returncode == 0, done.stdout
    assert "resumed after step 4" in done.stdout
    trained(trainer, whole := replace(config, out=tmp_path / "whole"), ranks=2)
    assert losses(other) == losses(whole)


@pytest.mark.parametrize("trainer", ["audio"])
def test_a_broken_file_that_another_process_met_is_named_once(config, trainer, data, tmp_path):
    folder = tmp_path / "with a broken one"
    shutil.copytree(data, folder)
    (folder / "1.wav").write_bytes(b"not a sound")
    trained(trainer, replace(config, data=folder, statistics="audioset"), ranks=2)
    named = [r["event"] for r in log.read(config.out) if "1.wav" in r.get("event", "")]
    assert len(named) == 1
    assert "(1 of 3 files)" in named[0]


@pytest.mark.parametrize("trainer", ["video"])
def test_asked_to_stop_all_processes_stop_after_the_same_step_with_a_checkpoint(config, trainer, tmp_path):
    """torchrun passes SIGTERM on to each; they see it at different moments. Their exit status, which is not 0, makes it
    start none anew."""
    config = replace(config, accumulate=1, epochs=200, save_every=10_000, workers=1)
    command = launch.command(trainer, config, ranks=2, restarts=1)
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"},
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)  # fmt: skip
    deadline = time.monotonic() + launch.SECONDS
    while max(losses(config), default=0) < 3:
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=launch.SECONDS)
    (folder,) = checkpoint.steps(config.out)
    assert said.count("stopped after step") == 1
    assert f"stopped after step {int(folder.name[-8:])}" in said
    assert process.returncode != 0
    assert max(losses(config)) == int(folder.name[-8:])
