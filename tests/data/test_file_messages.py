# SPDX-License-Identifier: Apache-2.0
"""What a run says of its files: of each once, skipped or served in part, and how many of other suffixes there are."""

import pickle
import re
import shutil

import pytest
from media import write_video

from smnoise.data.found import file_notes
from smnoise.data.messages import FileMessage, as_event, is_served, unheard
from smnoise.data.video.cache import make
from smnoise.data.video.clips import VIDEO
from smnoise.train import finetune_video, video
from smnoise.train.run import log

from .zoo_tools import damage, film

SMALL = {"model": "nano", "frames": 4, "stride": 2, "size": 32, "patch": 16, "mask_ratio": 0.75, "batch_size": 2,
         "epochs": 1, "warmup_epochs": 0, "clips_per_video": 4, "device": "cpu", "log_every": 1}  # fmt: skip


def test_a_message_keeps_its_file_through_a_pickle():
    """Loader workers and other processes send them."""
    message = pickle.loads(pickle.dumps(FileMessage("a.mp4: lost", "a.mp4", served=True)))
    assert (message, message.file, message.served) == ("a.mp4: lost", "a.mp4", True)
    assert is_served(message)
    assert not is_served(FileMessage("a.mp4: lost", "a.mp4"))
    assert not is_served("a.mp4: lost")


def test_a_file_is_told_once_whatever_is_said_of_it():
    told = set()
    one, other = FileMessage("a: frames 3..9", "a"), FileMessage("a: frames 5..7", "a")
    part = FileMessage("b: 1 of 9", "b", served=True)
    assert unheard([other, one, part], told) == [one, part]
    assert unheard([other, part, "plain"], told) == ["plain"]
    assert as_event(one, "(1 of 2 files)") == "skipped: a: frames 3..9 (1 of 2 files)"
    assert as_event(part, "(1 of 2 files)") == "b: 1 of 9 (1 of 2 files)"


@pytest.fixture
def folder(tmp_path):
    """Two whole videos, two of which some frames do not decode, one of noise, and what is no video."""
    data = tmp_path / "data"
    data.mkdir()
    for n in range(2):
        write_video(data / f"whole {n}.mp4", 30, moving=True)
    damage(film(data / "seen.mp4", frames=40), *range(2, 40, 3))
    damage(film(data / "met.mp4", frames=40), *range(2, 40, 3), keep=5)
    (data / "broken.mp4").write_bytes(b"no video")
    for name in ("notes.txt", "a.JPG", "b.jpg", "README", ".hidden"):
        (data / name).write_text("no video")
    return data


def events(run):
    return [record["event"] for record in log.read(run) if "event" in record]


def test_files_of_other_suffixes_are_counted(folder, tmp_path):
    assert file_notes(folder, VIDEO) == [
        f"skipped: 4 files of {folder}, not of a video's suffix (.jpg 2, .txt 1, no suffix 1)"
    ]
    (tmp_path / "list.txt").write_text("data/seen.mp4\ngone.mp4\n")
    assert file_notes(tmp_path / "list.txt", VIDEO) == [
        f"skipped: 'gone.mp4' of {tmp_path / 'list.txt'} names no file"
    ]
    for path in folder.iterdir():
        if path.suffix != ".mp4":
            path.unlink()
    assert file_notes(folder, VIDEO) == []


@pytest.mark.parametrize(("workers", "cached"), [(0, False), (2, False), (0, True)])
def test_a_run_tells_each_file_once(folder, tmp_path, workers, cached):
    cache = make(folder, tmp_path / "cache", None).folder if cached else None
    config = video.Config(data=folder, out=tmp_path / "run", workers=workers, frames_cache=cache, **SMALL)
    video.pretrain(config)
    said = [e for e in events(config.out) if "data/" in e and "videos are read" not in e]
    served = sorted(e.rsplit("/", 1)[1] for e in said if "broken.mp4" not in e)
    for said_of, name in zip(served, ("met.mp4", "seen.mp4"), strict=True):
        assert re.match(rf"{name}: \d+ of 40 frames did not decode \(neighbours stand in\) \(", said_of)
    assert sorted(e.removesuffix(" files)")[-6:] for e in served) == ["1 of 5", "2 of 5"]
    assert sum(e.startswith("skipped: ") and "broken.mp4" in e and "(1 of 5 files)" in e for e in said) == 1
    assert len(said) == 3
    assert sum("4 files of" in e for e in events(config.out)) == 1


def test_fine_tuning_and_its_test_set_tell_each_file_once(folder, tmp_path):
    for side in ("train", "test"):
        for label, name in enumerate(("whole 0.mp4", "met.mp4", "broken.mp4")):
            target = tmp_path / side / str(label % 2) / f"{side} {name}"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(folder / name, target)
    run = video.Config(data=folder, out=tmp_path / "run", workers=0, **SMALL)
    video.pretrain(run)
    config = finetune_video.Config(
        train=tmp_path / "train", test=tmp_path / "test", out=tmp_path / "fine", run=run.out, batch_size=2,
        accumulate=1, views=2, epochs=2, warmup_epochs=1, segments=2, crops=1, workers=0, device="cpu", log_every=1,
    )  # fmt: skip
    finetune_video.finetune(config)
    said = events(config.out)
    for side in ("train", "test"):
        met = [e for e in said if f"{side} met.mp4" in e]
        assert len(met) == 1
        assert "of 40 frames did not decode" in met[0]
        assert not met[0].startswith("skipped")
        assert len([e for e in said if e.startswith("skipped") and f"{side} broken.mp4" in e]) == 1
