# SPDX-License-Identifier: Apache-2.0
"""Clips of real films with their sound: frames and sound of the same seconds, by the time stamps of both streams.

Which file, which seconds and which crop are functions of (seed, global sample number), as in `data.video.clips`. A file
without picture or sound, whose stamps are missing, or whose streams do not meet for as long as a clip, is skipped,
named and counted.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import numpy as np
import soxr
import torch

from ..errors import DataError
from .audio.decoding import FAILURES as SOUND_FAILURES
from .audio.decoding import decoded, mono
from .draws import choose
from .messages import FileMessage
from .numbered import EveryItem, NumberedClips
from .video.clips import crop_box
from .video.decoding import FAILURES, Pass, open_file
from .video.reader import VideoFile, open_video
from .video.store import FrameStore, StoredSound

START = 0  # slot of a sample's choices; the crop has 1 and 2
SHORT = 0.05  # share of a clip that a file may lack
JITTER = 0.02  # seconds that a stamp may be off where one part of the sound follows the other
STEPS = 1 << 20  # of starts, however long a file is


class Track:
    """Sound on the clock of its file: wave, float32 [samples] at `rate` Hz, begins at `start` seconds."""

    def __init__(self, wave: np.ndarray, start: float, rate: int):
        self.wave, self.start, self.rate = wave, start, rate

    @property
    def end(self) -> float:
        """The time behind its last sample, in seconds."""
        return self.start + len(self.wave) / self.rate

    def read(self, start: float, samples: int) -> np.ndarray:
        """The sound from a time on: float32 [samples], 0 where there is none."""
        first = round((start - self.start) * self.rate)
        wave = np.zeros(samples, np.float32)
        begin, end = max(first, 0), min(first + samples, len(self.wave))
        if begin < end:
            wave[begin - first : end - first] = self.wave[begin:end]
        return wave


class SoundTrack(Track):
    """The sound of a file, decoded once: mixed down to the mean of its channels, at one rate, each part where its time
    stamp says; silent where there is none.

    Attributes: start, the time of its first sample in seconds; wave, float32 at `rate` Hz; lost, how many packets did
    not decode.

    Raises DataError for a file without sound, and for sound without time stamps or of several rates.
    """

    def __init__(self, path: Path, rate: int):
        problems: list[str] = []
        parts: list[tuple[float, np.ndarray]] = []
        own_rate = 0
        try:
            for frame in decoded(path, problems):
                if frame.pts is None or not frame.time_base:
                    raise DataError(
                        f"{path}: its sound has no time stamps, so it cannot be put beside the picture"
                    )
                own_rate = own_rate or frame.sample_rate
                if frame.sample_rate != own_rate:
                    raise DataError(
                        f"{path}: its sample rate changes from {own_rate} to {frame.sample_rate} Hz; split it there"
                    )
                parts.append((float(frame.pts * frame.time_base), mono(frame)))
        except SOUND_FAILURES as error:
            raise DataError(f"{path}: {error}") from None
        if not parts or len(problems) > len(parts):
            raise DataError(f"{path}: no sound that decodes{f' ({problems[0]})' if problems else ''}")
        self.lost = len(problems)
        start = min(at for at, _ in parts)
        super().__init__(self._at_rate(path, parts, start, own_rate, rate), start, rate)

    @staticmethod
    def _at_rate(
        path: Path, parts: list[tuple[float, np.ndarray]], start: float, own_rate: int, rate: int
    ) -> np.ndarray:
        places: list[int] = []
        end = 0
        for at, _ in parts:
            place = round((at - start) * own_rate)
            if places and abs(place - end) <= JITTER * own_rate:
                place = end  # stamps may be whole milliseconds, but a part follows the other
            places.append(place)
            end = place + len(parts[len(places) - 1][1])
        length = max(place + len(wave) for place, (_, wave) in zip(places, parts, strict=True))
        if length > 2 * sum(len(wave) for _, wave in parts) + 60 * own_rate:
            raise DataError(f"{path}: most of its sound is missing by its time stamps")
        whole = np.zeros(length, np.float32)
        for place, (_, wave) in zip(places, parts, strict=True):
            whole[place : place + len(wave)] = wave
        if not np.isfinite(whole).all():
            raise DataError(f"{path}: its sound holds NaN or Inf")
        return whole if own_rate == rate else soxr.resample(whole, own_rate, rate)


def stamps_of(file: VideoFile) -> list[float]:
    """The time of each frame in seconds, ascending. Raises DataError where frames have none."""
    index = file.index
    if index.way == "seek":
        return [stamp * index.seconds for stamp in index.stamps]
    try:
        with open_file(file.path) as container:
            stream = container.streams[index.stream]
            found = [
                None if frame.pts is None else float(frame.pts * stream.time_base)
                for frame in Pass(container, stream, file.threads)
            ]
    except FAILURES as error:
        raise DataError(f"{file.path}: {type(error).__name__}: {error}") from None
    sources = index.sources or range(file.frames)
    if len(found) <= max(sources) or any(found[n] is None for n in sources):
        raise DataError(
            f"{file.path}: its frames have no time stamps, so its sound cannot be put beside them"
        )
    times = [found[n] for n in sources]
    if any(b < a for a, b in pairwise(times)):  # type: ignore[operator]  # none is None
        raise DataError(
            f"{file.path}: the time stamps of its frames go back; write the file anew, as with ffmpeg"
        )
    return times  # type: ignore[return-value]


class Pair(ABC):
    """A film with its sound, of which a subclass reads the frames.

    Attributes: path; sound; stamps, the time of each frame in seconds, ascending.
    """

    def __init__(self, path: Path, stamps: Sequence[float] | np.ndarray, sound: Track):
        self.path, self.stamps, self.sound = path, stamps, sound
        gaps = np.sort(np.diff(stamps))
        self.frame_seconds = float(gaps[len(gaps) // 2]) if len(gaps) else 0.0

    @property
    def begin(self) -> float:
        """From when on there are both, in seconds."""
        return max(float(self.stamps[0]), self.sound.start)

    @property
    def end(self) -> float:
        """Until when there are both."""
        return min(float(self.stamps[-1]) + self.frame_seconds, self.sound.end)

    def frames_at(self, start: float, seconds: float, count: int) -> list[int]:
        """Which frames are shown at the middles of `count` equal parts of some seconds."""
        times = [start + (i + 0.5) * seconds / count for i in range(count)]
        return [max(0, bisect_right(self.stamps, time + 1e-6) - 1) for time in times]

    @abstractmethod
    def read(self, numbers: list[int], short_side: int | None) -> np.ndarray:
        """Frames by number, as `VideoFile.read` gives them."""

    @property
    @abstractmethod
    def note(self) -> str | None:
        """What a person should know of a file of which not all decodes."""


class PairFile(Pair):
    """One that is decoded. Raises DataError for a file that lacks picture or sound, or the time stamps of either."""

    sound: SoundTrack

    def __init__(self, path: Path, rate: int, threads: int = 1):
        self.video = open_video(path, threads)
        super().__init__(self.video.path, stamps_of(self.video), SoundTrack(Path(path), rate))

    def read(self, numbers: list[int], short_side: int | None) -> np.ndarray:
        return self.video.read(numbers, short_side)

    @property
    def loss(self) -> str:
        """The note without the file's name; empty where all decodes."""
        said = [self.video.loss] if self.video.loss else []
        if self.sound.lost:
            said.append(f"{self.sound.lost} packets of its sound did not decode and are silent")
        return "; ".join(said)

    @property
    def note(self) -> str | None:
        return f"{self.path}: {self.loss}" if self.loss else None


class StoredPair(Pair):
    """One that lies in a cache."""

    def __init__(self, path: Path, store: FrameStore, held: StoredSound):
        assert store.rate is not None  # of a cache that has sound
        super().__init__(path, held.stamps, Track(held.wave, held.start, store.rate))
        self._store = store

    def read(self, numbers: list[int], short_side: int | None) -> np.ndarray:
        frames = self._store.frames(self.path)
        assert frames is not None  # it has the sound beside them
        return frames[numbers]

    @property
    def note(self) -> str | None:
        return self._store.note(self.path)


@lru_cache(maxsize=2)  # each holds its whole sound: 230 MB an hour at 16 kHz
def _opened(path: Path, rate: int, threads: int) -> PairFile:
    return PairFile(path, rate, threads)


@lru_cache(maxsize=4096)
def _refusal(path: Path, rate: int, threads: int) -> DataError | None:
    try:
        _opened(path, rate, threads)
    except DataError as error:
        return error
    return None


def open_pair(path: Path, rate: int, threads: int = 1, store: FrameStore | None = None) -> Pair:
    """A film with its sound, from the cache where that has both. A file that cannot be used is looked at once a
    process; then its DataError is raised again."""
    if store is not None and (held := store.sound(path)) is not None:
        return StoredPair(path, store, held)
    if error := _refusal(path, rate, threads):
        raise error
    return _opened(path, rate, threads)


@dataclass
class PairClips(NumberedClips):
    """Clips of films with their sound by global sample number.

    Args:
        paths: video files.
        frames, size: a clip is `frames` frames of `size` pixels square, those that are shown at the middles of as many
            equal parts of `seconds`.
        seconds: of a clip.
        rate: of the sound, in Hz.
        samples: of the sound, from the clip's first instant on; what goes beyond `seconds` is 0.
        seed: of order, starts and crops.
        clips_per_video: how often each file is drawn from in an epoch.
        short_side: frames are reduced to this while decoding; None keeps the file's own size.
        threads: decoder threads.
        store: a cache on disk, made with the same short_side, which is read instead of the videos it has. One that was
            made with sound must have the same rate; of another the sound is the file's own.

    An item is {"clip": uint8 [3, frames, size, size], "wave": float32 [samples], "length": samples that are of the
    film, "start": the clip's first instant in the file's time, in seconds, "sample": n, "broken": [messages]}.
    """

    MEDIUM: ClassVar[str] = "videos with sound"

    frames: int = 16
    size: int = 224
    seconds: float = 10.0
    rate: int = 16000
    samples: int = 163_840
    clips_per_video: int = 1
    short_side: int | None = None
    threads: int = 1
    store: FrameStore | None = None

    def __post_init__(self):
        check_store(self)
        if self.views != 1:
            raise ValueError(f"a clip with its sound has one view, got views {self.views}")

    @property
    def clips_per_file(self) -> int:
        return self.clips_per_video

    def read_clip(self, index: int, sample: int) -> dict:
        file = open_pair(self.paths[index], self.rate, self.threads, self.store)
        share = choose(self.seed, sample, START, STEPS) / STEPS
        start = file.begin + spare_seconds(file, self.seconds) * share
        images = read_frames(file, start, self.seconds, self.frames, self.short_side, self.store)
        box = crop_box(images.shape[1], images.shape[2], self.seed, sample)
        return as_item(file, images, box, start, self)

    def note(self, index: int) -> str | None:
        return open_pair(self.paths[index], self.rate, self.threads, self.store).note


def check_store(of: PairClips | EveryPair) -> None:
    """Raise ValueError where the cache was made with another short side or rate than is asked for."""
    if of.store is not None:
        of.store.check_short_side(of.short_side)
        of.store.check_rate(of.rate)


def spare_seconds(file: Pair, seconds: float) -> float:
    """How much longer than a clip a file has both, 0 for one that is up to a twentieth shorter, of which the last frame
    is repeated and the rest is silent. Raises DataError for one that is shorter still."""
    spare = file.end - file.begin - seconds
    if spare < -SHORT * seconds:
        raise DataError(
            f"{file.path}: picture and sound are there together for {max(0.0, file.end - file.begin):.2f} s, "
            f"less than a clip of {seconds:g} s"
        )
    return max(0.0, spare)


def read_frames(
    file: Pair, start: float, seconds: float, count: int, short_side: int | None, store: FrameStore | None
) -> np.ndarray:
    """Read `count` frames of `seconds` from `start` on: uint8 [count, H, W, 3], of the cache where it has them."""
    numbers = file.frames_at(start, seconds, count)
    held = None if store is None else store.frames(file.path)
    return file.read(numbers, short_side) if held is None else held[numbers]


def as_item(file: Pair, images: np.ndarray, box: tuple[int, int, int, int], start: float, of) -> dict:
    """Make the tensors of an item of frames, uint8 [count, H, W, 3], and a crop (top, left, height, width)."""
    top, left, height, width = box
    crop = torch.from_numpy(images[:, top : top + height, left : left + width]).permute(0, 3, 1, 2)
    crop, size = crop.contiguous(), (of.size, of.size)
    clip = torch.nn.functional.interpolate(crop, size=size, mode="bilinear", antialias=True)
    length = min(of.samples, round(max(0.0, min(of.seconds, file.end - start)) * of.rate))
    wave = torch.zeros(of.samples)
    wave[:length] = torch.from_numpy(file.sound.read(start, length))
    return {
        "clip": clip.transpose(0, 1).contiguous(),
        "wave": wave,
        "length": length,
        "start": torch.tensor(start, dtype=torch.float64),
    }


@dataclass
class EveryPair(EveryItem):
    """`clips` clips of each file, equally spaced and cut from the middle of the picture, nothing drawn: what evaluation
    looks at. Item i is of file i // clips. Arguments are as of `PairClips`.

    An item has the keys of `PairClips`, but "place": i and "decodes": whether it does, for "sample". A file that does
    not decode is black and silent and has a message.
    """

    paths: list[Path]
    frames: int = 16
    size: int = 224
    seconds: float = 10.0
    rate: int = 16000
    samples: int = 163_840
    clips: int = 1
    short_side: int | None = None
    threads: int = 1
    store: FrameStore | None = None

    def __post_init__(self):
        check_store(self)

    def __len__(self) -> int:
        return len(self.paths) * self.clips

    @property
    def apart(self) -> list[int]:
        """All places, neighbours being of different files."""
        return [f * self.clips + c for c in range(self.clips) for f in range(len(self.paths))]

    def __getitem__(self, place: int) -> dict:
        path, number = self.paths[place // self.clips], place % self.clips
        try:
            file = open_pair(path, self.rate, self.threads, self.store)
            start = file.begin + spare_seconds(file, self.seconds) * (number + 0.5) / self.clips
            images = read_frames(file, start, self.seconds, self.frames, self.short_side, self.store)
            height, width = images.shape[1:3]
            side = min(height, width)
            box = (height - side) // 2, (width - side) // 2, side, side
            item, decodes, messages = as_item(file, images, box, start, self), True, []
            if file.note:
                messages = [FileMessage(file.note, path, served=True)]
        except DataError as error:
            item = {
                "clip": torch.zeros(3, self.frames, self.size, self.size, dtype=torch.uint8),
                "wave": torch.zeros(self.samples),
                "length": 0,
                "start": torch.tensor(0.0, dtype=torch.float64),
            }
            decodes, messages = False, [FileMessage(str(error), path)]
        return {**item, "place": place, "decodes": decodes, "broken": messages}
