# SPDX-License-Identifier: Apache-2.0
"""Random access to the samples of a sound file, or of the sound of a video.

Samples are numbered by what a decoder shows, from the first one on. Where the container says how many there are and
keeps it (uncompressed files, FLAC), libsndfile reads just the wanted ones. All else is decoded by FFmpeg from the
start: the header of an MP3 gives an estimate, libsndfile counts no further than that, its seeking in Vorbis gives other
samples than decoding, and of an Ogg file with several streams behind each other it knows the first.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import av
import numpy as np
import soundfile

from ..errors import DataError
from .media_bytes import kind_of, told

RATES = range(1000, 1_000_000)  # a header that says otherwise is damaged
LOUDEST = 2.0**31  # files of floats hold [-1, 1], or what was an integer of up to 32 bits
LONGEST = 1 << 48  # samples; libsndfile says more of a FLAC without a length, and then cannot read it
CELL = 4096  # samples; the steps in which a damaged FLAC is searched for what decodes
GAP_SECONDS = 0.05  # a jump of the time stamps that is more than rounding
FAILURES = (soundfile.SoundFileError, OSError, ValueError)
FFMPEG_FAILURES = (av.FFmpegError, OSError, ValueError, IndexError)
# What libsndfile is asked first for, and what never; it tries all else too, but not under the name of an MP3, where it
# would print its opinion of each byte.
HEADER_KINDS = {"AIFF", "AU", "CAF", "FLAC", "WAV", "Wave64"}
DECODED_KINDS = {"MP3", "Ogg", "MP4 (m4a, mov)", "Matroska (WebM)", "ASF (wma, wmv)", "AAC (ADTS)", "AVI"}


class AudioFile:
    """Random access to the samples of one file, mixed down to mono. Raises DataError for a file without sound.

    Attributes: rate in Hz; frames, the number of samples (of each channel); seekable, whether a part is read without
    decoding what is before it; damage, what is lost of the file, in words, or "".
    """

    def __init__(self, path: Path):
        self.path, self.damage = Path(path), ""
        self.holes: list[range] | None = None
        promised = 0
        try:
            self.rate, self.frames, self.seekable = _of_header(self.path)
            if not self.seekable and kind_of(self.path) == "FLAC":  # of others libsndfile rounds it up to blocks
                promised = self.frames
        except FAILURES:
            self.seekable = False
        if not self.seekable:
            self.rate, self.frames, self.damage = _by_decoding(self.path, promised)
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
        samples = self._seek(first, last) if self.seekable else self._decode(first, last)
        # No message tells the place: one that every clip of a file shares is reported once.
        if len(samples) < last - first:
            raise DataError(f"{self.path}: ends before its {self.frames} samples; was it changed meanwhile?")
        if not np.abs(samples).max(initial=0) <= LOUDEST:  # NaN compares false
            raise DataError(f"{self.path}: holds NaN, Inf or values beyond 2^31")
        wave[first - start : last - start] = samples
        return wave

    def _decode(self, first: int, last: int) -> np.ndarray:
        parts, at = [np.zeros(0, np.float32)], 0
        for frame in _frames(self.path, []):
            end = at + frame.samples
            if end > first:
                parts.append(_mono(frame)[max(0, first - at) : last - at])
            if end >= last:
                break
            at = end
        return np.concatenate(parts)

    def _seek(self, first: int, last: int) -> np.ndarray:
        if self.holes is None:
            try:
                return _part(self.path, first, last)
            except FAILURES:
                self.holes = _holes(self.path, self.frames)
                lost = sum(map(len, self.holes))
                self.damage = (
                    f"{self.path}: damaged, {lost} of its {self.frames} samples do not decode and are silent"
                )
        wave, at = np.zeros(last - first, np.float32), first
        try:
            for hole in (*self.holes, range(last, last)):
                if at < (end := min(hole.start, last)):
                    wave[at - first : end - first] = _part(self.path, at, end)
                at = max(at, hole.stop)
        except FAILURES as error:
            raise DataError(f"{self.path}: {type(error).__name__}: {error}; {told(self.path)}") from None
        return wave


@lru_cache(maxsize=4096)
def _opened(path: Path) -> AudioFile | DataError:
    try:
        return AudioFile(path)
    except DataError as error:
        return error


def open_audio(path: Path) -> AudioFile:
    """An AudioFile, whose header is read once a process. Raises its DataError, without another attempt."""
    file = _opened(path)
    if isinstance(file, DataError):
        raise file
    return file


def _of_header(path: Path) -> tuple[int, int, bool]:
    """Rate, number of samples, and whether libsndfile can be trusted with both and finds the last one. Raises one of
    FAILURES where it cannot read the file."""
    kind = kind_of(path)
    if kind in DECODED_KINDS or (path.suffix.lower() == ".mp3" and kind not in HEADER_KINDS):
        return 0, 0, False
    with soundfile.SoundFile(path) as file:
        rate, frames = file.samplerate, file.frames
        if file.format in ("MP3", "OGG") or file.subtype.startswith("MPEG") or not 0 < frames <= LONGEST:
            return rate, 0, False
        try:
            file.seek(frames - 1)
            whole = len(file.read(1)) == 1
        except FAILURES:
            whole = False
        return rate, frames, whole and file.seekable()


def _part(path: Path, first: int, last: int) -> np.ndarray:
    """Samples first .. last - 1 by libsndfile, float32. Raises one of FAILURES where they do not all decode."""
    with soundfile.SoundFile(path) as file:
        file.seek(first)
        samples = file.read(last - first, dtype="float32", always_2d=True)
    if len(samples) < last - first:
        raise ValueError("ends too soon")
    return samples.mean(axis=1)


def _holes(path: Path, frames: int) -> list[range]:
    """What libsndfile does not decode of a damaged file, ascending, in steps of CELL samples."""
    holes: list[range] = []
    file = None
    for start in range(0, frames, CELL):
        cell = range(start, min(start + CELL, frames))
        try:
            if file is None:
                file = soundfile.SoundFile(path)
                file.seek(start)
            if len(file.read(len(cell), dtype="float32")) < len(cell):
                raise ValueError("ends too soon")
        except FAILURES:
            if file is not None:  # it has no place to go on from
                file.close()
                file = None
            if holes and holes[-1].stop == start:
                cell = range(holes.pop().start, cell.stop)
            holes.append(cell)
    if file is not None:
        file.close()
    return holes


def _by_decoding(path: Path, promised: int) -> tuple[int, int, str]:
    """Rate, number of samples and damage of a file that is decoded from its start; promised: samples that its header
    is known to tell, or 0. Raises DataError where nothing decodes."""
    lost: list[str] = []
    rate = frames = good = 0
    first = end = None
    try:
        for frame in _frames(path, lost):
            rate, good = rate or frame.sample_rate, good + 1
            if frame.sample_rate != rate:
                raise DataError(
                    f"{path}: its sample rate changes from {rate} to {frame.sample_rate} Hz after {frames} samples; "
                    "split it there"
                )
            frames += frame.samples
            if frame.pts is not None and frame.time_base:
                at = float(frame.pts * frame.time_base) * rate
                first = at if first is None else first
                end = max(end or 0, at + frame.samples)
    except FFMPEG_FAILURES as error:
        raise DataError(f"{path}: {_words(error)}; {told(path)}") from None
    if not frames or len(lost) > good:
        reason = f" ({lost[0]})" if lost else ""
        raise DataError(f"{path}: no sound that decodes{reason}; {told(path)}")
    found = []
    if lost:
        found.append(f"packets that do not decode: {len(lost)} ({lost[0]})")
    missing = round(end - first) - frames if first is not None and end is not None else 0
    if missing > GAP_SECONDS * rate:
        found.append(f"about {missing} samples are missing")
    if frames < promised:
        found.append(f"it ends after {frames} of the {promised} samples that its header promises")
    return rate, frames, f"{path}: damaged, {', '.join(found)}" if found else ""


def _frames(path: Path, lost: list[str]) -> Iterator[av.AudioFrame]:
    """All that FFmpeg decodes of the first sound track, in order; why packets do not is added to `lost`. Raises one of
    FFMPEG_FAILURES where the file cannot be opened, DataError where it has no sound."""
    # An absolute path: a bare name with a colon would be a protocol. Tags may be in any encoding. Playlists and
    # the like may not lead anywhere else.
    with av.open(
        str(path.absolute()), metadata_errors="replace", options={"protocol_whitelist": "file"}
    ) as container:
        stream = container.streams.best("audio")
        if stream is None:
            unknown = "" if kind_of(path) in DECODED_KINDS else f"; {told(path)}"
            raise DataError(f"{path} has no sound track{unknown}")
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
            except FFMPEG_FAILURES as error:  # the rest cannot be reached
                lost.append(_words(error))
                return
            if packet is None:
                return
            try:
                yield from packet.decode()
            except FFMPEG_FAILURES as error:
                lost.append(_words(error))


def _words(error: Exception) -> str:
    """An error without the numbers and names that differ from file to file."""
    return error.strerror if isinstance(error, av.FFmpegError) and error.strerror else f"{error}"


def _mono(frame: av.AudioFrame) -> np.ndarray:
    """The mean of the channels of a frame, float32 in [-1, 1], as libsndfile scales integers."""
    samples = frame.to_ndarray()
    samples = samples.T if frame.format.is_planar else samples.reshape(frame.samples, -1)
    if samples.dtype.kind == "u":
        samples = (samples.astype(np.float32) - 128) / 128
    elif samples.dtype.kind == "i":
        samples = samples.astype(np.float32) / np.float32(2.0 ** (8 * samples.dtype.itemsize - 1))
    return np.ascontiguousarray(samples, dtype=np.float32).mean(axis=1)
