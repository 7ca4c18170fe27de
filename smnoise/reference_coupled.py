# SPDX-License-Identifier: Apache-2.0
"""Extension 16 in plain NumPy, for one sample: lines in time, counts by rank, Optim Blue's order. Slow, and the truth
for tests, as reference.py is."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from .reference import crowding, partition, random_words, ranked, taps

PURPOSE_LINES, PURPOSE_AMONG = 7, 11
SOUND = 0x9E3779B97F4A7C15  # the sound's own seed is the pair's, exclusive or this
ONE = 1 << 20  # of the band's weights


def band_weights(sigmas: tuple[float, float]) -> list[int]:
    """Weights of the band at distance 0 .. r, integers of which 2^20 is 1."""
    short, long = (taps(sigma, 4.0).astype(np.float64) for sigma in sigmas)
    band = -long
    band[: len(short)] += short
    return [math.floor(ONE * float(weight) + 0.5) for weight in band]


def lines(
    seed: int, sample: int, slots: tuple[int, int], rho: float, sigmas: tuple[float, float] = (3.0, 7.0)
) -> tuple[np.ndarray, np.ndarray]:
    """The line of the picture, int64 [slots[0]], and that of the sound, int64 [slots[1]]."""
    weights = band_weights(sigmas)
    reach = len(weights) - 1
    count = slots[1] + 2 * reach
    word = random_words(seed, sample, PURPOSE_LINES, 3 * count).astype(np.int64)
    shared, private, chooser = word[0::3], word[1::3], word[2::3]
    shared, private = (2 * (bits >> 16) - 65535 for bits in (shared, private))
    own = np.where(chooser < math.floor(abs(rho) * 2.0**32 + 0.5), -shared if rho < 0 else shared, private)
    kernel = np.array(weights[:0:-1] + weights, np.int64)
    fine, sound = (np.convolve(white, kernel, "valid") for white in (shared, own))
    return fine.reshape(slots[0], -1).sum(1), sound


def counts_by_rank(visible: int, slots: int, share: float) -> list[int]:
    """How many tokens the slots show, from the highest rank down; their sum is `visible`."""
    part = Fraction(repr(float(share)))
    exact = [
        Fraction(visible, slots) * (1 + part * Fraction(slots - 1 - 2 * rank, slots)) for rank in range(slots)
    ]
    counts = [math.floor(value) for value in exact]
    by_remainder = sorted(range(slots), key=lambda rank: (counts[rank] - exact[rank], rank))
    for rank in by_remainder[: visible - sum(counts)]:
        counts[rank] += 1
    return counts


def slot_mask(scores: np.ndarray, line: np.ndarray, counts: list[int]) -> np.ndarray:
    """bool [L], True = masked. scores: [slots, tokens], larger ones shown first; line: int64 [slots]."""
    own = np.array(counts)
    own[np.argsort(-line, kind="stable")] = counts
    mask = np.ones(scores.shape, bool)
    for row, values, count in zip(mask, scores, own, strict=True):
        order = ranked(values) if values.dtype == np.float32 else np.argsort(-values, kind="stable")
        row[order[:count]] = False
    return mask.reshape(-1)


def blue_order(seed: int, sample: int, number: int, label: int, spec) -> np.ndarray:
    """Scores of Optim Blue's tokens, int64 [L]: those of the mask `label` of partition `number` first, then what is
    least crowded by them, then by word. spec: a smnoise.spec.OptimBlueSpec."""
    shown = (partition(seed, number, spec) == label).reshape(spec.grid)
    crowd = np.zeros(spec.grid, np.int64)
    for step, s in crowding(spec.grid, spec.delta, spec.weights, spec.decay):
        crowd += s * np.roll(shown, step, (0, 1, 2))
    word = random_words(seed, sample, PURPOSE_AMONG, spec.tokens)
    order = np.lexsort((np.arange(spec.tokens), word, crowd.reshape(-1), ~shown.reshape(-1)))
    return -np.argsort(order)
