# SPDX-License-Identifier: Apache-2.0
"""A whole film with its sound, for the demo of sound and picture: Big Buck Bunny, of moviepy's source archive.

    make .venv/film                                              # fetches the archive, and unpacks the film of it
    pieces = cut(film_of(Path(".venv/film")), Path("runs/pieces"), seconds=15, short_side=32, rate=8000)

The film is (c) 2008 Blender Foundation, CC BY 3.0, and not part of smnoise: 596 s, 1280 x 720 at 24 frames a second,
AAC stereo at 44.1 kHz. Pieces are small files of their own, so that some can be trained on and others left for tests.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...errors import DataError
from ...files import make_folder
from ..audiovisual import PairFile
from ..video.lossless import write_with_sound
from .videos import CREDIT

__all__ = ["CREDIT", "cut", "film_of"]
NAME = "bbb.mp4"
FETCH = "make .venv/film"
LEAST = 0.5  # of a piece's seconds that the last one must have


def film_of(folder: Path) -> Path:
    """The film in the unpacked archive. Raises DataError, with the command that fetches it, where it is missing."""
    found = sorted(Path(folder).rglob(NAME))
    if not found:
        raise DataError(f"{folder} holds no {NAME}: {FETCH} fetches the film")
    return found[0]


def cut(
    film: Path, out: Path, seconds: float, short_side: int, rate: int, *, every: int = 1, threads: int = 1
) -> list[Path]:
    """A film as pieces of so many seconds, one behind the other, in a folder: one in `every` frames, reduced to
    `short_side` pixels and then without loss, and the sound of the same seconds by the stamps of both, mono at `rate`
    Hz in 16 bits. What is left at the end is a piece if it is at least half as long.

    Raises DataError for a film without picture or sound, or shorter than half a piece.
    """
    file = PairFile(film, rate, threads)
    make_folder(out)
    stamps, paths = np.array(file.stamps), []
    count = int((file.end - file.begin) / seconds + 1 - LEAST)
    for n in range(count):
        begin = file.begin + n * seconds
        end = min(begin + seconds, file.end)
        first, last = np.searchsorted(stamps, [begin - 1e-6, end - 1e-6])
        numbers = list(range(first, last, every))
        images = file.video.read(numbers, short_side)
        height, width = (side - side % 2 for side in images.shape[1:3])
        wave = file.sound.read(begin, round((end - begin) * rate))
        paths.append(out / f"piece-{n:03d}.mkv")
        times = stamps[numbers] - begin
        write_with_sound(paths[-1], images[:, :height, :width], times, wave, rate)
    if not paths:
        raise DataError(f"{film} is shorter than half a piece of {seconds:g} s")
    return paths
