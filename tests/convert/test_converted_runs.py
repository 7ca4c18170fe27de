# SPDX-License-Identifier: Apache-2.0
"""Folders that `smnoise convert` wrote, in place of a training run: the real commands on a few real files."""

import json

import numpy as np
import pytest
import soundfile
import torch
from media import write_video
from safetensors.torch import save_file

from smnoise.__main__ import main
from smnoise.convert import AudioConfig, VideoConfig, convert_state, load_model
from smnoise.errors import CheckpointError
from smnoise.models.common import Size
from smnoise.train import finetune_audio, finetune_video
from smnoise.train.pretrained.find import pretrained
from smnoise.train.run import checkpoint, log

pytestmark = pytest.mark.usefixtures("one_thread")
RATE = 16000
VIDEO = VideoConfig(Size(24, 2, 2, 16, 1, 2), (2, 2, 2), tubelet=2, patch=16, mean=(0.5, 0.5, 0.5))
AUDIO = AudioConfig(Size(24, 2, 2, 16, 2, 2), (4, 2), patch=16, decoder="global", positions="right")
OPTIONS = {"grid": None, "heads": "2", "decoder-heads": "2"}


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for side in ("train", "test"):
        for label in ("flat", "moving"):
            (folder / side / label).mkdir(parents=True)
            for n in range(2):
                write_video(folder / side / label / f"{n}.mp4", 14 + 3 * n, moving=label == "moving")
    return folder


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    folder, noise = tmp_path_factory.mktemp("sounds"), np.random.default_rng(1)
    for side in ("train", "test"):
        for label, hertz in (("high", 4000), ("low", 300)):
            (folder / side / label).mkdir(parents=True)
            for n in range(2):
                wave = 0.3 * np.sin(2 * np.pi * hertz * np.arange(RATE) / RATE)
                soundfile.write(folder / side / label / f"{n}.wav", wave + noise.normal(0, 0.1, RATE), RATE)
    return folder


def converted(tmp_path, config, to="smnoise", **changes):
    """An official file of random weights, through the command into a folder."""
    torch.manual_seed(0)
    state = convert_state(config.build().state_dict(), "official", config=config).state
    torch.save({"model": state}, tmp_path / "official.pth")
    grid = [str(n) for n in config.grid]
    arguments = [str(tmp_path / "official.pth"), str(tmp_path / to), "--to", to, "--heads", "2"]
    assert main(["convert", *arguments, "--decoder-heads", "2", "--grid", *grid]) == 0
    if changes:
        path = tmp_path / to / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return tmp_path / to


def sides(folder):
    return ["--train", str(folder / "train"), "--test", str(folder / "test")]


def events(run):
    return "\n".join(str(r["event"]) for r in log.read(run) if "event" in r)


@pytest.mark.parametrize("to", ["smnoise", "official", "huggingface"])
def test_a_video_model_is_fine_tuned(tmp_path, videos, to):
    folder, out = (
        converted(tmp_path, VIDEO, to, **({"mean": [0.5] * 3} if to == "smnoise" else {})),
        tmp_path / "out",
    )
    less = ["--batch-size", "2", "--accumulate", "1", "--views", "1", "--epochs", "1", "--warmup-epochs", "0"]
    run = ["--run", str(folder), "--out", str(out), "--workers", "0", "--device", "cpu", "--stride", "2"]
    assert main(["finetune", "video", *run, *less, *sides(videos), "--segments", "1", "--crops", "1"]) == 0
    told = events(out)
    assert "converted weights: clips of 4 frames of 32 x 32" in told
    assert "stride 4 assumed" in told
    recipe = checkpoint.find(out)[1]["recipe"]
    assert recipe["inputs"] == {"frames": 4, "stride": 2, "size": 32}
    classifier = finetune_video.classifier_of(out)[0]
    assert classifier.encoder.size == VIDEO.size
    wanted = load_model(folder)
    assert torch.equal(classifier.encoder.mean, wanted.mean)
    assert torch.equal(classifier.encoder.std, wanted.std)


def test_the_encoder_is_that_of_the_weights(tmp_path, videos, sounds):
    folder = converted(tmp_path, VIDEO)
    config = finetune_video.Config(
        train=videos / "train", test=videos / "test", out=tmp_path / "out", run=folder, batch_size=2, views=1
    )
    encoder, views = finetune_video.pretrained(config)
    wanted = load_model(folder)
    assert (views.frames, views.stride, views.size) == (4, 4, 32)
    assert torch.equal(encoder.embed.weight, wanted.embed.weight)
    assert torch.equal(encoder.blocks[1].mlp.fc2.weight, wanted.encoder[1].mlp.fc2.weight)


def test_a_sound_model_is_fine_tuned(tmp_path, sounds):
    folder, out = converted(tmp_path, AUDIO), tmp_path / "out"
    run = ["--run", str(folder), "--out", str(out), "--workers", "0", "--device", "cpu", "--frames", "64"]
    less = [
        "--batch-size",
        "2",
        "--epochs",
        "1",
        "--warmup-epochs",
        "0",
        "--mask-bins",
        "0",
        "--mask-frames",
        "0",
    ]
    assert main(["finetune", "audio", *run, *less, *sides(sounds), "--statistics", "run"]) == 0
    assert "converted weights: 64 frames of 32 mel bins" in (told := events(out))
    assert "16000 Hz" in told
    _, inputs, names = finetune_audio.classifier_of(out)
    assert inputs.statistics == pytest.approx((-4.2677393, 4.5689974))
    assert inputs.log_mel.sample_rate == 16000
    assert names == ["high", "low"]


def test_both_are_probed(tmp_path, videos, sounds, capsys):
    for config, data, more in ((VIDEO, videos, ["--stride", "1"]), (AUDIO, sounds, [])):
        folder = converted(tmp_path, config, "smnoise")
        capsys.readouterr()
        arguments = ["--run", str(folder), *sides(data), "--device", "cpu", "--json", *more]
        assert main(["probe", *arguments]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["step"] is None
        assert 0 <= found["accuracy"] <= 1
        assert any("converted weights" in note for note in found["notes"])
        assert main(["probe", *arguments, "--all-checkpoints"]) == 2
        assert "no checkpoints" in capsys.readouterr().err
        for file in (tmp_path / "smnoise").iterdir():
            file.unlink()
        folder.rmdir()


def test_reconstructions_are_drawn(tmp_path, videos, sounds, capsys):
    # A mask ratio of 0.9 needs more than the 8 tokens of the small grid.
    larger = VideoConfig(VIDEO.size, (2, 4, 4), tubelet=2, patch=8)
    for config, file in ((larger, videos / "test/moving/0.mp4"), (AUDIO, sounds / "test/low/0.wav")):
        (tmp_path / config.model).mkdir()
        folder = converted(tmp_path / config.model, config)
        capsys.readouterr()
        out = tmp_path / config.model / "pictures"
        arguments = ["--run", str(folder), "--file", str(file), "--out", str(out), "--json"]
        assert main(["viz", "reconstruct", *arguments, "--formats", "png"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert "converted weights" in found["notes"]
        assert all((out / name).stat().st_size for name in found["files"])


def test_what_cannot_be_used_is_said(tmp_path, videos, sounds, capsys):
    folder, arguments = converted(tmp_path, VIDEO), [*sides(videos), "--out", str(tmp_path / "out")]
    assert main(["finetune", "video", "--run", str(tmp_path / "official.pth"), *arguments]) == 2
    assert "smnoise convert" in capsys.readouterr().err
    assert (
        main(["finetune", "audio", "--run", str(folder), *sides(sounds), "--out", str(tmp_path / "out")]) == 2
    )
    assert "holds VideoMAE, a model of video" in capsys.readouterr().err
    assert main(["finetune", "video", "--run", str(folder), *arguments, "--model", "base"]) == 2
    assert "another architecture: its model" in capsys.readouterr().err
    assert main(["probe", "--run", str(tmp_path / "nowhere"), *sides(videos)]) == 2
    assert "no whole checkpoint" in capsys.readouterr().err
    (folder / "config.json").unlink()
    with pytest.raises(ValueError, match="give its config"):
        pretrained(folder)


def test_clips_that_no_video_gives_are_refused(tmp_path):
    for number, config in enumerate(
        [
            VideoConfig(VIDEO.size, (2, 2, 3), tubelet=2, patch=16),
            VideoConfig(VIDEO.size, (2, 2, 2), 2, 16, channels=1, mean=(0.0,), std=(1.0,)),
        ]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        from smnoise.convert.architecture import to_json

        save_file(config.build().state_dict(), folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps(to_json(config)))
        with pytest.raises(CheckpointError, match="squares of 3 colours"):
            pretrained(folder)
