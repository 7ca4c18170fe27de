# SPDX-License-Identifier: Apache-2.0
"""A cache that several processes or machines make, or that was stopped: the same shards, nothing decoded twice."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from media import write_video

from smnoise import DataError
from smnoise.data.video import cache
from smnoise.data.video.cache import make
from smnoise.data.video.clips import find_videos
from smnoise.data.video.store import FrameStore


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Seven videos of which one does not decode; about 0.4 MB of frames each."""
    folder = tmp_path_factory.mktemp("videos")
    for number in range(6):
        write_video(folder / f"{number}.mp4", 20 + number, moving=True)
    (folder / "3 broken.mp4").write_bytes(b"no video")
    return folder


def contents(folder):
    """All files of a cache by name; of the index what does not name the place."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".npy", ".json")}


def test_workers_make_the_same_shards(videos, tmp_path):
    alone = make(videos, tmp_path / "alone", None, shard_mib=1)
    together = make(videos, tmp_path / "together", None, shard_mib=1, workers=2)
    assert len(alone.shards) > 2
    assert contents(alone.folder) == contents(together.folder)
    assert list(together.left_out) == ["3 broken.mp4"]


def test_shares_are_read_as_one_cache(videos, tmp_path):
    whole, out = make(videos, tmp_path / "whole", 32), tmp_path / "shared"
    for part in (2, 0):
        make(videos, out, 32, share=(part, 3))
    with pytest.raises(DataError, match=r"has no whole part-1-of-3; make it with --share"):
        FrameStore(out)
    make(videos, out, 32, share=(1, 3))
    shared = FrameStore(out)
    shared.check()
    assert set(shared.entries) == set(whole.entries)
    assert shared.left_out == whole.left_out
    for path in find_videos(videos):
        if path in whole:
            assert np.array_equal(shared.frames(path), whole.frames(path))


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ({"share": (0, 2)}, {"share": (1, 3)}, "shares of different counts"),
        ({"share": (0, 2)}, {"share": (1, 2), "short_side": 16}, "was made with short_side 16"),
    ],
)
def test_shares_that_do_not_belong_together_are_told(videos, tmp_path, first, second, said):
    for options in (first, second):
        make(videos, tmp_path, **{"short_side": 32, **options})
    with pytest.raises(DataError, match=said):
        FrameStore(tmp_path)


def test_more_shares_than_videos_are_refused(videos, tmp_path):
    with pytest.raises(DataError, match="share 8 of 9 has none of the 7 videos"):
        make(videos, tmp_path, None, share=(8, 9))
    with pytest.raises(ValueError, match="share must be K N with K from 0 to N - 1, got 2 2"):
        cache.Config(out=tmp_path, data=videos, share=(2, 2))
    make(videos, tmp_path / "whole", None)
    with pytest.raises(DataError, match=r"already holds index\.json"):
        make(videos, tmp_path / "whole", None, share=(0, 2))


class Stopped(Exception):
    pass


@pytest.mark.parametrize("after", range(1, 7))
def test_one_that_was_stopped_goes_on(videos, tmp_path, monkeypatch, after):
    """Stopped before each video in turn: what whole shards hold is not decoded again, and the cache is the same."""
    want = contents(make(videos, tmp_path / "want", None, shard_mib=1).folder)
    decode, seen = cache._decode, []

    def stopping(path, short_side, rate):
        if len(seen) == after:
            raise Stopped
        seen.append(path)
        return decode(path, short_side, rate)

    monkeypatch.setattr(cache, "_decode", stopping)
    with pytest.raises(Stopped):
        make(videos, tmp_path / "cache", None, shard_mib=1)
    again, told = [], []
    monkeypatch.setattr(cache, "_decode", lambda *args: again.append(args[0]) or decode(*args))
    whole = json.loads((tmp_path / "cache" / "making.json").read_text())
    assert len(whole["videos"]) == 7
    shards = len(list((tmp_path / "cache").glob("shard-*.npy")))
    store = make(videos, tmp_path / "cache", None, shard_mib=1, tell=told.append)
    assert contents(store.folder) == want
    assert bool(shards) == any("going on behind" in line for line in told)
    assert len(again) + after >= 7
    assert len(again) < 7 or not shards


def test_after_another_setting_or_video_it_is_begun_anew(videos, tmp_path, monkeypatch):
    out = tmp_path / "cache"
    monkeypatch.setattr(cache._Making, "end", lambda self: pytest.fail("stopped"))
    with pytest.raises(pytest.fail.Exception):
        make(videos, out, None, shard_mib=1)
    monkeypatch.undo()
    told = []
    store = make(videos, out, 32, shard_mib=1, tell=told.append)
    assert told == [f"{out} held an unfinished cache of other videos or settings: begun anew"]
    assert contents(store.folder) == contents(make(videos, tmp_path / "want", 32, shard_mib=1).folder)


def test_a_shard_that_was_cut_short_is_made_again(videos, tmp_path, monkeypatch):
    out = tmp_path / "cache"
    monkeypatch.setattr(cache._Making, "end", lambda self: pytest.fail("stopped"))
    with pytest.raises(pytest.fail.Exception):
        make(videos, out, None, shard_mib=1)
    monkeypatch.undo()
    second = out / "shard-00001.npy"
    second.write_bytes(second.read_bytes()[:-1])
    told = []
    store = make(videos, out, None, shard_mib=1, tell=told.append)
    assert "going on behind 1 whole shards" in told[0]
    store.check()
    assert contents(store.folder) == contents(make(videos, tmp_path / "want", None, shard_mib=1).folder)


def is_alive(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_killed_command_goes_on(videos, tmp_path):
    """With workers, killed for good: they end too, and the same command finishes."""
    command = [sys.executable, "-m", "smnoise.data.video.cache", "--data", videos, "--out", tmp_path / "cache",
               "--shard-mib", "1", "--workers", "1"]  # fmt: skip
    command = list(map(str, command))
    running = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL)
    while running.poll() is None and not list((tmp_path / "cache").glob("shard-*.npy.json")):
        time.sleep(0.01)
    children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
    assert children
    running.send_signal(signal.SIGKILL)
    running.wait()
    while any(map(is_alive, children)):  # if one lives on, this does not end, and is ended by whoever runs it
        time.sleep(0.01)
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "left to the decoder" in done.stdout
    FrameStore(tmp_path / "cache").check()
