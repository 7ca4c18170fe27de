# SPDX-License-Identifier: Apache-2.0
"""How evenly the visible tokens of masks are spread: what blue-noise masks promise, in numbers.

Distances are Euclidean, in tokens; the grid does not wrap.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..masks import MaskBatch, check_masks
from ..spec import as_int


class Spread(NamedTuple):
    """Means over all masks of a batch."""

    nearest: float
    """Distance from a visible token to the nearest other visible one."""
    touching4: float
    """Share of visible tokens with a visible neighbour beside, above or below (in space and time: 6 neighbours)."""
    touching8: float
    """The same with diagonal neighbours (in space and time: 26)."""
    void: float
    """Distance from the most remote token of a mask to the nearest visible one."""
    seen_least: float
    """How often the least often visible token is visible, as a share of the masks."""
    seen_most: float


def spread(masks: MaskBatch) -> Spread:
    """Measure masks of at least two visible tokens; needs the outputs mask and ids_keep. Memory grows as L * V.

    >>> found = spread(smnoise.OptimBlue((64, 8), 0.8)(range(20)))
    >>> round(found.touching4, 2)
    0.0

    Raises ValueError for a batch without masks, or with a single visible token a mask.
    """
    check_masks(masks)
    keep, shown = masks.need("ids_keep").cpu(), ~masks.need("mask").cpu()
    if not len(keep) or keep.shape[1] < 2:
        raise ValueError(
            f"spread needs masks of at least two visible tokens, got ids_keep {tuple(keep.shape)}"
        )
    every = torch.cartesian_prod(*(torch.arange(n, dtype=torch.float64, device="cpu") for n in masks.grid))
    sums = torch.zeros(4, dtype=torch.float64, device="cpu")
    for ids in keep:
        apart = torch.cdist(every, every[ids], compute_mode="donot_use_mm_for_euclid_dist")
        between = apart[ids].fill_diagonal_(torch.inf).amin(1)
        diagonal = sum(n > 1 for n in masks.grid) ** 0.5  # of a cell of neighbours, to its corner
        sums += torch.stack(
            [
                between.mean(),
                (between <= 1).double().mean(),
                (between <= diagonal + 1e-9).double().mean(),
                apart.amin(1).amax(),
            ]
        )
    seen = shown.double().mean(0)
    nearest, touching4, touching8, void = (sums / len(keep)).tolist()
    return Spread(nearest, touching4, touching8, void, seen.min().item(), seen.max().item())


def radial_spectrum(masks: MaskBatch, bins: int = 16) -> tuple[Tensor, Tensor]:
    """Radially averaged power spectrum of the visible tokens of masks over one frame, grid (1, H, W).

    Power is that of random masks of the same count where it is 1. Returns the frequency of each bin's middle, in
    cycles a token (up to 0.5), and its power; both float64 [bins], NaN where the grid has no frequency in a bin.

    Raises ValueError or TypeError for another grid, a batch without masks, or bins that are no count.
    """
    check_masks(masks)
    bins = as_int("bins", bins, 1, 10**6)
    t, h, w = masks.grid
    if t != 1:
        raise ValueError(f"the radial spectrum is that of planes, grid (1, H, W); got grid {masks.grid}")
    shown = (~masks.volume()[:, 0].cpu()).double()
    if not len(shown):
        raise ValueError("the radial spectrum is a mean over masks; this batch has none")
    share = masks.num_visible / masks.num_tokens
    # The count is fixed, so that frequency 0 carries nothing and the other L - 1 share the variance of all tokens.
    even = masks.num_tokens**2 * share * (1 - share) / (masks.num_tokens - 1)
    power = torch.fft.fft2(shown - share).abs().square().mean(0) / even
    frequency = torch.hypot(
        torch.fft.fftfreq(h, dtype=torch.float64, device="cpu")[:, None],
        torch.fft.fftfreq(w, dtype=torch.float64, device="cpu"),
    )
    place = (frequency * 2 * bins).ceil().long() - 1  # frequency 0 falls out, and the corners beyond 0.5
    sums, counts = torch.zeros(2, bins, dtype=torch.float64, device="cpu")
    inside = (place >= 0) & (place < bins)
    sums.index_add_(0, place[inside], power[inside])
    counts.index_add_(0, place[inside], torch.ones_like(power[inside]))
    return (torch.arange(bins, dtype=torch.float64, device="cpu") + 0.5) / (2 * bins), sums / counts
