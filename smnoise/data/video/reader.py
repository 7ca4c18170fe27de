# SPDX-License-Identifier: Apache-2.0
"""The frames of a video file by number, decoded with PyAV and shown upright."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import av
import numpy as np

from ...errors import DataError
from .decoding import FAILURES, Pass, open_file
from .index import index_video, mended
from .upright import Orientation

# Threads for each picture take longer to start than a small one takes; older PyAV has none.
ALONE = {"threads": 1} if "threads=" in (av.VideoFrame.reformat.__doc__ or "") else {}


class VideoFile:
    """Random access to the frames of one file: frame n is the n-th that decoding all of it shows (see `video_index`),
    turned and mirrored as the container says. Raises DataError for a file without decodable video."""

    def __init__(self, path: Path, threads: int = 1):
        self.path = Path(path).absolute()  # a bare name with a colon would be a protocol
        self.threads = threads
        self.index = index_video(self.path, threads)
        self.frames, self.width, self.height = self.index.frames, self.index.width, self.index.height
        self._useless: set[int] = set()  # key frames from which decoding did not give the frames that follow

    @property
    def note(self) -> str | None:
        """What a person should know of a file that is served although not all of it decodes; None where all does, or
        where no read has met a frame that does not."""
        return f"{self.path}: {self.loss}" if self.loss else None

    @property
    def loss(self) -> str:
        """The note without the file's name; empty where there is none."""
        index, parts = self.index, []
        if index.lost:
            instead = "neighbours stand in" if index.sources else "left out"
            parts.append(f"{index.lost} of {index.expected} frames did not decode ({instead})")
        if index.missing:
            parts.append(f"{index.missing} more that the file promises are not in it")
        if index.ended:
            parts.append(f"the film ends early ({index.ended})")
        return "; ".join(parts)

    def read(self, indices: list[int], short_side: int | None = None) -> np.ndarray:
        """Frames by number, ascending, repeats allowed: uint8 [len(indices), H, W, 3].

        short_side: reduce frames to this many pixels along their shorter side while decoding, if larger.
        A frame that does not decode is the one before it, or the first that does. Where the size changes within a
        file, all frames are brought to that of the first.

        Raises DataError where the file cannot be read any more, IndexError for a number that no frame has.
        """
        wanted = sorted(set(indices))
        if not 0 <= wanted[0] <= wanted[-1] < self.frames:
            raise IndexError(
                f"{self.path} has frames 0 to {self.frames - 1}, got {wanted[0]} to {wanted[-1]}"
            )
        size = self._size(short_side)
        try:
            images = (
                self._by_stamps(wanted, size) if self.index.way == "seek" else self._counted(wanted, size)
            )
            if images is None:
                self.index = mended(self.index, self.path, self.threads, "frames are missing")
                images = self._counted(wanted, size)
        except FAILURES as error:
            raise DataError(f"{self.path}: {type(error).__name__}: {error}") from None
        if images is None:
            raise DataError(f"{self.path}: it decodes differently from one time to the next; has it changed?")
        return np.stack([images[i] for i in indices])

    def read_whole(self, short_side: int | None = None) -> np.ndarray:
        """All frames, uint8 [frames, H, W, 3], each as `read` gives it alone."""
        return self.read(list(range(self.frames)), short_side)

    def _size(self, short_side: int | None) -> tuple[int, int]:
        """Width and height, as shown, of frames that are reduced to `short_side`."""
        shrink = min(1.0, short_side / min(self.width, self.height)) if short_side else 1.0
        return max(1, round(self.width * shrink)), max(1, round(self.height * shrink))

    def _key_before(self, first: int) -> int | None:
        """The stamp of the key frame to decode from for frame `first`; None is the start."""
        stamp = self.index.stamps[first]
        before = [k for k in self.index.keys[1:] if k <= stamp and k not in self._useless]
        return before[-1] if before else None

    def _by_stamps(self, wanted: list[int], size: tuple[int, int]) -> dict[int, np.ndarray] | None:
        """Frames by number; None where the file is not what its packets say."""
        key = self._key_before(wanted[0])
        if key is not None:
            if (images := self._from(key, wanted, size)) is not None:
                return images
            self._useless.add(key)
        return self._from(None, wanted, size)

    def _from(
        self, key: int | None, wanted: list[int], size: tuple[int, int]
    ) -> dict[int, np.ndarray] | None:
        """Frames by number, decoded from a key frame on, or from the start; None where frames that should come one
        after the other do not. That is so behind a key frame that is no whole picture, too, as in videos that are
        refreshed a part at a time; and of damage behind a key frame, which is patched up with what came before it."""
        numbers = {stamp: n for n, stamp in enumerate(self.index.stamps)}
        due = 0 if key is None else numbers[key]
        images: dict[int, np.ndarray] = {}
        taken = set(wanted)
        with open_file(self.path) as container:
            stream = container.streams[self.index.stream]
            if key is not None:
                try:
                    container.seek(key, stream=stream, backward=True)
                except FAILURES:
                    return None
            begun = key is None
            run = Pass(container, stream, self.threads, strict=key is not None)
            for frame in run:
                if run.strict and (run.refused or frame.is_corrupt):
                    return None
                if not begun:
                    if frame.pts is None or frame.pts > key or (frame.pts == key and not frame.key_frame):
                        return None
                    if frame.pts < key:
                        continue
                    begun = True
                if numbers.get(frame.pts) != due:
                    return None
                if due in taken:
                    images[due] = shown(frame, size, self.index.orientation)
                if due >= wanted[-1]:
                    return images
                due += 1
        return None

    def _counted(self, wanted: list[int], size: tuple[int, int]) -> dict[int, np.ndarray] | None:
        """Frames by number, counted from the start; None where one is missing or, unless that is known, refused."""
        index = self.index
        sources = {n: index.sources[n] if index.sources else n for n in wanted}
        last, taken = max(sources.values()), set(sources.values())
        images: dict[int, np.ndarray] = {}
        with open_file(self.path) as container:
            run = Pass(container, container.streams[index.stream], self.threads)
            for at, frame in enumerate(run):
                if at in taken:
                    images[at] = shown(frame, size, self.index.orientation)
                if at >= last:
                    break
        if len(images) < len(taken) or (index.way == "count" and run.refused):
            return None
        return {n: images[source] for n, source in sources.items()}


def shown(frame: av.VideoFrame, size: tuple[int, int], turn: Orientation) -> np.ndarray:
    """A decoded frame upright, in RGB, at a width and height: uint8 [H, W, 3]."""
    width, height = turn.size(*size)
    if (frame.width, frame.height) != (width, height):
        frame = frame.reformat(width, height, "rgb24", interpolation="AREA", **ALONE)
    # By a converter of the frame's own: one that is kept holds the decoder's memory, which damaged pictures show.
    return turn(frame.reformat(format="rgb24", **ALONE).to_ndarray())


@lru_cache(maxsize=256)
def _opened(path: Path, threads: int) -> VideoFile | DataError:
    try:
        return VideoFile(path, threads)
    except DataError as error:
        return error


def open_video(path: Path, threads: int = 1) -> VideoFile:
    """A VideoFile, looked at once a process. Raises its DataError, without another look."""
    file = _opened(path, threads)
    if isinstance(file, DataError):
        raise file
    return file
