# SPDX-License-Identifier: Apache-2.0
"""What people run today to make masks, written plainly: each makes one batch and returns it."""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from smnoise import reference
from smnoise.spec import OptimBlueSpec


def mae_random(batch: int, grid: tuple[int, int, int], visible: int):
    """MAE's random masking: random numbers sorted twice. Also AudioMAE's, CAV-MAE's and many others'."""
    tokens = grid[0] * grid[1] * grid[2]
    noise = torch.rand(batch, tokens)
    ids_shuffle = torch.argsort(noise, dim=1)
    ids_restore = torch.argsort(ids_shuffle, dim=1)
    ids_keep = ids_shuffle[:, :visible]
    mask = torch.ones(batch, tokens)
    mask[:, :visible] = 0
    return torch.gather(mask, dim=1, index=ids_restore), ids_restore, ids_keep


def topk_random(batch: int, grid: tuple[int, int, int], visible: int):
    """The shortest random mask in torch: top-k and scatter; no ids_restore, no ids_mask."""
    noise = torch.rand(batch, grid[0] * grid[1] * grid[2])
    ids_keep = noise.topk(visible, dim=1, sorted=False).indices
    return torch.ones_like(noise, dtype=torch.bool).scatter_(1, ids_keep, False), ids_keep


def tubes(batch: int, grid: tuple[int, int, int], visible: int):
    """VideoMAE's tubes: one NumPy shuffle per sample, repeated over time; a mask and nothing else."""
    frame = grid[1] * grid[2]
    hidden = frame - visible // grid[0]
    masks = []
    for _ in range(batch):
        mask = np.hstack([np.zeros(frame - hidden), np.ones(hidden)])
        np.random.shuffle(mask)  # noqa: NPY002 (what VideoMAE users run)
        masks.append(np.tile(mask, (grid[0], 1)).flatten())
    return torch.from_numpy(np.stack(masks)).bool()


def scipy_field(batch: int, grid: tuple[int, int, int], visible: int):
    """Band-pass masks with SciPy, without seams: filter a volume with a halo, cut it out, argpartition."""
    return _scipy(batch, grid, visible, halo=12, mode="constant")


def scipy_wrap(batch: int, grid: tuple[int, int, int], visible: int):
    """Band-pass masks with SciPy on a torus."""
    return _scipy(batch, grid, visible, halo=0, mode="wrap")


def _scipy(batch, grid, visible, halo: int, mode: str):
    generator = np.random.default_rng()
    inner = tuple(slice(halo, halo + n) for n in grid)
    masks = np.ones((batch, grid[0] * grid[1] * grid[2]), bool)
    for mask in masks:
        noise = generator.random([n + 2 * halo for n in grid], dtype=np.float32)
        low, high = generator.uniform(0.4, 1.5), generator.uniform(1.4, 3.0)
        band = gaussian_filter(noise, low, mode=mode) - gaussian_filter(
            noise, max(high, low + 0.05), mode=mode
        )
        mask[np.argpartition(band[inner].ravel(), -visible)[-visible:]] = False
    return torch.from_numpy(masks)


def optim_blue_numpy(batch: int, grid: tuple[int, int, int], visible: int):
    """The contract's Optim Blue in NumPy, each partition made once: smnoise's own reference."""
    spec = OptimBlueSpec(grid, visible)
    seed = np.random.default_rng().integers(2**63)
    labels = (reference.partition(int(seed), n, spec) for n in range(-(-batch // spec.num_masks)))
    rows = [reference.outputs_of(label != k) for label in labels for k in range(spec.num_masks)]
    return [
        torch.from_numpy(np.stack([getattr(row, name) for row in rows[:batch]])) for name in rows[0]._fields
    ]


def void_and_cluster(
    batch: int, grid: tuple[int, int, int], visible: int, sigma: float = 1.5, seed: int | None = None
):
    """Ulichney's void-and-cluster (1993), its first phase: the visible token in the tightest cluster moves to the
    largest void until they are the same place; on a torus, as usual. A mask and nothing else."""
    generator = np.random.default_rng(seed)
    tokens = grid[0] * grid[1] * grid[2]
    place = np.stack(np.unravel_index(np.arange(tokens), grid), 1)
    apart = np.abs(place[:, None] - place[None])
    apart = np.minimum(apart, np.array(grid) - apart)
    bell = np.exp(-np.square(apart).sum(-1) / (2 * sigma * sigma))
    masks = np.ones((batch, tokens), bool)
    for mask in masks:
        mask[generator.permutation(tokens)[:visible]] = False
        density = bell[:, ~mask].sum(1)
        for _ in range(10 * tokens):  # it ends long before
            cluster = int(np.where(mask, -np.inf, density).argmax())
            density -= bell[cluster]
            mask[cluster] = True
            void = int(np.where(mask, density, np.inf).argmin())
            density += bell[void]
            mask[void] = False
            if void == cluster:
                break
    return torch.from_numpy(masks)
