# SPDX-License-Identifier: Apache-2.0
"""smnoise: structured-noise masks for masked autoencoders, made on the fly.

A mask is a pure function of (seed, sample index, parameters), bit for bit the same on every backend.
"""

from .errors import BackendError, CheckpointError, DataError, SmnoiseError
from .masks import MaskBatch
from .samplers import Blue3D, Green3D, Purple3D, Red3D, White3D, from_json, sample_indices

__version__ = "0.1.0"
__all__ = [
    "BackendError",
    "Blue3D",
    "CheckpointError",
    "DataError",
    "Green3D",
    "MaskBatch",
    "Purple3D",
    "Red3D",
    "SmnoiseError",
    "White3D",
    "from_json",
    "sample_indices",
]
