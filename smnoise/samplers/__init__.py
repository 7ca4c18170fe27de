# SPDX-License-Identifier: Apache-2.0
"""Samplers: frozen descriptions of a masking strategy, called for masks.

sampler = smnoise.Green3D(grid=(8, 14, 14), mask_ratio=0.9)
masks = sampler(batch_size=32, step=step)
"""

from __future__ import annotations

from .bars import Frame, FrequencyBars, TimeBars, TimeFrequencyBars
from .base import KINDS, Sampler
from .blocks import Block, InverseBlock
from .cells import Grid, RunningCell
from .color import COLOR_KINDS, Blue3D, Color3D, Green3D, Purple3D, Red3D, White3D
from .context import ContextBatch, ContextTargets, Separation, context_presets
from .counts import FrameCounts
from .coupled import Coupled, MaskPair
from .custom import Custom
from .flat import (
    FLAT_KINDS,
    Blue1D,
    Blue2D,
    Color1D,
    Color2D,
    Green1D,
    Green2D,
    Purple1D,
    Purple2D,
    Red1D,
    Red2D,
    White1D,
    White2D,
)
from .indices import sample_indices
from .optim_blue import OptimBlue
from .points import PointMasks
from .presets import presets
from .ragged import Ragged, RaggedBatch
from .random import Random, Tube

__all__ = [
    "COLOR_KINDS",
    "FLAT_KINDS",
    "KINDS",
    "Block",
    "Blue1D",
    "Blue2D",
    "Blue3D",
    "Color1D",
    "Color2D",
    "Color3D",
    "ContextBatch",
    "ContextTargets",
    "Coupled",
    "Custom",
    "Frame",
    "FrameCounts",
    "FrequencyBars",
    "Green1D",
    "Green2D",
    "Green3D",
    "Grid",
    "InverseBlock",
    "MaskPair",
    "OptimBlue",
    "PointMasks",
    "Purple1D",
    "Purple2D",
    "Purple3D",
    "Ragged",
    "RaggedBatch",
    "Random",
    "Red1D",
    "Red2D",
    "Red3D",
    "RunningCell",
    "Sampler",
    "Separation",
    "TimeBars",
    "TimeFrequencyBars",
    "Tube",
    "White1D",
    "White2D",
    "White3D",
    "context_presets",
    "presets",
    "sample_indices",
]
