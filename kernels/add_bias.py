# SPDX-License-Identifier: Apache-2.0
"""Extension 11 in Triton: scores with a bias, before kernels/threshold.py cuts them."""

import torch
import triton
import triton.language as tl

OPTIONS = {"enable_fp_fusion": False, "num_warps": 4}
# Tokens of a program. Triton's interpreter pays for each program, not for each element.
BLOCK = 1 << 15 if triton.knobs.runtime.interpret else 1024


# As in random.py: no other batch, and no bias that lies elsewhere, is compiled for anew.
@triton.jit(do_not_specialize=["count"], do_not_specialize_on_alignment=["scores_ptr", "bias_ptr"])
def add_bias_kernel(scores_ptr, bias_ptr, out_ptr, weight, count, BLOCK: tl.constexpr):
    """out = scores + weight * bias, two roundings; a sum that is NaN is the quiet one. Programs: blocks of numbers."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = i < count
    total = tl.load(scores_ptr + i, mask=inside, other=0.0) + weight * tl.load(
        bias_ptr + i, mask=inside, other=0.0
    )
    bits = tl.where(total == total, total.to(tl.int32, bitcast=True), 0x7FC00000)
    tl.store(out_ptr + i, bits.to(tl.float32, bitcast=True), mask=inside)


def add_bias(scores, bias, weight: float) -> torch.Tensor:
    """float32 [B, L], of scores and bias of that shape."""
    out = torch.empty_like(scores)
    if out.numel():
        grid = (triton.cdiv(out.numel(), BLOCK),)
        add_bias_kernel[grid](scores, bias, out, weight, out.numel(), BLOCK=BLOCK, **OPTIONS)
    return out
