# SPDX-License-Identifier: Apache-2.0
"""Real video and sound files for the tests, encoded here. The videos' pixels tell which frame they are."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import soundfile

WIDTH, HEIGHT = 96, 64
STEP = 6  # grey levels from one frame to the next


def write_video(
    path: Path, frames: int, fps: int = 10, moving: bool = False, codec: str = "mpeg4", **options: str
) -> Path:
    """A video. Frame n is a flat grey of STEP * n levels; or, moving, a bright square on a ramp."""
    ramp = np.broadcast_to(np.linspace(0, 200, WIDTH, dtype=np.uint8), (HEIGHT, WIDTH))
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.bit_rate, stream.gop_size = 4_000_000, 12
        stream.options = options
        stream.codec_context.max_b_frames = int(options.get("bf", 0))
        for n in range(frames):
            image = np.full((HEIGHT, WIDTH, 3), min(16 + STEP * n, 235), np.uint8)
            if moving:
                image[:] = ramp[..., None]
                at = 3 * n % (WIDTH - 20)
                image[20:40, at : at + 20] = (255, 128, 0)
            for packet in stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def frame_number(image: np.ndarray) -> int:
    """Which frame of a flat video an image [..., 3] is."""
    return round((float(image.mean()) - 16) / STEP)


def write_clips_and_sounds(folder: Path) -> Path:
    """Three moving videos and three sounds of 1.5 s."""
    for n in range(3):
        write_video(folder / f"{n}.mp4", 24 + 5 * n, moving=True)
        wave = np.random.default_rng(n).standard_normal(12000) * np.sin(np.arange(12000) / (5 + n))
        soundfile.write(folder / f"{n}.wav", (0.1 * wave).astype(np.float32), 8000, subtype="FLOAT")
    return folder
