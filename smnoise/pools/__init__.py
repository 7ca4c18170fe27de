# SPDX-License-Identifier: Apache-2.0
"""Pools: masks, or noise to cut masks from, made ahead and kept in a file; the way of arXiv 2503.16311 and ColorMAE.

pool = pools.build_noise(smnoise.Green3D((8, 14, 14), 0.9), 3000, size=(12, 20, 20))
pools.save(pool, "green.safetensors")
sampler = smnoise.PoolSampler(pools.load("green.safetensors"), (8, 14, 14), 0.9)
masks = sampler(batch_size=32, step=step)
"""

from .build import build_masks, build_noise
from .colormae import load_colormae
from .files import info, load, save
from .pool import MaskPool, NoisePool, Pool
from .sampler import PoolSampler

__all__ = [
    "MaskPool",
    "NoisePool",
    "Pool",
    "PoolSampler",
    "build_masks",
    "build_noise",
    "info",
    "load",
    "load_colormae",
    "save",
]
