# SPDX-License-Identifier: Apache-2.0
"""Fourteen classes of sound, of a small tree of files laid out as Debian's packages are."""

import shutil

import numpy as np
import pytest
import soundfile

from smnoise import DataError
from smnoise.cli import main
from smnoise.data.installed import fourteen
from smnoise.data.labels import labelled_sounds

KIT = """<?xml version="1.0" encoding="UTF-8"?>
<drumkit_info xmlns="http://www.hydrogen-music.org/drumkit" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
 <name>any</name><instrumentList>{}</instrumentList></drumkit_info>
"""
INSTRUMENT = "<instrument><name>{}</name><layer><filename>{}</filename></layer></instrument>"
NAMES = {
    "snare": "Side Stick", "clap": "Hand Clap", "shaker": "Tambourine", "bell": "Cowbell", "ride": "Ride Rock",
    "crash": "Splash", "hi-hat": "OHH", "hand-drum": "Conga 1", "tom": "Floor Tom", "kick": "Bass Drum",
}  # fmt: skip


def sound(path, seconds, rate=44100, channels=1, silence=0.0):
    """Noise that decays, after some silence."""
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(sum(map(ord, path.name)))
    wave = generator.standard_normal((int(seconds * rate), channels)) * 0.1
    wave *= np.exp(-np.arange(len(wave)) / rate)[:, None]
    soundfile.write(path, np.concatenate([np.zeros((int(silence * rate), channels)), wave]), rate)


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """Two kits, three keys, three animals, three voices, two tracks."""
    root = tmp_path_factory.mktemp("packages")
    share = root / "usr" / "share"
    for kit in ("VariBreaks", "Some kit (2)"):
        folder = share / "hydrogen" / "data" / "drumkits" / kit
        listed = [INSTRUMENT.format(name, f"{label} 1.flac") for label, name in NAMES.items()]
        listed += [INSTRUMENT.format("Whistle", "whistle.wav"), INSTRUMENT.format("Snare", "absent.flac")]
        for number, label in enumerate(NAMES):
            sound(folder / f"{label} 1.flac", 0.3, channels=1 + number % 2, silence=0.5)
        sound(folder / "whistle.wav", 0.3)
        (folder / "drumkit.xml").write_text(KIT.format("".join(listed + listed[:1])))
    for key in ("01", "02", "03"):
        for stroke in (0, 1):
            sound(share / "buckle" / "wav" / f"{key}-{stroke}.wav", 0.1)
    for animal in ("cow", "dog", "owl"):
        sound(share / "tuxpaint" / "stamps" / "animals" / "any" / f"{animal}.ogg", 2.0)
        sound(share / "tuxpaint" / "stamps" / "animals" / "any" / f"{animal}_desc_fr.ogg", 1.0)
    for voice in fourteen.VOICES:
        for digit in range(5):
            path = share / "asterisk" / "sounds" / f"{voice}_XX_f" / "digits" / f"{digit}.wav"
            sound(path, 0.9, rate=8000)
    for track in ("reno_project-system", "someone-else"):
        sound(share / "asterisk" / "moh" / f"{track}.wav", 4.0, rate=8000)
    return root


@pytest.fixture
def made(packages, tmp_path):
    fourteen.write(packages, tmp_path / "out")
    return tmp_path / "out"


def names(folder):
    return {f"{path.parent.name}/{path.stem}" for path in folder.glob("*/*.wav")}


def test_every_class_has_sounds_to_train_and_others_to_test_on(made, capsys, packages, tmp_path):
    train, test = labelled_sounds(made / "train", made / "test")
    assert sorted(train.names) == sorted(fourteen.CLASSES)
    assert set(train.numbers().tolist()) == set(test.numbers().tolist()) == set(range(14))
    assert not names(made / "train") & names(made / "test")
    percussion = {name for name in names(made / "train") if name.split("/")[0] in fourteen.PERCUSSION}
    assert percussion == {f"{label}/Some-kit-2-{label}-1" for label in NAMES}
    assert {"key/03-0", "key/03-1", "animal/owl", "speech/ru-000"} <= names(made / "test")
    assert not [name for name in names(made) if "desc" in name or "whistle" in name]
    assert main(["data", "sounds", "--packages", str(packages), "--out", str(tmp_path / "by-command")]) == 0
    assert (
        f"{len(train.paths)} pieces to train on and {len(test.paths)} to test on" in capsys.readouterr().out
    )


def test_no_format_tells_a_class(made):
    """All are 16 bit at 8 kHz, of one length, begin where they are heard, and have no digital silence."""
    levels = []
    for path in made.glob("*/*/*.wav"):
        about = soundfile.info(path)
        assert (about.samplerate, about.channels, about.frames, about.subtype) == (8000, 1, 10240, "PCM_16")
        wave, _ = soundfile.read(path)
        levels.append(np.sqrt(np.mean(wave**2)))
        assert np.abs(wave).max() < 1
        assert np.abs(wave[:400]).max() > 0.2 * np.abs(wave).max()
        assert (np.diff(wave) == 0).mean() < 0.1
    assert max(levels) / min(levels) < 1.2


def test_the_same_pieces_come_out_in_every_run(made, packages):
    before = {path: path.read_bytes() for path in made.glob("*/*/*.wav")}
    fourteen.write(packages, made)
    assert {path: path.read_bytes() for path in made.glob("*/*/*.wav")} == before


def test_other_pieces_in_the_folder_and_missing_packages_are_said(made, packages, tmp_path):
    (made / "train" / "key" / "mine.wav").touch()
    with pytest.raises(DataError, match="other pieces too"):
        fourteen.write(packages, made)
    part = tmp_path / "part"
    shutil.copytree(packages, part)
    shutil.rmtree(part / "usr" / "share" / "buckle")
    with pytest.raises(DataError, match=r"no key to test on|no key to train on"):
        fourteen.write(part, tmp_path / "other")
    next(part.glob("usr/share/tuxpaint/**/cow.ogg")).write_bytes(b"no sound")
    with pytest.raises(DataError, match=r"cow.ogg does not decode"):
        fourteen.write(part, tmp_path / "other")
    next(part.glob("usr/share/hydrogen/**/drumkit.xml")).write_text("<drumkit_info>")
    with pytest.raises(DataError, match=r"drumkit.xml cannot be read"):
        fourteen.write(part, tmp_path / "other")
