# SPDX-License-Identifier: Apache-2.0
"""Extension 15 in Triton: noise at points, an axis a launch, through global memory.

The noise of each point's box is made and summed along x in one launch; then a launch each sums along y and t. Sums are
taken in the contract's order.
"""

import torch
import triton
import triton.language as tl

from .random import CALLERS, PURPOSE_NOISE, sigma_kernel, words

OPTIONS = {"enable_fp_fusion": False, "num_warps": 4}
WORKSPACE_BYTES = 256 << 20
# Elements of a program. Triton's interpreter pays for each program, not for each element.
BLOCK = 1 << 14 if triton.knobs.runtime.interpret else 128


@triton.jit
def noise_of(seed, sample, t, y, x):
    """White noise at lattice places, any one shape."""
    w0, w1, w2, w3 = words(seed, sample, PURPOSE_NOISE, x >> 3, y, t)
    pair = (x & 7) >> 1
    word = tl.where(pair == 0, w0, tl.where(pair == 1, w1, tl.where(pair == 2, w2, w3)))
    bits = ((word >> (16 * (x & 1)).to(tl.uint32)) & 0xFFFF).to(tl.uint16).to(tl.int16, bitcast=True)
    return bits.to(tl.float32) * 1.52587890625e-05  # 2^-16, exact


@triton.jit
def axis_of(place, taps_ptr, radius_ptr, entry, axis: tl.constexpr, side):
    """A filter's taps, radius, phase, first place and count of places along an axis, at a place in sixteenths."""
    row = entry * 3 + axis
    radius = tl.load(radius_ptr + row)
    phase = tl.where(radius > 0, place & 15, 0)
    first = tl.where(radius > 0, place >> 4, (place + 8) >> 4) - radius
    return (
        taps_ptr + (row.to(tl.int64) * 16 + phase) * side,
        radius,
        phase,
        first,
        2 * radius + (phase > 0).to(tl.int32) + 1,
    )


@triton.jit(do_not_specialize=["number", "side"], do_not_specialize_on_alignment=[*CALLERS, "places_ptr"])
def point_rows_kernel(
    seed_ptr, samples_ptr, places_ptr, index_ptr, taps_ptr, radius_ptr, rows_ptr, number, side, banks,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """rows[B * number, banks, side t, side y]: the noise that each point reads, summed along x.

    places int32 [B, number, 3]; index [B, 2] names a sample's entries; taps [2, 32, 3, 16, side], radius [2, 32, 3].
    Programs: (point * banks + bank, block of rows).
    """
    point, bank = tl.program_id(0) // banks, tl.program_id(0) % banks
    row = point // number
    entry = bank * 32 + tl.load(index_ptr + 2 * row + bank)
    place = places_ptr + 3 * point.to(tl.int64)
    _, _, _, t0, count_t = axis_of(tl.load(place), taps_ptr, radius_ptr, entry, 0, side)
    _, _, _, y0, count_y = axis_of(tl.load(place + 1), taps_ptr, radius_ptr, entry, 1, side)
    taps, radius, phase, x0, count = axis_of(tl.load(place + 2), taps_ptr, radius_ptr, entry, 2, side)
    i = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    t, y = i // side, i % side
    inside = (t < count_t) & (y < count_y)
    seed, sample = tl.load(seed_ptr), tl.load(samples_ptr + row)
    centre = tl.where(phase > 0, 0, radius)
    zero = i * 0
    acc = tl.load(taps) * noise_of(seed, sample, t0 + t, y0 + y, zero + x0 + centre)
    k = 1
    while k < tl.where(phase > 0, count, radius + 1):
        after = noise_of(seed, sample, t0 + t, y0 + y, zero + x0 + centre + k)
        if phase == 0:
            after = noise_of(seed, sample, t0 + t, y0 + y, zero + x0 + centre - k) + after
        acc = acc + tl.load(taps + k) * after
        k += 1
    tl.store(rows_ptr + tl.program_id(0).to(tl.int64) * side * side + i, acc, mask=inside)


@triton.jit(
    do_not_specialize=["number", "side", "lines", "total"], do_not_specialize_on_alignment=["places_ptr"]
)
def point_sum_kernel(
    in_ptr, places_ptr, index_ptr, taps_ptr, radius_ptr, out_ptr, number, side, banks, lines, total,
    AXIS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """out[B * number, banks, lines] of in[B * number, banks, lines, side]: the sum along the last axis, AXIS of the
    field. total: of out's numbers. What a point's box does not hold is summed too, and not read."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = i < total
    which = tl.where(inside, i // lines, 0)
    point, bank = which // banks, which % banks
    entry = bank * 32 + tl.load(index_ptr + 2 * (point // number) + bank)
    place = tl.load(places_ptr + 3 * point + AXIS)
    taps, radius, phase, _, count = axis_of(place, taps_ptr, radius_ptr, entry, AXIS, side)
    line = in_ptr + i * side
    centre = tl.where(phase > 0, 0, radius)
    acc = tl.load(taps) * tl.load(line + centre, mask=inside, other=0.0)
    k = 1
    while k < side:
        more = inside & (k < tl.where(phase > 0, count, radius + 1))
        after = tl.load(line + centre + k, mask=more, other=0.0)
        before = tl.load(line + centre - k, mask=more & (phase == 0), other=0.0)
        value = tl.where(phase > 0, after, before + after)
        acc = tl.where(more, acc + tl.load(taps + k, mask=more, other=0.0) * value, acc)
        k += 1
    tl.store(out_ptr + i, acc, mask=inside)


@triton.jit(do_not_specialize=["number", "total"], do_not_specialize_on_alignment=[*CALLERS, "places_ptr"])
def point_color_kernel(
    seed_ptr, samples_ptr, places_ptr, low_ptr, out_ptr, number, total,
    BANKS: tl.constexpr, WHITE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Section 5 of low [total, BANKS], with WHITE the noise of the nearest place to begin with; BANKS 0: that alone."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = i < total
    value = tl.zeros([BLOCK], tl.float32)
    if BANKS > 0:
        value = tl.load(low_ptr + i * BANKS, mask=inside, other=0.0)
    if BANKS > 1:
        value = value - tl.load(low_ptr + i * BANKS + 1, mask=inside, other=0.0)
    if WHITE:
        sample = tl.load(samples_ptr + i // number, mask=inside, other=0)
        place = places_ptr + 3 * i
        t = (tl.load(place, mask=inside, other=0) + 8) >> 4
        y = (tl.load(place + 1, mask=inside, other=0) + 8) >> 4
        x = (tl.load(place + 2, mask=inside, other=0) + 8) >> 4
        value = noise_of(tl.load(seed_ptr), sample, t, y, x) - value
    tl.store(out_ptr + i, value, mask=inside)


def noise_at(seed, samples, places, spec, taps, radius, first, table=None) -> torch.Tensor:
    """float32 [B, N]. places: int32 [B, N, 3]; taps, radius, first: smnoise.spec.point_tables on the device; table:
    int64 [31] of extension 12."""
    batch, number = places.shape[:2]
    out = torch.empty(batch, number, dtype=torch.float32, device=places.device)
    side, banks = taps.shape[-1], 0 if spec.color == "white" else 2 if spec.two_sigmas else 1
    rows = max(1, WORKSPACE_BYTES // (4 * max(banks, 1) * side * side * max(number, 1)))
    if batch > rows:
        parts = zip(samples.split(rows), places.split(rows), strict=True)
        return torch.cat([noise_at(seed, s, p, spec, taps, radius, first, table) for s, p in parts])
    total = batch * number
    if not total:
        return out
    low = out
    if banks:
        index = torch.empty(batch, 2, dtype=torch.int32, device=places.device)
        sigma_kernel[(triton.cdiv(batch, 128),)](
            seed, samples, radius if first is None else first, seed if table is None else table, index, batch,
            TWO=banks == 2, TABLE=table is not None, BLOCK=128, **OPTIONS,
        )  # fmt: skip
        # What a point does not fill is not read either; zeros keep Triton's interpreter from warning of what is there.
        low = torch.zeros(total, banks, side, side, dtype=torch.float32, device=places.device)
        point_rows_kernel[total * banks, triton.cdiv(side * side, BLOCK)](
            seed, samples, places, index, taps, radius, low, number, side, banks, BLOCK=BLOCK, **OPTIONS
        )
        for axis, lines in ((1, side), (0, 1)):
            summed = torch.empty(total, banks, lines, dtype=torch.float32, device=places.device)
            point_sum_kernel[(triton.cdiv(summed.numel(), BLOCK),)](
                low, places, index, taps, radius, summed, number, side, banks, lines, summed.numel(),
                AXIS=axis, BLOCK=BLOCK, **OPTIONS,
            )  # fmt: skip
            low = summed
    point_color_kernel[(triton.cdiv(total, BLOCK),)](
        seed, samples, places, low, out, number, total,
        BANKS=banks, WHITE=spec.color in ("white", "blue", "purple"), BLOCK=BLOCK, **OPTIONS,
    )  # fmt: skip
    return out
