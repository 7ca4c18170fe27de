# SPDX-License-Identifier: Apache-2.0
"""Clips of real video files: found in a folder or a list, decoded with PyAV, cropped as VideoMAE does.

Which file, which frames and which crop are functions of (seed, global sample number): the order is the same
for any number of workers and after any restart. A file that does not decode is skipped, named and counted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch

from ..draws import choose
from ..found import find_files
from ..medium import Medium
from ..numbered import NumberedClips, collate, loader
from . import torchcodec_reader
from .reader import VideoFile, open_video
from .store import FrameStore

__all__ = [
    "VideoClips",
    "VideoFile",
    "clip_indices",
    "collate",
    "crop_box",
    "find_videos",
    "loader",
    "open_video",
]

VIDEO = Medium(
    "video",
    frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ogv", ".webm", ".wmv"}),
    in_tars=True,
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
        reader: of frames: pyav, or torchcodec where it gives the same ones (see `torchcodec_reader`), which cannot
            reduce them to short_side.

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
        if self.store is not None:
            self.store.check_short_side(self.short_side)
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

    def note(self, index: int) -> str | None:
        if self.store is not None and self.paths[index] in self.store:
            return self.store.note(self.paths[index])
        return open_video(self.paths[index], self.threads).note

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
        if self.reader == "torchcodec" and torchcodec_reader.reads_alike(file):
            images = torchcodec_reader.read(file, indices)
            if images is not None:
                return images
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
