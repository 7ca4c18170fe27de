# SPDX-License-Identifier: Apache-2.0
"""Extension 5 in Triton: scores of masks made of frames, bars, blocks or cells; kernels/threshold.py cuts them.

Ranks are counted, not sorted: each token compares the word of its frame, bar or place with all words of that kind, so
that programs share nothing. Boxes are laid one after the other by one program a sample, whose lanes own their tokens.
"""

import torch
import triton
import triton.language as tl

from .random import words

OPTIONS = {"enable_fp_fusion": False, "num_warps": 4}
LANES = 64  # of a warp, at most: 32 of NVIDIA's, 64 of AMD's gfx9
# Tokens of a program. Triton's interpreter pays for each program, not for each element.
BLOCK = 1 << 13 if triton.knobs.runtime.interpret else 512
PURPOSE_STRATEGY, PURPOSE_TIE = tl.constexpr(3), tl.constexpr(4)
LEVELS, TIE_BITS, BOXES = tl.constexpr(1 << 12), tl.constexpr(18), tl.constexpr(1 << 10)


@triton.jit
def word_of(seed, sample, purpose: tl.constexpr, number):
    """Word `number` of a sample: uint32, one for each."""
    zero = number * 0
    w0, w1, w2, w3 = words(seed, sample, purpose, number >> 2, zero, zero)
    low, high = tl.where((number & 1) > 0, w1, w0), tl.where((number & 1) > 0, w3, w2)
    return tl.where((number & 2) > 0, high, low)


@triton.jit
def pick(word, n):
    """0 .. n - 1, from a word."""
    return ((word.to(tl.uint64) * tl.full([1], 1, tl.uint64) * n) >> 32).to(tl.int32)


@triton.jit
def rank_of(seed, sample, i, first, n):
    """The place of thing i among n, the words of which begin with word `first`."""
    mine = word_of(seed, sample, PURPOSE_STRATEGY, first + i)
    rank = i * 0
    call = tl.zeros([1], tl.int32) + first // 4
    number = tl.zeros([1], tl.int32) + first // 4 * 4 - first  # of the things, of the call's first word
    zero = tl.zeros([1], tl.int32)
    k = 0
    while k < n + 3:
        w0, w1, w2, w3 = words(seed, sample, PURPOSE_STRATEGY, call, zero, zero)
        for of_call in tl.static_range(4):
            word = w0 if of_call == 0 else w1 if of_call == 1 else w2 if of_call == 2 else w3
            j = number + of_call
            before = (word < mine) | ((word == mine) & (j < i))
            rank += (before & (j >= 0) & (j < n)).to(tl.int32)
        call += 1
        number += 4
        k += 4
    return rank


@triton.jit
def score(level, tie):
    bits = (level << TIE_BITS) + tie + (1 << 23)
    return bits.to(tl.float32, bitcast=True)


@triton.jit
def tie_of(seed, sample, token):
    return (word_of(seed, sample, PURPOSE_TIE, token) >> (32 - TIE_BITS)).to(tl.int32)


@triton.jit
def step_scores_kernel(
    seed_ptr, samples_ptr, scores_ptr, tokens, T, H, WIDTH, a, b, ct, cy, cx,
    KIND: tl.constexpr, AXIS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """scores float32 [B, tokens] of a KIND of "axis", "bars", "cells" or "running". a, b: the pace of rows and columns.

    Programs: (sample, block of tokens).
    """
    sample, seed = tl.load(samples_ptr + tl.program_id(0)), tl.load(seed_ptr)
    token = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    x, y, t = token % WIDTH, token // WIDTH % H, token // WIDTH // H
    if KIND == "axis":
        index, n = t, T
        if AXIS == 1:
            index, n = y, H
        if AXIS == 2:
            index, n = x, WIDTH
        step = rank_of(seed, sample, index, 0, n)
    elif KIND == "bars":
        row, column = rank_of(seed, sample, y, 0, H), rank_of(seed, sample, x, H, WIDTH)
        row_step = row + tl.minimum(((row + 1) * b - 1) // a, WIDTH)
        column_step = column + tl.minimum((column + 1) * a // b, H)
        step = tl.maximum(row_step, column_step)
    else:
        place = ((t % ct) * cy + y % cy) * cx + x % cx
        if KIND == "cells":
            step = rank_of(seed, sample, place, 0, ct * cy * cx)
        else:
            places = cy * cx
            phase = pick(word_of(seed, sample, PURPOSE_STRATEGY, tl.zeros([1], tl.int32)), places)
            step = (place + phase + t) % places
    out = scores_ptr + tl.program_id(0).to(tl.int64) * tokens
    tl.store(out + token, score(LEVELS - 1 - step, tie_of(seed, sample, token)), mask=token < tokens)


@triton.jit
def box_side(word, side, n, PLACEMENT: tl.constexpr):
    """First and behind the last index that a box of `side` covers of an axis of n."""
    if PLACEMENT == "overhang":
        first = pick(word, n + side - 1) - (side - 1)
    elif PLACEMENT == "centre":
        first = pick(word, side * 0 + n) - side // 2
    else:
        first = pick(word, n - side + 1)
    return first, first + side


@triton.jit
def box_scores_kernel(
    seed_ptr, samples_ptr, durations_ptr, sizes_ptr, scores_ptr, tokens, T, H, WIDTH, wanted, boxes, durations, sizes,
    PLACEMENT: tl.constexpr, GIVEN: tl.constexpr, INVERSE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """scores float32 [B, tokens] of blocks: `boxes` are laid where GIVEN, with ties as of tokens in no box; else as
    many as put `wanted` tokens into some, but at most `boxes`. Programs: samples."""
    sample, seed = tl.load(samples_ptr + tl.program_id(0)), tl.load(seed_ptr)
    out = scores_ptr + tl.program_id(0).to(tl.int64) * tokens
    lane = tl.arange(0, BLOCK)
    i = 0
    while i < tokens:
        tl.store(out + i + lane, tl.zeros([BLOCK], tl.float32), mask=i + lane < tokens)
        i += BLOCK
    tl.debug_barrier()  # loads and stores may be spread differently over the threads
    boxed = 0
    j = 0
    zero = tl.zeros([1], tl.int32)
    while (j < boxes) & (GIVEN | (boxed < wanted)):
        w0, w1, w2, w3 = words(seed, sample, PURPOSE_STRATEGY, zero + 2 * j, zero, zero)
        w4, w5, _, _ = words(seed, sample, PURPOSE_STRATEGY, zero + 2 * j + 1, zero, zero)
        size = sizes_ptr + 2 * pick(w0, sizes)
        t0, t1 = box_side(w2, tl.load(durations_ptr + pick(w1, durations)), T, "inside")
        y0, y1 = box_side(w3, tl.load(size), H, PLACEMENT)
        x0, x1 = box_side(w4, tl.load(size + 1), WIDTH, PLACEMENT)
        i = 0
        while i < tokens:
            token = i + lane
            x, y, t = token % WIDTH, token // WIDTH % H, token // WIDTH // H
            before = tl.load(out + token, mask=token < tokens, other=1.0)
            new = (before == 0) & (t >= t0) & (t < t1) & (y >= y0) & (y < y1) & (x >= x0) & (x < x1)
            order = tl.where((w5 >> 31) > 0, x * H + y, y * WIDTH + x) * T + t
            tie = tl.where((w5 >> 30) % 2 > 0, tokens - 1 - order, order)
            tl.store(out + token, score(zero + (LEVELS - 1 - j if INVERSE else j), tie), mask=new)
            boxed += tl.sum(new.to(tl.int32), axis=0)
            i += BLOCK
        tl.debug_barrier()
        j += 1
    i = 0
    while i < tokens:
        token = i + lane
        before = tl.load(out + token, mask=token < tokens, other=1.0)
        tie = tie_of(seed, sample, token)
        unboxed = score(zero + (0 if INVERSE else LEVELS - 1), tie)
        if GIVEN:
            boxed_score = score(zero + (LEVELS - 1 if INVERSE else 0), tie)
            tl.store(out + token, tl.where(before == 0, unboxed, boxed_score), mask=token < tokens)
        else:
            tl.store(out + token, unboxed, mask=before == 0)
        i += BLOCK


def tokens_of_program(tokens: int) -> int:
    """Not below the threads of a program: two would own a token, one load it behind the other's store."""
    return min(triton.next_power_of_2(max(tokens, LANES * OPTIONS["num_warps"])), BLOCK)


def strategy_scores(seed, samples, spec, durations, sizes) -> torch.Tensor:
    """float32 [B, L]. durations, sizes: spec.boxes on the device."""
    scores = torch.empty(len(samples), spec.tokens, dtype=torch.float32, device=samples.device)
    block = tokens_of_program(spec.tokens)
    if spec.kind == "blocks":
        box_scores_kernel[(len(samples),)](
            seed, samples, durations, sizes, scores, spec.tokens, *spec.grid, spec.boxed,
            spec.num_boxes or BOXES.value, len(durations), len(sizes),
            PLACEMENT=spec.placement, GIVEN=spec.num_boxes is not None, INVERSE=spec.inverse, BLOCK=block, **OPTIONS,
        )  # fmt: skip
    else:
        step_scores_kernel[len(samples), triton.cdiv(spec.tokens, block)](
            seed, samples, scores, spec.tokens, *spec.grid, *(spec.pace or (1, 1)), *spec.cell,
            KIND=spec.kind, AXIS=spec.axis, BLOCK=block, **OPTIONS,
        )  # fmt: skip
    return scores
