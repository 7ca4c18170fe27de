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


def write_film(
    path: Path,
    seconds: float = 2.0,
    fps: int = 10,
    rate: int = 8000,
    channels: str = "mono",
    late: float = 0.0,
    tone: float = 0.0,
    codec: str = "mpeg4",
    sound: str = "pcm_s16le",
) -> Path:
    """A video of `write_video`'s grey frames with sound. Without a tone, sample n of each channel is n / rate / 10, so
    that its value tells the time; the sound's stamps begin `late` seconds behind the picture's. With one the picture's
    brightness also changes with the tone's frequency, in Hz."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.bit_rate, stream.gop_size = 4_000_000, 12
        track = container.add_stream(sound, rate=rate, layout=channels)
        for n in range(round(seconds * fps)):
            image = np.full((HEIGHT, WIDTH, 3), min(16 + STEP * n, 235), np.uint8)
            if tone:
                image[:] = 128 + 100 * np.sin(np.arange(WIDTH) * tone / 2000 + n)[:, None]
            for packet in stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
        times = np.arange(round((seconds - late) * rate)) / rate
        wave = 0.5 * np.sin(2 * np.pi * tone * times) if tone else times / 10
        for first in range(0, len(wave), 800):
            part = np.repeat(np.round(wave[first : first + 800] * 32768), track.layout.nb_channels)
            frame = av.AudioFrame.from_ndarray(part.astype(np.int16)[None], format="s16", layout=channels)
            frame.sample_rate, frame.pts = rate, first + round(late * rate)
            for packet in track.encode(frame):
                container.mux(packet)
        for packet in track.encode():
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
