# SPDX-License-Identifier: Apache-2.0
"""ragged_threshold of the CUDA backend: a block a row."""

from __future__ import annotations

from ctypes import c_void_p

import torch

from . import driver
from .outputs import padded_outputs
from .plan import Call, Outputs, Ragged, ragged_starts


def ragged_threshold(
    scores: torch.Tensor, lengths: torch.Tensor, visible: torch.Tensor, keep: int, hide: int, wanted
) -> dict:
    scores, lengths, visible = scores.contiguous(), lengths.contiguous(), visible.contiguous()
    batch, tokens = scores.shape
    outputs = padded_outputs(batch, tokens, keep, hide, wanted, scores.device)
    with torch.cuda.device(scores.device):
        device = scores.device.index
        struct = Ragged(tokens, keep, hide, driver.upload(ragged_starts(), device))
        function = driver.function(device, "ragged_threshold")
        if batch and outputs:
            pointers = Outputs.of(outputs)
            call = Call(scores=scores.data_ptr(), out=pointers)
            given = (c_void_p(v.data_ptr()) for v in (lengths, visible))
            driver.launch(function, (batch, 1), 0, struct, *given, call)
    return outputs
