# SPDX-License-Identifier: Apache-2.0
"""Fourteen classes of sound from Debian's packages: ten of percussion, key strokes, animals, speech, music.

    make .venv/sounds14                                                 # fetches and unpacks the packages, without root
    smnoise data sounds --packages .venv/sounds14 --out data/sounds

Test sounds come from what training has nothing of: three drum kits, a third of the keys and of the animals, a voice
(and language), an artist. So that neither format nor length tells a class, all is brought to one channel, to 8 kHz
(speech and music have no more) and to one level; a sound begins where it is first heard, and is cut or followed by
silence to 1.28 seconds, the same 128 frames for all; and faint noise, a function of the piece's number, lies below it,
or digital silence would tell studio samples from recordings.

The percussion's labels are the names that a kit's drumkit.xml gives its instruments. Licences: hydrogen-drumkits and
tuxpaint-stamps-default GPL-2 and others by file, bucklespring-data GPL-2, the Asterisk sounds CC BY-SA 3.0 (ru:
CC BY 3.0). None of the sounds is part of smnoise.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
import soundfile
import soxr

from ...errors import DataError
from ...files import replace_file
from ...reference import random_words
from ..draws import PURPOSE_CLIP
from .sounds import LEVEL, SILENT, joined, pieces

RATE, SAMPLES = 8000, 10240
FETCH = "make .venv/sounds14"
# The first that an instrument's name matches is its class; an instrument that matches none is left out.
PERCUSSION = {
    "snare": r"rim|stick|snare",
    "clap": r"clap|snap",
    "shaker": r"shake|tamb|maraca|cabasa",
    "bell": r"bell|agogo",
    "ride": r"ride",
    "crash": r"crash|splash|china",
    "hi-hat": r"hat|\bhh|[oc]hh",
    "hand-drum": r"conga|bongo|djembe|cajon|kenkeni|dunun|sangban",
    "tom": r"tom",
    "kick": r"kick|bass ?drum",
}
CLASSES = (*PERCUSSION, "key", "animal", "speech", "music")
TEST_KITS = ("Gimme A Hand 1.0", "The Black Pearl 1.0", "VariBreaks")
TEST_VOICE, TEST_TRACK = "ru", "reno_project-system"
VOICES = ("en", "fr", "ru")
EACH = 30  # pieces of a voice or a track, at even distances
LEAD = 80  # samples before a sound is heard: 10 ms
HEARD = 0.05  # of its peak
PEAK = 0.95
FLOOR = 2.0**-10  # of the faint noise: 60 dB below full scale


class Source(NamedTuple):
    """A sound: its class, whether it is to test on, a name of its own, and its samples at 8 kHz, float32 [N]."""

    label: str
    test: bool
    name: str
    wave: np.ndarray


def write(packages: Path, out: Path) -> tuple[int, int]:
    """Write out/train/CLASS/NAME.wav and out/test/CLASS/NAME.wav, 16 bit; how many of each. The same files come out in
    every run.

    Raises DataError, with the command that fetches them, where a package is missing; DataError too where `out`
    holds other pieces.
    """
    written: dict[bool, set[Path]] = {False: set(), True: set()}
    for number, source in enumerate(sources(Path(packages))):
        path = Path(out) / ("test" if source.test else "train") / source.label / f"{source.name}.wav"
        with replace_file(path) as temporary:
            soundfile.write(temporary, piece_of(source.wave, number), RATE, format="WAV", subtype="PCM_16")
        written[source.test].add(path)
    strange = set(Path(out).glob("t*/*/*.wav")) - written[False] - written[True]
    if strange:
        raise DataError(f"{out} holds other pieces too, for example {min(strange)}; choose an empty folder")
    for test, paths in written.items():
        if missing := set(CLASSES) - {path.parent.name for path in paths}:
            raise DataError(
                f"{packages} has no {min(missing)} to {'test' if test else 'train'} on; fetch all packages: {FETCH}"
            )
    return len(written[False]), len(written[True])


def sources(packages: Path) -> Iterator[Source]:
    """All sounds, in a fixed order; silent ones are left out."""
    for source in (*percussion(packages), *single(packages), *long(packages)):
        if len(source.wave) and np.abs(source.wave).max() >= SILENT:
            yield source


def percussion(packages: Path) -> Iterator[Source]:
    """The samples of all kits whose instruments have a name that tells their class."""
    for described in sorted(packages.glob("usr/share/hydrogen/data/drumkits/*/drumkit.xml")):
        kit = described.parent
        seen = set()
        for label, name in instruments(described):
            path = kit / name
            if path.is_file() and path not in seen:  # an instrument may be told twice
                seen.add(path)
                yield Source(label, kit.name in TEST_KITS, plain(f"{kit.name}-{path.stem}"), read(path))


def instruments(described: Path) -> Iterator[tuple[str, str]]:
    """The class and the file of each sample of a kit. Raises DataError where the file is no kit's."""
    text = re.sub(
        r"\sxmlns(:\w+)?=\"[^\"]*\"|\sxsi:\w+=\"[^\"]*\"", "", described.read_text(errors="replace")
    )
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise DataError(f"{described} cannot be read ({error}); unpack the packages anew: {FETCH}") from None
    for instrument in root.iter("instrument"):
        name = (instrument.findtext("name") or "").lower()
        label = next((label for label, words in PERCUSSION.items() if re.search(words, name)), None)
        if label is not None:
            yield from ((label, file.text) for file in instrument.iter("filename") if file.text)


def single(packages: Path) -> Iterator[Source]:
    """Key strokes and animals, each third to test on: of keys both the press and the release."""
    strokes = sorted(packages.glob("usr/share/buckle/wav/*.wav"))
    keys = sorted({path.stem.split("-")[0] for path in strokes})
    for path in strokes:
        yield Source("key", keys.index(path.stem.split("-")[0]) % 3 == 2, plain(path.stem), read(path))
    animals = packages.glob("usr/share/tuxpaint/stamps/animals/**/*.ogg")
    for number, path in enumerate(sorted(p for p in animals if "_desc" not in p.stem)):
        yield Source("animal", number % 3 == 2, plain(path.stem), read(path))


def long(packages: Path) -> Iterator[Source]:
    """Pieces of joined prompts and of tracks."""
    for voice in VOICES:
        prompts = sorted(packages.glob(f"usr/share/asterisk/sounds/{voice}_*/digits/*.wav"))
        if prompts:
            yield from parts("speech", voice == TEST_VOICE, voice, prompts)
    for track in sorted(packages.glob("usr/share/asterisk/moh/*.wav")):
        yield from parts("music", track.stem == TEST_TRACK, track.stem, [track])


def parts(label: str, test: bool, name: str, paths: list[Path]) -> Iterator[Source]:
    """Pieces of files that are joined, at even distances."""
    wave, rate = joined(paths)
    found = list(pieces(resampled(wave, rate), SAMPLES))
    for place in range(min(EACH, len(found))):
        yield Source(
            label, test, f"{plain(name)}-{place:03}", found[place * len(found) // min(EACH, len(found))]
        )


def read(path: Path) -> np.ndarray:
    """A file as one channel at 8 kHz: float32 [N]. Raises DataError where it does not decode."""
    try:
        wave, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError) as error:
        raise DataError(f"{path} does not decode ({error}); unpack the packages anew: {FETCH}") from None
    return resampled(wave.mean(axis=1), rate)


def resampled(wave: np.ndarray, rate: int) -> np.ndarray:
    """Resample a waveform, float32 [N] at `rate` Hz, to 8 kHz: float32, of another length."""
    return wave if rate == RATE else soxr.resample(wave, rate, RATE)


def piece_of(wave: np.ndarray, number: int) -> np.ndarray:
    """1.28 seconds of a sound from where it is heard, at one level, over faint noise: float32 [10240]."""
    heard = int(np.argmax(np.abs(wave) >= HEARD * np.abs(wave).max()))
    cut = wave[max(0, heard - LEAD) :][:SAMPLES].astype(np.float64)
    piece = np.zeros(SAMPLES)
    piece[: len(cut)] = cut
    level = float(np.sqrt(np.mean(np.square(piece))))
    piece *= min(LEVEL / level, PEAK / np.abs(piece).max())
    noise = random_words(0, number, PURPOSE_CLIP, SAMPLES) * 2.0**-31 - 1
    return (piece + FLOOR * noise).astype(np.float32)


def plain(name: str) -> str:
    """A name without signs that are trouble in a file's."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", name)
