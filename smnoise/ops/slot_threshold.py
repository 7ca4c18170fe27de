# SPDX-License-Identifier: Apache-2.0
"""smnoise::slot_threshold: masks with an exact count for each frame, from scores that you have.

Extension 9. Reference: `smnoise.reference.slot_threshold`; CPU: csrc/threshold_cpu.h; CUDA: csrc/threshold_block.h.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..backends import choose
from ..backends.outputs import allocate
from ..tensors import check_tensors
from ._library import ALL_OUTPUTS, as_returned, check_scores, register, wanted_outputs


def slot_threshold(
    scores: torch.Tensor,
    counts: Sequence[int],
    line: torch.Tensor | None = None,
    backend: str = "auto",
    outputs: str = ALL_OUTPUTS,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Cut the tokens into len(counts) equal slots, in their order, and show the largest scores of each: `counts[s]` of
    slot s. With a line, the slot with the largest value on it shows counts[0], the next one counts[1], and so on.

    >>> scores = torch.tensor([[0.1, 0.7, 0.2, 0.3, 0.6, 0.4]])
    >>> slot_threshold(scores, (2, 0, 1))[1].tolist()
    [[0, 1, 4]]
    >>> slot_threshold(scores, (2, 0, 1), line=torch.tensor([[5.0, 6.0, 4.0]]))[1].tolist()
    [[2, 3, 4]]

    Args:
        scores: float32 [B, L]; keys and ties as in `threshold`.
        counts: visible tokens of each slot, 0 .. L / len(counts); neither all tokens nor none in all. For a count in
            each frame of a grid (T, H, W), T of them.
        line: float32 [B, len(counts)], on the device of the scores. Any values: they order the slots as scores order
            tokens (ties to the lower slot), so that counts are exact whatever they are.
        backend, outputs, returns: as in `color_mask`.
    """
    check_tensors(scores=scores, **({} if line is None else {"line": line}))
    if not hasattr(counts, "__iter__"):
        raise TypeError(f"counts must be integers, one for each slot; got {counts!r}")
    return torch.ops.smnoise.slot_threshold(scores, tuple(counts), line, backend, outputs)


def _check(scores: torch.Tensor, counts: Sequence[int], line: torch.Tensor | None) -> None:
    check_scores(scores)
    tokens, slots = scores.shape[1], len(counts)
    if not slots or tokens % slots:
        raise ValueError(
            f"counts must have one number for each slot, and slots of equal size; {slots} slots do not divide the "
            f"{tokens} tokens"
        )
    for slot, count in enumerate(counts):
        if not 0 <= count <= tokens // slots:
            raise ValueError(
                f"counts[{slot}] must be in 0..{tokens // slots}, the tokens of a slot; got {count}"
            )
    if not 0 < sum(counts) < tokens:
        raise ValueError(
            f"counts must leave at least one token visible and one masked, of {tokens} in all; they show {sum(counts)}"
        )
    if line is None:
        return
    if line.dtype != torch.float32:
        raise TypeError(f"line must be float32, got {line.dtype}; convert with line.float()")
    if tuple(line.shape) != (scores.shape[0], slots):
        raise ValueError(
            f"line must have shape [B, slots], {(scores.shape[0], slots)}; got {tuple(line.shape)}"
        )
    if line.device != scores.device:
        raise ValueError(
            f"line is on {line.device} but scores are on {scores.device}; put both on one device"
        )


def _ranks(line: torch.Tensor) -> torch.Tensor:
    """The rank of each slot, int32 [B, slots]: section 6's keys as signed integers, sorted."""
    bits = line.contiguous().view(torch.int32)
    magnitude = bits & 0x7FFFFFFF
    bits = torch.where(magnitude == 0, 0, torch.where(magnitude > 0x7F800000, bits | 0x00400000, bits))
    key = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    order = key.argsort(dim=1, descending=True, stable=True)
    return order.argsort(dim=1).to(torch.int32)


def _slot_threshold(scores, counts, line=None, backend="auto", outputs=ALL_OUTPUTS):
    _check(scores, counts, line)
    run = choose("slot_threshold", backend, scores.device.type)
    rank = None if line is None else _ranks(line)
    return as_returned(run(scores, tuple(counts), rank, wanted_outputs(outputs)), scores.device)


def _fake(scores, counts, line=None, backend="auto", outputs=ALL_OUTPUTS):
    _check(scores, counts, line)
    batch, tokens = scores.shape
    tensors = allocate(batch, tokens, sum(counts), wanted_outputs(outputs), scores.device)
    return as_returned(tensors, scores.device)


register(
    f'slot_threshold(Tensor scores, int[] counts, Tensor? line=None, str backend="auto", str outputs="{ALL_OUTPUTS}")'
    " -> (Tensor mask, Tensor ids_keep, Tensor ids_mask, Tensor ids_restore)",
    _slot_threshold,
    _fake,
)
