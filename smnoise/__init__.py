# SPDX-License-Identifier: Apache-2.0
"""smnoise: structured-noise masks for masked autoencoders, made on the fly.

A mask is a pure function of (seed, sample index, parameters), bit for bit the same on every backend.
"""

from pathlib import Path as _Path

if not (_here := _Path(__file__).parent).joinpath("kernels").exists():
    # In a checkout that was built in place but not installed, kernels/ and csrc/ lie beside this folder.
    __path__.append(str(_here.parent))

from .errors import BackendError, CheckpointError, DataError, SmnoiseError
from .masks import MaskBatch
from .samplers import (
    STRATEGIES,
    Block,
    Blue1D,
    Blue2D,
    Blue3D,
    Frame,
    FrequencyBars,
    Green1D,
    Green2D,
    Green3D,
    Grid,
    InverseBlock,
    OptimBlue,
    Purple1D,
    Purple2D,
    Purple3D,
    Random,
    Red1D,
    Red2D,
    Red3D,
    RunningCell,
    TimeBars,
    TimeFrequencyBars,
    Tube,
    White1D,
    White2D,
    White3D,
    from_json,
    presets,
    sample_indices,
    strategy,
)
from .stream import MaskStream

__version__ = "0.1.0"
__all__ = [
    "STRATEGIES",
    "BackendError",
    "Block",
    "Blue1D",
    "Blue2D",
    "Blue3D",
    "CheckpointError",
    "DataError",
    "Frame",
    "FrequencyBars",
    "Green1D",
    "Green2D",
    "Green3D",
    "Grid",
    "InverseBlock",
    "MaskBatch",
    "MaskStream",
    "OptimBlue",
    "Purple1D",
    "Purple2D",
    "Purple3D",
    "Random",
    "Red1D",
    "Red2D",
    "Red3D",
    "RunningCell",
    "SmnoiseError",
    "TimeBars",
    "TimeFrequencyBars",
    "Tube",
    "White1D",
    "White2D",
    "White3D",
    "from_json",
    "presets",
    "sample_indices",
    "strategy",
]
