# SPDX-License-Identifier: Apache-2.0
"""Rows of several lengths (contract/extensions.md, 14) in plain NumPy, as the contract reads."""

from __future__ import annotations

import numpy as np

from .reference import Outputs, threshold


def ragged_threshold(scores: np.ndarray, length: int, visible: int, keep: int, hide: int) -> Outputs:
    """Extension 14. scores: float32 [L]; keep, hide: columns of ids_keep and ids_mask. All padded with zeros."""
    found = threshold(scores[None, :length], visible)
    restore = np.where(found.mask, found.ids_restore + keep - visible, found.ids_restore)

    def padded(values, size):
        return np.concatenate([values, np.zeros(size - len(values), values.dtype)])

    sizes = len(scores), keep, hide, len(scores)
    parts = found.mask, found.ids_keep, found.ids_mask, restore
    return Outputs(*(padded(v, n) for v, n in zip(parts, sizes, strict=True)))
