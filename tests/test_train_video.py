# SPDX-License-Identifier: Apache-2.0
"""The VideoMAE trainer, run as a user runs it: real files in, a run folder out."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from media import write_video

import smnoise
from smnoise import CheckpointError, DataError, pools
from smnoise.data.signals import StopOnSignal
from smnoise.data.video.cache import make
from smnoise.data.video.clips import VideoClips
from smnoise.models.videomae import VideoMAE
from smnoise.samplers import custom
from smnoise.train import loop
from smnoise.train.pretrained import video as video_runs
from smnoise.train.pretrained.find import pretrained
from smnoise.train.pretrained.video import trained
from smnoise.train.recipes import parse
from smnoise.train.run import checkpoint, log
from smnoise.train.run.throughput import LoaderWaits
from smnoise.train.settings import recipe_fields
from smnoise.train.video import Config, pretrain


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for n in range(3):
        write_video(folder / f"{n}.mp4", 24 + 5 * n, moving=True)
    return folder


@pytest.fixture
def config(videos, tmp_path):
    return Config(
        data=videos,
        out=tmp_path / "run",
        model="tiny",
        frames=4,
        stride=2,
        size=32,
        patch=8,
        mask_ratio=0.75,
        batch_size=4,
        epochs=6,
        warmup_epochs=1,
        clips_per_video=4,
        base_lr=0.128,
        min_lr=0.001,
        workers=0,
        cache_mib=16,
        device="cpu",
        log_every=1,
        save_every=6,
    )


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def losses(run):
    return {r["step"]: r["loss"] for r in log.read(run) if "loss" in r}


def test_the_loss_falls_and_the_run_is_on_disk(config):
    longer = replace(config, epochs=20)
    model = pretrain(longer)
    by_step = losses(config.out)
    assert list(by_step) == list(range(1, 61))
    first, last = (sum(by_step[s] for s in steps) / 10 for steps in (range(1, 11), range(51, 61)))
    assert last < 0.9 * first
    assert json.loads((config.out / "config.json").read_text())["base_lr"] == 0.128
    tensors, _, state, _ = checkpoint.newest(config.out)
    assert state["step"] == 60
    assert all(torch.equal(tensors[n], v) for n, v in model.state_dict().items())


def test_two_runs_are_the_same_run(config, tmp_path):
    first = weights(pretrain(config))
    second = weights(pretrain(replace(config, out=tmp_path / "other", workers=2, cache_mib=0)))
    assert all(torch.equal(first[n], second[n]) for n in first)
    assert losses(config.out) == losses(tmp_path / "other")


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(config, tmp_path, monkeypatch):
    whole = weights(pretrain(config))
    broken = replace(config, out=tmp_path / "broken")
    write = log.RunLog.step

    def stop(self, record):
        write(self, record)
        if record["step"] == 9:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(log.RunLog, "step", stop)
        with pytest.raises(KeyboardInterrupt):
            pretrain(broken)
    assert checkpoint.newest(broken.out)[2]["step"] == 6
    resumed = weights(pretrain(replace(broken, resume=True)))
    assert all(torch.equal(whole[n], resumed[n]) for n in whole)
    assert losses(broken.out) == losses(config.out)  # steps 7 to 9 are there once


def test_resuming_a_finished_run_trains_no_more(config):
    done = weights(pretrain(config))
    again = weights(pretrain(replace(config, resume=True)))
    assert all(torch.equal(done[n], again[n]) for n in done)


def test_accumulating_is_a_larger_batch(config, tmp_path):
    one = pretrain(replace(config, batch_size=12, epochs=3))
    two = pretrain(replace(config, batch_size=4, accumulate=3, epochs=3, out=tmp_path / "other"))
    assert list(losses(config.out).values()) == pytest.approx(
        list(losses(tmp_path / "other").values()), rel=1e-4
    )
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=2e-4, rtol=0)


def test_the_learning_rate_warms_up_and_falls_along_a_cosine(config):
    pretrain(config)
    rates = [r["lr"] for r in log.read(config.out) if "lr" in r]
    peak = 0.128 * 4 / 256
    assert rates[0] < peak / 2
    assert max(rates) == pytest.approx(peak, rel=1e-6)
    at = rates.index(max(rates))
    assert rates[: at + 1] == sorted(rates[: at + 1])
    assert rates[at:] == sorted(rates[at:], reverse=True)
    assert rates[-1] < 0.1 * peak


def test_a_warm_up_as_long_as_the_run_is_told(config, tmp_path):
    pretrain(replace(config, epochs=1, warmup_epochs=1))
    assert any(
        "warmup_epochs 1 is not less than epochs 1" in r.get("event", "") for r in log.read(config.out)
    )
    pretrain(shorter := replace(config, epochs=1, warmup_epochs=0.5, out=tmp_path / "shorter"))
    assert not any("warmup" in r.get("event", "") for r in log.read(shorter.out))


def test_vectors_and_the_mask_token_do_not_decay(config, monkeypatch):
    seen = []
    adamw = torch.optim.AdamW
    monkeypatch.setattr(torch.optim, "AdamW", lambda groups, **kw: seen.extend(groups) or adamw(groups, **kw))
    model = pretrain(replace(config, epochs=1))
    still = {id(p) for group in seen if group["weight_decay"] == 0 for p in group["params"]}
    names = {name for name, p in model.named_parameters() if id(p) in still}
    assert "mask_token" in names
    assert all(p.dim() == 1 or n == "mask_token" for n, p in model.named_parameters() if n in names)
    assert all(p.dim() > 1 for n, p in model.named_parameters() if n not in names)


def test_bfloat16_trains(config):
    pretrain(replace(config, dtype="bfloat16", clip_grad=1.0))
    assert max(losses(config.out).values()) < 10


def test_the_callers_generator_is_left_alone(config):
    torch.manual_seed(3)
    state = torch.random.get_rng_state()
    pretrain(replace(config, epochs=1))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_run_is_never_overwritten_by_accident(config):
    pretrain(replace(config, epochs=1))
    with pytest.raises(CheckpointError, match="already holds a run"):
        pretrain(config)
    with pytest.raises(
        CheckpointError, match=r"another recipe(?s:.*)sampler, sampler: Green3D then, Red3D now"
    ):
        pretrain(replace(config, epochs=1, mask="red", resume=True))


def test_resuming_nothing_is_an_error(config):
    with pytest.raises(CheckpointError, match="it has none"):
        pretrain(replace(config, resume=True))


def test_a_truncated_checkpoint_is_told_and_the_one_before_used(config):
    done = weights(pretrain(config))
    newest = checkpoint.steps(config.out)[0] / "model.safetensors"
    newest.write_bytes(newest.read_bytes()[:1000])
    again = weights(pretrain(replace(config, resume=True)))
    assert all(torch.equal(done[n], again[n]) for n in done)
    events = [r["event"] for r in log.read(config.out) if "event" in r]
    assert any("unusable checkpoint" in e and newest.parent.name in e for e in events)


def test_a_broken_video_is_named_once_and_training_goes_on(config, videos, tmp_path):
    folder = tmp_path / "with a broken one"
    shutil.copytree(videos, folder)
    (folder / "1.mp4").write_bytes(b"not a video")
    pretrain(replace(config, data=folder))
    events = [r["event"] for r in log.read(config.out) if "event" in r and "1.mp4" in r["event"]]
    assert len(events) == 1
    assert "(1 of 3 files)" in events[0]


def test_a_run_that_diverges_stops_and_its_checkpoints_are_sound(config):
    diverging = replace(config, base_lr=1e12, min_lr=0, warmup_epochs=1, save_every=1, log_every=100)
    with pytest.raises(FloatingPointError, match="Lower base_lr"):
        pretrain(diverging)
    for folder in checkpoint.steps(config.out):
        assert all(v.isfinite().all() for v in checkpoint.read(folder)[0].values())
    assert checkpoint.steps(config.out)


def test_other_videos_are_another_run(config, videos, tmp_path):
    folder = tmp_path / "moved"
    shutil.copytree(videos, folder)
    pretrain(replace(config, epochs=1))
    pretrain(replace(config, epochs=1, data=folder, resume=True))  # the same files elsewhere
    shutil.copy(videos / "0.mp4", folder / "new.mp4")
    with pytest.raises(CheckpointError, match=r"videos: 3 files(?s:.*)4 files"):
        pretrain(replace(config, epochs=1, data=folder, resume=True))


def test_asked_to_stop_it_saves_first(config, tmp_path):
    whole = weights(pretrain(config))
    stopped = replace(config, out=tmp_path / "stopped")
    asked = iter([False] * 3 + [True])
    pretrain(stopped, stop=lambda: next(asked))
    assert checkpoint.newest(stopped.out)[2]["step"] == 4
    resumed = weights(pretrain(replace(stopped, resume=True)))
    assert all(torch.equal(whole[n], resumed[n]) for n in whole)


def test_the_first_signal_asks_and_the_second_interrupts():
    before = signal.getsignal(signal.SIGTERM)
    with StopOnSignal() as stop:
        assert not stop()
        assert not stop.told
        signal.raise_signal(signal.SIGTERM)
        assert not stop.told  # a run that ends in this step is not stopped
        assert stop()
        assert stop.told
        assert stop.number == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_gpu_that_is_not_there_is_an_error(config, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="torch sees no GPU"):
        pretrain(replace(config, device="cuda"))


def test_a_folder_that_cannot_be_written_is_found_before_training(config, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        pretrain(replace(config, out=tmp_path / "file" / "run"))


def test_too_little_data_for_one_step_is_an_error(config):
    with pytest.raises(DataError, match="less than one step of 400"):
        pretrain(replace(config, batch_size=400))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"size": 30}, "multiple"),
        ({"frames": 5}, "multiple"),
        ({"mask_ratio": 1.0}, r"\(0, 1\)"),
        ({"mask_ratio": 0.999}, "visible"),
        ({"batch_size": 0}, "batch_size"),
        ({"epochs": -1}, "epochs"),
        ({"workers": -1}, "workers"),
        ({"base_lr": 0.0}, "base_lr"),
        ({"min_lr": 1.0}, "min_lr"),
        ({"seed": -1}, "seed"),
        ({"clip_grad": -1.0}, "clip_grad"),
        ({"short_side": 0}, "short_side"),
        ({"warmup_epochs": float("nan")}, "warmup_epochs"),
        ({"weight_decay": float("nan")}, "weight_decay"),
        ({"keep_every": 9}, "multiple of save_every 6"),
        ({"knn_every": 3}, "needs knn_every, knn_train and knn_test"),
        ({"knn_train": "x", "knn_test": "y"}, "needs knn_every, knn_train and knn_test"),
        ({"knn_every": 3, "knn_train": "x"}, "needs knn_every, knn_train and knn_test"),
        ({"knn_every": 3, "knn_train": "x", "knn_test": "y", "shard": True}, "--all-checkpoints"),
        ({"decode_ratio": 1.0}, "leave decoder_mask at none"),
        ({"decoder_mask": "white", "decode_ratio": 0.01}, "visible"),
        ({"decoder_mask": "white", "decode_ratio": 0.04}, "leaves no token to decode"),
    ],
)
def test_a_config_that_cannot_work_is_never_made(config, change, words):
    with pytest.raises(ValueError, match=words):
        replace(config, **change)


@pytest.mark.parametrize(
    ("change", "words"),
    [({"mask": "audiomae-2d", "mask_ratio": 0.8}, "mask audiomae-2d: mask_ratio must be two numbers"),
     ({"decoder_mask": "audiomae-2d"}, "mask audiomae-2d: mask_ratio must be two numbers")],
)  # fmt: skip
def test_a_mask_of_the_wrong_type_is_a_wrong_setting(config, change, words):
    with pytest.raises(ValueError, match=words):
        replace(config, **change)


def test_a_run_with_masks_of_a_function(config, tmp_path, monkeypatch):
    """What needs its weights alone does not need the function; what needs its masks imports it, or says what to do."""
    module = tmp_path / "masks_of_a_function.py"
    module.write_text(
        "from smnoise.ops import random_words\n"
        "def f(seed, samples, grid):\n    return random_words(seed, samples, 15, grid[0] * grid[1] * grid[2])\n"
    )
    monkeypatch.setattr(custom, "FUNCTIONS", {})
    monkeypatch.setattr("smnoise.strategies.FUNCTIONS", custom.FUNCTIONS)
    monkeypatch.syspath_prepend(tmp_path)
    config = replace(config, mask="masks_of_a_function:f", epochs=1)
    pretrain(config)
    want = config.sampler()

    custom.FUNCTIONS.clear()
    assert pretrained(config.out, "video").sampler() == want
    custom.FUNCTIONS.clear()
    sys.modules.pop("masks_of_a_function")
    module.unlink()
    found = pretrained(config.out, "video")
    with pytest.raises(CheckpointError, match=r"masks of a function: .*No module named.*PYTHONPATH"):
        found.sampler()


def test_a_log_cut_short_by_a_kill_is_read_up_to_the_cut(tmp_path):
    (tmp_path / log.NAME).write_text('5\n{"step": "x"}\n{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    assert log.read(tmp_path) == [{"step": 1, "loss": 2.0}]
    assert log.read(tmp_path / "absent") == []


def run_command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "smnoise.train.video", *arguments], capture_output=True, text=True
    )


def test_the_command_line(videos, tmp_path):
    size = [
        "--model",
        "tiny",
        "--frames",
        "4",
        "--stride",
        "2",
        "--size",
        "32",
        "--patch",
        "16",
        "--batch-size",
        "3",
    ]
    length = ["--epochs", "2", "--warmup-epochs", "0", "--workers", "1", "--log-every", "1"]
    done = run_command(
        "--data", str(videos), "--out", f"{tmp_path}/run", *size, *length, "--mask-ratio", "0.5"
    )
    assert done.returncode == 0, done.stderr
    assert "step 2/2" in done.stdout
    assert (tmp_path / "run" / "checkpoints" / "step-00000002" / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "/nowhere", "--out", "x"], "neither a folder"),
        (["--data", ".", "--out", "x", "--mask-ratio", "1.5"], "(0, 1)"),
        (["--data", ".", "--out", "x", "--mask", "pink"], "pink"),
    ],
)
def test_errors_on_the_command_line_are_one_message_not_a_traceback(arguments, words, tmp_path):
    done = run_command(*arguments)
    assert done.returncode != 0
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not os.path.exists("x")


def test_frames_from_a_cache_are_the_same_run(config, videos, tmp_path):
    pretrain(config)
    make(videos, tmp_path / "cache", None)
    cached = replace(config, out=tmp_path / "cached", frames_cache=tmp_path / "cache", cache_mib=0, workers=1)
    pretrain(cached)
    assert losses(cached.out) == losses(config.out)
    told = [r["event"] for r in log.read(cached.out) if "event" in r]
    assert f"3 of 3 videos are read from {tmp_path / 'cache'}" in told

    shutil.copytree(videos, more := tmp_path / "more")
    with pytest.raises(DataError, match="has none of the 3 videos"):
        pretrain(replace(cached, data=more, out=tmp_path / "none"))
    (tmp_path / "list.txt").write_text("more/0.mp4\n" + "\n".join(map(str, videos.iterdir())))
    pretrain(mixed := replace(cached, data=tmp_path / "list.txt", out=tmp_path / "mixed", epochs=1))
    told = [r["event"] for r in log.read(mixed.out) if "event" in r]
    assert any("3 of 4 videos" in event and "the other 1 are decoded" in event for event in told)
    with pytest.raises(ValueError, match="was made with short_side None"):
        pretrain(replace(cached, short_side=16))


def test_the_share_of_waiting_is_logged_and_a_slow_loader_named(config, monkeypatch):
    """By a clock that only goes while clips are read, so that all of the time is spent waiting for them."""
    clock, read = SimpleNamespace(seconds=0.0), VideoClips.read_clip

    def slow(self, index, sample):
        clock.seconds += 1
        return read(self, index, sample)

    monkeypatch.setattr(VideoClips, "read_clip", slow)
    monkeypatch.setattr(loop, "LoaderWaits", lambda: LoaderWaits(lambda: clock.seconds))
    pretrain(replace(config, epochs=2, save_every=100))
    assert [r["loader_wait"] for r in log.read(config.out) if "loss" in r] == [1.0] * 6
    (told,) = [r["event"] for r in log.read(config.out) if "the loader is the limit" in r.get("event", "")]
    assert "100% of the time" in told
    assert "raise --workers (0 now) or --views, or decode once and for all" in told
    assert f"cache_clips --data {config.data} --out CACHE, then --frames-cache CACHE" in told


def kept(config):
    return [int(folder.name[-8:]) for folder in checkpoint.steps(config.out)]


def test_each_nth_checkpoint_is_kept_for_good(config):
    """Also by a run that is resumed without saying so; a damaged newest one is still gone back from."""
    pretrain(replace(config, epochs=3, save_every=2, keep_every=4))  # 9 steps
    assert kept(config) == [9, 8, 4]
    whole = losses(config.out)
    for folder in checkpoint.steps(config.out)[:2]:
        (folder / "state.json").write_text("damaged")
    pretrain(replace(config, epochs=3, save_every=1, resume=True))
    assert kept(config) == [9, 8, 4]
    assert losses(config.out) == whole
    assert checkpoint.find(config.out)[1]["step"] == 9


def test_with_dual_masking_a_run_is_resumed_bit_for_bit(config, tmp_path):
    """And is another run than one that decodes all."""
    dual = replace(config, decoder_mask="running-cell", decode_ratio=0.3, epochs=2)
    whole = weights(pretrain(dual))
    pretrain(everything := replace(dual, decoder_mask="none", out=tmp_path / "all"))
    assert losses(dual.out) != losses(everything.out)
    stopped = replace(dual, out=tmp_path / "stopped")
    asked = iter([False, True])
    pretrain(stopped, stop=lambda: next(asked))
    resumed = weights(pretrain(replace(stopped, resume=True)))
    assert all(torch.equal(whole[n], resumed[n]) for n in whole)
    said = next(r["event"] for r in log.read(dual.out) if "event" in r)
    assert "8 of 32 tokens visible, 7 decoded" in said
    with pytest.raises(CheckpointError, match=r"decode_ratio: 0\.3 then, 0\.4 now"):
        pretrain(replace(dual, decode_ratio=0.4, resume=True))


@pytest.mark.parametrize("decoder", ["white", "running-cell"])
def test_encoder_and_decoder_masks_do_not_go_together(config, decoder):
    """Of one seed a white decoder would show just what a white encoder sees."""
    dual = replace(config, mask="white", mask_ratio=0.5, decoder_mask=decoder, size=128)
    encoder, decoder = dual.sampler()(range(50)), dual.decoder_sampler()(range(50))
    both = (~encoder.mask & ~decoder.mask).double().mean().item()
    assert both == pytest.approx(0.25, abs=0.01)


def rewrite_recipe(run, change):
    """Change the recipe of a run's newest checkpoint, which stays whole."""
    state = checkpoint.steps(run)[0] / "state.json"
    said = json.loads(state.read_text())
    change(said["recipe"])
    state.write_text(json.dumps(said))
    manifest = state.with_name("manifest.json")
    digest = hashlib.sha256(state.read_bytes()).hexdigest()
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"state.json": digest}))


@pytest.mark.parametrize("dual_masking", [True, False])
def test_a_checkpoint_of_before_recipes_held_samplers_is_resumed(config, dual_masking):
    """It names its masks by words: green, and no decoder mask where there was none yet."""

    def of_old(recipe):
        del recipe["sampler"], recipe["decoder_sampler"]
        recipe |= {"mask": "green", "mask_ratio": config.mask_ratio, "boundary": "field"}
        if dual_masking:
            recipe["decoder_mask"] = "none"
        else:
            del recipe["decode_ratio"]

    pretrain(replace(config, epochs=1))
    rewrite_recipe(config.out, of_old)
    _, settings = trained(config.out)
    assert settings.sampler() == config.sampler()
    with pytest.raises(CheckpointError, match=r"sampler, boundary: field then, wrap now"):
        pretrain(replace(config, epochs=1, boundary="wrap", resume=True))
    pretrain(replace(config, epochs=1, resume=True))


def test_the_recipe_is_all_of_the_config_but_how_and_where_it_runs():
    elsewhere = {"data", "out", "resume", "recipe", "batch_size", "accumulate", "device", "dtype", "compile",
                 "checkpoint_blocks", "shard", "workers", "reader", "cache_mib", "frames_cache", "log_every",
                 "save_every", "keep_every", "knn_every", "knn_train", "knn_test", "mask", "mask_ratio", "num_visible",
                 "sigma1", "sigma2", "boundary", "per", "decoder_mask"}  # fmt: skip
    assert set(recipe_fields(Config)) == set(Config.__dataclass_fields__) - elsewhere


def rows(config, function, monkeypatch):
    """The masks that a run trains on, in order."""
    seen, forward = [], VideoMAE.forward
    monkeypatch.setattr(
        VideoMAE, "forward", lambda self, x, masks: seen.append(masks) or forward(self, x, masks)
    )
    function(config)
    return seen


@pytest.mark.parametrize(
    "given",
    [
        {"mask": "tube", "mask_ratio": 0.75},
        {"mask": "videomae-tube", "mask_ratio": None},
        {"mask": "green-2d-tube", "mask_ratio": 0.75, "sigma1": (0.5, 0.9), "sigma2": (1.5, 2.0)},
        {"mask": "random", "mask_ratio": None, "num_visible": 6, "per": "frame"},
        {"mask": '{"sampler": "Red3D", "boundary": "wrap", "num_visible": 7}', "mask_ratio": None},
        {"mask": "optim-blue", "mask_ratio": 0.75},
    ],
    ids=lambda given: given["mask"][:20],
)
def test_any_mask_trains_and_its_checkpoint_names_it(config, given, monkeypatch):
    config = replace(config, epochs=1, **given)
    seen = rows(config, pretrain, monkeypatch)
    sampler = config.sampler()
    assert torch.equal(seen[0].mask, sampler(range(len(seen[0].mask))).mask)
    named = checkpoint.find(config.out)[1]["recipe"]["sampler"]
    assert smnoise.from_json(json.dumps({"seed": config.seed, **named})) == sampler
    assert trained(config.out)[1].sampler() == sampler


def test_a_mask_from_a_file_and_from_a_pool(config, tmp_path, monkeypatch):
    sampler = smnoise.Red3D(config.grid, num_visible=7)
    (tmp_path / "mask.json").write_text(sampler.to_json())
    assert replace(config, mask=f"@{tmp_path / 'mask.json'}", mask_ratio=None).sampler() == sampler
    pool = tmp_path / "pool.safetensors"
    pools.save(pools.build_masks(sampler, 5), pool)
    config = replace(config, mask=str(pool), mask_ratio=None, epochs=1)
    pretrain(config)
    found = video_runs.of_run(config.out)
    assert torch.equal(found.sampler()([3]).mask, config.sampler()([3]).mask)
    pool.unlink()
    assert video_runs.of_run(config.out).model is not None  # needs no masks
    with pytest.raises(CheckpointError, match=r"drew its masks from the pool .*pool\.safetensors, but"):
        found.sampler()


def test_to_resume_out_is_enough(config, tmp_path):
    """The other settings are the run's; what is given besides is compared, and told."""
    whole = replace(config, out=tmp_path / "whole")
    done = weights(pretrain(whole))
    stopped = iter([False] * 3 + [True] * 99)
    pretrain(config, stop=lambda: next(stopped))
    again = parse(Config, "", ["--resume", "--out", str(config.out), "--log-every", "2", "--workers", "1"])
    assert again == replace(config, resume=True, log_every=2, workers=1)
    assert all(torch.equal(done[n], value) for n, value in weights(pretrain(again)).items())
    events = [r["event"] for r in log.read(config.out) if "event" in r]
    assert "log_every: 1 then, 2 now" in events
    assert "workers: 0 then, 1 now" in events
    assert parse(Config, "", ["--resume", "--out", str(config.out), "--mask", "tube"]).mask == "tube"
