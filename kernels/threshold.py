# SPDX-License-Identifier: Apache-2.0
"""Section 6 of the mask contract in Triton: exact-count masks and their ids, one program a ranking.

Idea: the V-th largest key is built bit by bit from the top: a bit stays set if at least V keys are that large. That is
32 counts of keys that a row of up to HELD tokens keeps in registers; then one pass writes, with running sums for the
places.
"""

import torch
import triton
import triton.language as tl

OPTIONS = {"enable_fp_fusion": False, "num_warps": 8}
HELD = 2048  # tokens of a row that stays in registers
BLOCK = 1 << 15 if triton.knobs.runtime.interpret else 1024  # 2048 spill on sm_80


@triton.jit
def keys_of(scores):
    """uint32 keys that order as the float32 scores; NaNs keep sign and payload, as on a CPU."""
    bits = scores.to(tl.uint32, bitcast=True)
    bits = tl.where(bits == 0x80000000, 0, bits)
    bits = tl.where((bits & 0x7FFFFFFF) > 0x7F800000, bits | 0x00400000, bits)
    return tl.where(bits >= 0x80000000, bits ^ 0xFFFFFFFF, bits | 0x80000000).to(tl.uint32)


@triton.jit
def find_cut(row, length, n, wanted, BLOCK: tl.constexpr, HELD: tl.constexpr):
    """The `wanted`-th largest of the keys of row[0 .. length - 1], uint32 [1], and how many are larger, int32 [1].

    n: at least length. HELD: a power of two that is at least n, and the row is read once and stays in registers; 0 for
    longer rows, which are read for each bit, BLOCK scores at a time.
    """
    cut = tl.zeros([1], tl.uint32)
    above = tl.zeros([1], tl.int32)
    bit = 31
    if HELD:
        at = tl.arange(0, HELD)
        # 0 is below every trial, and not above any cut.
        key = tl.where(at < length, keys_of(tl.load(row + at, mask=at < length, other=0.0)), 0).to(tl.uint32)
        while bit >= 0:
            trial = cut | (tl.full([1], 1, tl.uint32) << bit)
            count = tl.sum((key >= trial).to(tl.int32), axis=0)
            cut = tl.where(count >= wanted, trial, cut)
            bit -= 1
        above += tl.sum((key > cut).to(tl.int32), axis=0)
    else:
        lane = tl.arange(0, BLOCK)
        while bit >= 0:
            trial = cut | (tl.full([1], 1, tl.uint32) << bit)
            count = tl.zeros([1], tl.int32)
            i = 0
            while i < n:
                inside = i + lane < length
                key = keys_of(tl.load(row + i + lane, mask=inside, other=0.0))
                count += tl.sum((inside & (key >= trial)).to(tl.int32), axis=0)
                i += BLOCK
            cut = tl.where(count >= wanted, trial, cut)
            bit -= 1
        i = 0
        while i < n:
            inside = i + lane < length
            key = keys_of(tl.load(row + i + lane, mask=inside, other=0.0))
            above += tl.sum((inside & (key > cut)).to(tl.int32), axis=0)
            i += BLOCK
    return cut, above


@triton.jit(do_not_specialize=["groups", "visible", "counts_row"])
def threshold_kernel(
    scores_ptr, mask_ptr, keep_ptr, hide_ptr, restore_ptr, counts_ptr, before_ptr, groups, n, visible, counts_row,
    COUNTS: tl.constexpr, MASK: tl.constexpr, KEEP: tl.constexpr, HIDE: tl.constexpr, RESTORE: tl.constexpr,
    BLOCK: tl.constexpr, HELD: tl.constexpr,
):  # fmt: skip
    """scores float32 [B, groups, n]; mask uint8 [B, groups * n]; keep, hide, restore int64, rows as in the contract.

    COUNTS: counts int32 [B or 1, groups] says how many tokens of each group are visible, and before, of the same shape,
    how many of all groups before it; counts_row is groups, or 0 where all samples share a row; visible: of a sample.
    Else each group shows `visible` of its tokens. MASK, KEEP, HIDE, RESTORE: which outputs are written.
    Programs: (sample, group).
    """
    sample, group = tl.program_id(0).to(tl.int64), tl.program_id(1)
    # Triton makes an argument that is 1 a plain Python number, which has no .to().
    all_visible = tl.full([1], 0, tl.int64) + visible
    wanted = tl.full([1], 0, tl.int32) + visible
    kept_first = wanted * group
    if COUNTS:
        wanted = tl.zeros([1], tl.int32) + tl.load(counts_ptr + sample * counts_row + group)
        kept_first = tl.zeros([1], tl.int32) + tl.load(before_ptr + sample * counts_row + group)
    else:
        all_visible = all_visible * groups
    row = scores_ptr + (sample * groups + group) * n
    cut, above = find_cut(row, n, n, wanted, BLOCK, HELD)
    ties = wanted - above  # visible tokens whose key is the cut itself: the lowest numbered ones

    first = group * n
    mask_row = mask_ptr + sample * groups * n + first
    restore_row = restore_ptr + sample * groups * n + first
    keep_row = keep_ptr + sample * all_visible
    hide_row = hide_ptr + sample * (groups * n - all_visible)
    kept_before = tl.zeros([1], tl.int32)
    ties_before = tl.zeros([1], tl.int32)
    lane = tl.arange(0, BLOCK)
    i = 0
    while i < n:
        at = i + lane
        inside = at < n
        key = keys_of(tl.load(row + at, mask=inside, other=0.0))
        equal = (inside & (key == cut)).to(tl.int32)
        tie = ties_before + tl.cumsum(equal, axis=0) - equal
        shown = (inside & ((key > cut) | ((equal > 0) & (tie < ties)))).to(tl.int32)
        kept = kept_before + tl.cumsum(shown, axis=0) - shown
        to_keep = (kept_first + kept).to(tl.int64)
        to_hide = (first - kept_first + at - kept).to(tl.int64)
        token = (first + at).to(tl.int64)
        if MASK:
            tl.store(mask_row + at, (shown == 0).to(tl.uint8), mask=inside)
        if KEEP:
            tl.store(keep_row + to_keep, token, mask=inside & (shown > 0))
        if HIDE:
            tl.store(hide_row + to_hide, token, mask=inside & (shown == 0))
        if RESTORE:
            tl.store(restore_row + at, tl.where(shown > 0, to_keep, all_visible + to_hide), mask=inside)
        kept_before += tl.sum(shown, axis=0)
        ties_before += tl.sum(equal, axis=0)
        i += BLOCK


def sizes(n: int) -> dict[str, int]:
    """BLOCK and HELD of the kernels here for rows of n tokens."""
    power = triton.next_power_of_2(n)
    return {"BLOCK": min(power, BLOCK), "HELD": power if power <= HELD else 0}


def threshold(scores, visible: int, groups: int, outputs: dict, counts=None) -> None:
    """Fill the wanted outputs (smnoise.backends.outputs) from scores float32 [B, L].

    visible: of each group; with counts, int32 [B or 1, groups] on the device of the scores, of all groups of a sample.
    """
    batch, tokens = scores.shape
    n = tokens // groups
    pointers = [outputs.get(name, scores) for name in ("mask", "ids_keep", "ids_mask", "ids_restore")]
    if "mask" in outputs:
        pointers[0] = outputs["mask"].view(torch.uint8)
    wanted = {
        flag: name in outputs
        for flag, name in (
            ("MASK", "mask"),
            ("KEEP", "ids_keep"),
            ("HIDE", "ids_mask"),
            ("RESTORE", "ids_restore"),
        )
    }
    if counts is None:
        pointers += [scores, scores]
    else:
        pointers += [counts, (counts.cumsum(dim=1) - counts).to(torch.int32)]
    counts_row = groups if counts is not None and len(counts) > 1 else 0
    threshold_kernel[batch, groups](
        scores, *pointers, groups, n, visible, counts_row,
        COUNTS=counts is not None, **wanted, **sizes(n), **OPTIONS,
    )  # fmt: skip
