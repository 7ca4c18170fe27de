# SPDX-License-Identifier: Apache-2.0
"""Loss of predicted patches, targets computed inside, in Triton: one program a patch. See smnoise/ops/patch_loss.py."""

import torch
import triton
import triton.language as tl

from .gather_patches import OPTIONS, pixel_places


@triton.jit(do_not_specialize=["picked"])
def patch_loss_kernel(
    prediction_ptr, pixels_ptr, ids_ptr, sums_ptr, gradient_ptr, scale_ptr, picked, T, H, WIDTH, unit, eps,
    C: tl.constexpr, t: tl.constexpr, h: tl.constexpr, w: tl.constexpr,
    EPS_INSIDE: tl.constexpr, NORMALISE: tl.constexpr, GRADIENT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """prediction [rows, P * C], channel fastest. Either sums float32 [rows], of squared errors; or, GRADIENT, gradient
    like prediction: scale[0] * error. BLOCK: a power of two from P. Programs: rows, `picked` of a clip."""
    row = tl.program_id(0).to(tl.int64)
    P: tl.constexpr = t * h * w
    token = tl.load(ids_ptr + row + tl.arange(0, 1))
    known = (token >= 0) & (token < (T // t) * (H // h) * (WIDTH // w))
    clip = pixels_ptr + row // picked * C * T * H * WIDTH
    at = tl.arange(0, BLOCK)
    inside = at < P
    total = tl.zeros([1], tl.float32)
    for channel in tl.static_range(C):
        place = pixel_places(token, channel, at, T, H, WIDTH, t, h, w)
        target = tl.load(clip + place, mask=inside & known, other=0).to(tl.float32) * unit
        if NORMALISE:
            mean = tl.sum(target, axis=0) / P
            apart = tl.where(inside, target - mean, 0.0)
            variance = tl.sum(apart * apart, axis=0) / (P - 1)
            deviation = tl.sqrt_rn(variance + eps) if EPS_INSIDE else tl.sqrt_rn(variance) + eps
            target = apart / deviation
        values = row * (P * C) + at * C + channel
        error = tl.load(prediction_ptr + values, mask=inside, other=0.0).to(tl.float32) - target
        error = tl.where(inside, tl.where(known, error, float("nan")), 0.0)
        if GRADIENT:
            found = error * tl.load(scale_ptr)
            tl.store(gradient_ptr + values, found.to(gradient_ptr.dtype.element_ty), mask=inside)
        else:
            total += tl.sum(error * error, axis=0)
    if not GRADIENT:
        tl.store(sums_ptr + row + tl.arange(0, 1), total)


def run(
    prediction, pixels, ids, patch, eps, eps_inside, normalise, *, sums=None, scale=None, gradient=None
) -> None:
    """Fill sums, or gradient. All tensors contiguous; scale float32 [1] on the device."""
    t, h, w = patch
    like = prediction
    patch_loss_kernel[(ids.numel(),)](
        prediction, pixels, ids, like if sums is None else sums, like if gradient is None else gradient,
        like if scale is None else scale, ids.shape[1], *pixels.shape[2:],
        1 / 255 if pixels.dtype == torch.uint8 else 1.0, eps,
        C=pixels.shape[1], t=t, h=h, w=w, EPS_INSIDE=eps_inside, NORMALISE=normalise,
        GRADIENT=gradient is not None, BLOCK=triton.next_power_of_2(t * h * w), **OPTIONS,
    )  # fmt: skip
