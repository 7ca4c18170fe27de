# SPDX-License-Identifier: Apache-2.0
"""Checks that the training ops share."""

from __future__ import annotations

import torch
from torch import Tensor


def check_pixels(pixels: Tensor, patch) -> tuple[int, int, int]:
    """Return the grid (T / t, H / h, W / w) of clips [B, C, T, H, W], uint8 or float32. Raises TypeError or ValueError
    where patches do not fit.
    """
    if pixels.dtype not in (torch.uint8, torch.float32):
        raise TypeError(f"pixels must be uint8 or float32, got {pixels.dtype}; convert with pixels.float()")
    if pixels.dim() != 5 or not all(pixels.shape[1:]):
        raise ValueError(
            f"pixels must have shape [B, C, T, H, W], C, T, H, W not zero; got {list(pixels.shape)}"
        )
    if len(patch) != 3 or min(patch) < 1 or any(n % p for n, p in zip(pixels.shape[2:], patch, strict=True)):
        raise ValueError(
            f"patch must be three positive integers that divide (T, H, W) {tuple(pixels.shape[2:])}, got {tuple(patch)}"
        )
    t, h, w = (n // p for n, p in zip(pixels.shape[2:], patch, strict=True))
    return t, h, w


def as_ids(ids: Tensor) -> Tensor:
    """Return int32 ids [B, N] as the int64 that the ops read, and anything else as it is, for them to refuse."""
    return ids.long() if ids.dtype == torch.int32 else ids


def check_ids(ids: Tensor, like: Tensor, grid: tuple[int, int, int], name: str = "ids") -> None:
    """Raise TypeError or ValueError unless ids are int64 [B, N], N > 0, on the device of `like` [B, ...]. What they
    hold is looked at by `check_range`.
    """
    if ids.dtype != torch.int64:
        raise TypeError(f"{name} must be int64, got {ids.dtype}; convert with {name}.long()")
    if ids.dim() != 2 or ids.shape[0] != like.shape[0] or not ids.shape[1]:
        raise ValueError(f"{name} must have shape [{like.shape[0]}, N] with N > 0, got {list(ids.shape)}")
    if ids.device != like.device:
        raise ValueError(
            f"{name} are on {ids.device}, the other tensors on {like.device}; put both on one device"
        )
    check_range(ids, grid[0] * grid[1] * grid[2], name)


def check_range(ids: Tensor, tokens: int, name: str) -> None:
    """Raise ValueError for token numbers, int64 [B, N], outside of 0 .. tokens - 1, where looking at them costs no
    wait.
    """
    if ids.device.type == "cpu" and not torch.compiler.is_compiling() and type(ids) is Tensor and ids.numel():
        low, high = (int(v) for v in ids.aminmax())
        if low < 0 or high >= tokens:
            raise ValueError(f"{name} must be in 0..{tokens - 1}, got {low}..{high}")
