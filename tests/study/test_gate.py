# SPDX-License-Identifier: Apache-2.0
"""The gate of the ego-motion study in small, with real models on made-up clips; its rule; its plan as it is told."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from smnoise import DataError
from smnoise.data.installed import freedoom
from smnoise.data.video.lossless import write_lossless
from smnoise.study import gate, power, verdict

PLAN = Path(__file__).parents[2] / "docs" / "study-plan.md"

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Clips that move to the left or to the right, and a plan of their size."""
    generator = np.random.default_rng(0)
    for side, each in (("train", 4), ("test", 2)):
        for action in freedoom.ACTIONS:
            for number in range(each):
                picture = torch.from_numpy(generator.integers(0, 256, (3, 75, 100), dtype=np.uint8))
                step = freedoom.ACTIONS.index(action)
                clip = torch.stack([picture.roll(step * t, dims=2) for t in range(8)], dim=1)
                write_lossless(tmp_path / "data" / side / action / f"MAP01-{number:03}.mkv", clip)
    plan = gate.Plan.read()
    tune = {"epochs": 1, "batch_size": 4, "base_lr": 0.01, "layer_decay": 1.0}
    settings = plan.settings | {
        "data": {"train": 24, "test": 12, "classes": 6}, "size": 16, "batch_size": 8, "lengths": [1, 2],
        "seeds": 2, "labels": 12, "tune": tune,
    }  # fmt: skip
    plan = replace(plan, settings=settings)
    monkeypatch.setattr(gate.Plan, "read", lambda: plan)
    return gate.Gate(out=tmp_path / "out", data=tmp_path / "data", device="cpu")


def contents(folder):
    return {path.name: path.read_text() for path in sorted(folder.iterdir())}


def test_a_gate_runs_every_cell_once_and_the_table_holds_them(small, capsys):
    gate.run(small)
    found = contents(small.results)
    kinds = ("random-001", "random-002", "scratch")
    assert list(found) == [f"{kind}-{seed}.json" for kind in kinds for seed in (0, 1)]
    text = (small.out / "table.md").read_text()
    assert text in capsys.readouterr().out
    for name, content in found.items():
        result = json.loads(content)
        assert 0 <= result["accuracy"] <= 1
        assert f"{100 * result['accuracy']:.1f}" in text
        assert ("first loss" in result) == name.startswith("random")
    assert "6 of 6 cells" in text
    gate.run(small)
    assert contents(small.results) == found


def test_a_stopped_cell_goes_on_to_the_same_score(small):
    gate.run(small)
    path = small.results / "random-002-1.json"
    score = json.loads(path.read_text())["accuracy"]
    path.unlink()
    for run in ("random-002-1", "random-002-1-tuned"):
        for file in sorted((small.out / "runs" / run).rglob("*"), reverse=True):
            file.rmdir() if file.is_dir() else file.unlink()
    gate.run(small, stop=lambda: True)
    assert not path.exists()
    assert "5 of 6 cells" in (small.out / "table.md").read_text()
    gate.run(small)
    assert json.loads(path.read_text())["accuracy"] == score


def test_labels_are_few_of_each_class_and_differ_by_seed(small):
    gate.prepare(small, gate.Plan.read())
    drawn = [(small.out / "lists" / f"labels-{seed}.txt").read_text().splitlines() for seed in (0, 1)]
    for lines in drawn:
        assert len(set(lines)) == 12
        assert [line.rsplit(" ", 1)[1] for line in lines] == [str(k) for k in range(6) for _ in range(2)]
        assert all(freedoom.ACTIONS[int(line[-1])] in line for line in lines)
    assert drawn[0] != drawn[1]


def test_data_of_another_size_and_cells_of_another_plan_are_refused(small):
    next((small.data / "test" / "left").iterdir()).unlink()
    with pytest.raises(DataError, match="11 clips, and the plan 12"):
        gate.run(small)
    small.results.mkdir(parents=True)
    path = small.results / "scratch-0.json"
    path.write_text(json.dumps({"plan": "another", "accuracy": 0.5}))
    with pytest.raises(DataError, match="of the plan another"):
        gate.run(replace(small, table=True))
    path.write_text("{")
    with pytest.raises(DataError, match="damaged"):
        gate.run(replace(small, table=True))


def results(scratch, *lengths):
    """Cells of accuracies in percent, by length and seed."""
    table = {0: scratch} | dict(enumerate(lengths, 1))
    return {
        (epochs, seed): {"accuracy": value / 100, "cpu seconds": 36.0}
        for epochs, values in table.items()
        for seed, value in enumerate(values)
    }


SETTINGS = {
    "lengths": [1, 2], "seeds": 3, "points": 3.0, "labels": 300, "data": {"train": 7200, "test": 1800, "classes": 6},
}  # fmt: skip


@pytest.mark.parametrize(
    ("lengths", "said"),
    [
        (([30, 31, 32], [40, 41, 42.5]), "The gate is open**: 2 epochs"),
        (([36, 35, 36], [40, 41, 42]), "The gate is open**: 1 epochs"),
        (([30, 31, 32], [32.5, 33, 32.5]), "The gate is shut"),
        (
            ([30, 31, 32], [26, 31, 52]),
            "The gate is shut",
        ),  # 6 points in the mean, but not told apart from none
        (([30, 31, 32], [40, 41]), "Undecided"),
    ],
)
def test_the_rule(lengths, said):
    found = results([30, 30, 31], *lengths)
    assert said in verdict.verdict(SETTINGS, found)
    assert said in verdict.table(SETTINGS, "abc", found)


def test_a_row_is_what_the_formulas_say():
    found = results([30, 30, 31], [34, 35, 37])
    text = verdict.table(SETTINGS, "abc", found)
    row = next(line for line in text.splitlines() if line.startswith("| 1 epoch |"))
    more = [4.0, 5.0, 6.0]
    low, high = stats.ttest_1samp(more, 0).confidence_interval(0.95)
    assert row.split(" | ")[1:5] == ["7,200", "34.0, 35.0, 37.0", "+5.0 ± 1.0", f"{low:+.1f} to {high:+.1f}"]
    assert row.endswith(f"{power.smallest_effect(1.0, 3):.1f} | yes |")


def test_power_is_what_statistics_tables_say():
    """Cohen's tables: a paired test of d = 0.5 needs 34 pairs for a power of 80 %, d = 0.8 needs 15, d = 1 needs 10."""
    assert [power.seeds_for(d, 1.0) for d in (0.5, 0.8, 1.0)] == [34, 15, 10]
    draws = np.random.default_rng(0).normal(1.5, 1.0, (40_000, 6))
    p = stats.ttest_1samp(draws, 0, axis=1).pvalue
    assert power.power(1.5, 1.0, 6) == pytest.approx((p < 0.05).mean(), abs=0.01)
    for deviation, seeds in ((1.0, 3), (2.6, 5)):
        effect = power.smallest_effect(deviation, seeds)
        assert power.power(effect, deviation, seeds) == pytest.approx(0.8, abs=1e-6)
    assert power.smallest_effect(0.0, 3) == 0
    with pytest.raises(ValueError, match="more than 1000 seeds"):
        power.seeds_for(0.001, 1.0)


def test_equivalence_is_two_one_sided_tests():
    differences = [0.3, -0.4, 0.5, 0.1]
    wanted = max(
        stats.ttest_1samp(differences, 2.0, alternative="less").pvalue,
        stats.ttest_1samp(differences, -2.0, alternative="greater").pvalue,
    )
    assert power.equivalence(differences, 2.0) == pytest.approx(wanted)
    assert power.equivalence([3.0, 3.1, 2.9], 2.0) > 0.99
    assert [power.equivalence([1.0, 1.0], margin) for margin in (2.0, 1.0)] == [0.0, 1.0]


def test_the_plan_as_it_is_told_is_the_plan_that_runs():
    text, plan = PLAN.read_text(), gate.Plan.read()
    settings, tune = plan.settings, plan.settings["tune"]
    views = [f"{epochs * settings['data']['train']:,}" for epochs in settings["lengths"]]
    told = " ".join(text.split())
    for words in (
        f"`{settings['model']}`",
        f"{settings['frames']} frames of {settings['size']} x {settings['size']} pixels",
        f"cubes of {settings['tubelet']} x {settings['patch']} x {settings['patch']}",
        f"random, {100 * settings['mask_ratio']:.0f} % hidden",
        f"{', '.join(map(str, settings['lengths'][:-1]))} and {settings['lengths'][-1]} epochs",
        f"({', '.join(views[:-1])} and {views[-1]} views), steps of {settings['batch_size']}",
        f"{settings['labels']} labels, {settings['labels'] // 6} of each class",
        f"{tune['epochs']} epochs in steps of {tune['batch_size']}",
        f"| seeds | {settings['seeds']};",
        f"by more than {settings['points']:.0f} points",
        f"{settings['data']['train']:,} clips of 30 maps",
        f"{settings['data']['test']:,} clips of 12 other maps",
    ):
        assert words in told, words
    sets = {chosen.name: freedoom.clips_of(chosen) for chosen in freedoom.SETS}
    assert (sets["train"], sets["test"]) == (settings["data"]["train"], settings["data"]["test"])
    grid = settings["frames"] // 2, settings["size"] // 8, settings["size"] // 8
    assert f"a grid of {grid}, {math.prod(grid)} tokens" in told
    table = verdict.power_table((1.0, 1.5, 2.0, 3.0), (0.6, 1.0, 1.5, 2.6))
    assert table in text
    assert re.search(r"mean of\s+the seeds", text)
