# SPDX-License-Identifier: Apache-2.0
"""smnoise::ragged_threshold: masks of a batch of several lengths, with an exact count for each row.

Extension 14. Reference: `smnoise.reference.ragged_threshold`; CPU and CUDA: csrc/ragged.h.
"""

from __future__ import annotations

import torch

from ..backends import choose
from ..backends.outputs import padded_outputs
from ..tensors import check_tensors
from ._library import ALL_OUTPUTS, as_returned, check_scores, register, wanted_outputs


def ragged_threshold(
    scores: torch.Tensor,
    lengths: torch.Tensor,
    visible: torch.Tensor,
    keep: int,
    hide: int,
    backend: str = "auto",
    outputs: str = ALL_OUTPUTS,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Show the `visible[b]` largest scores of the first `lengths[b]` tokens of each row b; what follows is padding.

    >>> scores = torch.tensor([[0.1, 0.7, 0.2, 0.9], [0.4, 0.3, 9.0, 9.0]])
    >>> ids_keep = ragged_threshold(scores, torch.tensor([4, 2]), torch.tensor([2, 1]), 2, 2)[1]
    >>> ids_keep.tolist()
    [[1, 3], [0, 0]]

    Args:
        scores: float32 [B, L]; keys and ties as in `threshold`. Those of padding may be anything.
        lengths: int64 [B], on their device: tokens of each row, 0 .. L.
        visible: int64 [B], on their device, 0 .. lengths[b].
        keep: columns of ids_keep, at least the largest visible[b]; 0 .. L.
        hide: columns of ids_mask, at least the largest lengths[b] - visible[b]; 0 .. L.
        backend, outputs: as in `color_mask`.

    Returns:
        mask bool [B, L], True = masked, False in the padding; ids_keep int64 [B, keep] and ids_mask int64 [B, hide],
        ascending, with 0 behind the last one of a row; ids_restore int64 [B, L]: where each token stands in
        cat(ids_keep, ids_mask), 0 in the padding.

    Lengths and counts that do not fit raise ValueError on the CPU. On a GPU nothing waits to look: they are brought to
    the nearest that fit.
    """
    check_tensors(scores=scores, lengths=lengths, visible=visible)
    return torch.ops.smnoise.ragged_threshold(scores, lengths, visible, keep, hide, backend, outputs)


def _check(scores, lengths, visible, keep: int, hide: int) -> None:
    check_scores(scores)
    batch, tokens = scores.shape
    for name, tensor in (("lengths", lengths), ("visible", visible)):
        if tensor.dtype != torch.int64:
            raise TypeError(f"{name} must be an int64 tensor, got {tensor.dtype}; convert with {name}.long()")
        if tensor.dim() != 1 or tensor.shape[0] != batch:
            raise ValueError(
                f"{name} must have shape [B], one for each of {batch} rows; got {tuple(tensor.shape)}"
            )
        if tensor.device != scores.device:
            raise ValueError(
                f"{name} is on {tensor.device} but scores are on {scores.device}; put both on one device"
            )
    for name, columns in (("keep", keep), ("hide", hide)):
        if not 0 <= columns <= tokens:
            raise ValueError(
                f"{name} must be in 0..{tokens}, columns of at most a row's tokens; got {columns}"
            )


def _check_values(tokens: int, lengths: list[int], visible: list[int], keep: int, hide: int) -> None:
    for row, (length, count) in enumerate(zip(lengths, visible, strict=True)):
        if not 0 <= length <= tokens:
            raise ValueError(f"lengths[{row}] must be in 0..{tokens}, the tokens of a row; got {length}")
        if not 0 <= count <= length:
            raise ValueError(f"visible[{row}] must be in 0..{length}, the row's length; got {count}")
        if count > keep or length - count > hide:
            raise ValueError(
                f"row {row} shows {count} and hides {length - count} of its {length} tokens, more than keep={keep} or "
                f"hide={hide} columns hold; raise them"
            )


def _ragged_threshold(scores, lengths, visible, keep, hide, backend="auto", outputs=ALL_OUTPUTS):
    _check(scores, lengths, visible, keep, hide)
    if scores.device.type == "cpu":
        _check_values(scores.shape[1], lengths.tolist(), visible.tolist(), keep, hide)
    run = choose("ragged_threshold", backend, scores.device.type)
    found = run(scores, lengths, visible, keep, hide, wanted_outputs(outputs))
    return as_returned(found, scores.device)


def _fake(scores, lengths, visible, keep, hide, backend="auto", outputs=ALL_OUTPUTS):
    _check(scores, lengths, visible, keep, hide)
    batch, tokens = scores.shape
    found = padded_outputs(batch, tokens, keep, hide, wanted_outputs(outputs), scores.device)
    return as_returned(found, scores.device)


register(
    "ragged_threshold(Tensor scores, Tensor lengths, Tensor visible, SymInt keep, SymInt hide, "
    f'str backend="auto", str outputs="{ALL_OUTPUTS}") '
    "-> (Tensor mask, Tensor ids_keep, Tensor ids_mask, Tensor ids_restore)",
    _ragged_threshold,
    _fake,
)
