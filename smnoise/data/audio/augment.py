# SPDX-License-Identifier: Apache-2.0
"""What fine-tuning does to a batch of sounds: mixup, SpecAugment, dropped tokens.

All of it is a function of (seed, sample number); mixup's partner is another clip of the same batch. Letters: B clips,
N samples, C classes, T and F frames and mel bins, or patches along them.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...masks import MaskBatch
from ...reference import words
from ...spec import visible_of_ratio

PURPOSE_AUGMENT = 11  # beside those of `draws`
MIXUP, STRIPES, ROWS = 0, 1, 2  # parts of a sample's words


def drawn(seed: int, sample: int, part: int, count: int) -> np.ndarray:
    """Random words of a sample, int64 [count], each below 2^32."""
    blocks = words(seed, sample, PURPOSE_AUGMENT, block=np.arange((count + 3) // 4), y=part)
    return blocks.reshape(-1)[:count].astype(np.int64)


def sent(values: Tensor, device: torch.device) -> Tensor:
    """Send a tensor of any shape and dtype from the CPU to a device. The host does not wait for what the device has
    still to do, as it would where it copies from memory that is not pinned.
    """
    if device.type == "cuda":
        values = values.pin_memory()
    return values.to(device, non_blocking=True)


def mixup(
    waves: Tensor, lengths: Tensor, targets: Tensor, samples: Tensor, *, seed: int, chance: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Each clip, with that chance, becomes share * itself + (1 - share) * another clip of the batch, and its target
    likewise; the share is drawn from Beta(10, 10), as AudioMAE does.

    Args:
        waves: float32 [B, N].
        lengths: valid samples, int64 [B]. That of a mixture is the longer one's.
        targets: float32 [B, C].
        samples: sample numbers, int64 [B], on the CPU.

    Returns waves, lengths and targets. A batch of one clip has no partner, and stays as it is.
    """
    batch = len(waves)
    shares, partners = torch.ones(batch, 1, device="cpu"), torch.arange(batch, device="cpu")
    for i, sample in enumerate(samples.tolist() if batch > 1 else ()):
        chosen, other, *uniform = drawn(seed, sample, MIXUP, 21).tolist()
        if chosen < chance * (1 << 32):
            partners[i] = (i + 1 + (other * (batch - 1) >> 32)) % batch
            shares[i] = (sorted(uniform)[9] + 0.5) / (1 << 32)  # the middle one of 19 is Beta(10, 10)
    shares, partners = sent(shares, waves.device), sent(partners, waves.device)
    return (
        shares * waves + (1 - shares) * waves[partners],
        torch.maximum(lengths, lengths[partners]),
        shares * targets + (1 - shares) * targets[partners],
    )


def spec_augment(
    spectrograms: Tensor, samples: Tensor, *, seed: int, bins: int, frames: int, value: float
) -> Tensor:
    """One stripe of mel bins and one of frames of each spectrogram set to `value`.

    Widths are drawn from 0 .. bins - 1 and 0 .. frames - 1, as torchaudio's are, and at most all there is but one; then
    places among those where they fit.

    Args:
        spectrograms: float [B, T, F].
        samples: sample numbers, int64 [B], on the CPU.
    """
    time, mel = spectrograms.shape[1:]
    stripes = []
    for sample in samples.tolist():
        word = drawn(seed, sample, STRIPES, 4).tolist()
        sizes = ((min(frames, time), time, word[:2]), (min(bins, mel), mel, word[2:]))
        for most, size, (wide, where) in sizes:
            width = wide * most >> 32
            start = where * (size - width + 1) >> 32
            stripes.append((start, start + width))
    ends = sent(torch.tensor(stripes, device="cpu"), spectrograms.device).view(-1, 2, 2)
    in_time, in_mel = (
        (place >= ends[:, axis, :1]) & (place < ends[:, axis, 1:])
        for axis, place in enumerate(torch.arange(n, device=spectrograms.device) for n in (time, mel))
    )
    return spectrograms.masked_fill(in_time[:, :, None] | in_mel[:, None, :], value)


def token_dropping(
    samples: Tensor, grid: tuple[int, int], *, seed: int, drop_time: float, drop_freq: float
) -> MaskBatch:
    """Patches that are left when, of each clip, whole times and whole frequencies are dropped.

    Args:
        samples: sample numbers, int64 [B], on the CPU.
        grid: patches along (time, frequency).
        drop_time, drop_freq: shares that are dropped; `kept_patches` says how many are left.

    Returns masks of grid (1, T, F) with ids_keep alone.
    """
    kept_time, kept_freq = kept_patches(grid, drop_time, drop_freq)
    ids = []
    for sample in samples.tolist():
        order = drawn(seed, sample, ROWS, sum(grid))
        times = np.sort(np.argsort(order[: grid[0]], kind="stable")[:kept_time])
        freqs = np.sort(np.argsort(order[grid[0] :], kind="stable")[:kept_freq])
        ids.append((times[:, None] * grid[1] + freqs).reshape(-1))
    return MaskBatch(None, torch.from_numpy(np.stack(ids)), None, None, (1, *grid), kept_time * kept_freq)


def kept_patches(grid: tuple[int, int], drop_time: float, drop_freq: float) -> tuple[int, int]:
    """How many times and frequencies of a grid are left: floor(count * (1 - share)). ValueError where none is."""
    kept = visible_of_ratio(grid[0], drop_time), visible_of_ratio(grid[1], drop_freq)
    if min(drop_time, drop_freq) < 0 or min(kept) < 1:
        raise ValueError(
            f"drop_time and drop_freq must be at least 0 and leave a patch of {grid}, got {drop_time} and {drop_freq}"
        )
    return kept
