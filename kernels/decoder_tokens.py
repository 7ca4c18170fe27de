# SPDX-License-Identifier: Apache-2.0
"""What a decoder starts from, in one pass, in Triton: one program a token. See smnoise/ops/decoder_tokens.py."""

import torch
import triton
import triton.language as tl

from .gather_patches import OPTIONS


@triton.jit(do_not_specialize=["kept", "hidden", "tokens"])
def decoder_tokens_kernel(
    visible_ptr, mask_token_ptr, positions_ptr, keep_ptr, hide_ptr, out_ptr, kept, hidden, tokens,
    WIDTH: tl.constexpr, IN_GRID: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """out float32 [B, kept + hidden, WIDTH]. Programs: (place among visible, then masked tokens; sample)."""
    place, sample = tl.program_id(0), tl.program_id(1).to(tl.int64)
    at = tl.arange(0, BLOCK)
    inside = at < WIDTH
    if place < kept:
        token = tl.load(keep_ptr + sample * kept + place)
        value = tl.load(visible_ptr + (sample * kept + place) * WIDTH + at, mask=inside, other=0.0).to(
            tl.float32
        )
    else:
        token = tl.load(hide_ptr + sample * hidden + place - kept)
        value = tl.load(mask_token_ptr + at, mask=inside, other=0.0).to(tl.float32)
    known = (token >= 0) & (token < tokens)
    value += tl.load(positions_ptr + token * WIDTH + at, mask=inside & known, other=float("nan"))
    row = place.to(tl.int64)
    if IN_GRID:
        row = token
        inside &= known
    tl.store(out_ptr + (sample * (kept + hidden) + row) * WIDTH + at, value, mask=inside)


def decoder_tokens(visible, mask_token, positions, ids_keep, ids_mask, in_grid: bool):
    """float32 [B, V + M, D]. All tensors contiguous."""
    (b, kept, width), hidden = visible.shape, ids_mask.shape[1]
    out = torch.empty(b, kept + hidden, width, dtype=torch.float32, device=visible.device)
    if in_grid:
        out.fill_(float("nan"))  # what a token given twice leaves out
    decoder_tokens_kernel[(kept + hidden, b)](
        visible, mask_token, positions, ids_keep, ids_mask, out, kept, hidden, len(positions),
        WIDTH=width, IN_GRID=in_grid, BLOCK=triton.next_power_of_2(width), **OPTIONS,
    )  # fmt: skip
    return out
