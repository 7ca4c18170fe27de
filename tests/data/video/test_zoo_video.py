# SPDX-License-Identifier: Apache-2.0
"""Every reader of videos gives the frames that one pass over the file shows, bit for bit, for every kind of file."""

from itertools import chain
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch

from smnoise import DataError
from smnoise.data.video import torchcodec_reader
from smnoise.data.video.augment import LabelledClips
from smnoise.data.video.cache import make
from smnoise.data.video.clips import VideoClips, VideoFile, clip_indices
from smnoise.data.video.motion import MotionClips
from smnoise.data.video.views import EveryVideo
from smnoise.viz import media

from .zoo_kind import Kind
from .zoo_video import ZOO, table

pytestmark = pytest.mark.slow

DOCS = Path(__file__).parents[3] / "docs" / "media.md"
FFMPEG = 62  # the major version of libavcodec that the table's damaged files were read with


def whole_pass(path: Path, kind: Kind) -> list[np.ndarray]:
    """The frames of one pass of PyAV over the file, as they are shown."""
    frames, stamps, got = [], [], []
    with av.open(str(path)) as container:
        stream = container.streams[kind.stream]
        stream.codec_context.thread_count = (
            1  # what is patched up in a damaged picture depends on the number of threads
        )
        for packet in chain((p for p in container.demux(stream) if p.size), [None]):
            if packet is not None and not packet.is_discard:
                stamps.append(packet.pts)
            try:
                shown = stream.decode(packet)
            except av.FFmpegError:
                continue
            for frame in shown:
                got.append(frame.pts)
                first = frames[0].shape if frames else (frame.height, frame.width)
                if (frame.height, frame.width) != first[:2]:
                    frame = frame.reformat(first[1], first[0], "rgb24", interpolation="AREA")
                frames.append(frame.to_ndarray(format="rgb24"))
    if kind.placed:
        by_stamp, frames = dict(zip(got, frames, strict=True)), []
        for stamp in sorted(stamps):
            frames.append(by_stamp.get(stamp, frames[-1] if frames else None))
    return [kind.turn(image) if kind.turn else image for image in frames]


class Held(SimpleNamespace):
    """Frames in memory, as a cache has them."""

    def check_short_side(self, short_side):
        assert short_side is None  # the frames are whole ones

    def __contains__(self, path):
        return True

    def note(self, path):
        return None

    def frames(self, path):
        return self.images


@pytest.mark.parametrize("kind", ZOO, ids=[f"{kind.group}: {kind.name}" for kind in ZOO])
def test_all_readers_give_the_frames_of_one_pass(kind, tmp_path):
    path = kind.make(tmp_path / kind.name)
    if not kind.frames:
        with pytest.raises(DataError, match=kind.error) as caught:
            VideoFile(path)
        assert path.name in str(caught.value)
        (item,) = EveryVideo([path], frames=2, size=16)
        assert not item["decodes"]
        assert not item["clip"].any()
        return
    want = np.stack(whole_pass(path, kind))
    file = VideoFile(path)
    assert file.index.way == kind.way, file.index.why
    assert file.frames == len(want)
    assert (file.height, file.width) == want.shape[1:3]

    # Each frame by itself, in an order that jumps; then clips from anywhere; then all at once.
    for n in np.random.default_rng(0).permutation(file.frames):
        assert np.array_equal(file.read([int(n)])[0], want[n]), f"frame {n}"
    for start in range(0, file.frames, 5):
        for stride in (1, 3):
            indices = clip_indices(file.frames, 5, stride, start)
            assert np.array_equal(VideoFile(path).read(indices), want[indices]), indices
    assert np.array_equal(VideoFile(path).read_whole(), want)
    assert file.index.way == (kind.later or kind.way)
    if kind.group != "damage" or av.library_versions["libavcodec"][0] == FFMPEG:
        assert file.frames == kind.frames
        assert file.loss == kind.note

    small = file.read_whole(short_side=20)
    assert min(small.shape[1:3]) == 20
    assert np.array_equal(file.read([file.frames - 1], 20)[0], small[-1])

    # What training, fine-tuning, evaluation, caches and pictures make of it.
    usual = {"frames": 4, "stride": 2, "size": 24}
    clips = VideoClips([path], **usual, clips_per_video=3, store=Held(images=want))
    readers = ["pyav", "torchcodec"]
    if torchcodec_reader.reason() or kind.patched:
        readers.remove("torchcodec")
    for reader in readers:
        read = VideoClips([path], **usual, clips_per_video=3, reader=reader)
        for n in range(3):
            item = read[n]
            assert torch.equal(item["clip"], clips[n]["clip"]), reader
            assert [m.split(": ", 1)[1] for m in item["broken"]] == ([kind.note] if kind.note else [])
    labelled = LabelledClips([path], labels=torch.tensor([0]), frames=4, stride=2, size=24, short_side=None)
    plain = labelled.read_clip(0, 5)["clip"][0]
    assert torch.equal(plain, labelled.view(want[labelled.indices(len(want), 5)], 5, 0))
    moved = MotionClips([path], frames=2, size=16, blocks_per_video=1)
    assert moved[0]["broken"] == ([f"{path}: {kind.note}"] if kind.note else [])

    every = EveryVideo([path], **usual, segments=2, crops=1, sampling="uniform")
    segments = [want[every._indices(len(want), k)] for k in range(2)]
    views = [every._crops(torch.from_numpy(s).movedim(-1, 0)) for s in segments]
    reduced = [VideoFile(path).read(every._indices(len(want), k), 24) for k in range(2)]
    views = [every._crops(torch.from_numpy(s).movedim(-1, 0)) for s in reduced]
    item = every[0]
    assert torch.equal(item["clip"], torch.stack([view for segment in views for view in segment]))
    assert item["decodes"]
    assert item["broken"] == ([f"{path}: {kind.note}"] if kind.note else [])
    # Where nothing is reduced, evaluation has the very pictures of the pass.
    tall, wide = want.shape[1:3]
    large = EveryVideo([path], **usual | {"size": min(tall, wide)}, crops=1)
    (whole,) = large._crops(torch.from_numpy(want[large._indices(len(want), 0)]).movedim(-1, 0))
    assert torch.equal(large[0]["clip"][0], whole)

    store = make(path, tmp_path / "cache", None)
    assert np.array_equal(store.frames(path), want)
    assert store.note(path) == (f"{path}: {kind.note}" if kind.note else None)
    assert store.entries[str(path)]["orientation"]["transposed"] == file.index.orientation.transposed
    shown = media.read_clip(path, 3, 2, min(1, file.frames - 1), tall, wide)
    assert np.array_equal(shown, want[clip_indices(file.frames, 3, 2, min(1, file.frames - 1))])


@pytest.mark.parametrize("kind", [k for k in ZOO if k.frames], ids=lambda kind: f"{kind.group}: {kind.name}")
def test_which_files_torchcodec_reads(kind, tmp_path):
    """It is asked for no other, as it numbers, colours or turns their frames in another way, or fails."""
    if why := torchcodec_reader.reason():
        pytest.skip(why)
    file = VideoFile(kind.make(tmp_path / kind.name))
    indices = list(range(file.frames))
    images = torchcodec_reader.read(file, indices) if torchcodec_reader.reads_alike(file) else None
    assert (images is not None) == kind.by_torchcodec
    if images is not None and not kind.patched:
        assert np.array_equal(images, file.read_whole())


def test_the_documentation_has_the_table():
    assert table() in DOCS.read_text(), (
        "python -m tests.data.video.zoo_video prints the table of docs/media.md"
    )
