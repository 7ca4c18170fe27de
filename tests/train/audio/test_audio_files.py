# SPDX-License-Identifier: Apache-2.0
"""What the AudioMAE trainer does with its files: statistics, broken ones, too short ones, none."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch

from smnoise import DataError
from smnoise.data.audio.clips import AudioClips, find_sounds, loader
from smnoise.data.audio.fbank import DATA_SETS, LogMel
from smnoise.data.audio.inputs import Spectrograms, Statistics, measure
from smnoise.train.audio import pretrain
from smnoise.train.pretrained.audio import trained
from smnoise.train.run import checkpoint

from .runs import CPU, RATE, events, write_sound


def test_statistics_are_those_of_the_frames_of_the_files(sounds):
    """By hand, over two files of which one fills half a clip."""
    log_mel = LogMel(RATE, 32)
    wave = torch.from_numpy(np.concatenate([soundfile.read(sounds / f"{n}.wav")[0] for n in (0, 1)])).float()
    batch = {"wave": wave.view(2, -1), "length": torch.tensor([12000, 6000])}
    values = torch.cat([log_mel(wave[None, :12000])[0], log_mel(wave[None, 12000:18000])[0]])
    expected = values.mean().item(), values.std(correction=0).item()
    found = measure([batch], log_mel, CPU)
    assert found == pytest.approx(expected, rel=1e-5)
    inputs = Spectrograms(RATE, 160, 32, found)
    made = inputs(batch["wave"], batch["length"])
    assert made.shape == (2, 160, 32)
    assert made[1, 100:].unique().tolist() == pytest.approx([-found.mean / (2 * found.std)])


def test_statistics_do_not_depend_on_workers(config):
    clips = AudioClips(find_sounds(config.data), rate=RATE, samples=4000, gain=True)
    results = [measure(loader(clips, range(8), 1, n), LogMel(RATE, 32), CPU) for n in (0, 2)]
    assert results[0] == results[1]


def test_named_and_given_statistics_are_used(config, tmp_path):
    pretrain(replace(config, epochs=1, statistics="esc50"))
    pretrain(replace(config, epochs=1, statistics=(-7.0, 4.0), out=tmp_path / "given"))
    assert trained(config.out)[1].statistics == Statistics(*DATA_SETS["esc50"][1:])
    assert trained(tmp_path / "given")[1].statistics == Statistics(-7.0, 4.0)


def test_broken_files_are_named_once_and_training_goes_on(config, sounds, tmp_path):
    folder = tmp_path / "with broken ones"
    shutil.copytree(sounds, folder)
    (folder / "1.wav").write_bytes(b"not a sound")
    soundfile.write(folder / "2.wav", np.full(RATE, np.nan, np.float32), RATE, subtype="FLOAT")
    soundfile.write(folder / "empty.wav", np.zeros(0, np.float32), RATE)
    soundfile.write(folder / "silent.wav", np.zeros(RATE, np.float32), RATE)
    soundfile.write(folder / "cut.flac", np.random.default_rng(0).standard_normal(3 * RATE) / 9, RATE)
    (folder / "cut.flac").write_bytes((folder / "cut.flac").read_bytes()[:-9000])
    (folder / "notes.txt").touch()
    pretrain(replace(config, data=folder))
    skipped = [e for e in events(config.out) if e.startswith("skipped")]
    assert [sum(name in e for e in skipped) for name in ("1.wav", "2.wav", "empty.wav")] == [1, 1, 1]
    assert f"skipped: 1 file of {folder}, not of a sound file's suffix (.txt 1)" in skipped
    assert len(skipped) == 4
    assert any("(3 of 7 files)" in e for e in skipped)
    (damaged,) = [e for e in events(config.out) if "cut.flac" in e]
    assert damaged.startswith(f"{folder / 'cut.flac'}: damaged, ")
    assert "that its header promises (1 of 7 files)" in damaged
    assert any("NaN" in e for e in skipped)


@pytest.mark.parametrize("statistics", ["auto", "audioset"])
def test_silence_alone_is_an_error(config, tmp_path, statistics):
    folder = tmp_path / "silent"
    folder.mkdir()
    for n in range(3):
        soundfile.write(folder / f"{n}.wav", np.full(RATE, 0.25 * n, np.float32), RATE)
    with pytest.raises(DataError, match="silent"):
        pretrain(replace(config, data=folder, statistics=statistics))


def test_files_shorter_than_a_frame_are_an_error(config, tmp_path):
    folder = tmp_path / "short"
    folder.mkdir()
    write_sound(folder / "0.wav", 0, seconds=0.01)
    with pytest.raises(DataError, match="80 samples at 8000 Hz are less than a frame of 25 ms"):
        pretrain(replace(config, data=folder, epochs=20))


def test_nothing_to_read_is_an_error(config, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match="no sound file in folder"):
        pretrain(replace(config, data=empty))
    (empty / "0.wav").write_bytes(b"not a sound")
    with pytest.raises(DataError, match=r"none of the 1 sound files decodes(?s:.*)0\.wav"):
        pretrain(replace(config, data=empty))
    with pytest.raises(DataError, match="less than one step of 400"):
        pretrain(replace(config, batch_size=400))
    assert not checkpoint.steps(config.out)
