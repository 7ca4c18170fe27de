# SPDX-License-Identifier: Apache-2.0
"""What people run today to make masks, written plainly: each makes one batch and returns it. None of them draws from a
seed and a sample's number, and most give a mask without the ids that a model needs.
"""

from __future__ import annotations

from collections.abc import Callable

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
        low, high = generator.uniform(*SIGMA1), generator.uniform(*SIGMA2)
        band = gaussian_filter(noise, low, mode=mode) - gaussian_filter(
            noise, max(high, low + 0.05), mode=mode
        )
        mask[np.argpartition(band[inner].ravel(), -visible)[-visible:]] = False
    return torch.from_numpy(masks)


SIGMA1, SIGMA2, TRUNCATE = (0.4, 1.5), (1.4, 3.0), 4.0  # of Green3D


def band_pass_batch(xp, ndimage):
    """Band-pass masks on a torus with xp = cupy, ndimage = cupyx.scipy.ndimage (or numpy and scipy.ndimage): the whole
    batch in two calls of gaussian_filter, which has one sigma for all samples of it; argpartition."""

    def make(batch: int, grid: tuple[int, int, int], visible: int):
        sigma1, sigma2 = (np.random.uniform(*r) for r in (SIGMA1, SIGMA2))  # noqa: NPY002 (as users would)
        noise = xp.random.random((batch, *grid)).astype(xp.float32)
        low, high = (
            ndimage.gaussian_filter(noise, (0, s, s, s), mode="wrap")
            for s in (sigma1, max(sigma2, sigma1 + 0.05))
        )
        order = xp.argpartition((low - high).reshape(batch, -1), -visible, axis=1)
        mask = xp.ones(order.shape, dtype=bool)
        xp.put_along_axis(mask, order[:, -visible:], False, axis=1)
        return torch.as_tensor(mask)

    return make


def conv3d_topk(batch: int, grid: tuple[int, int, int], visible: int):
    """Band-pass masks in torch alone: separable conv3d of a volume with a halo, a group for each sample, so that each
    has sigmas of its own; top-k and scatter. No number leaves the device."""
    radius = round(TRUNCATE * SIGMA2[1])
    noise = torch.rand(1, batch, *(n + 2 * radius for n in grid))
    low = torch.empty(batch).uniform_(*SIGMA1)
    high = torch.maximum(torch.empty(batch).uniform_(*SIGMA2), low + 0.05)
    band = _blurred(noise, low, radius) - _blurred(noise, high, radius)
    score = band.view(batch, -1)
    ids_keep = score.topk(visible, dim=1, sorted=False).indices
    return torch.ones_like(score, dtype=torch.bool).scatter_(1, ids_keep, False), ids_keep


def _blurred(noise: torch.Tensor, sigma: torch.Tensor, radius: int) -> torch.Tensor:
    """Gaussians of sigma [B] on [1, B, T, H, W], cut at TRUNCATE sigmas; each axis gets shorter by the radius."""
    place = torch.arange(-radius, radius + 1, dtype=sigma.dtype, device=sigma.device)
    weight = torch.exp(-0.5 * (place / sigma[:, None]).square())
    weight = weight * (place.abs() <= (TRUNCATE * sigma[:, None] + 0.5).floor())
    weight = weight / weight.sum(1, keepdim=True)
    for shape in ((-1, 1, 1), (1, -1, 1), (1, 1, -1)):
        noise = torch.nn.functional.conv3d(noise, weight.view(len(sigma), 1, *shape), groups=len(sigma))
    return noise


def colormae(pool: torch.Tensor) -> Callable:
    """ColorMAE's way with a pool of noise [K, T, H, W] larger than the grid: in each call one window and one decision
    on each flip for all, row b is cut from volume b, two argsorts. Only the rows of the batch are cut here; its code
    cuts all of the pool."""

    def make(batch: int, grid: tuple[int, int, int], visible: int):
        window = pool[:batch]
        for axis, n in enumerate(grid, 1):
            start = int(torch.randint(window.shape[axis] - n + 1, (), device="cpu"))
            window = window.narrow(axis, start, n)
        flipped = [axis for axis in (2, 3) if torch.rand((), device="cpu") < 0.5]
        noise = window.flip(flipped).flatten(1)
        ids_shuffle = torch.argsort(noise, dim=1, descending=True)
        ids_restore = torch.argsort(ids_shuffle, dim=1)
        mask = torch.ones_like(noise)
        mask[:, :visible] = 0
        return torch.gather(mask, dim=1, index=ids_restore), ids_restore, ids_shuffle[:, :visible]

    return make


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
