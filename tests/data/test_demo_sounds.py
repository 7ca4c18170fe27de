# SPDX-License-Identifier: Apache-2.0
"""The demo's speech and music: found, cut alike, and split without a leak. The packages are imitated here."""

import numpy as np
import pytest
import soundfile

from smnoise import DataError
from smnoise.data.audio.clips import find_sounds, labels_by_folder
from smnoise.data.installed import sounds as demo_sounds
from smnoise.data.installed.sounds import LANGUAGES, LEVEL, MUSIC, SPEECH, corpus, prepare, split

RATE = 8000
TRACKS = ("band-first", "band-second", "reno_project-system")


def write(path, seconds, level=0.1, seed=0, rate=RATE):
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = level * np.random.default_rng(seed).standard_normal(int(seconds * rate))
    soundfile.write(path, wave.astype(np.float32), rate)


@pytest.fixture
def packages(tmp_path):
    asterisk = tmp_path / "sounds" / "usr" / "share" / "asterisk"
    for number, language in enumerate(LANGUAGES):
        voice = asterisk / "sounds" / f"{language}_XX_f_Someone"
        for i in range(12):
            write(voice / f"prompt{i}.wav", 0.3 + 0.1 * i, 0.02 * (i + 1), 100 * number + i)
        write(voice / "digits" / "1.wav", 0.5)
        write(voice / "beep.wav", 0.4)
        write(voice / "silence" / "1.wav", 1)
        write(voice / "is.wav", 0)
    for i, track in enumerate(TRACKS):
        write(asterisk / "moh" / f"{track}.wav", 4.5, 0.3, i)
    return tmp_path / "sounds"


def test_the_corpus_is_speech_and_music_only(packages):
    sounds = corpus(packages)
    assert [s.group for s in sounds if s.label == MUSIC] == list(TRACKS)
    speech = [s for s in sounds if s.label == SPEECH]
    assert sorted({s.group for s in speech}) == list(LANGUAGES)
    assert len(speech) == 13 * len(LANGUAGES)
    assert {s.path.name for s in speech}.isdisjoint({"beep.wav", "is.wav"})
    assert all(s.path.parent.name != "silence" and s.seconds >= 0.3 for s in speech)


@pytest.mark.parametrize("missing", ["moh", "sounds/fr_XX_f_Someone", "sounds"])
def test_missing_packages_are_named_with_the_command(packages, missing):
    folder = packages / "usr" / "share" / "asterisk" / missing
    folder.rename(packages / "away")
    name = {"moh": "music", "sounds": "en"}.get(missing, "fr")
    with pytest.raises(DataError, match=rf"lacks the sounds of {name}; fetch them: make \.venv/sounds"):
        corpus(packages)


def test_pieces_differ_in_nothing_but_their_sound(packages, tmp_path):
    made = prepare(corpus(packages), tmp_path / "out", seconds=2)
    assert [s.path for s in made if s.label == MUSIC] == [
        tmp_path / "out" / "music" / f"{track}-{n:03}.wav" for track in TRACKS for n in range(2)
    ]
    assert len([s for s in made if s.label == SPEECH]) == 5 * len(LANGUAGES)  # 10.7 s each
    for sound in made:
        info = soundfile.info(sound.path)
        assert (info.samplerate, info.channels, info.frames) == (RATE, 1, 2 * RATE)
        assert (info.format, info.subtype) == ("WAV", "PCM_16")
        wave, _ = soundfile.read(sound.path)
        assert abs(np.sqrt((wave**2).mean()) - LEVEL) < 1e-4
        assert sound.seconds == 2
    labels, names = labels_by_folder(find_sounds(tmp_path / "out"), tmp_path / "out")
    assert names == ["music", "speech"]
    assert len(labels) == len(made)


def test_every_prompt_is_in_the_pieces_once(packages):
    prompts = [s.path for s in corpus(packages) if s.group == "it"]
    wave, rate = demo_sounds.joined(prompts)
    assert rate == RATE
    parts = [soundfile.read(p, dtype="float32")[0] for p in prompts]
    assert len(wave) == sum(map(len, parts))
    assert not np.array_equal(wave, np.concatenate(parts))
    starts = [np.flatnonzero((wave == part[0]) & (np.roll(wave, -1) == part[1])) for part in parts]
    found = [
        any(np.array_equal(wave[s : s + len(p)], p) for s in at) for at, p in zip(starts, parts, strict=True)
    ]
    assert all(found)


def test_preparing_again_gives_the_same_bytes(packages, tmp_path):
    first = {s.path.name: s.path.read_bytes() for s in prepare(corpus(packages), tmp_path / "a", 2)}
    for sounds in (corpus(packages), corpus(packages)[::-1]):
        again = prepare(sounds, tmp_path / "b", 2)
        assert {s.path.name: s.path.read_bytes() for s in again} == first
    assert not list(tmp_path.rglob("*.writing"))


def test_pieces_of_another_length_are_not_mixed_in(packages, tmp_path):
    prepare(corpus(packages), tmp_path / "out", 2)
    with pytest.raises(DataError, match=r"holds other pieces too, for example .*-00\d\.wav"):
        prepare(corpus(packages), tmp_path / "out", 4)


def test_silent_pieces_are_left_out(packages, tmp_path):
    write(packages / "usr" / "share" / "asterisk" / "moh" / "silent.wav", 4.5, 1e-4)
    made = prepare(corpus(packages), tmp_path / "out", 2)
    assert "silent" not in {s.group for s in made}


def test_files_of_different_rates_are_refused(packages, tmp_path):
    write(packages / "usr" / "share" / "asterisk" / "sounds" / "fr_XX_f_Someone" / "x.wav", 1, rate=16000)
    with pytest.raises(DataError, match=r"different rates: \[8000, 16000\]"):
        prepare(corpus(packages), tmp_path / "out", 2)


def test_a_split_shares_no_group_and_is_balanced(packages, tmp_path):
    train, test = split(prepare(corpus(packages), tmp_path / "out", 2))
    assert {s.group for s in train} == {"en", "es", "fr", "it", "band-first", "band-second"}
    assert {s.group for s in test} == {"ru", "reno_project-system"}
    for side in (train, test):
        assert len(set(side)) == len(side)
        assert sum(s.label == MUSIC for s in side) * 2 == len(side)
    with pytest.raises(DataError, match="hold out one of each"):
        split(train, ("ru",))
