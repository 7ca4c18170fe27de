# SPDX-License-Identifier: Apache-2.0
"""Decoded frames on disk: the same clips bit for bit, and a damaged cache is never read."""

import json
import os
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from media import write_video

from smnoise import DataError
from smnoise.data.numbered import loader
from smnoise.data.video.cache import FrameStore, make
from smnoise.data.video.clips import VideoClips, VideoFile, find_videos

from ..zoo_tools import damage, film, turned


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    (folder / "sub").mkdir()
    write_video(folder / "flat.mp4", 30)
    write_video(folder / "old.avi", 12, moving=True)
    write_video(folder / "sub" / "b frames.mp4", 40, moving=True, codec="libx264", bf="2")
    return folder


def clips_of(videos, **kw):
    return VideoClips(find_videos(videos), **{"frames": 4, "stride": 2, "size": 32, **kw})


@pytest.mark.parametrize("short_side", [None, 40])
def test_the_clips_are_those_of_the_decoder(videos, tmp_path, monkeypatch, short_side):
    store = make(videos, tmp_path / "cache", short_side, shard_mib=1)
    want = [clips_of(videos, short_side=short_side)[n]["clip"] for n in range(12)]
    monkeypatch.setattr(VideoFile, "__init__", lambda *_: pytest.fail("a video was opened"))
    clips = clips_of(videos, short_side=short_side, store=store)
    for n, clip in enumerate(want):
        assert torch.equal(clips[n]["clip"], clip)
    batches = list(loader(clips, range(12), 4, 2))
    assert torch.equal(torch.cat([b["clip"] for b in batches]), torch.stack(want))
    store.check()


def test_small_shards_hold_one_video_each_and_a_list_has_its_root(videos, tmp_path):
    listed = tmp_path / "list.txt"
    listed.write_text("".join(f"{p} 3\n" for p in find_videos(videos)))
    store = make(listed, tmp_path / "cache", None, shard_mib=1)
    assert len(store.shards) > 1
    assert all(store.frames(p).shape[1:] == (64, 96, 3) for p in find_videos(videos))
    assert store.frames(videos / "absent.mp4") is None


def test_a_video_that_does_not_decode_is_left_to_the_decoder(videos, tmp_path):
    folder = tmp_path / "videos"
    shutil.copytree(videos, folder)
    (folder / "broken.mp4").write_bytes(b"no video")
    store = make(folder, tmp_path / "cache", None)
    assert list(store.left_out) == ["broken.mp4"]
    clips, plain = clips_of(folder, store=store), clips_of(folder)
    for n in range(12):
        assert torch.equal(clips[n]["clip"], plain[n]["clip"])
        assert clips[n]["broken"] == plain[n]["broken"]


def test_a_partly_broken_video_gives_what_it_gives_without_a_cache(videos, tmp_path):
    path = write_video(tmp_path / "partly.mp4", 200, moving=True, codec="libx264", g="10", bf="0")
    damage(path, *range(100, 150, 7), keep=5)
    shutil.copy(videos / "flat.mp4", tmp_path)
    store = make(tmp_path, tmp_path / "cache", None)
    assert not store.left_out
    entry = store.entries[str(path)]
    assert 8 <= entry["lost"] < 50
    loss = f"{entry['lost']} of 200 frames did not decode (neighbours stand in)"
    assert store.note(path) == f"{path}: {loss}"
    clips, plain = clips_of(tmp_path, store=store), clips_of(tmp_path)
    for n in range(12):
        assert torch.equal(clips[n]["clip"], plain[n]["clip"])
    (path.parent / "notes.txt").write_text("no video")
    done = cache_clips("--data", str(tmp_path), "--out", str(tmp_path / "other"))
    assert f"{path}: {loss}" in done.stdout
    assert "not of a video's suffix (" in done.stdout


def test_a_cache_of_a_version_that_may_have_turned_frames_is_refused(videos, tmp_path):
    store = make(videos, tmp_path / "cache", None)
    index = store.folder / "index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"version": 1}))
    with pytest.raises(DataError, match="version 1, of which frames may be turned, misnumbered or lost"):
        FrameStore(store.folder)


def test_a_turned_video_is_upright_and_its_turn_is_recorded(tmp_path):
    path = turned(film(tmp_path / "phone.mp4"), 0, 1, -1, 0)
    store = make(path, tmp_path / "cache", 24)
    assert store.frames(path).shape == (24, 32, 24, 3)
    assert store.entries[str(path)]["orientation"] == {
        "transposed": True,
        "left_right": True,
        "up_down": False,
    }


def test_moved_videos_and_a_pickled_store(videos, tmp_path):
    store = make(videos, tmp_path / "cache", None)
    store.frames(videos / "flat.mp4")
    pickled = pickle.dumps(store)
    assert len(pickled) < 10_000
    assert np.array_equal(
        pickle.loads(pickled).frames(videos / "flat.mp4"), store.frames(videos / "flat.mp4")
    )
    shutil.copytree(videos, tmp_path / "moved")
    moved = FrameStore(tmp_path / "cache", root=tmp_path / "moved")
    assert moved.frames(tmp_path / "moved" / "flat.mp4") is not None
    assert moved.frames(videos / "flat.mp4") is None


def test_a_damaged_or_unfinished_cache_is_told(videos, tmp_path):
    store = make(videos, tmp_path / "cache", None)
    shard = store.folder / "shard-00000.npy"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(DataError, match="altered: its sha256"):
        FrameStore(store.folder).check()
    shard.write_bytes(whole[:-1])
    with pytest.raises(DataError, match="missing or not of"):
        FrameStore(store.folder)
    shard.write_bytes(whole)
    index = store.folder / "index.json"
    text = index.read_text()
    index.write_text(json.dumps(json.loads(text) | {"version": 0}))
    with pytest.raises(DataError, match="version 0"):
        FrameStore(store.folder)
    index.write_text(text[:100])
    with pytest.raises(DataError, match="no whole cache"):
        FrameStore(store.folder)
    with pytest.raises(DataError, match="already holds"):
        make(videos, store.folder, None)
    index.unlink()
    assert len(make(videos, store.folder, None).entries) == 3


def test_a_video_that_changed_is_told(videos, tmp_path):
    shutil.copytree(videos, tmp_path / "videos")
    store = make(tmp_path / "videos", tmp_path / "cache", None)
    with open(tmp_path / "videos" / "flat.mp4", "ab") as stream:
        stream.write(b"more")
    with pytest.raises(DataError, match="has changed since"):
        store.frames(tmp_path / "videos" / "flat.mp4")


def test_another_short_side_is_an_error(videos, tmp_path):
    store = make(videos, tmp_path / "cache", 40)
    with pytest.raises(ValueError, match="made with short_side 40, but clips are asked for with None"):
        clips_of(videos, store=store)
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    with pytest.raises(DataError, match="none of the 1 videos decodes"):
        make(tmp_path / "broken.mp4", tmp_path / "other", None)


def cache_clips(*arguments):
    command = [sys.executable, "-m", "smnoise.data.video.cache", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


def test_the_command_line(videos, tmp_path):
    out = ["--out", str(tmp_path / "cache")]
    for more, words in ((["--data", str(videos)], "3 videos in 1 shards"), (["--check"], "3 videos")):
        done = cache_clips(*out, *more)
        assert done.returncode == 0, done.stderr
        assert words in done.stdout
    done = cache_clips(*out)
    assert "give data" in done.stderr
    assert "Traceback" not in done.stderr
