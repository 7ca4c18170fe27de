# SPDX-License-Identifier: Apache-2.0
"""The study of the order of losses: cells are made once, go on after a stop, and the table says what they say."""

import json
from dataclasses import replace

import pytest

from smnoise import DataError
from smnoise.study import losses
from smnoise.study.losses import ORDER, Cell, Losses, last_loss, read, run, table

pytest.importorskip("skvideo")
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]


@pytest.fixture
def small(tmp_path, monkeypatch):
    monkeypatch.setattr(losses, "SHAPE", losses.SHAPE | {"size": 16})
    monkeypatch.setattr(losses, "TRAINING", losses.TRAINING | {"num_visible": 16, "batch_size": 3})
    monkeypatch.setattr(losses, "CLIPS", 3)
    monkeypatch.setattr(losses, "EPOCHS", 4)
    return Losses(out=tmp_path / "study", seeds=1)


def test_every_cell_is_made_once_and_the_table_holds_it(small, capsys):
    run(small)
    made = {cell: read(small.out, cell) for cell in small.cells()}
    text = (small.out / "table.md").read_text()
    for cell, result in made.items():
        assert f"| `{cell.mask}` | {result['loss']:.4f} |" in text
    assert len({result["loss"] for result in made.values()}) == len(ORDER)  # each has a mask of its own
    first = small.out / "cells" / f"{ORDER[0]}-0.json"
    kept = json.loads(first.read_text())
    first.write_text(json.dumps(kept | {"loss": 0.123}))
    run(small)
    assert f"| `{ORDER[0]}` | 0.1230 |" in capsys.readouterr().out


def test_a_stopped_study_goes_on_to_the_same_losses(small, tmp_path, monkeypatch):
    monkeypatch.setattr(losses, "ORDER", ORDER[1:3])
    monkeypatch.setattr(losses, "EPOCHS", 16)  # lines of the log after 10 and 16 steps, and at the stop
    asked = []

    def stop():
        asked.append(1)
        return len(asked) >= 2

    run(small, stop)
    assert not list((small.out / "cells").glob("*.json"))
    run(small)
    whole = replace(small, out=tmp_path / "whole")
    run(whole)
    for cell in small.cells():
        assert read(small.out, cell)["loss"] == read(whole.out, cell)["loss"]


def test_cells_of_other_settings_and_damaged_ones_are_refused(small, monkeypatch):
    path = small.out / "cells" / "tube-0.json"
    path.parent.mkdir(parents=True)
    path.write_text("{")
    with pytest.raises(DataError, match="damaged"):
        run(replace(small, table=True))
    path.write_text(json.dumps({"settings": losses.settings_of(Cell("tube", 0)), "loss": 0.5}))
    assert read(small.out, Cell("tube", 0))["loss"] == 0.5
    monkeypatch.setattr(losses, "EPOCHS", 5)
    with pytest.raises(DataError, match="other settings"):
        run(replace(small, table=True))


def test_the_loss_is_that_of_the_last_quarter_by_steps():
    losses_of = ((10, 9.0), (30, 8.0), (35, 2.0), (40, 4.0))
    records = [{"step": step, "loss": loss} for step, loss in losses_of] + [{"score": 1, "step": 40}]
    assert last_loss(records, 40) == 3.0


def test_the_table_says_whether_the_order_is_as_reported():
    by_mask = {"blue-3d": (0.5, 0.51, 0.52), "green-3d": (0.6, 0.61, 0.625), "tube": (0.55, 0.56, 0.571),
               "green-2d-tube": (0.55, 0.57, 0.56)}  # fmt: skip
    found = {
        Cell(mask, seed): {"loss": loss} for mask, all_ in by_mask.items() for seed, loss in enumerate(all_)
    }
    said = [line.split("|")[5].strip() for line in table(found).splitlines()[2:7]]
    assert said == ["-", "yes", "no, the other way round", "not told apart", "-"]
    assert "`blue-3d` < " in table(found)
    assert table(found).splitlines()[6].startswith("| `red-3d` | - | - |")
    assert "one seed does not tell" in table({c: r for c, r in found.items() if c.seed == 1})
    assert "No cell is there yet" in table({})


def test_shares_are_all_cells_once_and_what_is_no_share_is_refused(tmp_path):
    study = Losses(out=tmp_path, seeds=2)
    assert sorted(study.cells()[0::2] + study.cells()[1::2]) == sorted(study.cells())
    with pytest.raises(ValueError, match="share must be K N"):
        Losses(share=(2, 2))
    with pytest.raises(ValueError, match="at least 1 seed"):
        Losses(seeds=0)
