# SPDX-License-Identifier: Apache-2.0
"""smnoise::threshold: exact-count masks from scores that you have.

Contract section 6. Reference: `smnoise.reference.threshold`; CPU: csrc/threshold_cpu.h.
"""

from __future__ import annotations

import torch

from ..backends import choose
from ..backends.outputs import allocate
from ..tensors import check_tensors
from ._library import ALL_OUTPUTS, as_returned, check_scores, register, wanted_outputs


def threshold(
    scores: torch.Tensor, visible: int, groups: int = 1, backend: str = "auto", outputs: str = ALL_OUTPUTS
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Show the `visible` largest scores of each ranking, ties to the lower token; mask the others.

    >>> mask, ids_keep, ids_mask, ids_restore = threshold(torch.tensor([[0.1, 0.7, 0.7, 0.3]]), visible=1)
    >>> mask.tolist(), ids_keep.tolist(), ids_restore.tolist()
    ([[True, False, True, True]], [[1]], [[1, 0, 2, 3]])

    Args:
        scores: float32 [B, L]. -0.0 equals 0.0. NaNs rank by their bits, beyond the infinities.
        visible: visible tokens per ranking, 1 .. L / groups - 1.
        groups: rankings per sample; L must be divisible by it. T for a mask per frame.
        backend, outputs, returns: as in `color_mask`.
    """
    check_tensors(scores=scores)
    return torch.ops.smnoise.threshold(scores, visible, groups, backend, outputs)


def _check(scores: torch.Tensor, visible: int, groups: int) -> None:
    check_scores(scores)
    tokens = scores.shape[1]
    if groups < 1 or tokens % groups:
        raise ValueError(f"groups must be a positive divisor of the {tokens} tokens, got {groups}")
    if not 0 < visible < tokens // groups:
        raise ValueError(
            f"visible must be in 1..{tokens // groups - 1} (per ranking of {tokens // groups}), got {visible}"
        )


def _threshold(scores, visible, groups=1, backend="auto", outputs=ALL_OUTPUTS):
    _check(scores, visible, groups)
    run = choose("threshold", backend, scores.device.type)
    return as_returned(run(scores, visible, groups, wanted_outputs(outputs)), scores.device)


def _fake(scores, visible, groups=1, backend="auto", outputs=ALL_OUTPUTS):
    _check(scores, visible, groups)
    batch, tokens = scores.shape
    tensors = allocate(batch, tokens, groups * visible, wanted_outputs(outputs), scores.device)
    return as_returned(tensors, scores.device)


register(
    f'threshold(Tensor scores, int visible, int groups=1, str backend="auto", str outputs="{ALL_OUTPUTS}")'
    " -> (Tensor mask, Tensor ids_keep, Tensor ids_mask, Tensor ids_restore)",
    _threshold,
    _fake,
)
