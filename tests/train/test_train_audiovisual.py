# SPDX-License-Identifier: Apache-2.0
"""The joint trainer: what it trains, what it says, and that a resumed run and several processes are the same run."""

import os
import shutil
import signal
import subprocess
from dataclasses import replace

import launch
import pytest
import torch
from media import write_film, write_video

from smnoise import CheckpointError, Coupled, DataError
from smnoise.data.audiovisual import EveryPair
from smnoise.data.numbered import collate
from smnoise.models.contrast import contrast
from smnoise.probes.pairs import pair_scores
from smnoise.train import audiovisual
from smnoise.train.audiovisual import Config, pretrain
from smnoise.train.recipes import RECIPES, parse
from smnoise.train.run import checkpoint, log


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    for n in range(4):
        write_film(folder / f"{n}.mkv", 1.5, tone=200.0 + 300 * n, sound="pcm_s16le")
    write_video(folder / "silent.mp4", 20)
    return folder


def config_of(films, out, **more) -> Config:
    settings = {
        "data": films, "out": out, "model": "nano", "frames": 4, "size": 32, "patch": 8, "rate": 8000,
        "audio_frames": 96, "mels": 16, "mask_ratio": 0.75, "audio_ratio": 0.75, "batch_size": 4, "epochs": 2,
        "clips_per_video": 2, "warmup_epochs": 0, "base_lr": 0.05, "workers": 0, "device": "cpu", "log_every": 1,
        "save_every": 2, "measured_clips": 4,
    }  # fmt: skip
    return Config(**(settings | more))


def losses(out) -> dict[int, float]:
    return {r["step"]: r["loss"] for r in log.read(out) if "loss" in r}


def test_trains_and_tells(films, tmp_path):
    config = config_of(
        films, tmp_path / "run", rho=-1.0, test=films, test_clips=2, contrast_ratio=0.5, epochs=3
    )
    pretrain(config)
    records = log.read(config.out)
    assert all(value < 10 for value in losses(config.out).values())
    scores = [r for r in records if "audio_gap" in r]
    assert len(scores) == 3
    assert scores[-1]["pairs"] == 8
    assert 0 <= scores[-1]["video_to_audio_r5"] <= 1
    text = (config.out / "log.jsonl").read_text()
    assert "silent.mp4 has no sound track" in text
    assert "rho -1" in text
    recipe = checkpoint.find(config.out)[1]["recipe"]
    assert recipe["sampler"]["sampler"] == "Green3D"
    assert recipe["audio_sampler"]["sampler"] == "OptimBlue"
    assert (recipe["medium"], recipe["rho"], recipe["contrast_clips"]) == ("audiovisual", -1.0, 4)


def test_a_resumed_run_ends_with_the_same_bits(films, tmp_path):
    whole, parts = (config_of(films, tmp_path / name, rho=0.5) for name in ("whole", "parts"))
    pretrain(whole)
    count = iter(range(100))
    pretrain(parts, stop=lambda: next(count) == 2)
    assert max(losses(parts.out)) == 3
    pretrain(replace(parts, resume=True))
    first, second = (checkpoint.newest(c.out)[0] for c in (whole, parts))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert losses(whole.out) == losses(parts.out)
    with pytest.raises(CheckpointError, match=r"rho: 0\.5 then, -1\.0 now"):
        pretrain(replace(parts, resume=True, rho=-1.0))
    again = parse(Config, "", ["--resume", "--out", str(parts.out)])  # on the command line that is enough
    assert again == replace(parts, resume=True)
    with pytest.raises(CheckpointError, match="contrast_clips: 4 then, 2 now"):
        pretrain(replace(parts, resume=True, batch_size=2, accumulate=2))


def test_two_processes_are_one_batch(films, tmp_path):
    """Also the contrast, which is among the clips of both."""
    alone = config_of(films, tmp_path / "alone", contrast_weight=1.0, both_directions=True)
    both = replace(alone, out=tmp_path / "both", batch_size=2)
    pretrain(alone)
    done = launch.run("audiovisual", both, ranks=2)
    assert done.returncode == 0, done.stdout
    assert losses(both.out) == pytest.approx(losses(alone.out), rel=1e-5)
    one, two = (checkpoint.newest(c.out)[0] for c in (alone, both))
    for name, value in one.items():
        found = two[name]
        if name.endswith(
            "attn.qkv.bias"
        ):  # a key's bias changes no attention: its gradient is rounding alone
            third = len(value) // 3
            found, value = (torch.cat([v[:third], v[-third:]]) for v in (found, value))
        # Sums in another order round otherwise, and Adam divides what rounding leaves by its own size.
        torch.testing.assert_close(found, value, atol=5e-4, rtol=0)


@pytest.mark.slow
def test_sharded_over_two_processes_it_is_the_same_run(films, tmp_path):
    """The contrast among the clips of both too; it goes on as it was, and unsharded."""
    alone = config_of(films, tmp_path / "alone", contrast_weight=1.0, both_directions=True)
    both = replace(alone, out=tmp_path / "both", batch_size=2, shard=True)
    pretrain(alone)
    done = launch.run("audiovisual", both, ranks=2)
    assert done.returncode == 0, done.stdout
    assert losses(both.out) == pytest.approx(losses(alone.out), rel=1e-5)
    shutil.copytree(both.out, tmp_path / "again")
    for folder in checkpoint.steps(both.out)[:1]:
        (folder / "state.json").write_text("damaged")  # so that it goes on from the one before
    done = launch.run("audiovisual", replace(both, resume=True), ranks=2)
    assert done.returncode == 0, done.stdout
    assert "resumed after step 4" in done.stdout
    assert losses(both.out) == losses(tmp_path / "again")
    (checkpoint.steps(both.out)[0] / "state.json").write_text("damaged")
    pretrain(replace(alone, out=both.out, resume=True))
    assert losses(both.out) == pytest.approx(losses(alone.out), rel=1e-5)


@pytest.mark.slow
def test_killed_it_goes_on_with_the_same_bits(films, tmp_path):
    whole, killed = (config_of(films, tmp_path / name, rho=-1.0, epochs=4) for name in ("whole", "killed"))
    pretrain(whole)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(launch.command("audiovisual", killed), stdout=subprocess.PIPE, text=True,
                          env=environment) as process:  # fmt: skip
        for line in process.stdout:
            if line.startswith("step 5/"):  # behind a checkpoint, before the end
                process.kill()
                break
    assert process.returncode == -signal.SIGKILL
    assert len(checkpoint.steps(killed.out)) >= 1
    assert max(losses(killed.out)) < 8
    pretrain(replace(killed, resume=True))
    first, second = (checkpoint.newest(c.out)[0] for c in (whole, killed))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert losses(whole.out) == losses(killed.out)


def test_masks_are_those_of_a_pair(films, tmp_path):
    config = config_of(films, tmp_path / "run", rho=0.25, share=0.5, seed=3)
    want = Coupled(config.sampler(), config.audio_sampler(), rho=0.25, share=0.5, seed=3)
    samples = torch.arange(3)
    for found, masks in zip(config.masks()(samples), want(samples), strict=True):
        assert torch.equal(found.mask, masks.mask)
    independent = replace(config, rho=None).masks()(samples)
    assert not torch.equal(independent.audio.mask, want(samples).audio.mask)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"rho": 1.5}, "rho must be in"),
        ({"rho": 0.0, "mask": "tube"}, "Tube cannot be coupled"),
        ({"rho": 0.0, "audio_frames": 88}, "multiple of the picture's"),
        ({"rho": 0.0, "seconds": 0.9}, "as long as its spectrogram"),
        ({"seconds": 2.0}, "must not be longer"),
        ({"frames": 3}, "frames 3 must be a multiple of 2"),
        ({"layout": "cavmae"}, "one frame"),
        ({"views": 2}, "one view"),
        ({"contrast_ratio": 1.0}, "contrast_ratio must be in"),
        ({"statistics": (0.0, 0.0)}, "positive deviation"),
        ({"audio_mask": "blew"}, "a mask is a strategy"),
    ],
)
def test_rejects(films, tmp_path, settings, words):
    with pytest.raises(ValueError, match=words):
        config_of(films, tmp_path / "run", **settings)


def test_films_without_sound_are_no_data(tmp_path):
    write_video(tmp_path / "silent.mp4", 20)
    with pytest.raises(DataError, match="has no sound track"):
        pretrain(config_of(tmp_path, tmp_path / "run"))


def test_published_recipes():
    for gpus in (1, 8, 64):
        recipe = RECIPES[f"cavmae-base-audioset-{gpus}gpu"]
        config = Config(data="x", out="x", **recipe.settings)
        assert config.batch_size * config.accumulate * gpus == recipe.clips_per_step == 256
        assert (config.sampler().visible_per_sample, config.audio_sampler().visible_per_sample) == (49, 128)
        assert config.audio_sampler().grid == (1, 8, 64)


def test_pair_scores(films, tmp_path):
    """Of one pair that is shown four times, all masks alike: another's partner is the own one. Equal cosines tell
    nothing, and so count as not found."""
    config = config_of(films, tmp_path / "run")
    model = audiovisual.untrained(config).eval()
    made = audiovisual.job(config, torch.device("cpu"), False, audiovisual.World())
    made.begin(recipe := {})
    assert recipe["std"] > 0
    every = EveryPair([films / "1.mkv"] * 4, 4, 32, 0.96, 8000, 9000)
    batch = collate([every[n] for n in range(4)])
    inputs = audiovisual.Spectrograms(8000, 96, 16, audiovisual.Statistics(-5.0, 2.0))
    masks = config.masks()
    scores, broken = pair_scores(
        model, [batch], inputs, lambda place: masks(torch.zeros_like(place)), torch.device("cpu")
    )
    assert scores["audio_gap"] == scores["video_gap"] == 0
    assert scores["video_to_audio_r1"] == 0
    assert scores["video_to_audio_r5"] == 1
    assert not broken
    other = collate([EveryPair([films / f"{n}.mkv"], 4, 32, 0.96, 8000, 9000)[0] for n in range(4)])
    scores, _ = pair_scores(model, [other | {"place": torch.arange(4)}], inputs, masks, torch.device("cpu"))
    assert scores["audio_gap"] != 0
    silent = collate([EveryPair([films / "silent.mp4"], 4, 32, 0.96, 8000, 9000)[0]])
    with pytest.raises(DataError, match="at least two pairs"):
        pair_scores(model, [silent], inputs, masks, torch.device("cpu"))


def test_contrast_of_known_pairs():
    features = torch.eye(3)
    assert contrast(features, features, 0.05).accuracy == 1
    assert contrast(features.roll(1, 0), features, 0.05).accuracy == 0
    assert contrast(features, features, 0.05).loss < 1e-6
