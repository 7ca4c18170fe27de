# SPDX-License-Identifier: Apache-2.0
"""Clips of real sound files: found in a folder or a list, read by libsndfile or FFmpeg, brought to one sample rate.

Which file, which part of it, which gain and which roll are functions of (seed, global sample number): the
order is the same for any number of workers and after any restart. A file that does not decode is skipped, named
and counted; one that is damaged is told once and gives what decodes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import gcd
from pathlib import Path
from typing import ClassVar

import numpy as np
import soxr
import torch

from ...errors import DataError
from ..draws import beta_10_10, choose
from ..found import find_files, labels_by_folder
from ..medium import Medium
from ..messages import FileMessage
from ..numbered import EveryItem, NumberedClips, collate, loader
from .reader import RATES, AudioFile, open_audio

__all__ = [
    "AudioClips",
    "AudioFile",
    "EveryFile",
    "WeightedClips",
    "class_weights",
    "collate",
    "find_sounds",
    "labels_by_folder",
    "loader",
    "open_audio",
    "read_padded",
    "read_resampled",
]

SOUND = Medium(
    "sound file",
    frozenset(
        {".aac", ".ac3", ".aif", ".aifc", ".aiff", ".au", ".caf", ".flac", ".m4a", ".m4b", ".mka", ".mp2", ".mp3"}
        | {".oga", ".ogg", ".opus", ".rf64", ".w64", ".wav", ".weba", ".wma"}
    ),
)  # fmt: skip
CONTEXT = 2048  # samples around a clip that its resampling sees; soxr's filter reaches less far
FRAME_MS = 25  # of a log-mel frame; of a shorter file there is nothing to see
START, ROLL, FILE, GAIN = 0, 1, 2, 4  # slots of a sample's choices; GAIN is the first of 19


def find_sounds(data: Path) -> list[Path]:
    """The sound files of a folder (searched recursively) or of a list file, in a fixed order.

    A list has a path a line, relative to the list's own folder or absolute, which may contain spaces; what
    else stands on the line behind it is not read (`lists.label_sets` does). Empty lines and lines that begin with #
    are ignored.

    Raises DataError where that leaves no file.
    """
    return find_files(data, SOUND)


def read_resampled(file: AudioFile, start: int, samples: int, rate: int) -> np.ndarray:
    """The sound from the file's own sample `start` on, at `rate` Hz: float32 [samples]; 0 beyond its ends.

    Resampled by soxr (HQ) from that part alone and enough around it: within rounding (1e-6 of the loudest sample)
    what resampling the whole file gives. On one machine the bits are the same in every run; another CPU's vector
    instructions may round differently. At the file's own rate they are the file's samples.
    """
    if file.rate == rate:
        return file.read(start, samples)
    step, new_step = file.rate // gcd(file.rate, rate), rate // gcd(file.rate, rate)
    # Whole periods of both rates, so that the cut falls on a sample.
    context = -(-CONTEXT // step) * step
    needed = -(-samples * step // new_step)
    wave = soxr.resample(file.read(start - context, context + needed + context), file.rate, rate)
    skip = context // step * new_step
    return wave[skip : skip + samples]


def starts(file: AudioFile, samples: int, rate: int) -> int:
    """At how many of the file's own samples a clip of `samples` at `rate` Hz may start: 1 for a shorter file."""
    return max(1, file.frames - -(-samples * file.rate // rate) + 1)


def read_padded(file: AudioFile, start: int, samples: int, rate: int) -> tuple[torch.Tensor, int]:
    """`read_resampled`, float32 [samples], and how many of them are of the file; 0 from there on.

    Raises DataError for a file that is shorter than a clip and than one log-mel frame.
    """
    length = min(samples, round(file.frames * rate / file.rate))
    if length < min(samples, rate * FRAME_MS // 1000):
        raise DataError(
            f"{file.path}: {file.frames} samples at {file.rate} Hz are less than a frame of {FRAME_MS} ms"
        )
    wave = torch.from_numpy(read_resampled(file, start, samples, rate))
    wave[length:] = 0  # a resampled file rings on behind its end
    return wave, length


@dataclass
class AudioClips(NumberedClips):
    """Clips by global sample number: clip n is place n % len of epoch n // len.

    Args:
        paths: sound files, of any rate and number of channels.
        views: items of each clip: the same part of the file, each with a roll and a gain of its own.
        rate: of the clips, in Hz.
        samples: length of a clip at that rate. Of a longer file a random part is taken; the file's end is always
            within reach, and a shorter file is taken whole.
        seed: of order, starts, gains and rolls.
        clips_per_file: how often each file is drawn from in an epoch.
        gain: multiply by 0.5 + Beta(10, 10), as AudioMAE does.
        roll: rotate the clip in time by any number of samples, as AudioMAE means to do.
        labels: one for each path: numbers, or a tensor [paths, ...] of rows.

    An item is {"wave": float32 [samples], "length": samples that are of the file (0 from there on), "label": that
    of the file, or -1, "sample": n, "broken": [messages]}. A silent file is a file like others.
    """

    MEDIUM: ClassVar[str] = "sound files"

    rate: int = 16000
    samples: int = 160_000
    clips_per_file: int = 1
    gain: bool = False
    roll: bool = False
    labels: list[int] | torch.Tensor | None = None
    _kept: tuple = field(default=(None, None), init=False, repr=False)

    def __post_init__(self):
        if self.rate not in RATES or self.samples < 1 or self.clips_per_file < 1:
            raise ValueError(
                f"need a rate of {RATES.start} to {RATES.stop - 1} Hz and at least 1 sample and 1 clip a file, got "
                f"rate={self.rate}, samples={self.samples}, clips_per_file={self.clips_per_file}"
            )
        if self.labels is not None and len(self.labels) != len(self.paths):
            raise ValueError(f"need a label for each of {len(self.paths)} paths, got {len(self.labels)}")

    def read_clip(self, index: int, sample: int) -> dict:
        wave, length = self._wave(index, sample // self.views)
        if self.roll:
            wave[:length] = wave[:length].roll(choose(self.seed, sample, ROLL, length))
        if self.gain:
            wave *= 0.5 + beta_10_10(self.seed, sample, GAIN)
        label = -1 if self.labels is None else self.labels[index]
        return {"wave": wave, "length": length, "label": label}

    def note(self, index: int) -> str | None:
        return open_audio(self.paths[index]).damage or None

    def _wave(self, index: int, clip: int) -> tuple[torch.Tensor, int]:
        """The part of a file that a clip is, float32 [samples], and how much of it is of the file; kept for the clip's
        other views, which come next."""
        if self._kept[0] != (index, clip):
            file = open_audio(self.paths[index])
            start = choose(self.seed, clip, START, starts(file, self.samples, self.rate))
            self._kept = (index, clip), read_padded(file, start, self.samples, self.rate)
        wave, length = self._kept[1]
        return wave.clone(), length


@dataclass
class WeightedClips(AudioClips):
    """Clips of files drawn by weight, with replacement; else like `AudioClips`.

    Args:
        weights: how often each path comes up, relative to others; see `class_weights`.
        draws: clips of an epoch; by default as many as files.
    """

    weights: list[float] = field(kw_only=True)
    draws: int | None = None

    def __post_init__(self):
        super().__post_init__()
        if len(self.weights) != len(self.paths) or not min(self.weights) >= 0 or not sum(self.weights) > 0:
            raise ValueError(f"need a weight for each of {len(self.paths)} paths, none negative, not all 0")
        self._ends = np.cumsum(self.weights)

    def __len__(self) -> int:
        return len(self.paths) if self.draws is None else self.draws

    def turn(self, clip: int) -> int:
        at = (choose(self.seed, clip, FILE, 1 << 32) + 0.5) / (1 << 32) * self._ends[-1]
        return min(int(np.searchsorted(self._ends, at, side="right")), len(self.paths) - 1)


def class_weights(targets: torch.Tensor) -> list[float]:
    """Weigh clips so that a class of few clips comes up as often as one of many: the weight of a clip is the sum, over
    its labels, of one over how many clips have that label.

    Args:
        targets: [N, C], any dtype, 1 where clip n has label c and 0 elsewhere.

    Returns N weights.
    """
    return (targets / targets.sum(dim=0).clamp(min=1)).sum(dim=1).tolist()


@dataclass
class EveryFile(EveryItem):
    """One clip of each file, in the order of `paths`, nothing drawn: what evaluation looks at.

    Args:
        paths: sound files, of any rate and number of channels.
        rate, samples: as in `AudioClips`; of a longer file the middle is taken.

    Item i is {"wave": float32 [samples], "length": samples that are of the file, "place": i, "decodes":
    whether it does, "broken": [messages]}. A file that does not decode is silent and has a message; one that is damaged
    has one, too.
    """

    paths: list[Path]
    rate: int = 16000
    samples: int = 160_000

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, place: int) -> dict:
        path, messages, decodes = self.paths[place], [], True
        try:
            file = open_audio(path)
            middle = (starts(file, self.samples, self.rate) - 1) // 2
            wave, length = read_padded(file, middle, self.samples, self.rate)
            if file.damage:
                messages = [FileMessage(file.damage, path, served=True)]
        except DataError as error:
            wave, length, decodes = torch.zeros(self.samples, device="cpu"), 0, False
            messages = [FileMessage(str(error), path)]
        return {"wave": wave, "length": length, "place": place, "decodes": decodes, "broken": messages}
