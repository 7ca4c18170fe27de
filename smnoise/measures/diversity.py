# SPDX-License-Identifier: Apache-2.0
"""How different the masks of a sampler are from each other, and whether they favour some tokens: pools repeat
themselves, masks made on the fly need not."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from ..samplers import Sampler
from ..samplers.base import check_sampler
from ..samplers.indices import check_device
from ..spec import as_int


class Diversity(NamedTuple):
    """How much N masks of L tokens, V of them visible, differ. Masks that have nothing to do with each other, and are
    fair to all tokens, have bias 1, correlation 0, deviation 1 / sqrt(L - 1) if their tokens are independent too (else
    more), and as many distinct ones as masks.
    """

    masks: int
    """N."""
    distinct: int
    """Different masks among them."""
    seen_least: float
    """How often the least often visible token is visible, as a share of the masks."""
    seen_most: float
    bias: float
    """Chi-square of how often each token is visible, against a binomial law of equal chance for all, per degree of
    freedom: sum over tokens of (seen - N p)^2 / (N p (1 - p)) / L, with p = V / L. 1 is fair; grows with N if not."""
    overlap: float
    """Tokens that two masks both show, mean over all pairs."""
    expected_overlap: float
    """The same of masks that have nothing to do with each other, V^2 / L."""
    correlation: float
    """Of the visible tokens of two masks, mean over all pairs."""
    deviation: float
    """Root mean square of that correlation over pairs of the compared masks."""
    nearest: float
    """Correlation of a mask with the one most like it, mean over the compared masks; 1 for one that has a copy."""
    compared: int
    """Masks that deviation and nearest are about, the first ones."""


def diversity(
    sampler: Sampler, masks: int, *, first: int = 0, compare: int = 4096, batch_size: int = 256, device="cpu"
) -> Diversity:
    """Measure the masks of samples first .. first + masks - 1, such as one epoch.

    compare: how many of them are compared in pairs, at a cost that grows with the square.
    device: where masks are made and compared.

    Memory: L / 8 bytes a mask, and 8 * compare * L.
    """
    check_sampler(sampler)
    check_device(device)
    device = "cpu" if device is None else device
    masks, first = as_int("masks", masks, 2, 2**40), as_int("first", first, 0, 2**63 - 1 - masks)
    compare, batch_size = as_int("compare", compare, 2, 2**20), as_int("batch_size", batch_size, 1, 2**24)
    tokens, visible = sampler.num_tokens, sampler.visible_per_sample
    seen = torch.zeros(tokens, dtype=torch.int64, device=device)
    known: set[bytes] = set()
    shown = []
    for begin in range(0, masks, batch_size):
        samples = first + torch.arange(begin, min(begin + batch_size, masks), device=device)
        rows = ~sampler(samples, outputs="mask").need("mask")
        seen += rows.sum(0)
        known.update(row.tobytes() for row in np.packbits(rows.cpu().numpy(), axis=1))
        if begin < compare:
            shown.append(rows[: compare - begin].float())
    share = visible / tokens
    count = seen.double()
    overlap = float(count @ count - masks * visible) / (masks * (masks - 1))
    nearest, square = _pairs(torch.cat(shown), share)
    return Diversity(
        masks=masks,
        distinct=len(known),
        seen_least=int(seen.min()) / masks,
        seen_most=int(seen.max()) / masks,
        bias=float((count - masks * share).square().sum()) / (masks * share * (1 - share) * tokens),
        overlap=overlap,
        expected_overlap=visible * share,
        correlation=(overlap - visible * share) / (visible * (1 - share)),
        deviation=square**0.5,
        nearest=nearest,
        compared=min(compare, masks),
    )


def _pairs(shown: torch.Tensor, share: float) -> tuple[float, float]:
    """Of masks float32 [N, L]: the mean of each one's largest correlation with another, and the mean square of all."""
    n, tokens = shown.shape
    nearest = square = 0.0
    for begin in range(0, n, 1024):
        block = shown[begin : begin + 1024]
        both = (block @ shown.T).double()  # tokens that both show: whole numbers, exact in float32
        both -= tokens * share**2
        both /= tokens * share * (1 - share)
        itself = torch.arange(len(block), device=shown.device)
        both[itself, begin + itself] = 0
        square += float(both.square().sum())
        both[itself, begin + itself] = -torch.inf
        nearest += float(both.amax(1).sum())
    return nearest / n, square / (n * (n - 1))
