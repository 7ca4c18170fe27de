# SPDX-License-Identifier: Apache-2.0
"""Frames by torchcodec, where it really loads: it can be installed and yet find no FFmpeg, or be built for another
torch. PyAV is the usual reader, and reads what torchcodec would number or colour differently: files whose packets do
not tell their frames, damaged ones, turned ones, and pixels that are not of 8 bits with halved colours; and files in a
tar."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from .. import tars
from .reader import VideoFile

PIXELS = {"yuv420p", "yuvj420p"}


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


def reads_alike(file: VideoFile) -> bool:
    """Whether torchcodec can be asked for a file's frames."""
    index = file.index
    return (
        tars.place_of(file.path) is None
        and index.way == "seek"
        and not index.has_matrix
        and index.pixels in PIXELS
    )


def read(file: VideoFile, indices: list[int]) -> np.ndarray | None:
    """Frames by number, at the file's own size: uint8 [len(indices), H, W, 3]; None where torchcodec has others than
    those of these numbers, as for damaged files.

    Raises ImportError where torchcodec cannot be used.
    """
    if why := reason():
        raise ImportError(
            f"{why}; it needs FFmpeg's shared libraries and a build for this torch; or use reader pyav"
        )
    from torchcodec.decoders import VideoDecoder

    index = file.index
    try:
        decoder = VideoDecoder(str(file.path), stream_index=index.stream, dimension_order="NHWC",
                               num_ffmpeg_threads=file.threads, seek_mode="exact")  # fmt: skip
        if len(decoder) != file.frames:
            return None
        frames = decoder.get_frames_at(indices=indices)
    except (RuntimeError, ValueError, IndexError):
        return None
    due = np.array([index.stamps[i] for i in indices]) * index.seconds
    images = frames.data.numpy()
    same = images.shape[1:3] == (file.height, file.width)
    return images if same and np.abs(frames.pts_seconds.numpy() - due).max() < index.seconds / 2 else None
