# SPDX-License-Identifier: Apache-2.0
"""Videos in tar files are those of a folder, bit for bit; damaged, compressed and altered ones are told."""

import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from media import write_video

from smnoise import DataError
from smnoise.data import tars
from smnoise.data.audio.clips import find_sounds
from smnoise.data.found import file_notes, find_files
from smnoise.data.labels import labelled_videos
from smnoise.data.video.cache import make
from smnoise.data.video.clips import VIDEO, VideoClips, find_videos, open_video
from smnoise.data.video.views import EveryVideo

CODECS = {
    "a.mp4": {},
    "b.avi": {},
    "sub/c d,e.mkv": {"codec": "libx264", "bf": "2"},
    "d.webm": {"codec": "libvpx-vp9"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    (folder / "sub").mkdir()
    for number, (name, options) in enumerate(CODECS.items()):
        write_video(folder / name, 20 + number, moving=True, **options)
        (folder / name).with_suffix(".cls").write_text(f"{number % 2}\n")
    return folder


def pack(folder: Path, tar: Path, form=tarfile.GNU_FORMAT, prefix="", mode="w") -> Path:
    tar.parent.mkdir(exist_ok=True)
    with tarfile.open(tar, mode, format=form) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.add(path, prefix + path.relative_to(folder).as_posix())
    return tar


@pytest.fixture
def shards(folder, tmp_path):
    pack(folder, tmp_path / "shards" / "shard, 0.tar", prefix="./")
    return tmp_path / "shards"


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_where_tarfile_finds_them(folder, tmp_path, form):
    long = "x" * 90 + "/" + "y" * 90 + ".mp4"
    tar = tmp_path / "a.tar"
    with tarfile.open(tar, "w", format=form) as archive:
        archive.add(folder / "a.mp4", long)
        archive.add(folder / "a.cls", "a.cls")
        archive.add(folder / "a.mp4", "a.cls")  # again: the last one counts
    found = tars.members(tar)
    with open(tar, "rb") as stream, tarfile.open(tar) as archive:
        assert set(found) == {member.name for member in archive}
        for name, place in found.items():
            stream.seek(place.begin)
            assert stream.read(place.size) == archive.extractfile(name).read()


def test_frames_and_clips_are_those_of_the_files(folder, shards):
    plain, packed = find_videos(folder), find_videos(shards)
    assert [p.relative_to(folder) for p in plain] == [p.relative_to(shards / "shard, 0.tar") for p in packed]
    for one, other in zip(plain, packed, strict=True):
        assert np.array_equal(open_video(one).read_whole(), open_video(other).read_whole())
        assert np.array_equal(open_video(one).read([3, 17]), open_video(other).read([3, 17]))
    first, second = (VideoClips(paths, frames=4, stride=2, size=32) for paths in (plain, packed))
    for n in range(8):
        assert torch.equal(first[n]["clip"], second[n]["clip"])
    every = [EveryVideo(paths, 4, 2, 32)[2]["clip"] for paths in (plain, packed)]
    assert torch.equal(*every)


def test_a_file_beside_the_tars_a_list_and_a_single_tar(folder, shards, tmp_path):
    shutil.copy(folder / "a.mp4", shards)
    assert len(find_videos(shards)) == 5
    tar = shards / "shard, 0.tar"
    assert len(find_videos(tar)) == 4
    listed = tmp_path / "list.csv"
    listed.write_text(f'path,label\n"{tar / "b.avi"}",1\n"{tar / "absent.avi"}",1\n')
    assert find_videos(listed) == [tar / "b.avi"]
    assert file_notes(listed, VIDEO) == [f"skipped: '\"{tar / 'absent.avi'}\",1' of {listed} names no file"]


def test_labels_lie_beside_the_videos(shards, folder, tmp_path):
    train, _ = labelled_videos(shards, shards)
    assert train.names == ["0", "1"]
    assert train.numbers().tolist() == [0, 1, 1, 0]  # a, b, d, sub/c
    bare = tmp_path / "bare"
    pack(folder / "sub", bare / "0.tar")
    with tarfile.open(bare / "0.tar", "a") as archive:
        archive.add(folder / "a.mp4", "no label.mp4")
    with pytest.raises(DataError, match=r"no label\.mp4 has no label: 0\.tar holds no no label\.cls"):
        labelled_videos(bare, bare)


def test_a_cache_of_videos_in_tars(folder, shards, tmp_path):
    store, plain = make(shards, tmp_path / "cache", 32), make(folder, tmp_path / "plain", 32)
    for one, other in zip(find_videos(folder), find_videos(shards), strict=True):
        assert np.array_equal(plain.frames(one), store.frames(other))


def test_an_index_spares_the_headers_and_an_old_one_is_not_believed(shards, folder, monkeypatch):
    tar = shards / "shard, 0.tar"
    want = tars.members(tar)
    command = [sys.executable, "-m", "smnoise.data.tars", str(shards)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout == f"{tar}: 8 files\n", done.stderr
    tars._members.cache_clear()
    monkeypatch.setattr(tars, "_scanned", lambda *_: pytest.fail("headers were read"))
    assert tars.members(tar) == want
    monkeypatch.undo()
    index = tar.with_name(tar.name + ".index.json")
    whole = json.loads(index.read_text())
    for wrong in ({"version": 0}, {"size": 3}, {"files": [["a.mp4", 0, 1 << 40]]}, {"files": [["a.mp4"]]}):
        index.write_text(json.dumps(whole | wrong))
        tars._members.cache_clear()
        assert tars.members(tar) == want
    with tarfile.open(tar, "a") as archive:
        archive.add(folder / "a.mp4", "new.mp4")
    assert "new.mp4" in tars.members(tar)


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_a_compressed_tar_is_told(folder, tmp_path, mode):
    pack(folder, tmp_path / "shards" / "0.tar", mode=mode)
    with pytest.raises(
        DataError, match=r"0\.tar is no whole tar \(.*a compressed one cannot be read in place: unpack"
    ):
        find_videos(tmp_path / "shards")


def test_a_tar_that_breaks_off_or_is_none_is_told(shards):
    tar = shards / "shard, 0.tar"
    whole = tar.read_bytes()
    places = list(tars.members(tar).values())
    for end in (places[-1].begin + 5, places[2].begin + 100, 700):
        tar.write_bytes(whole[:end])
        with pytest.raises(DataError, match=r"breaks off|no whole tar"):
            find_videos(shards)
    tar.write_bytes(b"no tar at all" * 100)
    with pytest.raises(DataError, match="no whole tar"):
        find_videos(shards)


def test_a_damaged_video_in_a_tar_is_skipped_and_named(folder, tmp_path):
    files = tmp_path / "files"
    shutil.copytree(folder, files)
    (files / "b.avi").write_bytes(b"no video")
    pack(files, tmp_path / "shards" / "0.tar")
    clips = VideoClips(find_videos(tmp_path / "shards"), frames=4, stride=2, size=32)
    said = {str(message) for n in range(8) for message in clips[n]["broken"]}
    assert len(said) == 1
    assert "0.tar/b.avi" in said.pop()


def test_a_playlist_in_a_tar_leads_nowhere(folder, tmp_path):
    """A list of other files is no video, wherever it lies."""
    files = tmp_path / "files"
    files.mkdir()
    (files / "list.mkv").write_text(f"ffconcat version 1.0\nfile {folder / 'a.mp4'}\n")
    tar = pack(files, tmp_path / "0.tar")
    with pytest.raises(DataError, match=r"list\.mkv"):
        open_video(tar / "list.mkv")


def test_a_name_that_a_tar_has_not_and_sounds(shards):
    with pytest.raises(DataError, match=r"shard, 0\.tar has no absent\.mp4"):
        open_video(shards / "shard, 0.tar" / "absent.mp4")
    with pytest.raises(DataError, match=r"no sound file in folder .*\.tar 1"):
        find_sounds(shards)
    assert find_files(shards, VIDEO) == find_videos(shards)
