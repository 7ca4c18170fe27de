# SPDX-License-Identifier: Apache-2.0
"""smnoise::gather_patches: patches picked by number straight out of pixels, normalised on the way.

Nothing is made of the patches that are not picked: at a masking ratio of 0.9 that is a tenth of the reads and of the
memory of cutting up the whole clip first. CPU: csrc/patches_cpu.h; Triton: kernels/gather_patches.py.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..backends import choose
from ..tensors import check_tensors
from ._library import LIBRARY, register
from ._patches import as_ids, check_ids, check_pixels


def gather_patches(
    pixels: Tensor,
    ids: Tensor,
    patch: tuple[int, int, int],
    scale: Tensor,
    shift: Tensor,
    backend: str = "auto",
) -> Tensor:
    """pixel * scale + shift of the picked patches.

    >>> pixels = torch.arange(16.0).view(1, 1, 1, 4, 4)
    >>> gather_patches(pixels, torch.tensor([[0, 3]]), (1, 2, 2), torch.ones(1), torch.zeros(1)).tolist()
    [[[[0.0, 1.0, 4.0, 5.0]], [[10.0, 11.0, 14.0, 15.0]]]]

    Args:
        pixels: [B, C, T, H, W], uint8 or float32; a spectrogram [B, time, mel] is pixels[:, None, None].
        ids: int64 or int32 [B, N], token numbers of the grid (T / t, H / h, W / w), x fastest; at least one.
        patch: (t, h, w), which must divide (T, H, W).
        scale, shift: float32 [C]; ((x / 255 - mean) / std) is scale = 1 / (255 std), shift = -mean / std. No gradient.
        backend: as in `color_mask`.

    Returns:
        float32 [B, N, C, t * h * w], the pixels of a patch ordered (t, h, w). Differentiable in float pixels.

    Raises:
        TypeError, ValueError for shapes, types and (on a CPU) ids that do not fit. On a GPU, where looking would mean
        to wait, a patch whose id is outside of the grid is NaN.
    """
    check_tensors(pixels=pixels, ids=ids, scale=scale, shift=shift)
    return torch.ops.smnoise.gather_patches(pixels, as_ids(ids), list(patch), scale, shift, backend)


def _check(pixels, ids, patch, scale, shift):
    grid = check_pixels(pixels, patch)
    check_ids(ids, pixels, grid)
    for name, v in (("scale", scale), ("shift", shift)):
        if v.dtype != torch.float32 or v.shape != pixels.shape[1:2] or v.device != pixels.device:
            raise ValueError(
                f"{name} must be float32 [{pixels.shape[1]}] on {pixels.device}, "
                f"got {v.dtype} {list(v.shape)} on {v.device}"
            )
    return grid


def _gather_patches(pixels, ids, patch, scale, shift, backend="auto"):
    _check(pixels, ids, patch, scale, shift)
    run = choose("gather_patches", backend, pixels.device.type)
    return run(pixels.detach(), ids, tuple(patch), scale.detach(), shift.detach())


def _fake(pixels, ids, patch, scale, shift, backend="auto"):
    _check(pixels, ids, patch, scale, shift)
    t, h, w = patch
    return pixels.new_empty((*ids.shape, pixels.shape[1], t * h * w), dtype=torch.float32)


register(
    "gather_patches(Tensor pixels, Tensor ids, int[3] patch, Tensor scale, Tensor shift, str backend='auto')"
    " -> Tensor",
    _gather_patches,
    _fake,
)


def _setup(ctx, inputs, output):
    pixels, ids, patch, scale, _, _ = inputs
    ctx.save_for_backward(ids, scale)
    ctx.patch, ctx.shape = patch, pixels.shape


def _backward(ctx, gradient):
    ids, scale = ctx.saved_tensors
    (b, c, *size), (t, h, w) = ctx.shape, ctx.patch
    grid = [n // p for n, p in zip(size, (t, h, w), strict=True)]
    tokens = gradient.new_zeros(b, grid[0] * grid[1] * grid[2], c, t * h * w)
    index = ids[..., None, None].expand_as(gradient)
    tokens = tokens.scatter_add(1, index, gradient * scale[:, None])
    tokens = tokens.reshape(b, *grid, c, t, h, w).permute(0, 4, 1, 5, 2, 6, 3, 7)
    return tokens.reshape(b, c, *size), None, None, None, None, None


torch.library.register_autograd("smnoise::gather_patches", _backward, setup_context=_setup, lib=LIBRARY)
