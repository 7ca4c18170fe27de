# SPDX-License-Identifier: Apache-2.0
"""Log-mel features of waveforms in plain torch, with Kaldi's conventions as AudioMAE uses them.

    log_mel = LogMel(16000).to(device)
    features = log_mel(batch["wave"].to(device), batch["length"].to(device))     # [B, frames, 128]
    frames, mean, std = DATA_SETS["audioset"]
    inputs = normalise(fit_length(features, frames), mean, std)

Source: Kaldi's feature-fbank and mel-computations; the settings are those of AST and AudioMAE: Hann window,
25 ms every 10 ms, 128 bins, no dither, no energy, waveforms in [-1, 1].
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from ...spec import as_int
from ...tensors import check_tensors

PRE_EMPHASIS = 0.97
LOW_HZ = 20.0
FLOOR = torch.finfo(torch.float32).eps


class Clips(NamedTuple):
    """How AudioMAE presents a data set: frames of a clip; mean and standard deviation of the log-mel values."""

    frames: int
    mean: float
    std: float


DATA_SETS = {
    "audioset": Clips(1024, -4.2677393, 4.5689974),
    "esc50": Clips(512, -6.6268077, 5.358466),
    "speechcommands": Clips(128, -6.845978, 5.5654526),
}


class LogMel(torch.nn.Module):
    """Waveforms to log-mel features. No weights; moves between devices as modules do.

    >>> LogMel(sample_rate=16000, num_mels=128)(torch.zeros(2, 16000)).shape
    torch.Size([2, 98, 128])

    Args:
        sample_rate: of the waveforms, in Hz.
        num_mels: mel bins from 20 Hz to half the sample rate.
        window_ms, shift_ms: length of a frame and distance of frames, rounded down to samples.

    Where bins are narrower than the lines of the Fourier transform (128 bins at 8 kHz), those that hold no line
    are always at the floor, log(float32 eps), as Kaldi's formula has it.
    """

    first: torch.Tensor
    weights: torch.Tensor
    hann: torch.Tensor

    def __init__(self, sample_rate: int, num_mels: int = 128, window_ms: int = 25, shift_ms: int = 10):
        super().__init__()
        sample_rate = as_int("sample_rate", sample_rate, 1, 10**7)
        num_mels = as_int("num_mels", num_mels, 1, 10**4)
        window_ms, shift_ms = (
            as_int(name, ms, 1, 10**4) for name, ms in (("window_ms", window_ms), ("shift_ms", shift_ms))
        )
        self.sample_rate, self.num_mels = sample_rate, num_mels
        self.window, self.shift = sample_rate * window_ms // 1000, sample_rate * shift_ms // 1000
        if self.window < 2 or self.shift < 1:
            raise ValueError(
                "need a window of at least 2 samples and a shift of at least 1, got "
                f"{window_ms} ms and {shift_ms} ms at {sample_rate} Hz"
            )
        self.fft_size = 1 << (self.window - 1).bit_length()
        first, weights = mel_bank(sample_rate, self.fft_size, num_mels)
        hann = torch.hann_window(self.window, periodic=False, dtype=torch.float64, device="cpu").float()
        device = torch.get_default_device()  # computed on the CPU, then put where modules are made
        for name, value in (("first", first), ("weights", weights), ("hann", hann)):
            self.register_buffer(name, value.to(device), persistent=False)

    def num_frames(self, samples):
        """Whole frames in so many samples (an int or an integer tensor): none where a window does not fit."""
        frames = (samples - self.window) // self.shift + 1
        return frames.clamp(min=0) if torch.is_tensor(frames) else max(0, frames)

    def num_samples(self, frames: int) -> int:
        """The fewest samples that give so many frames."""
        return (frames - 1) * self.shift + self.window

    @torch.no_grad()
    def forward(self, waves: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """Features float32 [B, num_frames(N), num_mels] of waveforms [B, N], any floating type, in [-1, 1].

        lengths: valid samples of each waveform, integers [B]. Frames that reach beyond them are 0, so a short
        clip in a batch comes out as it does alone when `fit_length` has padded it.

        On a CPU a clip's features do not depend on the batch that it is in, to the bit.
        Raises TypeError for integer samples, ValueError for a wrong shape.
        """
        check_tensors(waves=waves)
        if not waves.is_floating_point():
            raise TypeError(
                f"expected floating point waveforms in [-1, 1], got {waves.dtype}; divide int16 by 32768"
            )
        if waves.ndim != 2:
            raise ValueError(f"expected waveforms [B, N], got {list(waves.shape)}")
        if lengths is not None and lengths.shape != waves.shape[:1]:
            raise ValueError(f"expected {len(waves)} lengths, got a tensor {list(lengths.shape)}")
        frames = self.num_frames(waves.shape[1])
        if not frames:
            return waves.new_zeros(len(waves), 0, self.num_mels, dtype=torch.float32)

        # The recipe takes the mean off the whole waveform first. It takes it off each frame too, which undoes
        # any constant, so the first step is left out: with it a clip would depend on its padding.
        x = waves.float().contiguous().unfold(1, self.window, self.shift)
        x = x - x.mean(dim=2, keepdim=True)
        before = torch.cat([x[..., :1], x[..., :-1]], dim=2)
        x = (x - PRE_EMPHASIS * before) * self.hann
        power = torch.fft.rfft(x, n=self.fft_size).abs().square()

        # A sum in fixed order, where a matrix product would round by the shape of its batch, and to TF32 or
        # bfloat16 where the caller allows that to the model.
        mel = power[..., self.first] * self.weights[0]
        for line in range(1, len(self.weights)):
            mel += power[..., self.first + line] * self.weights[line]
        features = mel.clamp_(min=FLOOR).log_()
        if lengths is not None:
            valid = torch.arange(frames, device=waves.device) < self.num_frames(lengths)[:, None]
            features = features.where(valid[..., None], 0.0)
        return features


def mel_bank(sample_rate: int, fft_size: int, num_mels: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Kaldi's triangles over the lines of a Fourier transform: the first line of each bin, int64 [num_mels],
    and the weights from there on, float32 [widest, num_mels], both on the CPU. The line at half the sample rate has
    no weight."""
    hertz = torch.arange(fft_size // 2 + 1, dtype=torch.float64, device="cpu") * sample_rate / fft_size
    lines = 1127 * torch.log1p(hertz / 700)
    low, high = (1127 * math.log1p(hz / 700) for hz in (LOW_HZ, sample_rate / 2))
    edges = low + (high - low) / (num_mels + 1) * torch.arange(
        num_mels + 2, dtype=torch.float64, device="cpu"
    )
    left, center, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    bank = torch.minimum((lines - left) / (center - left), (right - lines) / (right - center)).clamp(min=0)
    bank[:, -1] = 0
    widest = max(1, int((bank > 0).sum(dim=1).max()))
    first = (bank > 0).int().argmax(dim=1).clamp(max=fft_size // 2 + 1 - widest)
    weights = bank.gather(1, first[:, None] + torch.arange(widest, device="cpu"))
    return first, weights.T.float().contiguous()


def fit_length(features: torch.Tensor, frames: int) -> torch.Tensor:
    """Cut features, float [..., frames, mels], to the first `frames` ones, or pad them with zeros, which belongs before
    `normalise`.
    """
    features = features[..., :frames, :]
    return torch.nn.functional.pad(features, (0, 0, 0, frames - features.shape[-2]))


def normalise(features: torch.Tensor, mean: float, std: float) -> torch.Tensor:
    """Normalise log-mel features, floats of any shape: (features - mean) / (2 std). The 2 is AudioMAE's and AST's:
    values come to a deviation of 0.5.
    """
    return (features - mean) / (2 * std)
