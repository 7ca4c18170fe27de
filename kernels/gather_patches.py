# SPDX-License-Identifier: Apache-2.0
"""Patches picked straight out of pixels, in Triton: one program a patch. See smnoise/ops/gather_patches.py."""

import torch
import triton
import triton.language as tl

OPTIONS = {"enable_fp_fusion": False, "num_warps": 4}


@triton.jit
def pixel_places(token, channel, at, T, H, WIDTH, t: tl.constexpr, h: tl.constexpr, w: tl.constexpr):
    """Where pixels `at` (of 0 .. t * h * w - 1) of a patch lie in its clip. token: int64 [1]."""
    across = WIDTH // w
    down = H // h
    x = token % across * w + at % w
    y = (token // across) % down * h + (at // w) % h
    frame = token // (across * down) * t + at // (w * h)
    return ((channel * T + frame) * H + y) * WIDTH + x


@triton.jit(do_not_specialize=["picked"])
def gather_patches_kernel(
    pixels_ptr, ids_ptr, scale_ptr, shift_ptr, out_ptr, picked, T, H, WIDTH,
    C: tl.constexpr, t: tl.constexpr, h: tl.constexpr, w: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """out float32 [rows, C, P]; pixels uint8 or float32 [B, C, T, H, WIDTH]. Programs: rows, `picked` of a clip."""
    row = tl.program_id(0).to(tl.int64)
    token = tl.load(ids_ptr + row + tl.arange(0, 1))
    clip = pixels_ptr + row // picked * C * T * H * WIDTH
    # Without a wait nobody can refuse a wrong id; its patch becomes NaN, and nothing outside is read.
    known = (token >= 0) & (token < (T // t) * (H // h) * (WIDTH // w))
    at = tl.arange(0, BLOCK)
    for channel in tl.static_range(C):
        begin = 0
        while begin < t * h * w:
            inside = begin + at < t * h * w
            place = pixel_places(token, channel, begin + at, T, H, WIDTH, t, h, w)
            pixel = tl.load(clip + place, mask=inside & known, other=0).to(tl.float32)
            value = pixel * tl.load(scale_ptr + channel) + tl.load(shift_ptr + channel)
            value = tl.where(known, value, float("nan"))
            tl.store(out_ptr + (row * C + channel) * (t * h * w) + begin + at, value, mask=inside)
            begin += BLOCK


def gather_patches(pixels, ids, patch: tuple[int, int, int], scale, shift):
    """float32 [B, N, C, t * h * w]. All tensors contiguous."""
    t, h, w = patch
    out = torch.empty(*ids.shape, pixels.shape[1], t * h * w, dtype=torch.float32, device=pixels.device)
    gather_patches_kernel[(ids.numel(),)](
        pixels, ids, scale, shift, out, ids.shape[1], *pixels.shape[2:],
        C=pixels.shape[1], t=t, h=h, w=w, BLOCK=min(1024, triton.next_power_of_2(t * h * w)), **OPTIONS,
    )  # fmt: skip
    return out
