# SPDX-License-Identifier: Apache-2.0
"""Several processes learn from their losses together how often each sigma is drawn."""

from dataclasses import replace

import launch
import pytest
from media import write_clips_and_sounds

from smnoise.train import audio, video
from smnoise.train.run import checkpoint, log

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_clips_and_sounds(tmp_path_factory.mktemp("data"))


def config_of(trainer, data, out):
    common = {"data": data, "out": out, "model": "tiny", "patch": 8, "mask_ratio": 0.75, "batch_size": 2,
              "accumulate": 2, "epochs": 2, "warmup_epochs": 1, "base_lr": 0.128, "workers": 0, "device": "cpu",
              "log_every": 1, "save_every": 2}  # fmt: skip
    if trainer == "video":
        return video.Config(**common, frames=4, stride=2, size=32, clips_per_video=4)
    return audio.Config(**common, rate=8000, frames=32, mels=32, clips_per_file=4, statistics="auto")


@pytest.mark.parametrize("trainer", ["video", "audio"])
def test_two_processes_learn_the_same_sigmas_as_one(trainer, data, tmp_path):
    """Each sees half of the losses; the sums of both are those of one, and so are all tables. A run may go on with
    another number of processes in the middle of a window."""
    learning = {"mask": "green-3d", "sigmas": "bandit", "bandit_reward": "hardest", "bandit_every": 2}
    config = replace(config_of(trainer, data, tmp_path / "run"), **learning)
    both = replace(config, accumulate=1, out=tmp_path / "both")
    for one, ranks in ((config, 1), (both, 2)):
        done = launch.run(trainer, one, ranks=ranks)
        assert done.returncode == 0, done.stdout
    records = [[r for r in log.read(c.out) if "sigma_shares" in r] for c in (config, both)]
    assert [r["step"] for r in records[0]] == [0, 1, 2, 4, 6]
    assert len({tuple(r["sigma_shares"]) for r in records[0]}) == 4
    assert records[0] == records[1]
    states = [checkpoint.newest(c.out)[2]["bandit"] for c in (config, both)]
    assert states[0] == states[1]
    assert sum(states[0]["counts"]) == 0
    for done in checkpoint.steps(both.out)[:1]:
        (done / "state.json").write_text("damaged")  # so that it goes back to step 4
    done = launch.run(trainer, replace(both, accumulate=2, resume=True))
    assert done.returncode == 0, done.stdout
    assert "resumed after step 4" in done.stdout
    assert [r for r in log.read(both.out) if "sigma_shares" in r] == records[0]
