# SPDX-License-Identifier: Apache-2.0
"""smnoise::patch_loss: mean squared error of predicted patches, their targets computed from pixels inside.

Neither targets nor differences are kept: forward and backward each read the hidden patches once. CPU:
csrc/patches_cpu.h; Triton: kernels/patch_loss.py.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..backends import choose
from ..tensors import check_tensors
from ._library import LIBRARY, register
from ._patches import as_ids, check_ids, check_pixels


def patch_loss(
    prediction: Tensor,
    pixels: Tensor,
    ids: Tensor,
    patch: tuple[int, int, int],
    *,
    eps: float = 1e-6,
    eps_inside: bool = False,
    normalise: bool = True,
    backend: str = "auto",
) -> Tensor:
    """Mean of (prediction - target)^2 over everything.

    The target is each channel of each patch less its mean, over its unbiased deviation: / (std + eps), as VideoMAE
    has it, or with eps_inside / sqrt(var + eps), as AudioMAE. uint8 pixels count as x / 255.

    >>> pixels = torch.arange(16.0).view(1, 1, 1, 4, 4)
    >>> loss = patch_loss(torch.zeros(1, 2, 4), pixels, torch.tensor([[0, 3]]), (1, 2, 2))
    >>> round(loss.item(), 4)  # targets have mean 0 and the unbiased deviation 1: 3 / 4 of P = 4
    0.75

    Args:
        prediction: [B, N, P * C], P = t * h * w pixels ordered (t, h, w), channel fastest; any floating type.
        pixels: [B, C, T, H, W], uint8 or float32. No gradient.
        ids: int64 or int32 [B, N], the patch that each row of the prediction is of.
        patch: (t, h, w).
        normalise: False for the pixels themselves as target.
        backend: as in `color_mask`.

    Returns:
        float32 scalar, differentiable in prediction (once). The same bits for any number of threads.

    Raises:
        TypeError, ValueError as in `gather_patches`.
    """
    check_tensors(prediction=prediction, pixels=pixels, ids=ids)
    return torch.ops.smnoise.patch_loss(
        prediction, pixels, as_ids(ids), list(patch), eps, eps_inside, normalise, backend
    )


def _check(prediction, pixels, ids, patch, eps):
    grid = check_pixels(pixels, patch)
    check_ids(ids, pixels, grid)
    if not prediction.is_floating_point():
        raise TypeError(f"prediction must be floating point, got {prediction.dtype}")
    values = patch[0] * patch[1] * patch[2]
    want = (*ids.shape, values * pixels.shape[1])
    if prediction.shape != want or prediction.device != pixels.device:
        raise ValueError(
            f"prediction must be {list(want)} on {pixels.device}, got {list(prediction.shape)} on {prediction.device}"
        )
    if values < 2:
        raise ValueError(f"a patch of {tuple(patch)} has one pixel, and so no deviation; use a larger patch")
    if not eps >= 0:
        raise ValueError(f"eps must not be negative, got {eps}")


def _patch_loss(prediction, pixels, ids, patch, eps, eps_inside, normalise, backend="auto"):
    _check(prediction, pixels, ids, patch, eps)
    run = choose("patch_loss", backend, pixels.device.type)
    return run(prediction.detach(), pixels.detach(), ids, tuple(patch), eps, eps_inside, normalise)


def _fake(prediction, pixels, ids, patch, eps, eps_inside, normalise, backend="auto"):
    _check(prediction, pixels, ids, patch, eps)
    return prediction.new_empty((), dtype=torch.float32)


def _patch_loss_backward(
    gradient, prediction, pixels, ids, patch, eps, eps_inside, normalise, backend="auto"
):
    _check(prediction, pixels, ids, patch, eps)
    run = choose("patch_loss_backward", backend, pixels.device.type)
    return run(
        gradient.detach(), prediction.detach(), pixels.detach(), ids, tuple(patch), eps, eps_inside, normalise
    )


def _fake_backward(gradient, prediction, pixels, ids, patch, eps, eps_inside, normalise, backend="auto"):
    return torch.empty_like(prediction, memory_format=torch.contiguous_format)


PARAMETERS = "int[3] patch, float eps, bool eps_inside, bool normalise, str backend='auto'"
register(
    f"patch_loss(Tensor prediction, Tensor pixels, Tensor ids, {PARAMETERS}) -> Tensor", _patch_loss, _fake
)
register(
    f"patch_loss_backward(Tensor gradient, Tensor prediction, Tensor pixels, Tensor ids, {PARAMETERS}) -> Tensor",
    _patch_loss_backward,
    _fake_backward,
)


def _setup(ctx, inputs, output):
    prediction, pixels, ids, *ctx.parameters = inputs
    ctx.save_for_backward(prediction, pixels, ids)


def _backward(ctx, gradient):
    found = torch.ops.smnoise.patch_loss_backward(gradient, *ctx.saved_tensors, *ctx.parameters)
    return found, *[None] * 7


torch.library.register_autograd("smnoise::patch_loss", _backward, setup_context=_setup, lib=LIBRARY)
