# SPDX-License-Identifier: Apache-2.0
"""Sections 1 to 3 of the mask contract in Triton: Philox words, white noise, sigma draws.

Letters: B samples; a program works on a block of lanes. Words are uint32, coordinates int32 (two's complement).
"""

import torch
import triton
import triton.language as tl

PURPOSE_NOISE = tl.constexpr(0)
PURPOSE_SIGMA = tl.constexpr(1)
# Elements of a program. Triton's interpreter pays for each program, not for each element.
CALLS = 1 << 13 if triton.knobs.runtime.interpret else 256


@triton.jit
def words(seed, sample, purpose: tl.constexpr, block, y, t):
    """The four words at each (block, y, t). seed, sample: int64, of any one shape that broadcasts."""
    c0 = (block & 0xFFFF).to(tl.uint32) | ((y & 0xFFFF).to(tl.uint32) << 16)
    c1 = (t & 0x0FFFFFFF).to(tl.uint32) | (purpose << 28)
    zero = c0 ^ c0
    c2 = zero + (sample & 0xFFFFFFFF).to(tl.uint32)
    c3 = zero + ((sample >> 32) & 0xFFFFFFFF).to(tl.uint32)
    k0 = (seed & 0xFFFFFFFF).to(tl.uint32)
    k1 = ((seed >> 32) & 0xFFFFFFFF).to(tl.uint32)
    return tl.philox_impl(c0, c1 + zero, c2, c3, k0, k1, 10)


@triton.jit
def white(word, half):
    """A value of its word: half 0 takes the low 16 bits, half 1 the high ones."""
    bits = ((word >> (16 * half)) & 0xFFFF).to(tl.uint16).to(tl.int16, bitcast=True)
    return bits.to(tl.float32) * 1.52587890625e-05  # 2^-16, exact


# Numbers that no division needs are not specialised on, nor where callers' tensors lie: other values, such as another
# size of a batch, would be compiled anew, which a captured graph does not allow.
CALLERS = ["seed_ptr", "samples_ptr"]


@triton.jit(do_not_specialize=["batch"], do_not_specialize_on_alignment=[*CALLERS, "table_ptr"])
def sigma_kernel(
    seed_ptr, samples_ptr, first_ptr, table_ptr, index_ptr, batch,
    TWO: tl.constexpr, TABLE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """index[B, 2]: which entry of each sigma bank a sample uses. first: int32 [32], read if TWO; table: int64 [31] of
    extension 12, read if TABLE."""
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = row < batch
    sample = tl.load(samples_ptr + row, mask=inside, other=0)
    zero = row * 0
    r0, r1, _, _ = words(tl.load(seed_ptr), sample, PURPOSE_SIGMA, zero, zero, zero)
    i = (r0 >> 27).to(tl.int32)  # (r0 * 32) >> 32
    if TABLE:
        i = zero
        for k in tl.static_range(31):
            i += (tl.load(table_ptr + k) <= r0.to(tl.int64)).to(tl.int32)
    tl.store(index_ptr + 2 * row, i, mask=inside)
    j = zero
    if TWO:
        first = tl.load(first_ptr + i, mask=inside, other=0)
        j = first + ((r1.to(tl.uint64) * (32 - first).to(tl.uint64)) >> 32).to(tl.int32)
    tl.store(index_ptr + 2 * row + 1, j, mask=inside)


@triton.jit(
    do_not_specialize=["from_t", "from_y", "from_x", "rows", "width"],
    do_not_specialize_on_alignment=[*CALLERS, "origin_ptr"],
)
def noise_kernel(
    seed_ptr, samples_ptr, origin_ptr, out_ptr, from_t, from_y, from_x, rows, height, width, calls,
    MOVED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """White noise of B windows: out[B, rows, width], a row being one (t, y) of `height` rows a slice.

    from_*: the window's first coordinates; MOVED: what origin, int64 [B, 3] of extension 13, adds to them. Programs:
    (sample, block of Philox calls); calls a row, of eight neighbours each; the first one may begin before the window.
    """
    sample = tl.load(samples_ptr + tl.program_id(0))
    if MOVED:  # the field repeats
        place = origin_ptr + 3 * tl.program_id(0)
        from_t += (tl.load(place) & 0xFFFFFFF).to(tl.int32)
        from_y += (tl.load(place + 1) & 0xFFFF).to(tl.int32)
        from_x += (tl.load(place + 2) & 0x7FFFF).to(tl.int32)
    call = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    row = call // calls
    block = (from_x >> 3) + call % calls
    w0, w1, w2, w3 = words(
        tl.load(seed_ptr), sample, PURPOSE_NOISE, block, from_y + row % height, from_t + row // height
    )
    out = out_ptr + tl.program_id(0).to(tl.int64) * rows * width + row.to(tl.int64) * width
    for e in tl.static_range(8):
        word = w0 if e < 2 else w1 if e < 4 else w2 if e < 6 else w3
        x = block * 8 + e - from_x
        tl.store(out + x, white(word, e % 2), mask=(row < rows) & (x >= 0) & (x < width))


@triton.jit(do_not_specialize=["count"], do_not_specialize_on_alignment=CALLERS)
def random_words_kernel(seed_ptr, samples_ptr, out_ptr, count, PURPOSE: tl.constexpr, BLOCK: tl.constexpr):
    """out int64 [B, count]. Programs: (sample, block of Philox calls)."""
    row = tl.program_id(0).to(tl.int64)
    sample = tl.load(samples_ptr + row)
    call = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    zero = call * 0
    w0, w1, w2, w3 = words(tl.load(seed_ptr), sample, PURPOSE, call, zero, zero)
    out = out_ptr + row * count
    for i in tl.static_range(4):
        word = w0 if i == 0 else w1 if i == 1 else w2 if i == 2 else w3
        tl.store(out + 4 * call + i, word.to(tl.int64), mask=4 * call + i < count)


def random_words(seed, samples, purpose: int, count: int) -> torch.Tensor:
    """int64 [B, count]: extension 4."""
    out = torch.empty(len(samples), count, dtype=torch.int64, device=samples.device)
    if out.numel():
        grid = (len(samples), triton.cdiv(count, 4 * CALLS))
        random_words_kernel[grid](seed, samples, out, count, PURPOSE=purpose, BLOCK=CALLS)
    return out


@triton.jit
def philox_kernel(seed_ptr, words_ptr):
    """For the conformance check: words [4] int64, a counter in, the answer out. One program."""
    seed = tl.load(seed_ptr + tl.arange(0, 1))
    at = words_ptr + tl.arange(0, 1)
    c0, c1 = tl.load(at).to(tl.uint32), tl.load(at + 1).to(tl.uint32)
    c2, c3 = tl.load(at + 2).to(tl.uint32), tl.load(at + 3).to(tl.uint32)
    k0, k1 = (seed & 0xFFFFFFFF).to(tl.uint32), ((seed >> 32) & 0xFFFFFFFF).to(tl.uint32)
    tl.debug_barrier()  # every warp has the counter before one thread overwrites it
    c0, c1, c2, c3 = tl.philox_impl(c0, c1, c2, c3, k0, k1, 10)
    tl.store(at, c0.to(tl.int64))
    tl.store(at + 1, c1.to(tl.int64))
    tl.store(at + 2, c2.to(tl.int64))
    tl.store(at + 3, c3.to(tl.int64))
