# SPDX-License-Identifier: Apache-2.0
"""Extension 10 in plain NumPy, for one sample: sets of a ranking, a set cut into several, distances. Slow, and the
truth for tests, as reference.py is."""

from __future__ import annotations

import numpy as np

from .reference import add_bias, ranked


def levels(scores: np.ndarray, top=(), bottom=()) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """scores: float32 [L]. Sets from the top and from the bottom, int64 ids, ascending."""
    order = ranked(scores)
    high = np.split(order, np.cumsum(top))[: len(top)]
    low = np.split(order[::-1], np.cumsum(bottom))[: len(bottom)]
    return [np.sort(ids) for ids in high], [np.sort(ids) for ids in low]


def split(ids: np.ndarray, fields: np.ndarray) -> np.ndarray:
    """ids: int64 [M * N], ascending; fields: float32 [M, L]. int64 [M, N]."""
    size, rest, parts = len(ids) // len(fields), ids, []
    for j in range(len(fields) - 1):
        lead = add_bias(fields[j, rest], fields[j + 1 :, rest].max(axis=0), -1.0)
        order = ranked(lead)
        parts.append(rest[np.sort(order[:size])])
        rest = rest[np.sort(order[size:])]
    return np.stack([*parts, rest])


def distance_to(members: np.ndarray) -> np.ndarray:
    """members: bool [T, H, W]. int64 [T, H, W]."""
    places, every = np.argwhere(members), np.argwhere(np.ones_like(members))
    if not len(places):
        return np.full(members.shape, sum(members.shape))
    return np.abs(every[:, None] - places).sum(-1).min(1).reshape(members.shape)
