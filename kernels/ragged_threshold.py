# SPDX-License-Identifier: Apache-2.0
"""Extension 14 in Triton: rows of several lengths, one program a row. How it finds the cut: kernels/threshold.py."""

import torch
import triton
import triton.language as tl

from .threshold import OPTIONS, find_cut, keys_of, sizes


@triton.jit(
    do_not_specialize=["n", "keep", "hide"], do_not_specialize_on_alignment=["lengths_ptr", "visible_ptr"]
)
def ragged_threshold_kernel(
    scores_ptr, lengths_ptr, visible_ptr, mask_ptr, keep_ptr, hide_ptr, restore_ptr, n, keep, hide,
    MASK: tl.constexpr, KEEP: tl.constexpr, HIDE: tl.constexpr, RESTORE: tl.constexpr, BLOCK: tl.constexpr,
    HELD: tl.constexpr,
):  # fmt: skip
    """scores float32 [B, n]; lengths, visible int64 [B]; mask uint8 [B, n], keep int64 [B, keep], hide int64 [B, hide],
    restore int64 [B, n], zero where nothing is written. MASK, KEEP, HIDE, RESTORE: which outputs are written."""
    sample = tl.program_id(0).to(tl.int64)
    # What no host has looked at stays within a row and its outputs all the same.
    room = tl.zeros([1], tl.int64) + keep + hide
    length = tl.minimum(tl.maximum(tl.load(lengths_ptr + sample), 0), tl.minimum(room, n))
    wanted = tl.maximum(tl.load(visible_ptr + sample), tl.maximum(length - hide, 0))
    wanted = tl.minimum(wanted, tl.minimum(length, keep)).to(tl.int32)
    row = scores_ptr + sample * n
    cut, above = find_cut(row, length, n, wanted, BLOCK, HELD)
    ties = wanted - above  # visible tokens whose key is the cut itself: the lowest numbered ones

    kept_before = tl.zeros([1], tl.int32)
    ties_before = tl.zeros([1], tl.int32)
    lane = tl.arange(0, BLOCK)
    i = 0
    while i < n:
        at = i + lane
        inside = at < length
        key = keys_of(tl.load(row + at, mask=inside, other=0.0))
        equal = (inside & (key == cut)).to(tl.int32)
        tie = ties_before + tl.cumsum(equal, axis=0) - equal
        shown = (inside & ((key > cut) | ((equal > 0) & (tie < ties)))).to(tl.int32)
        kept = (kept_before + tl.cumsum(shown, axis=0) - shown).to(tl.int64)
        token = at.to(tl.int64)
        hidden = token - kept
        if MASK:
            tl.store(mask_ptr + sample * n + at, (shown == 0).to(tl.uint8), mask=inside)
        if KEEP:
            tl.store(keep_ptr + sample * keep + kept, token, mask=inside & (shown > 0))
        if HIDE:
            tl.store(hide_ptr + sample * hide + hidden, token, mask=inside & (shown == 0))
        if RESTORE:
            tl.store(restore_ptr + sample * n + at, tl.where(shown > 0, kept, keep + hidden), mask=inside)
        kept_before += tl.sum(shown, axis=0)
        ties_before += tl.sum(equal, axis=0)
        i += BLOCK


def ragged_threshold(scores, lengths, visible, keep: int, hide: int, outputs: dict) -> None:
    """Fill the wanted outputs (smnoise.backends.outputs.padded_outputs) from scores float32 [B, L]."""
    batch, n = scores.shape
    pointers = [outputs.get(name, scores) for name in ("mask", "ids_keep", "ids_mask", "ids_restore")]
    if "mask" in outputs:
        pointers[0] = outputs["mask"].view(torch.uint8)
    flags = zip(
        ("MASK", "KEEP", "HIDE", "RESTORE"), ("mask", "ids_keep", "ids_mask", "ids_restore"), strict=True
    )
    ragged_threshold_kernel[(batch,)](
        scores, lengths, visible, *pointers, n, keep, hide,
        **{flag: name in outputs for flag, name in flags}, **sizes(n), **OPTIONS,
    )  # fmt: skip
