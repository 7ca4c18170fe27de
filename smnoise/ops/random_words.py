# SPDX-License-Identifier: Apache-2.0
"""smnoise::random_words: the contract's random words, for what is drawn beside masks.

Extension 4. Reference: `smnoise.reference.random_words`; CPU: csrc/philox_cpu.h; CUDA: csrc/words_block.h.
"""

from __future__ import annotations

import torch

from ..backends import choose
from ..tensors import check_tensors
from ._library import check_seed_and_samples, register

MAX_COUNT = 1 << 18  # four a Philox call, whose counter has 16 bits for the call's place


def random_words(
    seed: torch.Tensor, samples: torch.Tensor, purpose: int, count: int, backend: str = "auto"
) -> torch.Tensor:
    """The first `count` random words of each sample: int64 [B, count], each 0 .. 2^32 - 1.

    Word j is output j & 3 of the Philox call with block j >> 2, y = t = 0 and the purpose. A row depends on its own
    sample index only, and its words do not depend on count.

    >>> random_words(torch.tensor(0), torch.arange(2), purpose=9, count=2).tolist()
    [[3210882156, 3963199362], [4224952510, 2926423710]]

    Args:
        seed, samples, backend: as in `color_mask`.
        purpose: 0 .. 15; words of different purposes are independent. 0 .. 4 are what masks are made of.
        count: 0 .. 2^18.
    """
    check_tensors(seed=seed, samples=samples)
    return torch.ops.smnoise.random_words(seed, samples, purpose, count, backend)


def _check(seed, samples, purpose, count) -> None:
    check_seed_and_samples(seed, samples)
    if not 0 <= purpose <= 15:
        raise ValueError(f"purpose must be in 0..15, got {purpose}")
    if not 0 <= count <= MAX_COUNT:
        raise ValueError(f"count must be in 0..{MAX_COUNT}, got {count}")


def _random_words(seed, samples, purpose, count, backend="auto"):
    _check(seed, samples, purpose, count)
    return choose("random_words", backend, samples.device.type)(seed, samples, purpose, count)


def _fake(seed, samples, purpose, count, backend="auto"):
    _check(seed, samples, purpose, count)
    return torch.empty((samples.shape[0], count), dtype=torch.int64, device=samples.device)


register(
    'random_words(Tensor seed, Tensor samples, int purpose, int count, str backend="auto") -> Tensor',
    _random_words,
    _fake,
)
