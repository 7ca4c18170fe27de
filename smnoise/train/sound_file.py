# SPDX-License-Identifier: Apache-2.0
"""Random access to the samples of a sound file."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile

from ..errors import DataError

RATES = range(1000, 1_000_000)  # a header that says otherwise is damaged
LOUDEST = 2.0**31  # files of floats hold [-1, 1], or what was an integer of up to 32 bits
LONGEST = 1 << 48  # samples; libsndfile says more of a FLAC without a length, and then cannot read it
BLOCK = 1 << 16  # samples


class AudioFile:
    """Random access to the samples of one file, mixed down to mono. Raises DataError for a file without sound.

    Attributes: rate in Hz; frames, the number of samples (of each channel).
    """

    FAILURES = (soundfile.SoundFileError, OSError, ValueError)

    def __init__(self, path: Path):
        self.path = Path(path)
        try:
            with soundfile.SoundFile(self.path) as file:
                self.rate, self.frames = file.samplerate, file.frames
                if self.frames > LONGEST:
                    raise ValueError("its header lacks the length; decode and encode the file anew")
                # Of an MP3 the header may only give an estimate, and seeking may miss by some samples.
                self.seekable = file.seekable() and file.format != "MP3"
                if not self.seekable:
                    self.frames = 0
                    while block := len(file.read(BLOCK, dtype="float32")):
                        self.frames += block
        except self.FAILURES as error:
            raise DataError(f"{path}: {type(error).__name__}: {error}") from None
        if self.rate not in RATES:
            raise DataError(f"{path}: sample rate {self.rate} Hz, expected {RATES.start} to {RATES.stop - 1}")
        if not self.frames:
            raise DataError(f"{path}: no sample")

    def read(self, start: int, count: int) -> np.ndarray:
        """Samples start .. start + count - 1: float32 [count], the mean of the channels; 0 where the file has
        none. Only these are decoded where the format lets one seek, all before them elsewhere.

        Raises DataError for a file that ends before its header says, and for samples that are no number or beyond
        any scale.
        """
        first, last = max(0, start), min(self.frames, start + count)
        wave = np.zeros(count, np.float32)
        try:
            with soundfile.SoundFile(self.path) as file:
                if self.seekable:
                    file.seek(first)
                else:
                    for at in range(0, first, BLOCK):
                        file.read(min(BLOCK, first - at), dtype="float32")
                samples = file.read(last - first, dtype="float32", always_2d=True)
        except self.FAILURES as error:
            raise DataError(f"{self.path}: {type(error).__name__}: {error}") from None
        # No message tells the place: one that every clip of a file shares is reported once.
        if len(samples) < last - first:
            raise DataError(f"{self.path}: ends before the {self.frames} samples that its header says")
        if not np.abs(samples).max(initial=0) <= LOUDEST:  # NaN compares false
            raise DataError(f"{self.path}: holds NaN, Inf or values beyond 2^31")
        wave[first - start : last - start] = samples.mean(axis=1)
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
