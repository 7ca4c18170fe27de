# SPDX-License-Identifier: Apache-2.0
"""From the waveforms of a batch to what AudioMAE reads: log-mel features, cut or padded, normalised."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from ...errors import DataError
from .fbank import DATA_SETS, FLOOR, LogMel, fit_length, normalise


class Statistics(NamedTuple):
    """Mean and standard deviation of the log-mel values of a data set."""

    mean: float
    std: float

    @classmethod
    def of(cls, given: str | tuple[float, float]) -> Statistics:
        """Return the statistics of a data set that `fbank.DATA_SETS` names, or those that two numbers are."""
        mean, std = DATA_SETS[given][1:] if isinstance(given, str) else given
        return cls(mean, std)


class Spectrograms(torch.nn.Module):
    """Waveforms to normalised spectrograms. No weights; moves between devices as modules do.

    Args:
        rate: of the waveforms, in Hz.
        frames, mels: size of a spectrogram. Longer clips are cut; shorter ones are padded with 0 before normalising.
        statistics: of the data set; `normalise` is given them.

    Attributes: samples, how many fill all frames.
    """

    def __init__(self, rate: int, frames: int, mels: int, statistics: Statistics):
        super().__init__()
        self.log_mel = LogMel(rate, mels)
        self.frames, self.statistics = frames, Statistics(*statistics)
        self.samples = self.log_mel.num_samples(frames)

    def forward(self, waves: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Make spectrograms, float32 [B, frames, mels], of waveforms, float [B, N] in [-1, 1], of which `lengths`,
        integers [B], samples are valid.
        """
        return normalise(self.features(waves, lengths), *self.statistics)

    def features(self, waves: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Make spectrograms as `forward` does, which are not normalised yet."""
        return fit_length(self.log_mel(waves, lengths), self.frames)


def measure(batches: Iterable[dict], log_mel: LogMel, device: torch.device) -> Statistics:
    """Mean and deviation of the log-mel values of `AudioClips` batches, over the frames that are of the files.

    Raises DataError where they hold no frame, or nothing but silence (or one constant value, which has no spectrum
    either).
    """
    base = math.log(FLOOR)  # what silence has, so that its sums are just 0
    count, total, squares, clips = 0, 0.0, 0.0, 0
    for batch in batches:
        lengths = batch["length"].to(device)
        features = log_mel(batch["wave"].to(device), lengths)
        valid = torch.arange(features.shape[1], device=device) < log_mel.num_frames(lengths)[:, None]
        values = features[valid].double() - base
        count, clips = count + values.numel(), clips + len(lengths)
        total += values.sum().item()
        squares += values.square().sum().item()
    if not count:
        raise DataError(f"the first {clips} clips are shorter than a frame of {log_mel.window} samples")
    mean = total / count
    std = math.sqrt(max(0.0, squares / count - mean * mean))
    if std < 1e-3:
        raise DataError(f"the first {clips} clips are silent; look at the files")
    return Statistics(base + mean, std)
