# SPDX-License-Identifier: Apache-2.0
"""Sections 2 to 5 of the mask contract in Triton: coloured noise, stage by stage through global memory.

Idea: one launch a stage (noise; filter along x, y, t; colour), each a plain map over outputs, so that it reads as
the contract does and runs on any GPU that Triton knows. The CUDA kernel (csrc/color_block.h) keeps all of it in
shared memory; this one moves each stage's volume through the L2 cache, with the widest filter's halo for every
sample. Sums are taken in the contract's order; fusion of multiply and add is off (enable_fp_fusion=False).
"""

import torch
import triton
import triton.language as tl

from .random import noise_kernel, sigma_kernel

OPTIONS = {"enable_fp_fusion": False, "num_warps": 4}
WORKSPACE_BYTES = 512 << 20
# Elements of a program. Triton's interpreter pays for each program, not for each element.
BLOCK = 1 << 15 if triton.knobs.runtime.interpret else 512
MAX_VALUES = 65535 * BLOCK  # of a volume: a launch has at most so many blocks along y


@triton.jit(do_not_specialize=["in_stride", "in_bank", "out_bank", "outputs", "n", "halo", "stride"])
def filter_kernel(
    in_ptr, out_ptr, index_ptr, taps_ptr, radius_ptr, in_stride, in_bank, out_bank, banks, outputs, n, n_out,
    inner, halo, stride, AXIS: tl.constexpr, WRAP: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Section 4 along one axis, for each sample and sigma: in [B, (banks,) outer, n, inner] to
    out [B, banks, outer, n_out, inner], with n_out = n - 2 * halo, or n where WRAP.

    taps [2, 32, 3, stride], radius [2, 32, 3]; index [B, 2] names a sample's entries; AXIS 0, 1, 2 is t, y, x.
    Programs: (sample * banks + bank, block of outputs).
    """
    sample, bank = tl.program_id(0) // banks, tl.program_id(0) % banks
    entry = ((bank * 32 + tl.load(index_ptr + 2 * sample + bank)) * 3 + AXIS).to(tl.int64)
    radius, taps = tl.load(radius_ptr + entry), taps_ptr + entry * stride
    o = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = o < outputs
    i = o // inner % n_out
    line = in_ptr + sample.to(tl.int64) * in_stride + bank.to(tl.int64) * in_bank
    line += (o // (inner * n_out)).to(tl.int64) * n * inner + o % inner
    centre = i if WRAP else i + halo
    acc = tl.load(taps) * tl.load(line + centre * inner, mask=inside, other=0.0)
    lower, upper = centre, centre
    k = 1
    while k <= radius:
        lower, upper = lower - 1, upper + 1
        if WRAP:
            lower, upper = tl.where(lower < 0, n - 1, lower), tl.where(upper == n, 0, upper)
        before = tl.load(line + lower * inner, mask=inside, other=0.0)
        after = tl.load(line + upper * inner, mask=inside, other=0.0)
        acc = acc + tl.load(taps + k) * (before + after)
        k += 1
    out = out_ptr + (sample * banks + bank).to(tl.int64) * out_bank
    tl.store(out + o, acc, mask=inside)


@triton.jit(do_not_specialize=["tokens"])
def mix_kernel(
    noise_ptr, low_ptr, out_ptr, tokens, TWO: tl.constexpr, WHITE: tl.constexpr, BLOCK: tl.constexpr
):
    """Section 5. low [B, 1 or 2, tokens], noise [B, tokens] where WHITE: out = noise - band, else the band.

    Programs: (sample, block of tokens).
    """
    i = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = i < tokens
    row = tl.program_id(0).to(tl.int64) * tokens
    band = tl.load(low_ptr + row * (2 if TWO else 1) + i, mask=inside, other=0.0)
    if TWO:
        band = band - tl.load(low_ptr + row * 2 + tokens + i, mask=inside, other=0.0)
    if WHITE:
        band = tl.load(noise_ptr + row + i, mask=inside, other=0.0) - band
    tl.store(out_ptr + row + i, band, mask=inside)


def white_noise(
    seed, samples, origin, start: tuple[int, int, int], size: tuple[int, int, int]
) -> torch.Tensor:
    """float32 [B, T, H, W] from coordinates `start` on, moved by origin, int64 [B, 3], where it is not None."""
    t, h, w = size
    out = torch.empty(len(samples), t, h, w, dtype=torch.float32, device=samples.device)
    lead = start[2] & 7 if origin is None else 7  # before the window in its first block, at most
    calls = (w + lead + 7) // 8
    grid = (len(samples), triton.cdiv(t * h * calls, BLOCK))
    noise_kernel[grid](
        seed, samples, samples if origin is None else origin, out, *start, t * h, h, w, calls,
        MOVED=origin is not None, BLOCK=BLOCK, **OPTIONS,
    )  # fmt: skip
    return out


def color_noise(seed, samples, spec, taps, radius, first, table=None, origin=None) -> torch.Tensor:
    """The field of each sample, float32 [B, T, H, W]. taps, radius, first: smnoise.spec.tables on the device; table:
    int64 [31] of extension 12; origin: int64 [B, 3] of extension 13."""
    if spec.color == "white":
        return white_noise(seed, samples, origin, spec.origin, spec.grid)
    rows = max(1, WORKSPACE_BYTES // (4 * 3 * spec.slab))
    if len(samples) > rows:
        places = [None] * -(-len(samples) // rows) if origin is None else origin.split(rows)
        parts = (
            color_noise(seed, part, spec, taps, radius, first, table, place)
            for part, place in zip(samples.split(rows), places, strict=True)
        )
        return torch.cat(list(parts))

    batch, banks, wrap = len(samples), 2 if spec.two_sigmas else 1, spec.boundary == "wrap"
    index = torch.empty(batch, 2, dtype=torch.int32, device=samples.device)
    grid = (triton.cdiv(batch, 128),)
    sigma_kernel[grid](
        seed, samples, radius if first is None else first, seed if table is None else table, index, batch,
        TWO=banks == 2, TABLE=table is not None, BLOCK=128, **OPTIONS,
    )  # fmt: skip
    halo = (0, 0, 0) if wrap else spec.max_radius
    size = [n + 2 * h for n, h in zip(spec.grid, halo, strict=True)]
    v = white_noise(
        seed, samples, origin, tuple(o - h for o, h in zip(spec.origin, halo, strict=True)), tuple(size)
    )
    in_banks = 1
    for axis in (2, 1, 0):  # x, y, t
        n = size[axis]
        size[axis] = spec.grid[axis]
        out = torch.empty(batch, banks, *size, dtype=torch.float32, device=v.device)
        one_in, one_out = v[0].numel() // in_banks, out[0, 0].numel()
        inner = size[1] * size[2] if axis == 0 else size[2] if axis == 1 else 1
        filter_kernel[batch * banks, triton.cdiv(one_out, BLOCK)](
            v, out, index, taps, radius, one_in * in_banks, one_in if in_banks > 1 else 0, one_out, banks,
            one_out, n, size[axis], inner, halo[axis], taps.shape[-1], AXIS=axis, WRAP=wrap, BLOCK=BLOCK, **OPTIONS,
        )  # fmt: skip
        v, in_banks = out, banks
    white = spec.color in ("blue", "purple")
    if banks == 1 and not white:
        return v[:, 0]
    tokens = one_out
    noise = white_noise(seed, samples, origin, spec.origin, spec.grid) if white else v
    mixed = torch.empty(batch, *spec.grid, dtype=torch.float32, device=v.device)
    mix_kernel[batch, triton.cdiv(tokens, BLOCK)](
        noise, v, mixed, tokens, TWO=banks == 2, WHITE=white, BLOCK=BLOCK, **OPTIONS
    )
    return mixed


def gaussian_filter(volume, taps, radius) -> torch.Tensor:
    """Section 4 of a given volume [B, T, H, W] as a torus. taps float32 [3 axes t y x, stride] and radius int32 [3],
    both on its device."""
    index = torch.zeros(len(volume), 2, dtype=torch.int32, device=volume.device)
    v, size = volume.contiguous(), volume.shape[1:]
    one = size[0] * size[1] * size[2]
    for axis in (2, 1, 0):
        inner = size[1] * size[2] if axis == 0 else size[2] if axis == 1 else 1
        out = torch.empty_like(v)
        filter_kernel[len(v), triton.cdiv(one, BLOCK)](
            v, out, index, taps, radius, one, 0, one, 1, one, size[axis], size[axis], inner, 0, taps.shape[-1],
            AXIS=axis, WRAP=True, BLOCK=BLOCK, **OPTIONS,
        )  # fmt: skip
        v = out
    return v
