# SPDX-License-Identifier: Apache-2.0
"""Frames by torchcodec, where it really loads: it can be installed and yet find no FFmpeg, or be built for another
torch. PyAV is the usual reader; both give the same frames."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

from ..errors import DataError


@lru_cache(maxsize=1)
def reason() -> str | None:
    """Why torchcodec cannot be used, in one line; None where it can."""
    try:
        from torchcodec.decoders import VideoDecoder  # noqa: F401
    except ModuleNotFoundError:
        return "torchcodec is not installed"
    except (ImportError, OSError, RuntimeError) as error:
        first = next(iter(str(error).strip().splitlines()), "")
        return f"torchcodec is installed but does not load ({type(error).__name__}: {first})"
    return None


def read(path: Path, indices: list[int], threads: int = 1) -> np.ndarray:
    """Frames by number, at the file's own size: uint8 [len(indices), H, W, 3].

    Raises DataError where one does not decode, ImportError where torchcodec cannot be used.
    """
    if why := reason():
        raise ImportError(
            f"{why}; it needs FFmpeg's shared libraries and a build for this torch; or use reader pyav"
        )
    from torchcodec.decoders import VideoDecoder

    try:
        decoder = VideoDecoder(
            str(path), dimension_order="NHWC", num_ffmpeg_threads=threads, seek_mode="exact"
        )
        return decoder.get_frames_at(indices=indices).data.numpy()
    except (RuntimeError, ValueError, IndexError) as error:
        raise DataError(f"{path}: {type(error).__name__}: {error}") from None
