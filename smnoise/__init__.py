# SPDX-License-Identifier: Apache-2.0
"""smnoise: structured-noise masks for masked autoencoders, made on the fly.

A mask is a pure function of (seed, sample index, parameters), bit for bit the same on every backend.
"""

from pathlib import Path as _Path

if not (_here := _Path(__file__).parent).joinpath("kernels").exists():
    # In a checkout that was built in place but not installed, kernels/ and csrc/ lie beside this folder.
    __path__.append(str(_here.parent))

from .errors import BackendError, CheckpointError, DataError, PoolError, SmnoiseError
from .masks import MaskBatch
from .pools import MaskPool, NoisePool, PoolSampler
from .samplers import Blue3D, Green3D, OptimBlue, Purple3D, Red3D, White3D, from_json, sample_indices
from .stream import MaskStream

__version__ = "0.1.0"
__all__ = [
    "BackendError",
    "Blue3D",
    "CheckpointError",
    "DataError",
    "Green3D",
    "MaskBatch",
    "MaskPool",
    "MaskStream",
    "NoisePool",
    "OptimBlue",
    "PoolError",
    "PoolSampler",
    "Purple3D",
    "Red3D",
    "SmnoiseError",
    "White3D",
    "from_json",
    "sample_indices",
]
