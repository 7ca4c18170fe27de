# SPDX-License-Identifier: Apache-2.0
"""Training processes that are killed for real, and disks that are full: a resumed run is the uninterrupted one."""

import random
import re
import resource
import signal
from dataclasses import replace
from pathlib import Path

import launch
import pytest
import torch
from media import write_clips_and_sounds

from smnoise.train import audio, video
from smnoise.train.run import checkpoint, log

pytestmark = pytest.mark.slow

KILLED = str(Path(__file__).parent / "killed.py")
ROOT = str(Path(__file__).parents[3])
ROUNDS = 4


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_clips_and_sounds(tmp_path_factory.mktemp("data"))


@pytest.fixture(params=["video", "audio"])
def trainer(request):
    return request.param


@pytest.fixture
def config(trainer, data, tmp_path):
    return settings(trainer, data, tmp_path)


def settings(trainer, data, tmp_path):
    common = {
        "data": data,
        "out": tmp_path / "run",
        "model": "tiny",
        "patch": 8,
        "mask_ratio": 0.75,
        "batch_size": 2,
        "accumulate": 1,
        "epochs": 2,
        "warmup_epochs": 1,
        "base_lr": 0.128,
        "min_lr": 0.001,
        "workers": 1,
        "device": "cpu",
        "log_every": 1,
        "save_every": 2,
    }
    if trainer == "video":
        return video.Config(**common, frames=4, stride=2, size=32, clips_per_video=4)
    return audio.Config(**common, rate=8000, frames=32, mels=32, clips_per_file=4)


def losses(config):
    return {r["step"]: r["loss"] for r in log.read(config.out) if "loss" in r}


def events(config):
    return [r["event"] for r in log.read(config.out) if "event" in r]


def shares(config):
    return {r["step"]: r["sigma_shares"] for r in log.read(config.out) if "sigma_shares" in r}


def train(trainer, config, moment=0, **options):
    more = {"environment": {"PYTHONPATH": ROOT}, **options}
    return launch.run([KILLED, str(moment), trainer], config, **more)


def resumed(config):
    """With --resume, if there is a checkpoint; or in a new place."""
    return replace(config, resume=bool(checkpoint.steps(config.out)))


def test_killed_at_any_moment_it_goes_on_with_the_same_bits(trainer, config, tmp_path):
    """Some of the moments are within a checkpoint: half of its files are there, it is not renamed yet, or older ones
    are not removed yet."""
    done = train(trainer, config)
    assert done.returncode == 0, done.stdout
    moments = int(re.search(r"(\d+) moments", done.stdout)[1])
    assert moments > 60
    killed = replace(config, out=tmp_path / "killed")
    choose = random.Random(trainer)
    for moment in sorted(choose.sample(range(moments // 8, moments // 2), ROUNDS)):
        ended = train(trainer, resumed(killed), moment)
        assert ended.returncode in (-signal.SIGKILL, 0), ended.stdout  # 0: not so many were left
    done = train(trainer, resumed(killed))
    assert done.returncode == 0, done.stdout
    assert losses(killed) == losses(config)
    whole, again = (checkpoint.newest(c.out)[:2] for c in (config, killed))
    for first, second in zip(whole, again, strict=True):
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first)
    kept = [folder.name for folder in (killed.out / checkpoint.FOLDER).iterdir()]
    assert sorted(kept) == ["step-00000010", "step-00000012"]  # nothing half written is left behind


def test_a_bandit_killed_at_any_moment_goes_on_with_the_same_bits(data, tmp_path):
    """Updates are not at checkpoints, so that these hold what was seen since."""
    config = replace(
        settings("video", data, tmp_path), sigmas="bandit", bandit_reward="hardest", bandit_every=3
    )
    done = train("video", config)
    assert done.returncode == 0, done.stdout
    moments = int(re.search(r"(\d+) moments", done.stdout)[1])
    killed = replace(config, out=tmp_path / "killed")
    for moment in sorted(random.Random("bandit").sample(range(moments // 3, moments // 2), 2)):
        ended = train("video", resumed(killed), moment)
        assert ended.returncode == -signal.SIGKILL, ended.stdout
    done = train("video", resumed(killed))
    assert done.returncode == 0, done.stdout
    assert losses(killed) == losses(config)
    assert shares(killed) == shares(config)
    assert list(shares(config)) == [0, 1, 3, 6, 9, 12]
    states = [checkpoint.newest(c.out)[2]["bandit"] for c in (config, killed)]
    assert states[0] == states[1]
    whole, again = (checkpoint.newest(c.out)[0] for c in (config, killed))
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_a_full_disk_is_told_and_the_last_good_checkpoint_stays(trainer, config):
    """No file of more than 20 MB can be written: less than the optimiser's, so that it is cut short."""
    done = train(trainer, replace(config, epochs=1))
    assert done.returncode == 0, done.stdout
    before = losses(config)

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20 << 20, 20 << 20))

    longer = replace(config, save_every=1, resume=True)
    state = checkpoint.steps(config.out)[0] / "state.json"
    state.write_text("damaged")  # so that it goes back to step 4
    ended = train(trainer, replace(longer, epochs=1), preexec_fn=limit)
    assert ended.returncode == 1
    assert re.search(r"cannot write checkpoint .*step-00000005.*File too large", ended.stdout), ended.stdout
    assert "Traceback" not in ended.stdout
    assert checkpoint.find(config.out)[1]["step"] == 4
    done = train(trainer, replace(longer, epochs=1))
    assert done.returncode == 0, done.stdout
    assert losses(config) == before


def test_damaged_checkpoints_are_told_and_the_last_good_one_used(trainer, config):
    """Three are damaged, each in another way: a bit, the end, a file that is not there."""
    done = train(trainer, config)
    assert done.returncode == 0, done.stdout
    whole = losses(config)
    newest, before = checkpoint.steps(config.out)
    data = bytearray((newest / "model.safetensors").read_bytes())
    data[len(data) // 2] ^= 16
    (newest / "model.safetensors").write_bytes(data)
    done = train(trainer, replace(config, resume=True))
    assert "resumed after step 10" in done.stdout
    assert any("unusable" in e and newest.name in e and "sha256" in e for e in events(config))
    assert losses(config) == whole

    (before / "state.json").unlink()
    tensors = newest / "optimizer.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-1])
    ended = train(trainer, replace(config, resume=True))
    assert ended.returncode == 1
    assert "no whole checkpoint" in ended.stdout
    assert newest.name in ended.stdout
    assert before.name in ended.stdout
    assert "Traceback" not in ended.stdout


@pytest.fixture
def sharded(data, tmp_path):
    """Of one trainer, in two processes: this takes long."""
    return replace(settings("video", data, tmp_path), shard=True)


@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_sharded_run_killed_while_it_saves_goes_on_with_the_same_bits(sharded, tmp_path, rank):
    """The process that finishes checkpoints, or the one that only writes its part."""
    killed = replace(sharded, out=tmp_path / "killed")

    def run(config, moment=0):
        within = str(config.out / checkpoint.FOLDER)
        environment = {"PYTHONPATH": ROOT, "KILLED_RANK": rank, "KILLED_WITHIN": within}
        return train("video", resumed(config), moment, ranks=2, environment=environment)

    done = run(sharded)
    assert done.returncode == 0, done.stdout
    moments = int(re.search(rf"process {rank}: (\d+) moments", done.stdout)[1])
    assert moments >= 3 * (1 if rank == "1" else 8)
    for moment in sorted(random.Random(rank).sample(range(moments // 3, 2 * moments // 3 + 1), 2)):
        ended = run(killed, moment)
        assert ended.returncode != 0, ended.stdout
        assert "SIGKILL" in ended.stdout
    done = run(killed)
    assert done.returncode == 0, done.stdout
    assert losses(killed) == losses(sharded)
    for first, second in zip(*(checkpoint.newest(c.out)[:2] for c in (sharded, killed)), strict=True):
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first)
    kept = [folder.name for folder in (killed.out / checkpoint.FOLDER).iterdir()]
    assert sorted(kept) == ["step-00000004", "step-00000006"]


def test_a_sharded_run_on_a_full_disk_tells_so_and_goes_on_later(sharded):
    """No file of more than 10 MB can be written, less than the part of a process."""
    done = train("video", replace(sharded, epochs=1), ranks=2)
    assert done.returncode == 0, done.stdout
    whole = losses(sharded)
    assert list(whole) == [1, 2, 3]
    newest, before = checkpoint.steps(sharded.out)
    (newest / "state.json").write_text("damaged")  # so that it goes back to step 2

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (10 << 20, 10 << 20))

    again = replace(sharded, epochs=1, resume=True)
    ended = train("video", again, ranks=2, preexec_fn=limit)
    assert ended.returncode != 0
    assert re.search(r"smnoise: cannot write checkpoint .*step-00000003.*File too large", ended.stdout), (
        ended.stdout
    )
    assert checkpoint.find(sharded.out)[0] == before
    assert not list((sharded.out / checkpoint.FOLDER).glob(f"{checkpoint.TEMPORARY}*"))
    done = train("video", again, ranks=2)
    assert done.returncode == 0, done.stdout
    assert "resumed after step 2" in done.stdout
    assert losses(sharded) == whole
