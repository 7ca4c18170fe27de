# SPDX-License-Identifier: Apache-2.0
"""ragged_threshold of the C++ backend."""

from __future__ import annotations

from ctypes import byref

import torch

from . import cpu
from .outputs import padded_outputs
from .plan import Outputs, Ragged, ragged_starts


def ragged_threshold(
    scores: torch.Tensor, lengths: torch.Tensor, visible: torch.Tensor, keep: int, hide: int, wanted
) -> dict:
    scores, lengths, visible = scores.contiguous(), lengths.contiguous(), visible.contiguous()
    batch, tokens = scores.shape
    outputs = padded_outputs(batch, tokens, keep, hide, wanted)
    starts = ragged_starts()
    struct = Ragged(tokens, keep, hide, starts.ctypes.data).holding(starts)
    pointers = Outputs.of(outputs)
    status = cpu._load()[0].smn_ragged_threshold(
        byref(struct), cpu.CODES[cpu.isa()], cpu.threads(), cpu._parallel(),
        lengths.data_ptr(), visible.data_ptr(), scores.data_ptr(), batch, byref(pointers),
    )  # fmt: skip
    cpu._check(status)
    return outputs
