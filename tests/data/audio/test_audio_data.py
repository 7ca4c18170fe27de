# SPDX-License-Identifier: Apache-2.0
"""Clips of real sound files: the right samples, the same ones in every run, and broken files never fatal."""

import os
import shutil
import struct

import numpy as np
import pytest
import soundfile
import torch

from smnoise import DataError
from smnoise.data.audio import reader as sound_file
from smnoise.data.audio.clips import (
    SOUND,
    AudioClips,
    AudioFile,
    EveryFile,
    collate,
    find_sounds,
    labels_by_folder,
    loader,
    read_resampled,
)
from smnoise.data.audio.fbank import LogMel
from smnoise.data.draws import beta_10_10
from smnoise.data.lists import label_sets, lines_without_file

RATE = 8000


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def tone(hertz: float, rate: int, seconds: float = 1.0, amplitude: float = 0.5) -> np.ndarray:
    return (amplitude * np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate)).astype(np.float32)


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sounds")
    (folder / "sub").mkdir()
    soundfile.write(folder / "noise.wav", noise(4 * RATE), RATE)
    soundfile.write(folder / "short one.flac", noise(RATE // 2, 1), RATE)
    soundfile.write(folder / "sub" / "wide.ogg", noise(3 * 44100, 2), 44100)
    (folder / "notes.txt").write_text("no sound")
    return folder


def clips_of(sounds, **kw):
    return AudioClips(find_sounds(sounds), **{"rate": RATE, "samples": RATE, **kw})


def test_folders_and_lists(sounds):
    assert [p.name for p in find_sounds(sounds)] == ["noise.wav", "short one.flac", "wide.ogg"]
    (sounds / "train.csv").write_text("noise.wav 1\nshort one.flac,0\ngone.wav 1\nsub/wide.ogg\t2\n")
    assert [p.name for p in find_sounds(sounds / "train.csv")] == ["noise.wav", "short one.flac", "wide.ogg"]
    assert lines_without_file(sounds / "train.csv", SOUND) == ["gone.wav 1"]
    assert label_sets(sounds / "train.csv", SOUND) == [[1], [0], [2]]


def test_errors_say_what_was_looked_for(sounds, tmp_path):
    with pytest.raises(DataError, match=r"no sound file in folder .*\.wav"):
        find_sounds(tmp_path)
    with pytest.raises(DataError, match="neither a folder of sound files nor a list"):
        find_sounds(tmp_path / "absent")
    for line in ("noise.wav", "noise.wav dog", "noise.wav -1"):
        (sounds / "labels.csv").write_text(line)
        with pytest.raises(DataError, match=r"expected labels .* behind noise\.wav"):
            label_sets(sounds / "labels.csv", SOUND)


def test_lists_with_several_labels(sounds):
    (sounds / "several.csv").write_text("noise.wav 3;17\nshort one.flac 0, 2\nsub/wide.ogg\t5\n")
    assert label_sets(sounds / "several.csv", SOUND) == [[3, 17], [0, 2], [5]]
    for line in ("noise.wav", "noise.wav dog", "noise.wav 1;", "noise.wav 1;dog", "noise.wav -1"):
        (sounds / "several.csv").write_text(line)
        with pytest.raises(DataError, match=r"expected labels .* behind noise\.wav"):
            label_sets(sounds / "several.csv", SOUND)


def test_labels_by_folder(tmp_path):
    paths = [tmp_path / p for p in ("dog/1.wav", "cat/2.wav", "dog/small/3.wav")]
    assert labels_by_folder(paths, tmp_path) == ([1, 0, 1], ["cat", "dog"])
    for path in (tmp_path / "4.wav", tmp_path.parent / "5.wav"):
        with pytest.raises(DataError, match=r"expected .*/LABEL/FILE"):
            labels_by_folder([*paths, path], tmp_path)


def test_beyond_its_ends_a_file_is_silent(sounds):
    file = AudioFile(sounds / "noise.wav")
    wave = file.read(-10, file.frames + 30)
    assert not wave[:10].any()
    assert not wave[-20:].any()
    assert np.array_equal(wave[10:-20], file.read(0, file.frames))


def test_channels_are_mixed_down(tmp_path):
    left, right = noise(RATE, 1), noise(RATE, 2)
    soundfile.write(tmp_path / "stereo.wav", np.stack([left, right], 1), RATE, subtype="FLOAT")
    assert np.allclose(AudioFile(tmp_path / "stereo.wav").read(0, RATE), (left + right) / 2, atol=1e-7)


@pytest.mark.parametrize("rate", [4000, 8000, 11025, 16000, 22050, 44100, 48000, 44056, 96000, 192000])
def test_a_tone_keeps_its_frequency_amplitude_and_phase(tmp_path, rate):
    soundfile.write(tmp_path / "tone.wav", tone(1000, rate, 2), rate, subtype="FLOAT")
    start = rate // 3
    wave = read_resampled(AudioFile(tmp_path / "tone.wav"), start, 16000, 16000)
    at = start / rate + np.arange(16000) / 16000
    assert np.abs(wave - 0.5 * np.sin(2 * np.pi * 1000 * at)).max() < 1e-3


def test_what_a_rate_cannot_hold_is_gone(tmp_path):
    soundfile.write(tmp_path / "high.wav", tone(6000, 44100, 2), 44100, subtype="FLOAT")
    assert np.abs(read_resampled(AudioFile(tmp_path / "high.wav"), 22050, 8000, 8000)).max() < 1e-3


@pytest.mark.parametrize("rate", [11025, 44100, 48000])
def test_a_part_is_resampled_as_within_the_whole(tmp_path, rate):
    soundfile.write(tmp_path / "noise.wav", noise(3 * rate), rate, subtype="FLOAT")
    file = AudioFile(tmp_path / "noise.wav")
    whole = read_resampled(file, 0, 3 * 16000, 16000)
    part = read_resampled(file, rate, 8000, 16000)
    assert np.abs(whole[16000:24000] - part).max() < 1e-6


@pytest.mark.parametrize("rate", [8000, 11025, 44100])
@pytest.mark.parametrize("samples", [1103, 4410, 5001])
def test_a_short_file_is_taken_whole(tmp_path, rate, samples):
    soundfile.write(tmp_path / "short.wav", np.full(samples, 0.25, np.float32), rate)
    item = AudioClips([tmp_path / "short.wav"], rate=16000, samples=16000, roll=True)[3]
    assert abs(item["length"] - samples * 16000 / rate) <= 1
    assert item["wave"].shape == (16000,)
    assert not item["wave"][item["length"] :].any()
    assert abs(item["wave"][: item["length"]].median() - 0.25) < 1e-3


def test_of_a_long_file_every_start_comes(tmp_path):
    soundfile.write(tmp_path / "long.wav", np.arange(20) / 32768, RATE)
    clips = AudioClips([tmp_path / "long.wav"], rate=RATE, samples=15)
    starts = [round(clips[n]["wave"][0].item() * 32768) for n in range(200)]
    assert set(starts) == set(range(6))
    exact = AudioClips([tmp_path / "long.wav"], rate=RATE, samples=20)
    assert exact[0]["wave"][0] == 0
    assert exact[0]["length"] == 20


def test_a_clip_is_a_function_of_its_sample_number(sounds):
    samples = [0, 5, 17, 10**12]
    first = [clips_of(sounds, gain=True, roll=True)[s] for s in samples]
    again = clips_of(sounds, gain=True, roll=True)
    for sample, item in zip(reversed(samples), reversed(first), strict=True):
        assert torch.equal(again[sample]["wave"], item["wave"])
        assert (item["wave"].shape, item["wave"].dtype) == ((RATE,), torch.float32)
    assert not torch.equal(clips_of(sounds, seed=1, gain=True, roll=True)[17]["wave"], first[2]["wave"])


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("batch_size", [2, 5])
def test_workers_and_batches_change_nothing(sounds, workers, batch_size):
    clips = clips_of(sounds, clips_per_file=3, gain=True, roll=True, labels=[4, 5, 6])
    want = [clips[s] for s in range(4, 14)]
    batches = list(loader(clips, range(4, 14), batch_size, workers))
    assert [n for b in batches for n in b["sample"].tolist()] == list(range(4, 14))
    assert torch.equal(torch.cat([b["wave"] for b in batches]), torch.stack([w["wave"] for w in want]))
    for name in ("length", "label"):
        assert [v for b in batches for v in b[name].tolist()] == [w[name] for w in want]


def test_an_epoch_has_each_file_as_often_as_asked_and_its_label(sounds):
    clips = clips_of(sounds, clips_per_file=4, labels=[4, 5, 6])
    assert len(clips) == 12
    for epoch in range(2):
        labels = [clips[epoch * 12 + n]["label"] for n in range(12)]
        assert sorted(labels) == [4] * 4 + [5] * 4 + [6] * 4
    assert {clips_of(sounds)[n]["label"] for n in range(3)} == {-1}
    assert all(clips[n]["length"] == (RATE // 2 if clips[n]["label"] == 5 else RATE) for n in range(12))


def test_gains_are_those_of_the_recipe():
    draws = np.array([beta_10_10(0, sample, 4) for sample in range(4000)])
    assert abs(draws.mean() - 0.5) < 0.006
    assert abs(draws.std() - np.sqrt(1 / 84)) < 0.004  # variance of Beta(10, 10)
    scipy_stats = pytest.importorskip("scipy.stats")
    assert scipy_stats.kstest(draws, scipy_stats.beta(10, 10).cdf).pvalue > 0.01


def test_gain_and_roll_do_what_they_say_and_nothing_else(sounds):
    plain, rolled, louder = (clips_of(sounds, **kw) for kw in ({}, {"roll": True}, {"gain": True}))
    shifts = set()
    for n in range(12):
        wave, length = plain[n]["wave"], plain[n]["length"]
        turned = rolled[n]["wave"]
        shift = next(s for s in range(length) if torch.equal(wave[:length].roll(s), turned[:length]))
        shifts.add(shift)
        assert not turned[length:].any()
        assert torch.allclose(louder[n]["wave"], wave * (0.5 + beta_10_10(0, n, 4)), rtol=1e-6)
    assert len(shifts) == 12


def _empty(path):
    path.write_bytes(b"")


def _noise(path):
    path.write_bytes(os.urandom(4096))


def _no_samples(path):
    soundfile.write(path, np.zeros(0, np.float32), RATE)


def _samples(*values):
    def spoil(path):
        wave = noise(2 * RATE)
        wave[:: len(wave) // 8] = values[0]
        soundfile.write(path, wave, RATE, subtype="FLOAT")

    return spoil


def _rate(hertz):
    def spoil(path):
        data = bytearray(path.read_bytes())
        data[24:28] = struct.pack("<I", hertz)
        path.write_bytes(data)

    return spoil


SPOILED = {
    "empty": _empty,
    "noise": _noise,
    "no samples": _no_samples,
    "NaN": _samples(np.nan),
    "Inf": _samples(np.inf),
    "-Inf": _samples(-np.inf),
    "huge": _samples(1e30),
    "rate 0": _rate(0),
    "rate 1": _rate(1),
    "rate 2^31 - 1": _rate(2**31 - 1),
    "rate 2^32 - 1": _rate(2**32 - 1),
    "absent": os.unlink,
}


@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED)
def test_a_broken_file_is_skipped_and_named(sounds, tmp_path, spoil):
    shutil.copy(sounds / "noise.wav", tmp_path / "good.wav")
    shutil.copy(sounds / "noise.wav", tmp_path / "spoiled.wav")
    paths = find_sounds(tmp_path)
    spoil(tmp_path / "spoiled.wav")
    clips = AudioClips(paths, rate=RATE, samples=RATE)
    batch = collate([clips[s] for s in range(8)])
    assert batch["wave"].shape == (8, RATE)
    assert batch["wave"].isfinite().all()
    assert len(batch["broken"]) == 1
    assert "spoiled.wav" in batch["broken"][0]
    with pytest.raises(DataError, match=r"none of the 1 sound files decodes(?s:.*)spoiled\.wav"):
        AudioClips(paths[1:], rate=RATE, samples=RATE)[0]


def test_channels_that_hold_infinities_are_refused_without_a_warning(tmp_path, recwarn):
    soundfile.write(
        tmp_path / "x.wav", np.array([[np.inf, -np.inf]] * RATE, np.float32), RATE, subtype="FLOAT"
    )
    with pytest.raises(DataError, match="holds NaN, Inf"):
        AudioFile(tmp_path / "x.wav").read(0, 100)
    assert not recwarn.list


def test_a_broken_file_s_turn_and_label_go_to_the_next(sounds, tmp_path):
    for name in ("a.wav", "b.wav", "c.wav"):
        shutil.copy(sounds / "noise.wav", tmp_path / name)
    whole = AudioClips(find_sounds(tmp_path), rate=RATE, samples=RATE, labels=[0, 1, 2])
    want = [{0: 0, 1: 2, 2: 2}[whole[n]["label"]] for n in range(12)]
    _empty(tmp_path / "b.wav")
    spoiled = [AudioClips(whole.paths[:], rate=RATE, samples=RATE, labels=[0, 1, 2]) for _ in range(2)]
    sound_file._opened.cache_clear()
    assert [spoiled[0][n]["label"] for n in range(12)] == want
    assert [spoiled[1][n]["label"] for n in reversed(range(12))] == want[::-1]


@pytest.mark.parametrize("name", ["half.flac", "half.mp3", "half.ogg", "half.wav"])
def test_of_a_file_cut_short_no_clip_is_partly_made_up(tmp_path, name):
    """Some formats then are shorter files, others fail where the rest would be; either way, every clip that
    comes is full of sound."""
    soundfile.write(tmp_path / name, noise(20 * RATE), RATE)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[: (tmp_path / name).stat().st_size // 2])
    soundfile.write(tmp_path / "whole.wav", noise(20 * RATE), RATE)
    clips = AudioClips([tmp_path / name, tmp_path / "whole.wav"], rate=RATE, samples=RATE)
    alone = []
    for n in range(20):
        clips._broken.clear()
        alone.append(clips[n]["wave"])
    assert all(wave.reshape(10, -1).std(dim=1).min() > 0.02 for wave in alone)
    again = AudioClips([tmp_path / name, tmp_path / "whole.wav"], rate=RATE, samples=RATE)
    assert all(torch.equal(again[n]["wave"], alone[n]) for n in reversed(range(20)))


def test_silence_is_sound(tmp_path):
    soundfile.write(tmp_path / "silent.wav", np.zeros(RATE, np.float32), RATE)
    item = AudioClips([tmp_path / "silent.wav"], rate=16000, samples=16000, gain=True, roll=True)[0]
    assert not item["broken"]
    assert not item["wave"].any()
    assert LogMel(16000)(item["wave"][None]).isfinite().all()


def test_settings_that_cannot_be(sounds):
    for settings in ({"rate": 16}, {"samples": 0}, {"clips_per_file": 0}):
        with pytest.raises(ValueError, match="need a rate"):
            clips_of(sounds, **settings)
    with pytest.raises(ValueError, match="a label for each of 3 paths, got 2"):
        clips_of(sounds, labels=[0, 1])


def test_the_caller_s_generator_is_left_alone(sounds):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    list(loader(clips_of(sounds, gain=True, roll=True), range(6), 2, 0))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_file_shorter_than_a_frame_is_broken_and_one_as_long_is_not(tmp_path):
    """At the rate of the clips: 25 ms are 200 samples at 8 kHz, and 1102.5 at 44.1 kHz."""
    for name, samples, rate in (("a", 199, RATE), ("b", 200, RATE), ("c", 1090, 44100), ("d", 1103, 44100)):
        soundfile.write(tmp_path / f"{name}.wav", noise(samples), rate)
    clips = clips_of(tmp_path)
    items = [clips[n] for n in range(4)]
    assert {item["length"] for item in items} == {200}
    assert sorted(items[-1]["broken"]) == [
        f"{tmp_path}/a.wav: 199 samples at 8000 Hz are less than a frame of 25 ms",
        f"{tmp_path}/c.wav: 1090 samples at 44100 Hz are less than a frame of 25 ms",
    ]
    every = EveryFile(find_sounds(tmp_path), RATE, RATE)
    assert [every[place]["decodes"] for place in range(4)] == [False, True, False, True]
    assert LogMel(RATE).num_frames(200) == 1
    assert LogMel(RATE).num_frames(199) == 0
