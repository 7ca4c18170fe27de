# SPDX-License-Identifier: Apache-2.0
"""Masks laid over pictures: visible tokens as they are, masked ones dark."""

from __future__ import annotations

import numpy as np

from .style import HIDDEN

GLIMPSE = 0.16  # of what a mask hides, so that one sees what it moves over; the encoder sees nothing of it
SHADES = 10  # of that glimpse, which is grey: what has colour is visible, and a GIF's palette is for that


def enlarged(mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Enlarge a mask over a grid, bool [T, H, W] or [H, W], to one over the pixels of `shape`, whose sides are
    multiples of the grid's.
    """
    if len(mask.shape) != len(shape) or any(s % n for n, s in zip(mask.shape, shape, strict=True)):
        raise ValueError(
            f"a grid {mask.shape} does not fit {shape}: each side must be a multiple of the grid's"
        )
    for axis, (tokens, pixels) in enumerate(zip(mask.shape, shape, strict=True)):
        mask = np.repeat(mask, pixels // tokens, axis=axis)
    return mask


def masked(pictures: np.ndarray, mask: np.ndarray, glimpse: float = GLIMPSE) -> np.ndarray:
    """Pictures uint8 [..., 3] under a mask over their tokens, bool with the dimensions before the last."""
    hidden = enlarged(mask, pictures.shape[:-1])[..., None]
    grey = pictures @ np.array([0.299, 0.587, 0.114], np.float32)
    levels = np.round(grey / 255 * SHADES)[..., None] * (255 / SHADES)
    dark = levels * glimpse + np.array(HIDDEN, np.float32) * 255 * (1 - glimpse)
    return np.where(hidden, np.round(dark), pictures).astype(np.uint8)


def tiles(volume: np.ndarray, gap: float = np.nan, rightwards: bool = False) -> np.ndarray:
    """Put the time steps of a volume, float [T, H, W], side by side, one line between them: [H, T * (W + 1) - 1].

    rightwards: the planes lie on their side, their first axis to the right and the second one upwards, as a spectrogram
    is drawn.
    """
    planes = [plane.T[::-1] if rightwards else plane for plane in volume.astype(np.float64)]
    line = np.full((planes[0].shape[0], 1), gap)
    return np.concatenate([part for plane in planes for part in (plane, line)][:-1], axis=1)


def lies_on_its_side(grid: tuple[int, int, int]) -> bool:
    """Whether a plane is drawn as a spectrogram is, time to the right: where it is much longer than wide."""
    t, h, w = grid
    return t == 1 and h >= 2 * w
