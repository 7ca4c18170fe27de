# SPDX-License-Identifier: Apache-2.0
"""Clips of real files: the right frames, the same ones in every run, and broken files never fatal."""

import os
import re
import shutil

import av
import numpy as np
import pytest
import torch
from media import frame_number, write_video

from smnoise import DataError
from smnoise.data.draws import choose, permutation
from smnoise.data.lists import lines_without_file
from smnoise.data.messages import is_served
from smnoise.data.video.clips import (
    VIDEO,
    VideoClips,
    VideoFile,
    clip_indices,
    collate,
    crop_box,
    find_videos,
    loader,
)
from smnoise.data.video.reader import _opened

from ..zoo_tools import damage


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    (folder / "sub").mkdir()
    write_video(folder / "flat.mp4", 30)
    write_video(folder / "short one.avi", 5)
    write_video(folder / "sub" / "moving.mp4", 40, moving=True)
    (folder / "notes.txt").write_text("no video")
    return folder


def test_a_folder_is_searched_in_a_fixed_order(videos):
    assert [p.name for p in find_videos(videos)] == ["flat.mp4", "short one.avi", "moving.mp4"]
    assert find_videos(videos / "flat.mp4") == [videos / "flat.mp4"]


def test_links_to_folders_are_followed_but_not_round_and_round(videos, tmp_path):
    """Data often lies on another disk, behind a link."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "elsewhere").symlink_to(videos, target_is_directory=True)
    (data / "round").symlink_to(tmp_path, target_is_directory=True)
    (data / "self").symlink_to(data / "self")
    (data / "dangling.mp4").symlink_to(tmp_path / "absent.mp4")
    (data / "file.mp4").symlink_to(videos / "flat.mp4")
    found = [path.relative_to(data).as_posix() for path in find_videos(data)]
    names = ["flat.mp4", "short one.avi", "sub/moving.mp4"]
    assert found == [*(f"elsewhere/{name}" for name in names), "file.mp4"]


def test_list_files_as_people_have_them(videos, tmp_path):
    (videos / "train.csv").write_text(
        f"# comment\n\nflat.mp4 17\nshort one.avi\nsub/moving.mp4 0 40 3\nflat.mp4,2\ngone.mp4 1\n{videos}/flat.mp4\n"
    )
    names = [p.name for p in find_videos(videos / "train.csv")]
    assert names == ["flat.mp4", "short one.avi", "moving.mp4", "flat.mp4", "flat.mp4"]
    assert lines_without_file(videos / "train.csv", VIDEO) == ["gone.mp4 1"]


def test_a_line_never_means_another_file(videos, tmp_path):
    for name in ("a,b.mp4", "a b.mp4", "c.mp4"):
        shutil.copy(videos / "flat.mp4", tmp_path / name)
    lines = ["a,b.mp4 3", "a,b.mp4,3", "c.mp4\t3", "c.mp4, 3", "x" * 300]
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbf" + "\n".join(lines).encode())
    assert [p.name for p in find_videos(tmp_path / "list.txt")] == ["a,b.mp4", "a,b.mp4", "c.mp4", "c.mp4"]
    assert lines_without_file(tmp_path / "list.txt", VIDEO) == ["x" * 300]


def test_without_videos_the_error_says_what_was_looked_for(videos, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no video in folder .*\.mp4"):
        find_videos(tmp_path / "empty")
    with pytest.raises(DataError, match="neither a folder"):
        find_videos(tmp_path / "absent")
    (tmp_path / "list.txt").write_text("gone.mp4\n")
    with pytest.raises(DataError, match=r"none of the 1 lines.*gone\.mp4"):
        find_videos(tmp_path / "list.txt")
    (tmp_path / "blank.txt").write_text("\n")
    with pytest.raises(DataError, match="none of the 0 lines"):
        find_videos(tmp_path / "blank.txt")
    shutil.copy(videos / "flat.mp4", tmp_path / "video.bin")
    with pytest.raises(DataError, match="text list"):
        find_videos(tmp_path / "video.bin")


@pytest.mark.parametrize("wanted", [[0], [29], [0, 4, 8], [13, 14, 27], [5, 5, 5], list(range(30))])
def test_the_frames_asked_for_are_the_frames_that_come(videos, wanted):
    images = VideoFile(videos / "flat.mp4").read(wanted)
    assert images.shape == (len(wanted), 64, 96, 3)
    assert images.dtype == np.uint8
    assert [frame_number(image) for image in images] == wanted


def test_frames_can_be_reduced_while_decoding_but_never_enlarged(videos):
    file = VideoFile(videos / "flat.mp4")
    assert file.read([0], short_side=32).shape == (1, 32, 48, 3)
    assert file.read([0], short_side=640).shape == (1, 64, 96, 3)


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("x.mp4", "libx264", {"bf": "3"}),
        ("open.mp4", "libx264", {"bf": "2", "x264-params": "open-gop=1:keyint=8:scenecut=0"}),
        ("refreshed.mp4", "libx264", {"x264-params": "intra-refresh=1:keyint=8"}),
        ("x.mkv", "libx264", {"bf": "2"}),
        ("5.mkv", "libx265", {"x265-params": "open-gop=1:keyint=5:min-keyint=5:bframes=4:log-level=none"}),
        ("9.webm", "libvpx-vp9", {"auto-alt-ref": "1", "lag-in-frames": "10"}),
        ("x.avi", "libx264", {"bf": "2"}),
        ("4.avi", "mpeg4", {"bf": "2"}),
        ("4.mp4", "mpeg4", {"bf": "2"}),
        ("2.mpg", "mpeg2video", {"bf": "2"}),
        ("1.mpeg", "mpeg1video", {}),
    ],
)
def test_every_container_gives_the_frames_that_decoding_from_the_start_gives(tmp_path, name, codec, options):
    path = write_video(tmp_path / name, 60, fps=25, moving=True, codec=codec, **options)
    with av.open(str(path)) as container:
        frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    file = VideoFile(path)
    assert len(frames) - 2 <= file.frames <= len(frames)
    for first in range(file.frames - 5):
        wanted = [first, first + 2, first + 5]
        for at, image in zip(wanted, file.read(wanted), strict=True):
            assert np.array_equal(image, frames[at]), f"frame {at}"


def test_decoding_begins_at_the_nearest_keyframe(tmp_path):
    file = VideoFile(
        write_video(tmp_path / "x.mp4", 40, codec="libx264", g="10", **{"x264-params": "scenecut=0"})
    )
    stamps, keys = file.index.stamps, file.index.keys
    assert [stamps.index(key) for key in keys] == [0, 10, 20, 30]
    assert [file._key_before(n) for n in (0, 9, 10, 29, 39)] == [None, None, *keys[1:]]


def test_a_video_that_changes_its_size_is_brought_to_one(tmp_path):
    """Two raw streams behind each other: the first frame has the size that counts."""
    streams = b""
    for size in ((96, 64), (128, 96)):
        with av.open(str(tmp_path / "one.h264"), "w") as container:
            stream = container.add_stream("libx264", rate=10)
            stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
            for _ in range(12):
                frame = av.VideoFrame.from_ndarray(
                    np.full((size[1], size[0], 3), 90, np.uint8), format="rgb24"
                )
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        streams += (tmp_path / "one.h264").read_bytes()
    (tmp_path / "two.mp4").write_bytes(streams)
    assert VideoFile(tmp_path / "two.mp4").read(list(range(24))).shape == (24, 64, 96, 3)


@pytest.mark.parametrize(
    ("frames", "length", "stride", "start", "want"),
    [
        (100, 4, 4, 7, [7, 11, 15, 19]),
        (10, 4, 4, 0, [0, 4, 8, 8]),
        (5, 4, 2, 0, [0, 2, 4, 4]),
        (1, 3, 4, 0, [0, 0, 0]),
    ],
)
def test_clip_indices(frames, length, stride, start, want):
    assert clip_indices(frames, length, stride, start) == want


def test_crops_are_the_multi_scale_crops_of_the_recipe():
    boxes = {crop_box(240, 320, 0, sample) for sample in range(3000)}
    sides = (240, 210, 180, 158)  # 1, .875, .75, .66 of the short side
    pairs = {(h, w) for _, _, h, w in boxes}
    assert pairs == {(a, b) for i, a in enumerate(sides) for j, b in enumerate(sides) if abs(i - j) <= 1}
    for top, left, height, width in boxes:
        assert 0 <= top <= 240 - height
        assert 0 <= left <= 320 - width
    assert len({(top, left) for top, left, h, w in boxes if (h, w) == (180, 180)}) == 13


def clips_of(videos, **kw):
    return VideoClips(find_videos(videos), **{"frames": 4, "stride": 2, "size": 32, **kw})


def test_an_epoch_visits_every_clip_once_in_a_new_order():
    orders = [permutation(3, epoch, 1000).tolist() for epoch in range(3)]
    assert all(sorted(order) == list(range(1000)) for order in orders)
    assert orders[0] != orders[1] != orders[2]
    assert permutation(4, 0, 1000).tolist() != orders[0]
    assert permutation(0, 0, 1).tolist() == [0]


def test_choices_are_even():
    counts = np.bincount([choose(0, sample, slot, 7) for sample in range(2000) for slot in range(5)])
    assert len(counts) == 7
    assert abs(counts / 10_000 - 1 / 7).max() < 0.015


def test_a_clip_is_a_function_of_its_sample_number(videos):
    samples = [0, 5, 17, 10**12]
    first = [clips_of(videos)[s]["clip"] for s in samples]
    again = clips_of(videos, cache_mib=64)
    for sample, clip in zip(reversed(samples), reversed(first), strict=True):
        assert torch.equal(again[sample]["clip"], clip)
        assert (clip.shape, clip.dtype) == ((3, 4, 32, 32), torch.uint8)
    assert not torch.equal(clips_of(videos, seed=1)[17]["clip"], first[2])


@pytest.mark.parametrize("workers", [0, 2])
def test_any_number_of_workers_gives_the_same_batches(videos, workers):
    clips = clips_of(videos, clips_per_video=3)
    want = [clips[s]["clip"] for s in range(4, 14)]
    batches = list(loader(clips, range(4, 14), 5, workers))
    assert [b["sample"].tolist() for b in batches] == [list(range(4, 9)), list(range(9, 14))]
    assert torch.equal(torch.cat([b["clip"] for b in batches]), torch.stack(want))


def test_a_cache_that_is_full_changes_nothing(videos):
    for cache_mib in (0, 1, 64):
        clips = clips_of(videos, cache_mib=cache_mib)
        assert torch.equal(clips[3]["clip"], clips_of(videos)[3]["clip"])


def _empty(path):
    path.write_bytes(b"")


def _noise(path):
    path.write_bytes(os.urandom(4096))


def _half(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _no_frames(path):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        container.start_encoding()


@pytest.mark.parametrize("spoil", [_empty, _noise, _half, _no_frames])
def test_a_broken_file_is_skipped_and_named(videos, tmp_path, spoil):
    shutil.copy(videos / "flat.mp4", tmp_path / "good.mp4")
    shutil.copy(videos / "flat.mp4", tmp_path / "spoiled.mp4")
    spoil(tmp_path / "spoiled.mp4")
    with pytest.raises(DataError, match=r"spoiled\.mp4"):
        VideoFile(tmp_path / "spoiled.mp4")
    clips = clips_of(tmp_path)
    batch = collate([clips[s] for s in range(8)])
    assert batch["clip"].shape == (8, 3, 4, 32, 32)
    assert len(batch["broken"]) == 1
    assert "spoiled.mp4" in batch["broken"][0]
    (tmp_path / "good.mp4").unlink()
    with pytest.raises(DataError, match=r"none of the 1 videos decodes(?s:.*)spoiled\.mp4"):
        clips_of(tmp_path)[0]


def test_a_file_without_a_picture_is_no_video(tmp_path):
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        for packet in [*stream.encode(frame), *stream.encode()]:
            container.mux(packet)
    with pytest.raises(DataError, match=r"sound\.mp4 has no picture"):
        VideoFile(tmp_path / "sound.mp4")


@pytest.mark.parametrize("keep", [0, 5])  # damage that the packets show, and damage that a read meets
def test_what_a_process_met_before_changes_no_clip(videos, tmp_path, keep):
    """A file of which some frames do not decode: order, worker counts and restarts must not matter."""
    partly = write_video(tmp_path / "partly.mp4", 200, moving=True, codec="libx264", g="10", bf="2")
    damage(partly, *range(100, 150, 7), keep=keep)
    shutil.copy(videos / "sub" / "moving.mp4", tmp_path / "whole.mp4")
    alone = []
    for sample in range(40):
        _opened.cache_clear()
        alone.append(clips_of(tmp_path)[sample])
    assert not any(message for item in alone for message in item["broken"] if not is_served(message))
    told = {message for item in alone for message in item["broken"]}
    assert len(told) == 1
    assert re.search(r"partly\.mp4: \d+ of 200 frames did not decode \(neighbours stand in\)$", told.pop())
    _opened.cache_clear()
    clips = clips_of(tmp_path)
    for sample in reversed(range(40)):
        assert torch.equal(clips[sample]["clip"], alone[sample]["clip"]), sample


def test_a_short_video_repeats_its_last_reachable_frame(videos):
    clip = VideoClips([videos / "short one.avi"], frames=6, stride=2, size=16)[0]["clip"]
    numbers = [frame_number(clip[:, t].permute(1, 2, 0).numpy()) for t in range(6)]
    assert numbers == [0, 2, 4, 4, 4, 4]
