# SPDX-License-Identifier: Apache-2.0
"""Checkpoints survive what happens to files."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from smnoise import CheckpointError
from smnoise.train import video
from smnoise.train.job import Job
from smnoise.train.run import checkpoint
from smnoise.train.run.folder import Opened
from smnoise.train.run.ledger import Ledger
from smnoise.train.run.log import RunLog
from smnoise.train.run.throughput import LoaderWaits
from smnoise.train.world import ALONE


@pytest.fixture
def trained():
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return model, optimizer


def test_what_is_saved_comes_back(trained, tmp_path):
    model, optimizer = trained
    checkpoint.save(tmp_path, 7, model, optimizer, {"note": "x"})
    tensors, moments, state, wrong = checkpoint.newest(tmp_path)
    assert state == {"step": 7, "note": "x"}
    assert wrong == []
    other = torch.nn.Linear(3, 2)
    other_optimizer = torch.optim.AdamW(other.parameters(), lr=0.1)
    checkpoint.restore(other, other_optimizer, tensors, moments)
    for m, o in ((model, optimizer), (other, other_optimizer)):  # one more step each: the same weights
        o.zero_grad()
        m(torch.ones(1, 3)).square().sum().backward()
        o.step()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_only_the_newest_are_kept(trained, tmp_path):
    for step in (1, 2, 3, 10):
        checkpoint.save(tmp_path, step, *trained, {})
    assert [f.name for f in checkpoint.steps(tmp_path)] == ["step-00000010", "step-00000003"]


def test_other_folders_are_neither_read_nor_deleted(trained, tmp_path):
    first = checkpoint.save(tmp_path, 1, *trained, {})
    for name in ("step-best", "step-1"):
        shutil.copytree(first, first.parent / name)
    newer = checkpoint.save(tmp_path, 9, *trained, {})  # of a run that then went back to step 1
    for step in (2, 3, 4):
        checkpoint.save(tmp_path, step, *trained, {})
    names = sorted(f.name for f in first.parent.iterdir())
    assert names == ["step-00000003", "step-00000004", newer.name, "step-1", "step-best"]


def _truncate(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-5])


def _flip_a_bit(folder):
    path = folder / "optimizer.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def _remove(name):
    return lambda folder: (folder / name).unlink()


def _empty_manifest(folder):
    (folder / "manifest.json").write_text("{}")


def _foreign_manifest(folder):
    (folder / "manifest.json").write_text("[1]")


@pytest.mark.parametrize(
    "damage",
    [_truncate, _flip_a_bit, _remove("model.safetensors"), _remove("manifest.json"), _remove("state.json"),
     _empty_manifest, _foreign_manifest],
)  # fmt: skip
def test_a_damaged_checkpoint_is_told_and_the_one_before_used(trained, tmp_path, damage):
    checkpoint.save(tmp_path, 1, *trained, {})
    newest = checkpoint.save(tmp_path, 2, *trained, {})
    damage(newest)
    with pytest.raises(CheckpointError, match="step-00000002"):
        checkpoint.read(newest)
    *_, state, wrong = checkpoint.newest(tmp_path)
    assert state["step"] == 1
    assert len(wrong) == 1
    assert "step-00000002" in wrong[0]


def test_without_a_whole_one_there_is_an_error(trained, tmp_path):
    with pytest.raises(CheckpointError, match="it has none"):
        checkpoint.newest(tmp_path)
    _truncate(checkpoint.save(tmp_path, 1, *trained, {}))
    with pytest.raises(CheckpointError, match="step-00000001"):
        checkpoint.newest(tmp_path)


def test_a_failure_while_saving_leaves_the_older_one(trained, tmp_path, monkeypatch):
    checkpoint.save(tmp_path, 1, *trained, {})

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "sync", full)
        with pytest.raises(CheckpointError, match="No space left"):
            checkpoint.save(tmp_path, 2, *trained, {})
    assert [f.name for f in (tmp_path / checkpoint.FOLDER).iterdir()] == ["step-00000001"]
    assert checkpoint.newest(tmp_path)[2]["step"] == 1
    checkpoint.save(tmp_path, 2, *trained, {})  # what was left behind is in nobody's way
    assert sorted(f.name for f in (tmp_path / checkpoint.FOLDER).iterdir()) == [
        "step-00000001",
        "step-00000002",
    ]


def test_a_folder_that_cannot_be_written_is_an_error(trained, tmp_path):
    (tmp_path / checkpoint.FOLDER).write_text("a file where the folder should be")
    with pytest.raises(CheckpointError, match="cannot write"):
        checkpoint.save(tmp_path, 1, *trained, {})


def test_a_checkpoint_of_another_model_is_refused(trained, tmp_path):
    checkpoint.save(tmp_path, 1, *trained, {})
    tensors, moments, *_ = checkpoint.newest(tmp_path)
    other = torch.nn.Linear(4, 2)
    with pytest.raises(CheckpointError, match="another model"):
        checkpoint.restore(other, torch.optim.AdamW(other.parameters()), tensors, moments)


def test_no_pickle_is_written(trained, tmp_path):
    folder = checkpoint.save(tmp_path, 1, *trained, {})
    assert sorted(f.name for f in folder.iterdir()) == [
        "manifest.json", "model.safetensors", "optimizer.safetensors", "state.json"]  # fmt: skip
    assert set(json.loads((folder / "manifest.json").read_text())) == {
        "model.safetensors", "optimizer.safetensors", "state.json"}  # fmt: skip


def test_steps_of_any_number_of_digits_are_found_and_sorted_as_numbers(trained, tmp_path):
    steps = (99_999_998, 99_999_999, 100_000_000, 1_000_000_000, 20_000_000_000)
    for step in steps:
        checkpoint.save(tmp_path, step, *trained, {}, keep=3)
    assert [checkpoint.number(f) for f in checkpoint.steps(tmp_path)] == [*steps[:1:-1]]
    assert checkpoint.newest(tmp_path)[2]["step"] == steps[-1]
    checkpoint.save(tmp_path, 999_999_999, *trained, {}, keep=1)  # of a run that went back
    names = sorted(int(f.name[5:]) for f in (tmp_path / checkpoint.FOLDER).iterdir())
    assert names == [999_999_999, *steps[3:]]  # 100_000_000 is older, the others are not


def test_the_log_is_on_the_disk_before_a_checkpoint(trained, tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr(checkpoint, "save", lambda *_, **__: done.append("checkpoint"))
    fsync = os.fsync

    def synced(descriptor):
        done.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        fsync(descriptor)

    config = video.Config(data=tmp_path, out=tmp_path, batch_size=1, save_every=2, log_every=1)
    model, optimizer = trained
    with RunLog(tmp_path, 0, 2) as log:
        clips = torch.utils.data.TensorDataset(torch.zeros(1))
        clips.paths = [tmp_path]
        job = Job(title="", model=model, groups=list, clips=clips, loss=None, blank=None, recipe={})
        ledger = Ledger(
            config, job, log, Opened(0, [], {}, {}), 2, optimizer, torch.device("cpu"), ALONE, LoaderWaits()
        )
        monkeypatch.setattr(os, "fsync", synced)
        for step in (1, 2):
            ledger.forward(torch.tensor(1.0), {"broken": []})
            ledger.end(step, torch.tensor(1.0), False)
    assert done == ["log.jsonl", "checkpoint"]
