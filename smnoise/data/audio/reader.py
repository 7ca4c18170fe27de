# SPDX-License-Identifier: Apache-2.0
"""Random access to the samples of a sound file, or of the sound of a video.

Samples are numbered by what a decoder shows, from the first one on. Of uncompressed files, and of FLAC that was
decoded once without a fault, libsndfile reads just the wanted ones. All else is decoded from the start, most of it by
FFmpeg: the header of an MP3 gives an estimate, and libsndfile counts no further than that; its seeking in Vorbis gives
other samples than decoding; and of an Ogg file with several streams behind each other it knows the first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import soundfile

from ...errors import DataError
from .decoding import counted, decoded, mono
from .media_bytes import DECODED_KINDS, HEADER_KINDS, kind_of, told

RATES = range(1000, 1_000_000)  # a header that says otherwise is damaged
LOUDEST = 2.0**31  # files of floats hold [-1, 1], or what was an integer of up to 32 bits
LONGEST = 1 << 48  # samples; libsndfile says more of a FLAC without a length, and then cannot read it
CELL = 4096  # samples; the steps in which a file is searched for what decodes
PATIENCE = 16  # steps that fail before they are doubled
UNCOMPRESSED = {"ALAW", "DOUBLE", "FLOAT", "PCM_16", "PCM_24", "PCM_32", "PCM_S8", "PCM_U8", "ULAW"}
FAILURES = (soundfile.SoundFileError, OSError, ValueError)


class AudioFile:
    """Random access to the samples of one file, mixed down to mono. Raises DataError for a file without sound.

    Attributes: rate in Hz; frames, the number of samples (of each channel); reader, which is "seek" for libsndfile
    that reads a part alone, and "scan" for libsndfile or "ffmpeg" from the start on; damage, what is lost of the file,
    in words, or "".
    """

    def __init__(self, path: Path):
        self.path, self.damage = Path(path), ""
        try:
            header = _header(self.path)
        except FAILURES:
            header = None
        if header is not None and header.reached:
            self.rate, self.frames, self.reader = header.rate, header.frames, "seek"
            if header.format == "FLAC" or header.subtype not in UNCOMPRESSED:
                lost = sum(size for size, samples in _cells(self.path, self.frames) if samples is None)
                if lost:
                    words = f"{lost} of its {self.frames} samples do not decode"
                    if 2 * lost > self.frames:
                        raise DataError(f"{path}: {words}; {told(self.path)}")
                    self.damage = f"{path}: damaged, {words} and are silent"
                if lost or header.format != "FLAC":
                    self.reader = "scan"
        else:
            # Of other formats libsndfile rounds the length up to blocks.
            promised = header.frames if header is not None and header.format == "FLAC" else 0
            self.rate, self.frames, self.damage = counted(self.path, promised)
            self.reader = "ffmpeg"
        if self.rate not in RATES:
            raise DataError(f"{path}: sample rate {self.rate} Hz, expected {RATES.start} to {RATES.stop - 1}")
        if not self.frames:
            raise DataError(f"{path}: no sample")

    def read(self, start: int, count: int) -> np.ndarray:
        """Samples start .. start + count - 1: float32 [count], the mean of the channels; 0 where the file has
        none, and where a damaged FLAC does not decode.

        Raises DataError for a file that ends before the samples that were counted, and for samples that are no number
        or beyond any scale.
        """
        first, last = max(0, start), min(self.frames, start + count)
        wave = np.zeros(count, np.float32)
        if last <= first:
            return wave
        with np.errstate(invalid="ignore", over="ignore"):  # of channels that hold Inf; refused below
            if self.reader == "seek":
                try:
                    samples = _part(self.path, first, last)
                except FAILURES as error:
                    raise DataError(
                        f"{self.path}: {type(error).__name__}: {error}; {told(self.path)}"
                    ) from None
            else:
                samples = _between(self._from_start(), first, last)
        # No message tells the place: one that every clip of a file shares is reported once.
        if len(samples) < last - first:
            raise DataError(f"{self.path}: ends before its {self.frames} samples; was it changed meanwhile?")
        if not np.abs(samples).max(initial=0) <= LOUDEST:  # NaN compares false
            raise DataError(f"{self.path}: holds NaN, Inf or values beyond 2^31")
        wave[first - start : last - start] = samples
        return wave

    def _from_start(self) -> Iterator[tuple[int, np.ndarray | av.AudioFrame]]:
        """The parts of the file in order: how many samples, and these, float32 or still to be mixed down."""
        if self.reader == "ffmpeg":
            yield from ((frame.samples, frame) for frame in decoded(self.path, []))
        else:
            cells = _cells(self.path, self.frames)
            yield from ((n, np.zeros(n, np.float32) if cell is None else cell) for n, cell in cells)


def _between(parts: Iterable[tuple[int, np.ndarray | av.AudioFrame]], first: int, last: int) -> np.ndarray:
    """Samples first .. last - 1 of parts that follow each other; fewer where these end before."""
    found, at = [np.zeros(0, np.float32)], 0
    for size, part in parts:
        if at + size > first:
            wave = part if isinstance(part, np.ndarray) else mono(part)
            found.append(wave[max(0, first - at) : last - at])
        at += size
        if at >= last:
            break
    return np.concatenate(found)


@lru_cache(maxsize=4096)
def _opened(path: Path) -> AudioFile | DataError:
    try:
        return AudioFile(path)
    except DataError as error:
        return error


def open_audio(path: Path) -> AudioFile:
    """An AudioFile, which is opened once a process. Raises its DataError, without another attempt."""
    file = _opened(path)
    if isinstance(file, DataError):
        raise file
    return file


class Header(NamedTuple):
    """What libsndfile says of a file."""

    format: str
    subtype: str
    rate: int
    frames: int
    reached: bool
    """Whether the last sample is there."""


def _header(path: Path) -> Header | None:
    """None where libsndfile cannot be trusted with the length. Raises one of FAILURES where it cannot read the file."""
    kind = kind_of(path)
    # Under the name of an MP3 libsndfile would print its opinion of any bytes.
    if kind in DECODED_KINDS or (path.suffix.lower() == ".mp3" and kind not in HEADER_KINDS):
        return None
    with soundfile.SoundFile(path) as file:
        rate, frames = file.samplerate, file.frames
        if file.format in ("MP3", "OGG") or file.subtype.startswith("MPEG") or not 0 < frames <= LONGEST:
            return None
        try:
            file.seek(frames - 1)
            reached = len(file.read(1)) == 1
        except FAILURES:
            reached = False
        return Header(file.format, file.subtype, rate, frames, reached and file.seekable())


def _part(path: Path, first: int, last: int) -> np.ndarray:
    """Samples first .. last - 1 by libsndfile, float32; fewer where the file ends before. Raises one of FAILURES."""
    with soundfile.SoundFile(path) as file:
        file.seek(first)
        return file.read(last - first, dtype="float32", always_2d=True).mean(axis=1)


def _cells(path: Path, frames: int) -> Iterator[tuple[int, np.ndarray | None]]:
    """A file by libsndfile, CELL samples at a time from the start on: how many they are, and float32 samples or None
    where they do not decode. What a damaged file gives depends on where one begins; so one always begins here."""
    file, start, failed = None, 0, 0
    try:
        while start < frames:
            # Longer steps through a long stretch of damage, where each attempt searches the file.
            size = min(CELL << failed // PATIENCE, frames - start)
            wave = None
            try:
                if file is None:
                    file = soundfile.SoundFile(path)
                    file.seek(start)
                samples = file.read(size, dtype="float32", always_2d=True)
                wave = samples.mean(axis=1) if len(samples) == size else None
            except FAILURES:
                pass
            yield size, wave
            if wave is None and file is not None:  # it has no place to go on from
                file.close()
                file = None
            start, failed = start + size, failed + 1 if wave is None else 0
    finally:
        if file is not None:
            file.close()
