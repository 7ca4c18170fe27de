# SPDX-License-Identifier: Apache-2.0
"""smnoise::add_bias: scores that something known of each sample bends: motion, saliency, dispersion, attention.

Extension 11. Reference: `smnoise.reference.add_bias`; CPU: csrc/threshold_cpu.h; CUDA: csrc/threshold_block.h.
"""

from __future__ import annotations

import torch

from ..backends import choose
from ..tensors import check_tensors
from ._library import check_scores, register


def add_bias(
    scores: torch.Tensor, bias: torch.Tensor, weight: float = 1.0, backend: str = "auto"
) -> torch.Tensor:
    """scores + weight * bias, in float32, each operation rounded once whatever compiles the step around it.

    >>> add_bias(torch.tensor([[0.1, 0.2]]), torch.tensor([[1.0, 0.0]]), 0.5).tolist()
    [[0.6000000238418579, 0.20000000298023224]]

    Args:
        scores: float32 [B, L].
        bias: float32 [B, L], on their device. With a positive weight the tokens of the largest are visible more often,
            with a negative one masked more often. A NaN is refused where it can be seen without waiting for a GPU, on
            the CPU; elsewhere its token counts as larger than all numbers, and so does one where infinities cancel.
        weight: any finite number, rounded to float32.
        backend: as in `color_mask`.

    Returns float32 [B, L].
    """
    check_tensors(scores=scores, bias=bias)
    return torch.ops.smnoise.add_bias(scores, bias, weight, backend)


def _check(scores: torch.Tensor, bias: torch.Tensor, weight: float) -> None:
    check_scores(scores)
    if bias.dtype != torch.float32:
        raise TypeError(f"bias must be float32, got {bias.dtype}; convert with bias.float()")
    if bias.shape != scores.shape:
        raise ValueError(
            f"bias must have the shape of the scores [B, L], {tuple(scores.shape)}; got {tuple(bias.shape)}"
        )
    if bias.device != scores.device:
        raise ValueError(
            f"bias is on {bias.device} but scores are on {scores.device}; put both on one device"
        )
    if not abs(weight) <= torch.finfo(torch.float32).max:
        raise ValueError(f"weight must be finite in float32, got {weight}")


def _add_bias(scores, bias, weight=1.0, backend="auto"):
    _check(scores, bias, weight)
    if bias.device.type == "cpu" and (wrong := bias.isnan()).any():
        row, token = wrong.nonzero()[0].tolist()
        raise ValueError(f"bias is NaN at row {row}, token {token}; give each token a number, 0 for no bias")
    return choose("add_bias", backend, scores.device.type)(scores, bias, weight)


def _fake(scores, bias, weight=1.0, backend="auto"):
    _check(scores, bias, weight)
    return torch.empty_like(scores, memory_format=torch.contiguous_format)


register(
    'add_bias(Tensor scores, Tensor bias, float weight=1.0, str backend="auto") -> Tensor', _add_bias, _fake
)
