# SPDX-License-Identifier: Apache-2.0
"""smnoise::gaussian_filter: the contract's separable Gaussian filter of a volume that you have.

Contract section 4. Reference: `smnoise.reference.filter_axis`; CPU: csrc/gaussian_cpu.h; CUDA: csrc/gaussian_block.h.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch

from .. import reference
from ..backends import choose
from ..backends.outputs import filtered_shape
from ..spec import MAX_RADIUS, MAX_SLAB, as_choice
from ..tensors import check_tensors
from ._library import register

BOUNDARIES = ("wrap", "valid")


def gaussian_filter(
    volume: torch.Tensor,
    sigma: Sequence[float],
    truncate: float = 4.0,
    boundary: str = "wrap",
    backend: str = "auto",
) -> torch.Tensor:
    """Filter each volume along x, then y, then t, with the bits that the contract fixes.

    >>> volume = torch.zeros(1, 1, 1, 5)
    >>> volume[..., 2] = 1
    >>> gaussian_filter(volume, sigma=(0, 0, 0.5))[0, 0, 0].tolist()
    [0.00026386507670395076, 0.10645077377557755, 0.7865707278251648, 0.10645077377557755, 0.00026386507670395076]

    Args:
        volume: float32 [B, T, H, W]. Not differentiable.
        sigma: standard deviations along (t, y, x), in tokens; 0 leaves an axis unfiltered.
        truncate: filter radius in sigmas, rounded.
        boundary: "wrap" filters a torus; "valid" keeps what needs no value from outside.
        backend: as in `color_mask`.

    Returns:
        float32 [B, T, H, W] for "wrap", smaller by twice the radius along each axis for "valid".
    """
    check_tensors(volume=volume)
    try:
        widths = [float(s) for s in sigma]
    except OverflowError:
        raise ValueError("sigma must be three numbers (t, y, x), got an integer beyond all floats") from None
    return torch.ops.smnoise.gaussian_filter(volume, widths, truncate, boundary, backend)


@lru_cache(maxsize=256)
def _taps(sigma: tuple[float, ...], truncate: float) -> tuple[np.ndarray, tuple[int, int, int]]:
    """Weights float32 [3, longest] and radii."""
    if len(sigma) != 3 or not all(0 <= s < float("inf") for s in sigma):
        raise ValueError(f"sigma must be three numbers (t, y, x), none negative; got {list(sigma)}")
    if not 0 < truncate < float("inf") or truncate * max(sigma) > MAX_RADIUS:
        raise ValueError(
            f"truncate * sigma must be positive and at most {MAX_RADIUS}, got {truncate} * {max(sigma)}"
        )
    rows = [reference.taps(s, truncate) for s in sigma]
    table = np.zeros((3, max(len(g) for g in rows)), np.float32)
    for row, g in zip(table, rows, strict=True):
        row[: len(g)] = g
    t, y, x = (len(g) - 1 for g in rows)
    return table, (t, y, x)


def _check(volume, sigma, truncate, boundary):
    if volume.dtype != torch.float32:
        raise TypeError(f"volume must be float32, got {volume.dtype}; convert with volume.float()")
    if volume.dim() != 4 or not all(volume.shape[1:]):
        raise ValueError(
            f"volume must have shape [B, T, H, W], none of T, H, W zero; got {tuple(volume.shape)}"
        )
    as_choice("boundary", boundary, BOUNDARIES)
    taps, radius = _taps(tuple(sigma), truncate)
    shape = filtered_shape(volume.shape, radius, boundary == "wrap")
    if any(n <= 0 for n in shape[1:]):
        raise ValueError(
            f"nothing is left of a volume {tuple(volume.shape[1:])} with radii {radius}; use boundary='wrap'"
        )
    t, y, x = (n + 2 * r for n, r in zip(volume.shape[1:], radius, strict=True))
    if t * y * x > MAX_SLAB:
        raise ValueError(
            f"volume {tuple(volume.shape[1:])} with radii {radius} is larger than {MAX_SLAB} values"
        )
    return taps, radius, shape


def _gaussian_filter(volume, sigma, truncate=4.0, boundary="wrap", backend="auto"):
    taps, radius, _ = _check(volume, sigma, truncate, boundary)
    run = choose("gaussian_filter", backend, volume.device.type)
    return run(volume.detach(), taps, radius, boundary == "wrap")


def _fake(volume, sigma, truncate=4.0, boundary="wrap", backend="auto"):
    _, _, shape = _check(volume, sigma, truncate, boundary)
    return torch.empty(shape, dtype=torch.float32, device=volume.device)


register(
    'gaussian_filter(Tensor volume, float[] sigma, float truncate=4.0, str boundary="wrap", str backend="auto")'
    " -> Tensor",
    _gaussian_filter,
    _fake,
)
