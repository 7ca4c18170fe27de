# SPDX-License-Identifier: Apache-2.0
"""Noise at points between lattice places (contract/extensions.md, 15) in plain NumPy, as the contract reads."""

from __future__ import annotations

from math import exp, sqrt

import numpy as np

from .reference import bank, draw_sigmas, first_partner, taps, white

PHASES = 16


def point_taps(sigma: float, truncate: float, phase: int) -> np.ndarray:
    """Weights of one axis at a phase: float32 of float64. Phase 0: g[0..r] of section 3; else those of the lattice
    places -r .. r + 1, of equal energy."""
    g = taps(sigma, truncate)
    radius = len(g) - 1
    if phase == 0 or radius == 0:
        return g
    shift = phase / PHASES
    h = [exp(-((j - shift) ** 2) / (2 * sigma * sigma)) for j in range(-radius, radius + 2)]
    exact = [exp(-(k * k) / (2 * sigma * sigma)) for k in range(radius + 1)]
    total = squares = own = 0.0
    for value in exact[1:]:
        total += value
        squares += value * value
    for value in h:
        own += value * value
    scale = sqrt((exact[0] * exact[0] + 2 * squares) / own) / (exact[0] + 2 * total)
    return np.array([value * scale for value in h], dtype=np.float64).astype(np.float32)


def place_of(points: np.ndarray) -> np.ndarray:
    """Round coordinates, float32 of any shape, to sixteenths: int64, halves going up."""
    return np.floor(points.astype(np.float64) * PHASES + 0.5).astype(np.int64)


def nearest(place):
    """The nearest lattice place of sixteenths, halves going up."""
    return (place + PHASES // 2) >> 4


def point_sum(values: np.ndarray, g: np.ndarray, paired: bool) -> np.ndarray:
    """Sum float32 values [..., n], weighted by g, over the last axis, in the contract's order."""
    if not paired:
        acc = g[0] * values[..., 0]
        for j in range(1, len(g)):
            acc = acc + g[j] * values[..., j]
        return acc
    radius = len(g) - 1
    acc = g[0] * values[..., radius]
    for k in range(1, radius + 1):
        acc = acc + g[k] * (values[..., radius - k] + values[..., radius + k])
    return acc


def low_pass_at(seed: int, sample: int, spec, sigma: float, place) -> np.ndarray:
    """Compute sections 3 and 4 at one place, three integers (t, y, x) of sixteenths: a float32 scalar."""
    axes = []
    for scale, q in zip(spec.anisotropy, place, strict=True):
        radius = len(taps(sigma * scale, spec.truncate)) - 1
        phase = int(q) % PHASES if radius else 0
        first = (int(q) // PHASES if radius else int(nearest(q))) - radius
        g = point_taps(sigma * scale, spec.truncate, phase)
        axes.append((np.arange(first, first + 2 * radius + (1 if phase == 0 else 2)), g, phase == 0))
    (t, g_t, pair_t), (y, g_y, pair_y), (x, g_x, pair_x) = axes
    v = white(seed, sample, t[:, None, None], y[None, :, None], x[None, None, :])
    return point_sum(point_sum(point_sum(v, g_x, pair_x), g_y, pair_y), g_t, pair_t)


def noise_at(seed: int, sample: int, points: np.ndarray, spec, table: list[int] | None = None) -> np.ndarray:
    """Extension 15. The field of a sample at points, float32 [N, 3] of (t, y, x): float32 [N].

    spec: anything with the fields of smnoise.spec.ColorSpec; its grid, origin and count are not read.
    """
    bank1, bank2 = bank(spec.sigma1), bank(spec.sigma2)
    two = spec.color in ("green", "purple")
    i, j = draw_sigmas(seed, sample, first_partner(bank1, bank2) if two else None, table)
    out = np.empty(len(points), np.float32)
    for n, place in enumerate(place_of(points)):
        w = white(seed, sample, *(nearest(q) for q in place))
        if spec.color == "white":
            out[n] = w
            continue
        band = low_pass_at(seed, sample, spec, bank1[i], place)
        if two:
            band = band - low_pass_at(seed, sample, spec, bank2[j], place)
        out[n] = band if spec.color in ("red", "green") else w - band
    return out
