# SPDX-License-Identifier: Apache-2.0
"""smnoise: structured-noise masks for masked autoencoders, made on the fly.

A mask is a pure function of (seed, sample index, parameters), bit for bit the same on every backend.

Names are imported at first use, so that `smnoise --help` need not wait for torch. A process that loads an exported
program needs the ops alone: `import smnoise.ops` registers them.
"""

from importlib import import_module as _import_module
from importlib.util import find_spec as _find_spec
from pathlib import Path as _Path
from typing import TYPE_CHECKING

from .renamed import find_renamed as _find_renamed

if not (_here := _Path(__file__).parent).joinpath("kernels").exists():
    # In a checkout that was built in place but not installed, kernels/ and csrc/ lie beside this folder.
    __path__.append(str(_here.parent))
_find_renamed()

if TYPE_CHECKING:
    from .bandit import SigmaBandit
    from .errors import BackendError, CheckpointError, DataError, FolderInUseError, PoolError, SmnoiseError
    from .levels import distance_to
    from .masks import MaskBatch
    from .pools import MaskPool, NoisePool, PoolSampler
    from .samplers import (
        Block,
        Blue1D,
        Blue2D,
        Blue3D,
        ContextTargets,
        Coupled,
        Custom,
        Frame,
        FrameCounts,
        FrequencyBars,
        Green1D,
        Green2D,
        Green3D,
        Grid,
        InverseBlock,
        MaskPair,
        OptimBlue,
        PointMasks,
        Purple1D,
        Purple2D,
        Purple3D,
        Ragged,
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
        context_presets,
        sample_indices,
    )
    from .samplers.presets import presets
    from .sigmas import SigmaSchedule, sigma_table
    from .strategies import STRATEGIES, from_json, pair_from_json, register, sampler_of, strategy
    from .stream import MaskStream

_MODULES = (
    "errors",
    "masks",
    "levels",
    "samplers",
    "sigmas",
    "bandit",
    "strategies",
    "stream",
    "pools",
)  # where the names are, in this order

__version__ = "0.1.0"
__all__ = [
    "STRATEGIES",
    "BackendError",
    "Block",
    "Blue1D",
    "Blue2D",
    "Blue3D",
    "CheckpointError",
    "ContextTargets",
    "Coupled",
    "Custom",
    "DataError",
    "FolderInUseError",
    "Frame",
    "FrameCounts",
    "FrequencyBars",
    "Green1D",
    "Green2D",
    "Green3D",
    "Grid",
    "InverseBlock",
    "MaskBatch",
    "MaskPair",
    "MaskPool",
    "MaskStream",
    "NoisePool",
    "OptimBlue",
    "PointMasks",
    "PoolError",
    "PoolSampler",
    "Purple1D",
    "Purple2D",
    "Purple3D",
    "Ragged",
    "Random",
    "Red1D",
    "Red2D",
    "Red3D",
    "RunningCell",
    "SigmaBandit",
    "SigmaSchedule",
    "SmnoiseError",
    "TimeBars",
    "TimeFrequencyBars",
    "Tube",
    "White1D",
    "White2D",
    "White3D",
    "context_presets",
    "distance_to",
    "from_json",
    "pair_from_json",
    "presets",
    "register",
    "sample_indices",
    "sampler_of",
    "sigma_table",
    "strategy",
]


def __getattr__(name: str):
    if name in __all__:
        for module in _MODULES:
            if (value := getattr(_import_module(f".{module}", __name__), name, None)) is not None:
                globals()[name] = value
                return value
    if not name.startswith("_") and _find_spec(f"{__name__}.{name}"):
        return _import_module(f".{name}", __name__)
    from .nearest import hint

    raise AttributeError(f"module {__name__!r} has no attribute {name!r}{hint(name, __all__)}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
