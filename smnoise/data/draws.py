# SPDX-License-Identifier: Apache-2.0
"""Random choices of training: pure functions of (seed, global sample number or step).

The same counter as the mask contract's, with purposes of our own, so that nothing here is correlated with a
mask and every choice is reproducible on any machine, NumPy version and worker count.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import numpy as np
import torch

from ..reference import words

PURPOSE_EPOCH, PURPOSE_CLIP, PURPOSE_STEP = 8, 9, 10


def choose(seed: int, sample: int, slot: int, count: int) -> int:
    """Choose one of 0 .. count - 1 for a sample; `slot` keeps a sample's choices apart."""
    word = int(words(seed, sample, PURPOSE_CLIP, block=slot >> 2)[slot & 3])
    return word * count >> 32


def beta_10_10(seed: int, sample: int, slot: int) -> float:
    """A draw of Beta(10, 10), by slots slot .. slot + 18: the middle one of 19 uniform numbers has just that
    distribution."""
    uniform = sorted((choose(seed, sample, slot + i, 1 << 32) + 0.5) / (1 << 32) for i in range(19))
    return uniform[9]


@lru_cache(maxsize=2)
def permutation(seed: int, epoch: int, count: int) -> np.ndarray:
    """Draw the order of an epoch: int64 [count], the items sorted by one random word each."""
    item = np.arange((count + 3) // 4)
    keys = words(seed, epoch, PURPOSE_EPOCH, block=item & 0xFFFF, y=item >> 16).reshape(-1)[:count]
    return np.argsort(keys, kind="stable")


@contextmanager
def torch_seeded(seed: int, step: int, device: torch.device) -> Iterator[None]:
    """Let torch's generators of the CPU and of `device`, from which dropout draws, begin inside of the block at a state
    that is a function of (seed, step). After the block they are the caller's again, as they were.
    """
    low, high, *_ = (int(word) for word in words(seed, step, PURPOSE_STEP))
    gpu = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if gpu else []):
        torch.default_generator.manual_seed(low | high << 32)
        if gpu:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(low | high << 32)
        yield
