# SPDX-License-Identifier: Apache-2.0
"""Clips kept as small videos whose pixels are the same when they are read."""

from __future__ import annotations

from pathlib import Path

import av
from torch import Tensor

from ...files import replace_file


def write_lossless(path: Path, clip: Tensor) -> None:
    """A clip uint8 [3, T, H, W] as a Matroska video of the codec FFV1, which loses nothing."""
    exact = {"fflags": "+bitexact"}  # or each file gets a random number of its own
    with (
        replace_file(path) as temporary,
        av.open(str(temporary), "w", format="matroska", container_options=exact) as container,
    ):
        stream = container.add_stream("ffv1", rate=8)
        stream.height, stream.width = clip.shape[2:]
        stream.pix_fmt = "bgr0"
        for image in clip.permute(1, 2, 3, 0).contiguous().numpy():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
