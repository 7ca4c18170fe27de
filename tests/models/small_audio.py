# SPDX-License-Identifier: Apache-2.0
"""A small AudioMAE, whose grid is no multiple of the window, and masks for it."""

import torch

from smnoise import White3D
from smnoise.models.audiomae import (
    AudioMAE,
)
from smnoise.models.common import Size

GRID = (6, 3)  # no multiple of the window along either axis
SMALL = Size(24, 2, 2, 16, 2, 2)
DECODERS = ("local", "global")


def make(decoder="local", seed=0, **options):
    torch.manual_seed(seed)
    return AudioMAE(SMALL, GRID, patch=4, decoder=decoder, **options)


def masks_for(grid, ratio=0.6, samples=range(2)):
    return White3D(grid=(1, *grid), mask_ratio=ratio)(samples)


MASKS = masks_for(GRID)
