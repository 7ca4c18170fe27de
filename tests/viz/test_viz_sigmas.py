# SPDX-License-Identifier: Apache-2.0
"""The picture of what a run drew its sigmas by, of a real run; and runs that drew none otherwise."""

import json
import subprocess
import sys

import numpy as np
import pytest
from media import write_video
from PIL import Image

from smnoise import DataError
from smnoise.train.run import log
from smnoise.train.video import Config, pretrain
from smnoise.viz.sigmas import draw_sigmas


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    write_video(folder / "0.mp4", 24, moving=True)
    config = Config(
        data=folder, out=folder / "run", model="nano", frames=4, stride=2, size=32, patch=8, mask_ratio=0.75,
        batch_size=4, epochs=1, warmup_epochs=0, clips_per_video=32, base_lr=0.1, workers=0, device="cpu",
        log_every=4, save_every=8, sigmas="bandit", bandit_every=2,
    )  # fmt: skip
    pretrain(config)
    return config.out


def test_the_command_draws_a_runs_shares(run, tmp_path):
    command = ["viz", "sigmas", "--run", str(run), "--out", str(tmp_path), "--formats", "png", "--json"]
    done = subprocess.run([sys.executable, "-m", "smnoise", *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    last = [r["sigma_shares"] for r in log.read(run) if "sigma_shares" in r][-1]
    assert [told[f"share of bucket {bucket}"] for bucket in range(8)] == last
    picture = np.asarray(Image.open(told["files"][0]).convert("RGB"))
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 8  # a colour for each bucket


def test_a_run_that_drew_evenly_has_no_such_picture(run, tmp_path):
    with pytest.raises(DataError, match="drew all evenly; train with --sigmas"):
        draw_sigmas([{"step": 1, "loss": 1.0}], 1, None, tmp_path / "none", ("png",))
    command = ["viz", "sigmas", "--run", str(tmp_path), "--out", str(tmp_path / "out")]
    done = subprocess.run([sys.executable, "-m", "smnoise", *command], capture_output=True, text=True)
    assert done.returncode == 2
    assert "no whole checkpoint" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_schedule_has_no_losses(tmp_path):
    records = [{"step": step, "sigma_shares": [1.0] + [0.0] * 7} for step in (0, 5)]
    shares, paths = draw_sigmas(records, 9, None, tmp_path / "schedule", ("png",))
    assert shares["share of bucket 0"] == 1
    assert paths == [tmp_path / "schedule.png"]
