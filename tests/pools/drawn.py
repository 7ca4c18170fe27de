# SPDX-License-Identifier: Apache-2.0
"""Pools for the tests, and what is drawn from them by a plain NumPy reference."""

import numpy as np

import smnoise
from smnoise import pools, reference

GRID = (3, 5, 6)
GREEN = smnoise.Green3D(GRID, num_visible=17, seed=5)
MASKS = pools.build_masks(GREEN, 20)
NOISE = pools.build_noise(GREEN, 7, (4, 9, 8))
TORUS = pools.build_noise(smnoise.Green3D(GRID, num_visible=17, boundary="wrap"), 7, (4, 9, 8))
AXES = "tyx"


def choices(sampler, seed: int, sample: int):
    """Pattern, window, flips and roll of a sample, word by word."""
    words = [int(w) for w in reference.random_words(seed, sample, 5, 8)]
    rooms = [s - n + 1 for s, n in zip(sampler.pool.size, sampler.grid, strict=True)]
    window = [
        w * r >> 32 if a in sampler.crop else 0 for a, w, r in zip(AXES, words[1:4], rooms, strict=True)
    ]
    flips = [bool(words[4] >> 31 - i & 1) and a in sampler.flip for i, a in enumerate(AXES)]
    rolls = zip(AXES, words[5:8], sampler.pool.size, strict=True)
    roll = [w * s >> 32 if a in sampler.roll else 0 for a, w, s in rolls]
    return words[0] * len(sampler.pool) >> 32, window, flips, roll


def window_of(volume: np.ndarray, sampler, seed: int, sample: int) -> np.ndarray:
    """What a sample sees of its pattern, by NumPy's own roll, slices and flip."""
    _, window, flips, roll = choices(sampler, seed, sample)
    volume = np.roll(volume, [-r for r in roll], axis=(0, 1, 2))
    volume = volume[tuple(slice(at, at + n) for at, n in zip(window, sampler.grid, strict=True))]
    return np.flip(volume, [i for i, f in enumerate(flips) if f])


def wanted(sampler, seed: int, sample: int) -> reference.Outputs:
    pattern = choices(sampler, seed, sample)[0]
    if isinstance(sampler.pool, pools.MaskPool):
        masks = sampler.pool.masks().numpy().reshape(-1, *sampler.grid)
        return reference.outputs_of(window_of(masks[pattern], sampler, seed, sample).reshape(-1))
    scores = window_of(sampler.pool.data[pattern].numpy(), sampler, seed, sample)
    groups = sampler.grid[0] if sampler.per == "frame" else 1
    return reference.threshold(scores.reshape(groups, -1), sampler.visible_per_sample // groups)


def check(sampler, seed: int, samples) -> None:
    found = sampler(samples, seed=seed)
    for i, sample in enumerate(samples):
        want = wanted(sampler, seed, sample)
        for name in ("mask", "ids_keep", "ids_mask", "ids_restore"):
            np.testing.assert_array_equal(getattr(found, name)[i].numpy(), getattr(want, name), err_msg=name)
