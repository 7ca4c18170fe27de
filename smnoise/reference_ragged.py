# SPDX-License-Identifier: Apache-2.0
"""Rows of several lengths (contract/extensions.md, 14) in plain NumPy, as the contract reads."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .reference import threshold


class Ragged(NamedTuple):
    """One row of several lengths, extension 14: as Outputs, padded with zeros."""

    mask: np.ndarray
    ids_keep: np.ndarray
    ids_mask: np.ndarray
    ids_restore: np.ndarray


def ragged_threshold(scores: np.ndarray, length: int, visible: int, keep: int, hide: int) -> Ragged:
    """Extension 14. scores: float32 [L]; keep, hide: columns of ids_keep and ids_mask."""
    found = threshold(scores[None, :length], visible)
    restore = np.where(found.mask, found.ids_restore + keep - visible, found.ids_restore)

    def padded(values, size):
        return np.concatenate([values, np.zeros(size - len(values), values.dtype)])

    sizes = len(scores), keep, hide, len(scores)
    parts = found.mask, found.ids_keep, found.ids_mask, restore
    return Ragged(*(padded(v, n) for v, n in zip(parts, sizes, strict=True)))
