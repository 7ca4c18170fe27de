# SPDX-License-Identifier: Apache-2.0
"""Clips of real video files: found in a folder or a list, decoded with PyAV, cropped as VideoMAE does.

Which file, which frames and which crop are functions of (seed, global sample number): the order is the same
for any number of workers and after any restart. A file that does not decode is skipped, named and counted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import av
import numpy as np
import torch

from ..errors import DataError
from . import torchcodec_reader
from .draws import choose
from .media_files import Medium, find_files, lines_without_file
from .numbered import NumberedClips, collate, loader

if TYPE_CHECKING:
    from .cache_clips import FrameStore

__all__ = [
    "VideoClips",
    "VideoFile",
    "clip_indices",
    "collate",
    "crop_box",
    "find_videos",
    "loader",
    "missing_from_list",
    "open_video",
]

VIDEO = Medium(
    "video",
    frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ogv", ".webm", ".wmv"}),
)
SCALES = (1.0, 0.875, 0.75, 0.66)  # multi-scale crop: shares of the short side


def find_videos(data: Path) -> list[Path]:
    """The video files of a folder (searched recursively) or of a list file, in a fixed order.

    A list has a path a line, relative to the list's own folder or absolute, which may contain spaces; what
    else stands on the line behind it (VideoMAE's label, VideoMAEv2's frame numbers) is not read. Empty lines
    and lines that begin with # are ignored.

    Raises DataError where that leaves no file.
    """
    return find_files(data, VIDEO)


def missing_from_list(data: Path) -> list[str]:
    """Lines of a list file that name no file."""
    return lines_without_file(data, VIDEO)


# Where seeking by time stamp gives the frames that decoding from the start does. Elsewhere (AVI, MPEG) stamps after
# a seek differ from those of a scan, so frames are counted from the start of the file.
SEEKABLE_FORMATS = {"mov", "mp4", "matroska", "webm"}
SEEKABLE_CODECS = {"av1", "h264", "hevc", "vp8", "vp9"}


class VideoFile:
    """Random access to the frames of one file. Raises DataError for a file without decodable video."""

    FAILURES = (av.FFmpegError, OSError, ValueError, IndexError)

    def __init__(self, path: Path, threads: int = 1):
        self.path, self.threads = (
            Path(path).absolute(),
            threads,
        )  # a bare name with a colon would be a protocol
        try:
            with av.open(str(self.path)) as container:
                if not container.streams.video:
                    raise DataError(f"{path} has no picture")
                stream = container.streams.video[0]
                self.width, self.height = stream.width, stream.height
                formats, codec = set(container.format.name.split(",")), stream.codec_context.name
                packets = [p for p in container.demux(stream) if p.size]
                stamps = [p.pts for p in packets]
                keys = [p.pts for p in packets if p.is_keyframe]
        except self.FAILURES as error:
            raise DataError(f"{path}: {type(error).__name__}: {error}") from None
        codec = {"libdav1d": "av1", "libaom-av1": "av1", "libvpx-vp9": "vp9"}.get(codec, codec)
        seekable = formats & SEEKABLE_FORMATS and codec in SEEKABLE_CODECS and None not in stamps
        self.stamps = sorted(set(stamps)) if seekable else None
        self.keys = sorted(keys) if seekable else []
        self.frames = len(stamps if self.stamps is None else self.stamps)
        if not self.frames or not self.width or not self.height:
            raise DataError(f"{path}: no video frame")

    def read(self, indices: list[int], short_side: int | None = None) -> np.ndarray:
        """Frames by number, ascending, repeats allowed: uint8 [len(indices), H, W, 3].

        short_side: reduce frames to this many pixels along their shorter side while decoding, if larger.
        A frame that the decoder drops is replaced by the one before it (or the first that comes). Where the size
        changes within a file, all frames are brought to the size that its header says.
        """
        size = self._size(short_side)
        wanted = sorted(set(indices))
        try:
            key = self._key_before(wanted[0])
            images = self._decode(wanted, size, key)
            if key is not None and len(images) < len(wanted):
                images = self._decode(wanted, size, None)
        except self.FAILURES as error:
            raise DataError(f"{self.path}: {type(error).__name__}: {error}") from None
        if not images:
            raise DataError(f"{self.path}: none of the frames {wanted[0]}..{wanted[-1]} decodes")
        last = images[min(images)]
        for i in wanted:
            last = images.setdefault(i, last)
        return np.stack([images[i] for i in indices])

    def read_whole(self, short_side: int | None = None) -> np.ndarray:
        """All frames, uint8 [frames, H, W, 3], each as `read` gives it alone. Raises DataError where one does not
        decode: what `read` gives for it depends on the others that are asked for."""
        size = self._size(short_side)
        try:
            images = self._decode(list(range(self.frames)), size, None)
        except self.FAILURES as error:
            raise DataError(f"{self.path}: {type(error).__name__}: {error}") from None
        if len(images) < self.frames:
            raise DataError(f"{self.path}: {self.frames - len(images)} of {self.frames} frames do not decode")
        return np.stack([images[i] for i in range(self.frames)])

    def _size(self, short_side: int | None) -> tuple[int, int]:
        """Width and height of frames that are reduced to `short_side`."""
        shrink = min(1.0, short_side / min(self.width, self.height)) if short_side else 1.0
        return round(self.width * shrink), round(self.height * shrink)

    def _key_before(self, first: int) -> int | None:
        """The stamp of the keyframe to decode from for frame `first`; None is the start."""
        before = [k for k in self.keys[1:] if k <= self.stamps[first]] if self.stamps else []
        return before[-1] if before else None

    def _decode(self, wanted: list[int], size: tuple[int, int], key: int | None) -> dict[int, np.ndarray]:
        """Frames by number, decoded from a keyframe on, or from the start. None at all where the keyframe is no whole
        picture, as in videos that are refreshed a part at a time: what follows it would have holes."""
        images: dict[int, np.ndarray] = {}
        number = {stamp: i for i, stamp in enumerate(self.stamps)} if self.stamps else None
        with av.open(str(self.path)) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = self.threads
            if key is not None:
                container.seek(key, stream=stream, backward=True)
            begun = key is None
            for counted, frame in enumerate(container.decode(stream)):
                begun = begun or (frame.pts == key and frame.key_frame)
                if not begun:
                    if frame.pts is None or frame.pts >= key:
                        break
                    continue
                at = counted if number is None else number.get(frame.pts, -1)
                if at in wanted and at not in images:
                    image = frame.reformat(
                        width=size[0], height=size[1], format="rgb24", interpolation="AREA"
                    )
                    images[at] = image.to_ndarray()
                if at >= wanted[-1]:
                    break
        return images


@lru_cache(maxsize=256)
def _opened(path: Path, threads: int) -> VideoFile | DataError:
    try:
        return VideoFile(path, threads)
    except DataError as error:
        return error


def open_video(path: Path, threads: int = 1) -> VideoFile:
    """A VideoFile, scanned once a process. Raises its DataError, without another scan."""
    file = _opened(path, threads)
    if isinstance(file, DataError):
        raise file
    return file


def clip_indices(frames: int, length: int, stride: int, start: int) -> list[int]:
    """Frame numbers of a clip: `length` frames, `stride` apart; past the end of a short video the last
    reachable frame repeats."""
    last = (frames - 1 - start) // stride * stride + start
    return [min(start + i * stride, last) for i in range(length)]


def crop_box(height: int, width: int, seed: int, sample: int) -> tuple[int, int, int, int]:
    """VideoMAE's multi-scale crop as (top, left, height, width): sides from SCALES of the short side, at most
    one step apart, at one of 13 fixed positions."""
    sizes = [int(min(height, width) * scale) for scale in SCALES]
    pairs = [(h, w) for i, h in enumerate(sizes) for j, w in enumerate(sizes) if abs(i - j) <= 1]
    crop_height, crop_width = pairs[choose(seed, sample, 1, len(pairs))]
    quarters = [(0, 0), (0, 4), (4, 0), (4, 4), (2, 2), (2, 0), (2, 4), (0, 2), (4, 2)]
    quarters += [(1, 1), (1, 3), (3, 1), (3, 3)]
    down, right = quarters[choose(seed, sample, 2, len(quarters))]
    top, left = (height - crop_height) // 4 * down, (width - crop_width) // 4 * right
    return top, left, crop_height, crop_width


@dataclass
class VideoClips(NumberedClips):
    """Clips by global sample number: clip n is place n % len of epoch n // len.

    Args:
        paths: video files.
        views: items of each clip: the same frames, each with a crop of its own.
        frames, stride, size: a clip is `frames` frames, `stride` apart, resized to `size` pixels square.
        seed: of order, starts and crops.
        clips_per_video: how often each file is drawn from in an epoch.
        short_side: frames are reduced to this while decoding; None keeps the file's own size.
        cache_mib: decoded frames of whole files that each worker keeps; 0 decodes every clip anew.
        threads: decoder threads.
        store: a cache on disk (`cache_clips.FrameStore`), made with the same short_side, which is read instead of
            the videos it has.
        reader: of frames: pyav, or torchcodec (see `torchcodec_reader`), which cannot reduce them to short_side.

    An item is {"clip": uint8 [3, frames, size, size], "sample": n, "broken": [messages]}.
    """

    MEDIUM: ClassVar[str] = "videos"

    frames: int = 16
    stride: int = 4
    size: int = 224
    clips_per_video: int = 1
    short_side: int | None = None
    cache_mib: int = 0
    threads: int = 1
    store: FrameStore | None = None
    reader: Literal["pyav", "torchcodec"] = "pyav"
    _cache: dict[Path, np.ndarray] = field(default_factory=dict, init=False, repr=False)
    _kept: tuple = field(default=(None, None), init=False, repr=False)

    def __post_init__(self):
        if self.store is not None and self.store.short_side != self.short_side:
            raise ValueError(
                f"the cache {self.store.folder} was made with short_side {self.store.short_side}, but clips are asked "
                f"for with {self.short_side}; give both the same"
            )
        if self.reader == "torchcodec":
            if self.short_side is not None:
                raise ValueError(
                    "reader torchcodec gives frames of the file's own size; leave short_side out"
                )
            if why := torchcodec_reader.reason():
                raise ValueError(f"{why}; use reader pyav")

    @property
    def clips_per_file(self) -> int:
        return self.clips_per_video

    def read_clip(self, index: int, sample: int) -> dict:
        images = self._frames(index, sample // self.views)
        top, left, height, width = crop_box(images.shape[1], images.shape[2], self.seed, sample)
        crop = torch.from_numpy(images[:, top : top + height, left : left + width]).permute(0, 3, 1, 2)
        clip = torch.nn.functional.interpolate(
            crop.contiguous(), size=(self.size, self.size), mode="bilinear", antialias=True
        )
        return {"clip": clip.transpose(0, 1).contiguous()}

    def _frames(self, index: int, clip: int) -> np.ndarray:
        """The frames of a clip, uint8 [frames, H, W, 3]; kept for its other views, which come next."""
        if self._kept[0] != (index, clip):
            held = None if self.store is None else self.store.frames(self.paths[index])
            if held is None:
                file = open_video(self.paths[index], self.threads)
                frames = self._read(file, self._indices(file.frames, clip))
            else:
                frames = held[self._indices(len(held), clip)]
            self._kept = (index, clip), frames
        return self._kept[1]

    def _indices(self, frames: int, clip: int) -> list[int]:
        """Frame numbers of a clip, of a video of so many."""
        starts = max(1, frames - (self.frames - 1) * self.stride)
        return clip_indices(frames, self.frames, self.stride, choose(self.seed, clip, 0, starts))

    def _read(self, file: VideoFile, indices: list[int]) -> np.ndarray:
        if self.reader == "torchcodec":
            return torchcodec_reader.read(file.path, indices, self.threads)
        if not self.cache_mib:
            return file.read(indices, self.short_side)
        held = self._cache.get(file.path)
        if held is None:
            first = file.read([0], self.short_side)
            in_use = sum(v.nbytes for v in self._cache.values())
            if in_use + first.nbytes * file.frames > self.cache_mib << 20:
                return file.read(indices, self.short_side)
            held = self._cache[file.path] = file.read(list(range(file.frames)), self.short_side)
        return held[indices]
