# SPDX-License-Identifier: Apache-2.0
"""Every file of the zoo: its length, and every block and random parts of it, against what it was made of and against
other decoders."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from media import write_video

from smnoise import DataError
from smnoise.data.audio.clips import AudioClips, EveryFile, collate
from smnoise.data.audio.reader import CELL, AudioFile
from smnoise.data.messages import is_served

from .zoo_audio import FLAC, SAMPLES, VORBIS, ZOO, decoded_by_ffmpeg, joined, written

BLOCK = 5000
LIKE = 0.9  # correlation of a lossy file with what it was made of
BY_NAME = {animal.name: animal for animal in ZOO}
names = pytest.mark.parametrize("name", BY_NAME)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The path of an animal, what it was made of, its reader and all that this reads; made once."""
    folder, kept = tmp_path_factory.mktemp("zoo"), {}

    def get(name):
        if name not in kept:
            wave = BY_NAME[name].make(folder / name)
            file = AudioFile(folder / name)
            kept[name] = folder / name, wave, file, file.read(0, file.frames)
        return kept[name]

    return get


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    length = min(len(a), len(b))
    return float(np.corrcoef(a[:length], b[:length])[0, 1])


def shifted(wave: np.ndarray, lag: int) -> np.ndarray:
    return np.concatenate([np.zeros(max(0, lag), np.float32), wave[max(0, -lag) :]])


@names
def test_every_block_is_that_of_the_whole_file(made, name):
    _, _, file, whole = made(name)
    rng = np.random.default_rng(0)
    parts = [(start, BLOCK) for start in range(0, file.frames, BLOCK)]
    parts += [(int(rng.integers(0, file.frames)), int(rng.integers(1, BLOCK))) for _ in range(12)]
    for start, count in (*parts, (file.frames - 1, 1)):
        want = np.zeros(count, np.float32)
        want[: len(whole) - start] = whole[start : start + count]
        assert np.array_equal(file.read(start, count), want), f"{count} samples from {start} on"


@names
def test_it_holds_what_it_was_made_of(made, name):
    _, wave, file, whole = made(name)
    animal = BY_NAME[name]
    assert file.rate == animal.rate
    assert (animal.damage in file.damage) if animal.damage else not file.damage
    if animal.exact:
        assert np.array_equal(whole, wave)
        return
    beginning = whole[:30000]
    assert correlation(beginning, shifted(wave, animal.lag)) > LIKE
    assert (
        correlation(beginning, shifted(wave, animal.lag + 7)) < LIKE
    )  # so that the first is a test of the lag
    if not name.startswith(("cut", "damaged")):
        # At a joint it is the decoder's version that decides.
        near = 1152 if name.startswith(("joined", "chained")) else 0
        assert abs(file.frames - len(wave) - animal.more) <= near


@names
def test_ffmpeg_decodes_the_same(made, name):
    path, *_, whole = made(name)
    other = decoded_by_ffmpeg(path)
    if name == "alac.caf":  # FFmpeg does not give the last packet
        whole = whole[: len(other)]
        assert len(whole) > SAMPLES - 4096
    elif name == "damaged.flac":  # FFmpeg leaves out what is silent here
        assert CELL * 4 > len(whole) - len(other) > 0
        other, whole = other[:40000], whole[:40000]
    assert len(other) == len(whole)
    assert np.abs(other - whole).max() <= BY_NAME[name].rounding


@pytest.mark.parametrize(
    "name", ["x.ogg", "x.opus", "cbr.mp3", "vbr.mp3", "libsndfile.mp3", "bare.mp3", "x.mp2"]
)
def test_libsndfile_decodes_the_same_from_the_start(made, name):
    """What this package reads by FFmpeg, where libsndfile knows the length: with the same delay."""
    path, _, _, whole = made(name)
    with soundfile.SoundFile(path) as file:
        other = file.read(dtype="float32", always_2d=True).mean(axis=1)
    assert len(other) == len(whole)
    assert np.abs(other - whole).max() <= max(BY_NAME[name].rounding, 1e-4)


def test_of_a_damaged_flac_all_else_is_exact_and_the_loss_is_counted(made):
    path, wave, file, whole = made("damaged.flac")
    assert len(whole) == len(wave)
    other = np.flatnonzero(whole != wave)
    assert not whole[other].any()
    lost = range(other[0] // CELL * CELL, (other[-1] // CELL + 1) * CELL)
    assert len(lost) <= 3 * CELL
    words = f"damaged.flac: damaged, {len(lost)} of its {SAMPLES} samples do not decode and are silent"
    assert file.damage.endswith(words)
    assert np.array_equal(AudioFile(path).read(lost.stop, 5000), wave[lost.stop :][:5000])


@pytest.mark.parametrize("name", ["damaged.ogg", "damaged.mp3", "damaged.flac"])
def test_decoding_goes_on_behind_damage(made, name):
    whole = made(name)[3]
    sound = made({"ogg": "x.ogg", "mp3": "cbr.mp3", "flac": "x.flac"}[name[-4:].lstrip(".")])[3]
    assert np.abs(whole[:30000] - sound[:30000]).max() < 1e-6
    # Of an MP3 the padding at the end stays: it would be cut where its header says that the end is.
    ends = range(len(whole) - 1152, len(whole) + 1)
    assert min(np.abs(whole[end - 10000 : end] - sound[-10000:]).max() for end in ends) < 1e-6


@pytest.mark.parametrize("name", ["joined.mp3", "joined-bare.mp3", "chained.ogg", "chained.opus"])
def test_of_joined_files_the_second_is_read_to_its_end(made, name):
    _, wave, _, whole = made(name)
    part = wave[-40000:-10000]
    first = len(whole) - 45000
    places = np.correlate(whole[first:], part, "valid")
    at = int(places.argmax())
    assert correlation(whole[first + at :], part) > LIKE


def test_damage_is_told_once_a_file_and_the_clips_are_served(made):
    paths = [made(name)[0] for name in ("damaged.flac", "damaged.ogg", "damaged.mp3", "cut.flac", "x.flac")]
    clips = AudioClips(paths, rate=16000, samples=24000, labels=[0, 1, 2, 3, 4])
    batch = collate([clips[n] for n in range(50)])
    assert sorted(set(batch["label"].tolist())) == [0, 1, 2, 3, 4]  # each in its own turn
    assert len(batch["broken"]) == 4
    assert all(map(is_served, batch["broken"]))
    every = EveryFile(paths, 16000, 24000)
    assert all(every[place]["decodes"] for place in range(5))
    assert [len(every[place]["broken"]) for place in range(5)] == [1, 1, 1, 1, 0]


def test_the_table_of_the_docs_is_of_this_zoo():
    page = (Path(__file__).parents[3] / "docs" / "media-sound.md").read_text()
    rows = re.findall(r"^\| (\S+\.\w+) \| (.*?) \|", page, re.M)
    assert rows == [(animal.name, animal.how) for animal in ZOO]


def test_parts_of_other_rates_behind_each_other_are_told(tmp_path):
    joined(VORBIS, written(rate=22050, format="OGG", subtype="VORBIS"))(tmp_path / "x.ogg")
    file = AudioFile(tmp_path / "x.ogg")
    assert (file.rate, file.frames) == (44100, SAMPLES)
    assert "x.ogg: damaged, packets that do not decode: 1" in file.damage


def test_the_sound_of_a_video_is_read(tmp_path, made):
    path = made("x.m4a")[0]
    assert AudioFile(Path(path)).frames > SAMPLES
    write_video(tmp_path / "x.mp4", 4)
    with pytest.raises(DataError, match=r"x\.mp4 has no sound track$"):
        AudioFile(tmp_path / "x.mp4")


def test_a_name_that_is_no_utf_8(tmp_path):
    wave = FLAC(tmp_path / "x.flac")
    path = tmp_path / os.fsdecode(b"caf\xe9.flac")
    (tmp_path / "x.flac").rename(path)
    file = AudioFile(path)
    assert np.array_equal(file.read(0, file.frames), wave)


def lfs(path):
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")


def page(path):
    path.write_text("\n<!DOCTYPE html><html>404</html>")


def playlist(path):
    path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile://{path.parent}/good.wav\n")


def cut_before_its_index(path):
    BY_NAME["x.m4a"].make(path)
    path.write_bytes(path.read_bytes()[:20000])


def no_sample(path):
    soundfile.write(path, np.zeros(0, np.float32), 8000, format="WAV")


UNREADABLE = {
    "empty": (lambda path: path.write_bytes(b""), r"is empty \(0 bytes\)"),
    "zeros": (
        lambda path: path.write_bytes(bytes(9000)),
        "it is: run of zero bytes, 9000 bytes in all; the download",
    ),
    "noise": (
        lambda path: path.write_bytes(np.random.default_rng(0).bytes(50000)),
        r"\((.. ){7}..\) are of no known kind",
    ),
    "page": (page, "web page, .* the download went wrong; fetch it again"),
    "pointer": (lfs, "pointer of Git LFS, .*: git lfs pull"),
    "playlist": (playlist, "it is: text"),
    "zip": (lambda path: path.write_bytes(b"PK\3\4" + bytes(3000)), "zip archive, .*; unpack it"),
    "half an m4a": (cut_before_its_index, r"MP4 \(m4a, mov\), 20000 bytes in all; damaged, cut short"),
    "no sample": (no_sample, "no sound that decodes"),
}


@pytest.mark.parametrize("suffix", [".mp3", ".wav", ".flac", ".ogg"])
@pytest.mark.parametrize("kind", UNREADABLE)
def test_a_file_that_cannot_be_read_is_named_with_what_its_bytes_are(tmp_path, kind, suffix, capfd):
    FLAC(tmp_path / "good.wav")
    make, words = UNREADABLE[kind]
    path = tmp_path / f"x{suffix}"
    make(path)
    with pytest.raises(DataError) as raised:
        AudioFile(path)
    assert str(path) in str(raised.value)
    assert re.search(words, str(raised.value)), raised.value
    assert capfd.readouterr() == ("", "")  # decoders keep their opinions to themselves
