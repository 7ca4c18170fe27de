# SPDX-License-Identifier: Apache-2.0
"""What is done with a joint run: probes of both and of one modality, pictures, and runs that begin with others."""

import json
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from media import write_film
from PIL import Image

from smnoise import CheckpointError, DataError
from smnoise.cli import main
from smnoise.convert import load_model
from smnoise.data.draws import torch_seeded
from smnoise.train import audio, audiovisual, video
from smnoise.train.audiovisual import Config, pretrain
from smnoise.train.pretrained.audiovisual import of_run
from smnoise.train.pretrained.find import pretrained
from smnoise.train.probe import Config as Probe
from smnoise.train.probe import probe_run
from smnoise.train.run import checkpoint


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """Of two kinds, that differ in tone and pattern."""
    folder = tmp_path_factory.mktemp("films")
    for n in range(8):
        kind = folder / ("low" if n % 2 else "high")
        kind.mkdir(exist_ok=True)
        write_film(kind / f"{n}.mkv", 1.2, tone=(300.0 if n % 2 else 1500.0) + 20 * n, sound="pcm_s16le")
    return folder


def config_of(films, out, **more) -> Config:
    settings = {
        "data": films, "out": out, "model": "nano", "frames": 4, "size": 32, "patch": 8, "rate": 8000,
        "audio_frames": 96, "mels": 16, "mask_ratio": 0.75, "audio_ratio": 0.75, "batch_size": 4, "rho": -1.0,
        "warmup_epochs": 0, "workers": 0, "device": "cpu", "log_every": 1, "measured_clips": 4, "epochs": 1,
    }  # fmt: skip
    return Config(**(settings | more))


@pytest.fixture(scope="module")
def run(films, tmp_path_factory):
    config = config_of(films, tmp_path_factory.mktemp("runs") / "av")
    pretrain(config)
    return config.out


def test_features_of_both_and_of_one_alone(films, run):
    found = {
        modality: probe_run(Probe(run=run, train=films, test=films, modality=modality, device="cpu"))
        for modality in ("both", "sound", "picture")
    }
    assert {f["train_clips"] for f in found.values()} == {8}
    assert all(f["accuracy"] >= 0.75 for f in found.values())  # of clips that the probe has seen
    model = pretrained(run)
    every = model.every([films / "low" / "1.mkv"], segments=1, crops=1, stride=None)
    pair = model.inputs(every[0]["clip"][None], every[0]["wave"][None], torch.tensor([every[0]["length"]]))
    sound = model._replace(modality="sound").through(model.model.features)
    assert torch.equal(sound((torch.zeros_like(pair[0]), pair[1])), sound(pair))
    assert not torch.equal(sound(pair), model.through(model.model.features)(pair))
    scores = probe_run(
        Probe(run=run, train=films, test=films, probes=("nearest", "attentive"), attentive_epochs=1, device="cpu",
              all_checkpoints=True, neighbours=1)
    )  # fmt: skip
    assert [at["step"] for at in scores["checkpoints"]] == [0, 2]


def test_a_modality_is_of_joint_runs_alone(films, tmp_path, run):
    single = video.Config(
        data=films, out=tmp_path / "video", model="nano", frames=4, size=32, patch=8, stride=1, batch_size=4, workers=0,
        device="cpu", clips_per_video=1, warmup_epochs=0, epochs=1,
    )  # fmt: skip
    video.pretrain(single)
    with pytest.raises(ValueError, match="modality sound is of joint runs"):
        probe_run(Probe(run=single.out, train=films, test=films, modality="sound", device="cpu"))
    with pytest.raises(DataError, match="a run on film with sounds"):
        probe_run(Probe(run=run, motion=True, device="cpu"))
    with pytest.raises(CheckpointError, match="is no run"):
        of_run(single.out)


def test_pictures_of_a_joint_run(films, run, tmp_path, capsys):
    film = films / "high" / "0.mkv"
    out = ["--out", str(tmp_path), "--formats", "png", "--json"]
    assert main(["viz", "reconstruct", "--run", str(run), "--file", str(film), *out]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {"video_loss", "audio_loss", "video_own", "audio_own"} <= told.keys()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["reconstruction-picture.gif", "reconstruction-picture.png", "reconstruction-sound.png"]
    for path in tmp_path.iterdir():
        with Image.open(path) as image:
            assert image.size[0] > 100
    assert main(["viz", "reconstruct", "--run", str(run), "--file", str(film), "--start", "0.9", *out]) == 2
    assert "has picture and sound for 1.2" in capsys.readouterr().err


def test_pictures_of_coupled_masks(films, tmp_path, capsys):
    small = [
        "--grid",
        "4",
        "4",
        "4",
        "--audio-grid",
        "8",
        "2",
        "--patch",
        "8",
        "--audio-patch",
        "8",
        "--rate",
        "8000",
    ]
    film = ["viz", "pair", "--file", str(films / "high" / "0.mkv"), "--out", str(tmp_path), *small]
    assert main([*film, "--rho", "-1", "1", "--ratio", "0.75", "--formats", "png"]) == 0
    with Image.open(tmp_path / "masks-pair.gif") as moving:
        assert moving.n_frames == 16
    assert (tmp_path / "masks-pair.png").is_file()
    assert main([*film, "--rho", "1.5"]) == 2
    assert "rho must be in -1..1" in capsys.readouterr().err
    assert main([*film, "--video", "tube"]) == 2
    assert "Tube cannot be coupled" in capsys.readouterr().err


def test_begins_with_runs_of_one_modality_each(films, tmp_path):
    shape = {
        "data": films,
        "epochs": 1,
        "patch": 8,
        "batch_size": 4,
        "workers": 0,
        "device": "cpu",
        "warmup_epochs": 0,
    }
    pictures = video.Config(
        out=tmp_path / "video", model="tiny", frames=4, size=32, stride=1, clips_per_video=1, **shape
    )
    heard = tmp_path / "sounds"
    heard.mkdir()
    for n in range(8):
        wave = np.sin(np.arange(9000) * 0.1 * (n + 1)).astype(np.float32)
        soundfile.write(heard / f"{n}.wav", wave, 8000)
    sounds = audio.Config(
        out=tmp_path / "audio", model="tiny", rate=8000, frames=96, mels=16, statistics="auto", decoder="global",
        **(shape | {"data": heard}),
    )  # fmt: skip
    video.pretrain(pictures)
    audio.pretrain(sounds)
    config = config_of(
        films, tmp_path / "av", model="tiny", video_run=pictures.out, audio_run=sounds.out, base_lr=1e-30
    )
    begun = pretrain(config)
    assert torch.equal(begun.video_embed.weight, pretrained(pictures.out).model.embed.weight)
    assert torch.equal(begun.audio_embed.weight, pretrained(sounds.out).model.encoder.embed.weight)
    assert not torch.equal(begun.video_embed.weight, audiovisual.untrained(config).video_embed.weight)
    longer = replace(config, out=tmp_path / "long", epochs=2, save_every=1)
    count = iter(range(9))
    pretrain(longer, stop=lambda: next(count) == 0)
    moved = replace(longer, resume=True, video_run=tmp_path / "gone", audio_run=tmp_path / "gone")
    again = pretrain(moved)  # the runs that it began with are no longer needed
    assert torch.equal(again.video_embed.weight, begun.video_embed.weight)
    with pytest.raises(ValueError, match="give both video_run and audio_run"):
        replace(config, audio_run=None)
    with pytest.raises(CheckpointError, match="AudioMAE, a model of audio"):
        load_and_give(config, tmp_path, sounds)
    with pytest.raises(ValueError, match="video's grid is"):
        pretrain(replace(config, out=tmp_path / "other", size=16))


def load_and_give(config, tmp_path, sounds):
    """Weights of sound in the place of those of the picture."""
    assert main(["convert", str(sounds.out), str(tmp_path / "weights")]) == 0
    assert load_model(tmp_path / "weights").patch == 8
    pretrain(replace(config, out=tmp_path / "swapped", video_run=tmp_path / "weights"))


def test_a_run_is_converted_and_used_in_its_place(films, run, tmp_path):
    assert main(["convert", str(run), str(tmp_path / "weights")]) == 0
    found = pretrained(tmp_path / "weights")
    want = checkpoint.newest(run)[0]
    assert all(torch.equal(tensor, want[name]) for name, tensor in found.model.state_dict().items())
    assert "8000" not in found.notes[-1]
    assert "16000 Hz" in found.notes[-1]
    with torch_seeded(0, 0, torch.device("cpu")):
        masks = found.sampler()([3])
    assert masks.video.grid == (2, 4, 4)
    assert masks.audio.grid == (1, 12, 2)
