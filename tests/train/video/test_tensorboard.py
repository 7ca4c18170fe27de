# SPDX-License-Identifier: Apache-2.0
"""Events for TensorBoard, read back by its own reader: the numbers of log.jsonl, each step once, and pictures."""

import io
import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from smnoise.train.run import log
from smnoise.train.run.pictures import TOKEN
from smnoise.train.video import pretrain

from .runs import weights

pytest.importorskip("tensorboard")


@pytest.fixture
def events():
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def read(run):
        found = EventAccumulator(str(run / log.EVENTS), {"scalars": 0, "images": 0})
        found.Reload()
        return found

    return read


def test_scalars_are_those_of_the_log_and_the_run_is_the_same(config, tmp_path, events):
    plain = weights(pretrain(config))
    assert not (config.out / log.EVENTS).exists()
    config = replace(config, out=tmp_path / "told", tensorboard=True)
    stopped = iter([False] * 7 + [True] * 99)
    pretrain(config, stop=lambda: next(stopped))
    told = weights(pretrain(replace(config, resume=True)))
    assert all(torch.equal(plain[name], told[name]) for name in plain)

    found = events(config.out)
    records = [r for r in log.read(config.out) if "loss" in r]
    assert [r["step"] for r in records] == list(range(1, 19))
    names = set(records[0]) - {"step"}
    assert set(found.Tags()["scalars"]) == names
    for name in names:
        written = [(e.step, e.value) for e in found.Scalars(name)]
        assert written == [(r["step"], float(np.float32(r[name]))) for r in records]


def test_steps_that_are_repeated_after_a_kill_are_left_out(config, events):
    config = replace(config, tensorboard=True)
    pretrain(config)
    with log.RunLog(config.out, 6, 18, tensorboard=True) as again:  # killed after the checkpoint of step 6
        again.step({"step": 7, "loss": 5.0, "lr": 0.1, "step_seconds": 1.0, "clips_per_second": 1.0})
    found = events(config.out).Scalars("loss")
    assert [e.step for e in found] == list(range(1, 8))
    assert found[-1].value == 5


def test_pictures_show_the_mask_and_what_is_filled_in(config, events):
    config = replace(config, epochs=1, tensorboard=True)
    assert pretrain(config).training
    found = events(config.out)
    assert set(found.Tags()["images"]) == {"mask", "reconstruction"}
    (event,) = found.Images("mask")
    assert event.step == 3
    mask = np.asarray(Image.open(io.BytesIO(event.encoded_image_string)))
    t, h, w = config.grid
    wanted = config.sampler()([0]).volume()[0].numpy()
    for step in range(t):
        left = step * (w * TOKEN + 2)
        tokens = mask[: h * TOKEN, left : left + w * TOKEN].reshape(h, TOKEN, w, TOKEN, 3)
        assert (tokens == 255 * ~wanted[step][:, None, :, None, None]).all()
    (event,) = found.Images("reconstruction")
    picture = np.asarray(Image.open(io.BytesIO(event.encoded_image_string)))
    assert picture.shape == (4 * (config.size + 2) - 2, t * (config.size + 2) - 2, 3)
    clip, seen = (
        picture[: config.size, : config.size],
        picture[config.size + 2 :][: config.size, : config.size],
    )
    hidden = wanted[0].repeat(config.patch, 0).repeat(config.patch, 1)
    assert (seen[hidden] == 128).all()
    assert (seen[~hidden] == clip[~hidden]).all()


def test_without_the_package_it_is_said_before_the_first_step(config, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ValueError, match=r"pip install 'smnoise\[tensorboard\]'"):
        pretrain(replace(config, tensorboard=True))
    assert not [r for r in log.read(config.out) if "loss" in r]
    assert json.loads((config.out / "config.json").read_text())["tensorboard"] is True
