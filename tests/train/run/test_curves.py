# SPDX-License-Identifier: Apache-2.0
"""Bands of losses: made of several seeds, held against other runs, told of once."""

import json
import random
from dataclasses import asdict, replace

import numpy as np
import pytest
import soundfile
import torch

from smnoise import DataError
from smnoise.train import audio
from smnoise.train.run import checkpoint, curves, log
from smnoise.train.run.curves import IN_A_ROW, Curve, Watch, compare, find, lines, make

STEPS = list(range(10, 510, 10))
RECIPE = {"model": "tiny", "epochs": 5, "clips_per_step": 16, "seed": 0, "mean": -6.5, "std": 3.0}


def losses(seed, noise=0.01):
    """A loss that falls from 1 to 0.6."""
    draw = random.Random(seed)
    return [0.6 + 0.4 * 0.99**step + draw.gauss(0, noise) for step in STEPS]


def records(values):
    return [{"step": step, "loss": loss} for step, loss in zip(STEPS, values, strict=True)]


def write_run(folder, seed, **recipe):
    folder.mkdir()
    (folder / "config.json").write_text('{"log_every": 10}')
    (folder / log.NAME).write_text("\n".join(map(json.dumps, records(losses(seed)))))
    model = torch.nn.Linear(1, 1)
    state = {"recipe": {**RECIPE, "seed": seed, "mean": -6.0 - seed / 10, **recipe}}
    checkpoint.save(folder, 500, model, torch.optim.AdamW(model.parameters()), state)
    return folder


@pytest.fixture(scope="module")
def curve(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return make("synthetic", [write_run(folder / str(seed), seed) for seed in range(5)])


def test_runs_of_other_seeds_stay_within(curve):
    assert curve.steps == STEPS
    assert curve.seeds == [0, 1, 2, 3, 4]
    assert not any(compare(records(losses(seed)), curve) for seed in range(5, 205))


def test_a_run_that_stalls_leaves_and_where_is_told(curve):
    stalled = [max(loss, 0.8) for loss in losses(7)]
    left = compare(records(stalled), curve)
    assert left.loss > left.high
    assert 60 < left.step < 150  # the mean passes 0.8 at step 69
    assert compare(records(stalled)[: STEPS.index(left.step) + IN_A_ROW - 1], curve) is None


def test_a_loss_that_is_too_good_leaves_too(curve):
    left = compare(records([0.9 * loss for loss in losses(7)]), curve)
    assert left.loss < left.low


def test_one_outlier_is_no_departure_nor_are_two_sides_in_turn(curve):
    values = losses(7)
    values[20], values[30] = 5.0, 0.0
    assert compare(records(values), curve) is None
    values[30 : 30 + IN_A_ROW] = [5.0, 0.0, 5.0]
    assert compare(records(values), curve) is None


def test_only_means_of_as_many_steps_are_compared(curve):
    """Behind a stop within the interval there are two shorter ones."""
    log_lines = [{"step": s, "loss": s} for s in (10, 20, 24, 30, 40)]
    assert lines([*log_lines, {"step": 45, "event": "x"}], 10) == {10: 10, 20: 20, 40: 40}


def test_a_band_is_for_just_its_recipe(curve, tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(asdict(curve)))
    other_seed = RECIPE | {"seed": 9, "mean": 0.0, "batch_size": 8, "accumulate": 2}
    assert find(other_seed, 10, audio.Config, tmp_path) == curve
    assert (
        find(RECIPE | {"views": 1, "decoder": "local"}, 10, audio.Config, tmp_path) == curve
    )  # settings since then
    assert find(RECIPE | {"epochs": 6}, 10, audio.Config, tmp_path) is None
    assert find(RECIPE | {"views": 2}, 10, audio.Config, tmp_path) is None
    assert find(RECIPE, 5, audio.Config, tmp_path) is None
    assert find(RECIPE, 10, audio.Config, tmp_path / "absent") is None


def test_a_watch_speaks_once_also_over_a_restart(curve, tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(asdict(curve)))
    wrong = records([2 * loss for loss in losses(7)])
    watch = Watch(RECIPE, 10, audio.Config, [], tmp_path)
    said = [watch(record) for record in wrong]
    assert [bool(s) for s in said] == [n == IN_A_ROW - 1 for n in range(len(wrong))]
    assert "since step 10 the loss is not what it usually is" in said[IN_A_ROW - 1]
    assert "(synthetic, 5 seeds)" in said[IN_A_ROW - 1]
    again = Watch(RECIPE, 10, audio.Config, wrong[:20], tmp_path)
    assert not any(again(record) for record in wrong[20:])
    early = Watch(RECIPE, 10, audio.Config, wrong[:2], tmp_path)
    assert early(wrong[2])


def test_a_band_needs_several_seeds_of_one_recipe(tmp_path):
    runs = [write_run(tmp_path / str(seed), seed) for seed in range(3)]
    with pytest.raises(DataError, match=r"at least 3 runs, each with another seed; got seeds \[0, 1\]"):
        make("few", runs[:2])
    with pytest.raises(DataError, match=r"got seeds \[0, 1, 2, 2\]"):
        make("same", [*runs, runs[2]])
    other = write_run(tmp_path / "other", 3, epochs=6)
    with pytest.raises(DataError, match="differ in more than the seed"):
        make("mixed", [*runs, other])


def test_a_file_that_holds_no_band_is_an_error(tmp_path):
    for content in ("{", "[]", '{"name": "x"}'):
        (tmp_path / "a.json").write_text(content)
        with pytest.raises(DataError, match=r"a\.json holds no reference curve"):
            find(RECIPE, 10, audio.Config, tmp_path)
    with pytest.raises(ValueError, match="as many steps as low and high values, got 2, 1 and 2"):
        Curve("x", {}, 10, [0], [10, 20], [0.0], [1.0, 1.0])


def test_a_trainer_warns_once(tmp_path, monkeypatch):
    """Of a real run, held against a band that it cannot be in."""
    for n in range(3):
        soundfile.write(tmp_path / f"{n}.wav", np.random.default_rng(n).uniform(-1, 1, 12000), 8000)
    config = audio.Config(data=tmp_path, out=tmp_path / "run", model="tiny", rate=8000, frames=32, mels=32, patch=8,
                          batch_size=3, accumulate=1, epochs=8, warmup_epochs=1, workers=0, device="cpu",
                          log_every=1)  # fmt: skip
    monkeypatch.setattr(curves, "FOLDER", tmp_path / "curves")
    audio.pretrain(replace(config, out=tmp_path / "before"))
    recipe = checkpoint.find(tmp_path / "before")[1]["recipe"]
    steps = list(range(1, 9))
    band = Curve("impossible", recipe, 1, [1, 2, 3], steps, [0.0] * 8, [1e-3] * 8)
    (tmp_path / "curves").mkdir()
    (tmp_path / "curves" / "a.json").write_text(json.dumps(asdict(band)))
    audio.pretrain(config)
    warnings = [r["step"] for r in log.read(config.out) if "warning" in r.get("event", "")]
    assert warnings == [IN_A_ROW]
