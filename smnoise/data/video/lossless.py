# SPDX-License-Identifier: Apache-2.0
"""Clips kept as small videos whose pixels are the same when they are read."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from torch import Tensor

from ...files import replace_file

EXACT = {"fflags": "+bitexact"}  # or each file gets a random number of its own
MILLISECOND = Fraction(1, 1000)  # Matroska's unit


def write_lossless(path: Path, clip: Tensor) -> None:
    """A clip uint8 [3, T, H, W] as a Matroska video of the codec FFV1, which loses nothing."""
    with (
        replace_file(path) as temporary,
        av.open(str(temporary), "w", format="matroska", container_options=EXACT) as container,
    ):
        stream = container.add_stream("ffv1", rate=8)
        stream.height, stream.width = clip.shape[2:]
        stream.pix_fmt = "bgr0"
        for image in clip.permute(1, 2, 3, 0).contiguous().numpy():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def write_with_sound(path: Path, images: np.ndarray, times: np.ndarray, wave: np.ndarray, rate: int) -> None:
    """Frames uint8 [N, H, W, 3], H and W even, shown at `times`, float [N] in seconds from 0 on, rounded to
    milliseconds; and their sound, float32 [samples] at `rate` Hz, mono in 16 bits. A Matroska video of FFV1 and PCM."""
    with (
        replace_file(path) as temporary,
        av.open(str(temporary), "w", format="matroska", container_options=EXACT) as container,
    ):
        stream = container.add_stream("ffv1", rate=1000)
        stream.height, stream.width = images.shape[1:3]
        stream.pix_fmt, stream.time_base = "bgr0", MILLISECOND
        track = container.add_stream("pcm_s16le", rate=rate, layout="mono")
        steps = np.round(wave.clip(-1, 1 - 2**-15) * 2**15).astype(np.int16)
        heard = 0
        for image, time in zip(images, times, strict=True):
            heard = _mux_sound(container, track, steps, heard, min(len(steps), round(time * rate)), rate)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts, frame.time_base = round(time * 1000), MILLISECOND
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        _mux_sound(container, track, steps, heard, len(steps), rate)
        container.mux(track.encode())


def _mux_sound(container, track, steps: np.ndarray, first: int, last: int, rate: int) -> int:
    """Write the samples first .. last - 1; give `last`."""
    if first < last:
        frame = av.AudioFrame.from_ndarray(steps[None, first:last], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, first, Fraction(1, rate)
        container.mux(track.encode(frame))
    return last
