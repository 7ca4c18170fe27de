# SPDX-License-Identifier: Apache-2.0
"""Speech and music for the sound demo: Debian's Asterisk sound packages, cut to pieces that are alike but for that.

    make .venv/sounds                                       # fetches and unpacks the packages, without root
    sounds = prepare(corpus(Path(".venv/sounds")), Path("runs/pieces"))
    train, test = split(sounds)

The prompts are a voice and a language each: en and es (one woman), fr (a woman), it (a man), ru (a woman). The
music is 5 tracks of 3 artists. All is 8 kHz, mono, 16 bit. Prompts last a second, tracks minutes, and their
levels differ; so that no classifier can go by length, level or padding, both are cut to pieces of one length and
one level, speech after its prompts are joined. The sounds are CC BY-SA 3.0 (ru: CC BY 3.0) and not part of smnoise.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from ...errors import DataError
from ...files import replace_file
from ..draws import permutation

SPEECH, MUSIC = 0, 1
LABELS = ("speech", "music")
LANGUAGES = ("en", "es", "fr", "it", "ru")
FETCH = "make .venv/sounds"
# Of the prompts: tones, and monkeys.
NOT_SPEECH = {
    "ascending-2tone", "beep", "beeperr", "confbridge-join", "confbridge-leave", "descending-2tone", "tt-monkeys",
}  # fmt: skip
LEVEL = 0.05  # root mean square of a piece: low enough that peaks of speech stay below 1
SILENT = 1e-3  # pieces below this are left out: they would be raised to noise


class Sound(NamedTuple):
    """A file, its label (SPEECH or MUSIC), what it shares with others (language or track), its seconds."""

    path: Path
    label: int
    group: str
    seconds: float


def corpus(folder: Path) -> list[Sound]:
    """The prompts and tracks of the unpacked packages, without empty files and prompts that are not speech; in a
    fixed order, group by group.

    Raises DataError, with the command that fetches them, where a language or the music is missing.
    """
    found = []
    for language in LANGUAGES:
        paths = Path(folder).glob(f"usr/share/asterisk/sounds/{language}_*/**/*.wav")
        spoken = [p for p in paths if p.stem not in NOT_SPEECH and p.parent.name != "silence"]
        found.append([(path, SPEECH, language) for path in sorted(spoken)])
    tracks = sorted(Path(folder).glob("usr/share/asterisk/moh/*.wav"))
    found.append([(path, MUSIC, path.stem) for path in tracks])
    for name, files in zip((*LANGUAGES, "music"), found, strict=True):
        if not files:
            raise DataError(f"{folder} lacks the sounds of {name}; fetch them: {FETCH}")
    entries = [(file, soundfile.info(file[0]).duration) for files in found for file in files]
    return [Sound(*file, seconds) for file, seconds in entries if seconds]


def prepare(sounds: list[Sound], out: Path, seconds: float = 10) -> list[Sound]:
    """Write pieces of `seconds` to out/speech/LANGUAGE-NNN.wav and out/music/TRACK-NNN.wav, and return them.

    The files of a group are joined, prompts in an order that mixes short and long ones, and cut; what is
    left at the end is dropped, and so are silent pieces. Each piece is brought to one level. The same files come
    out in every run, each one whole or not there.

    Raises DataError for sounds of different rates, and where `out` holds pieces that are not among these.
    """
    sounds = sorted(sounds, key=lambda sound: (sound.label, sound.group, sound.path))
    written = []
    for (label, group), members in groupby(sounds, key=lambda sound: (sound.label, sound.group)):
        folder = Path(out) / LABELS[label]
        folder.mkdir(parents=True, exist_ok=True)
        wave, rate = joined([sound.path for sound in members])
        for number, piece in enumerate(pieces(wave, round(seconds * rate))):
            path = folder / f"{group}-{number:03}.wav"
            with replace_file(path) as temporary:
                soundfile.write(temporary, piece, rate, format="WAV", subtype="PCM_16")
            written.append(Sound(path, label, group, seconds))
    strange = {p for name in LABELS for p in (Path(out) / name).glob("*.wav")} - {s.path for s in written}
    if strange:
        raise DataError(f"{out} holds other pieces too, for example {min(strange)}; choose an empty folder")
    return written


def joined(paths: list[Path]) -> tuple[np.ndarray, int]:
    """Join mono files in a fixed mixed order: float32 samples [N], and their rate in Hz."""
    parts = [soundfile.read(paths[i], dtype="float32") for i in permutation(0, 0, len(paths))]
    rates = {rate for _, rate in parts}
    if len(rates) > 1:
        raise DataError(f"{paths[0].parent} holds files of different rates: {sorted(rates)}; expected one")
    return np.concatenate([wave for wave, _ in parts]), rates.pop()


def pieces(wave: np.ndarray, samples: int) -> Iterator[np.ndarray]:
    """Cut a waveform, float32 [N], into whole pieces of `samples`, float32, each at LEVEL, and leave out the silent
    ones.
    """
    for at in range(0, len(wave) - samples + 1, samples):
        piece = wave[at : at + samples]
        level = float(np.sqrt(np.mean(np.square(piece, dtype=np.float64))))
        if level >= SILENT:
            yield piece * np.float32(LEVEL / level)


def split(
    sounds: list[Sound], held_out: tuple[str, ...] = ("ru", "reno_project-system")
) -> tuple[list[Sound], list[Sound]]:
    """Pieces to train a probe on, and pieces of the groups held out to test it, each with as many of speech as of
    music: of the class that has more, pieces at even distances.

    By default a voice and an artist are held out that training has nothing of.
    Raises DataError where a side has none of a class.
    """
    sides = ([s for s in sounds if s.group not in held_out], [s for s in sounds if s.group in held_out])
    train, test = (balanced(side, held_out) for side in sides)
    return train, test


def balanced(sounds: list[Sound], held_out: tuple[str, ...]) -> list[Sound]:
    """Take as many sounds of speech as of music: all of the class that has fewer, and of the other one sounds at even
    distances. Raises DataError where a class has none.
    """
    classes = [[s for s in sounds if s.label == label] for label in (SPEECH, MUSIC)]
    count = min(len(members) for members in classes)
    if not count:
        raise DataError(f"with {held_out} held out, a side has no speech or no music; hold out one of each")
    return [members[i * len(members) // count] for members in classes for i in range(count)]
