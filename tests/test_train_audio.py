# SPDX-License-Identifier: Apache-2.0
"""The AudioMAE trainer, run as a user runs it: real files in, a run folder out."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch

from smnoise import CheckpointError, DataError, OptimBlue
from smnoise.data.audio.clips import AudioClips, find_sounds, loader
from smnoise.data.audio.fbank import DATA_SETS, LogMel
from smnoise.data.audio.inputs import Spectrograms, Statistics, measure
from smnoise.data.draws import torch_seeded
from smnoise.samplers import White3D
from smnoise.train import audio as trainer
from smnoise.train.audio import Config, pretrain, untrained
from smnoise.train.pretrained.audio import trained
from smnoise.train.run import checkpoint, log
from smnoise.train.run.log import RunLog
from smnoise.train.settings import recipe_fields

RATE = 8000
FILES = 4
CPU = torch.device("cpu")


def write_sound(path, number, seconds=1.5, level=0.3):
    """A tone that rises by an octave a second, in a little noise."""
    time = np.arange(int(seconds * RATE)) / RATE
    wave = np.sin(2 * np.pi * 200 * (number + 1) * 2**time / np.log(2))
    wave += 0.05 * np.random.default_rng(number).standard_normal(len(time))
    soundfile.write(path, (level * wave).astype(np.float32), RATE, subtype="FLOAT")


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sounds")
    for n in range(FILES):
        write_sound(folder / f"{n}.wav", n)
    return folder


@pytest.fixture
def config(sounds, tmp_path):
    return Config(
        data=sounds,
        out=tmp_path / "run",
        model="tiny",
        rate=RATE,
        frames=32,
        mels=32,
        patch=8,
        statistics="auto",
        measured_clips=8,
        mask_ratio=0.75,
        batch_size=4,
        accumulate=1,
        epochs=6,
        warmup_epochs=1,
        clips_per_file=3,
        base_lr=0.128,
        min_lr=0.001,
        workers=0,
        device="cpu",
        log_every=1,
        save_every=6,
    )


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(first, second):
    return all(torch.equal(first[n], second[n]) for n in first)


def losses(run):
    return {r["step"]: r["loss"] for r in log.read(run) if "loss" in r}


def events(run):
    return [r["event"] for r in log.read(run) if "event" in r]


def test_the_defaults_are_the_published_recipe_but_for_the_batch(sounds, tmp_path):
    recipe = Config(data=sounds, out=tmp_path)
    assert (recipe.grid, recipe.sampler().visible_per_sample) == ((1, 64, 8), 102)
    assert (
        recipe.clips_per_step == 64
    )  # ten files are enough for 33 epochs of it; the recipes have the published 512
    assert (recipe.epochs, recipe.warmup_epochs, recipe.min_lr) == (33, 3, 0)
    assert (recipe.base_lr, recipe.weight_decay, recipe.betas) == (2e-4, 1e-4, (0.9, 0.95))
    assert recipe.known_statistics() == DATA_SETS["audioset"][1:]
    assert recipe.gain
    assert not recipe.roll


def test_the_loss_falls_and_the_run_is_on_disk(config):
    longer = replace(config, epochs=20)
    model = pretrain(longer)
    by_step = losses(config.out)
    assert list(by_step) == list(range(1, 61))
    first, last = (sum(by_step[s] for s in steps) / 10 for steps in (range(1, 11), range(51, 61)))
    assert last < 0.9 * first
    assert json.loads((config.out / "config.json").read_text())["mask"] == "optim-blue"
    tensors, _, state, _ = checkpoint.newest(config.out)
    assert state["step"] == 60
    assert same(tensors, model.state_dict())


@pytest.mark.parametrize("mask", ["random", "optim-blue-independent", "green"])
def test_other_masks_and_the_global_decoder_train(config, mask):
    pretrain(replace(config, epochs=1, mask=mask, decoder="global", positions="published", roll=True))
    assert len(losses(config.out)) == 3


def test_masks_are_the_samplers_for_the_global_sample_numbers(config, monkeypatch):
    seen, forward = [], trainer.AudioMAE.forward
    monkeypatch.setattr(
        trainer.AudioMAE, "forward", lambda self, x, masks: seen.append(masks) or forward(self, x, masks)
    )
    pretrain(replace(config, seed=5, mask='{"sampler": "OptimBlue", "delta": 2, "steps": 9}'))
    pretrain(replace(config, seed=5, mask="random", out=config.out / "random", epochs=1))
    expected = OptimBlue((4, 4), 0.75, delta=2, steps=9, seed=5)
    for number, masks in enumerate(seen[:18]):
        assert torch.equal(masks.mask, expected(range(4 * number, 4 * number + 4)).mask)
    # Four complementary masks of 4 of 16 tokens: a batch is a partition.
    assert (~seen[0].mask).sum(0).tolist() == [1] * 16
    assert torch.equal(seen[18].mask, White3D((1, 4, 4), 0.75, seed=5)(range(4)).mask)


def test_two_runs_are_the_same_run(config, tmp_path):
    first = weights(pretrain(config))
    second = weights(pretrain(replace(config, out=tmp_path / "other", workers=2)))
    assert same(first, second)
    assert losses(config.out) == losses(tmp_path / "other")


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(config, tmp_path, monkeypatch):
    whole = weights(pretrain(config))
    broken = replace(config, out=tmp_path / "broken")
    write = RunLog.step

    def stop(self, record):
        write(self, record)
        if record["step"] == 9:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunLog, "step", stop)
        with pytest.raises(KeyboardInterrupt):
            pretrain(broken)
    assert checkpoint.newest(broken.out)[2]["step"] == 6
    torch.rand(7)  # dropout must not depend on the caller's generator
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "measure", None)  # a resumed run has the statistics of its checkpoint
        resumed = weights(pretrain(replace(broken, resume=True)))
    assert same(whole, resumed)
    assert losses(broken.out) == losses(config.out)  # steps 7 to 9 are there once


def arguments(config):
    """The config as a command line."""
    chosen = {
        n: getattr(config, n)
        for n, f in Config.__dataclass_fields__.items()
        if getattr(config, n) != f.default
    }
    return [part for n, v in chosen.items() for part in (f"--{n.replace('_', '-')}", str(v))]


def start(config, *more):
    command = [sys.executable, "-m", "smnoise.train.audio", *arguments(config), *more]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def wait_for_step(process, run, step):
    deadline = time.monotonic() + 120
    while max(losses(run), default=0) < step:
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_process_that_is_killed_goes_on_with_the_same_bits(config, tmp_path, number):
    """Killed, it goes on from a checkpoint. Asked to stop, as a scheduler or Ctrl-C asks the whole group, it saves
    first, and says by its exit status that it is not done."""
    config = replace(config, epochs=25, workers=1, save_every=4)
    killed = replace(config, out=tmp_path / "killed")
    process = start(killed)
    wait_for_step(process, killed.out, 9)
    os.killpg(process.pid, number)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == (-number if number == signal.SIGKILL else 128 + number), said
    assert ("go on with --resume" in said) == (number != signal.SIGKILL)
    resumed = start(killed, "--resume")
    said, _ = resumed.communicate(timeout=120)
    assert resumed.returncode == 0, said
    pretrain(config)
    assert losses(killed.out) == losses(config.out)
    assert same(checkpoint.newest(killed.out)[0], checkpoint.newest(config.out)[0])


def test_accumulating_is_a_larger_batch(config, tmp_path):
    pretrain(replace(config, batch_size=12, epochs=3))
    pretrain(replace(config, batch_size=4, accumulate=3, epochs=3, out=tmp_path / "other"))
    assert list(losses(config.out).values()) == pytest.approx(
        list(losses(tmp_path / "other").values()), rel=1e-4
    )


def test_bfloat16_trains(config):
    pretrain(replace(config, dtype="bfloat16", clip_grad=1.0, epochs=1, checkpoint_blocks=True))
    assert max(losses(config.out).values()) < 10


def test_the_callers_generator_is_left_alone(config):
    torch.manual_seed(3)
    state = torch.random.get_rng_state()
    pretrain(replace(config, epochs=1))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_seeded_draws_are_functions_of_seed_and_step():
    def draw(seed, step):
        with torch_seeded(seed, step, CPU):
            return torch.rand(4).tolist()

    assert draw(1, 2) == draw(1, 2)
    assert len({tuple(draw(*pair)) for pair in ((1, 2), (2, 1), (1, 3), (2**63, 2))}) == 4


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.filterwarnings("ignore:.*not have a deterministic implementation")
def test_a_gpu_run_resumes_with_the_same_bits_and_leaves_generators_alone(config, tmp_path):
    torch.cuda.manual_seed(3)
    state = torch.cuda.get_rng_state()
    config = replace(config, device="cuda", dtype="float32")
    pretrain(config)
    stopped = replace(config, out=tmp_path / "stopped")
    asked = iter([False] * 6 + [True])
    pretrain(stopped, stop=lambda: next(asked))
    pretrain(replace(stopped, resume=True))
    assert losses(stopped.out) == losses(config.out)
    assert torch.equal(torch.cuda.get_rng_state(), state)


def test_a_run_is_never_overwritten_by_accident(config):
    pretrain(replace(config, epochs=1))
    with pytest.raises(CheckpointError, match="already holds a run"):
        pretrain(replace(config, epochs=1))
    for change, words in (
        ({"mask": "random"}, "sampler, sampler: OptimBlue then, Random now"),
        ({"mask": '{"sampler": "OptimBlue", "steps": 3}'}, "sampler, steps: 256 then, 3 now"),
        ({"statistics": (-7.0, 4.0)}, "statistics: auto then"),
    ):
        with pytest.raises(CheckpointError, match=rf"another recipe(?s:.*){words}"):
            pretrain(replace(config, epochs=1, resume=True, **change))


def test_a_trained_model_comes_back_with_its_inputs(config):
    model = pretrain(replace(config, epochs=1)).eval()
    again, inputs = trained(config.out)
    assert same(model.state_dict(), again.state_dict())
    clip = AudioClips(find_sounds(config.data), rate=RATE, samples=inputs.samples)[0]["wave"][None]
    assert inputs(clip).shape == (1, 32, 32)
    torch.testing.assert_close(again.eval().features(inputs(clip)), model.features(inputs(clip)))
    assert inputs.statistics == tuple(checkpoint.newest(config.out)[2]["recipe"][n] for n in ("mean", "std"))


def test_a_run_of_another_trainer_is_not_taken_for_one(tmp_path):
    layer = torch.nn.Linear(2, 2)
    checkpoint.save(tmp_path, 1, layer, torch.optim.AdamW(layer.parameters()), {"recipe": {"model": "tiny"}})
    with pytest.raises(CheckpointError, match=r"no run of smnoise\.train\.audio: its recipe has no rate"):
        trained(tmp_path)


def test_first_weights_are_a_function_of_the_seed(config):
    assert same(untrained(config).state_dict(), untrained(replace(config, mask="random")).state_dict())
    other = untrained(replace(config, seed=1)).state_dict()
    assert not same(untrained(config).state_dict(), other)


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


def test_a_run_that_diverges_stops_and_its_checkpoints_are_sound(config):
    diverging = replace(config, base_lr=1e12, min_lr=0, save_every=1, log_every=100)
    with pytest.raises(FloatingPointError, match="Lower base_lr"):
        pretrain(diverging)
    for folder in checkpoint.steps(config.out):
        assert all(v.isfinite().all() for v in checkpoint.read(folder)[0].values())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"frames": 30}, "multiples of patch 8"),
        ({"mels": 20}, "multiples of patch 8"),
        ({"rate": 10}, "window"),
        ({"mask_ratio": 1.0}, r"\(0, 1\)"),
        ({"mask_ratio": 0.99}, "visible"),
        ({"mask_ratio": 0.99, "mask": "random"}, "visible"),
        ({"mask": '{"sampler": "OptimBlue", "delta": 0}'}, "delta"),
        ({"mask": "optim-bleu"}, "did you mean optim-blue"),
        ({"num_visible": 4}, "just one of them"),
        ({"sigma1": (0.4, 1.0)}, "OptimBlue has no sigma1"),
        ({"statistics": (1.0, 0.0)}, "positive deviation"),
        ({"statistics": (float("nan"), 1.0)}, "positive deviation"),
        ({"statistics": "imagenet"}, "audioset"),
        ({"batch_size": 0}, "batch_size"),
        ({"measured_clips": 0}, "measured_clips"),
        ({"workers": -1}, "workers"),
        ({"base_lr": 0.0}, "base_lr"),
        ({"min_lr": 1.0}, "min_lr"),
        ({"seed": -1}, "seed"),
        ({"clip_grad": -1.0}, "clip_grad"),
        ({"weight_decay": float("nan")}, "weight_decay"),
    ],
)
def test_a_config_that_cannot_work_is_never_made(config, change, words):
    with pytest.raises(ValueError, match=words):
        replace(config, **change)


def test_the_command_line(config):
    done = start(replace(config, epochs=1), "--statistics", "-7.5", "4", "--no-gain", "--mask-ratio", "0.5")
    said, _ = done.communicate(timeout=120)
    assert done.returncode == 0, said
    assert "step 3/3" in said
    assert trained(config.out)[1].statistics == (-7.5, 4.0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "/nowhere", "--out", "x"], "neither a folder"),
        (["--data", ".", "--out", "x", "--mask-ratio", "1.5"], "(0, 1)"),
        (["--data", ".", "--out", "x", "--mask", "pink"], "pink"),
    ],
)
def test_errors_on_the_command_line_are_one_message_not_a_traceback(arguments, words):
    done = subprocess.run(
        [sys.executable, "-m", "smnoise.train.audio", *arguments], capture_output=True, text=True
    )
    assert done.returncode != 0
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not os.path.exists("x")


def test_the_recipe_is_all_of_the_config_but_how_and_where_it_runs():
    """batch_size and accumulate are in it as their product over all processes, clips_per_step; the mask as JSON."""
    elsewhere = {"data", "out", "resume", "recipe", "batch_size", "accumulate", "device", "dtype", "compile",
                 "checkpoint_blocks", "shard", "workers", "log_every", "save_every", "keep_every", "knn_every",
                 "knn_train", "knn_test", "mask", "mask_ratio", "num_visible", "sigma1", "sigma2", "boundary", "per",
                 }  # fmt: skip
    assert set(recipe_fields(Config)) == set(Config.__dataclass_fields__) - elsewhere


def test_a_checkpoint_of_before_there_were_several_processes_is_resumed(config):
    """Its recipe has batch_size and accumulate, and no setting that was added later."""
    pretrain(replace(config, epochs=1))
    file = checkpoint.steps(config.out)[0] / "state.json"
    state = json.loads(file.read_text())
    clips = state["recipe"].pop("clips_per_step")
    state["recipe"] |= {"batch_size": clips, "accumulate": 1}
    del state["recipe"]["roll"]
    file.write_text(json.dumps(state))
    manifest = file.parent / "manifest.json"
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"state.json": digest}))
    trained(config.out)
    pretrain(replace(config, epochs=1, resume=True, batch_size=2, accumulate=2))
    with pytest.raises(CheckpointError, match="clips_per_step: 4 then, 8 now"):
        pretrain(replace(config, epochs=1, resume=True, batch_size=2, accumulate=4))


def test_an_error_ends_the_workers_too(config):
    """Also those that ignore the signals of a terminal and a scheduler."""
    diverging = replace(config, base_lr=1e12, min_lr=0, save_every=1, workers=2)
    process = start(diverging)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "Lower base_lr" in said
