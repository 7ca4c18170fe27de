# SPDX-License-Identifier: Apache-2.0
"""The VideoMAE trainer, run as a user runs it: real files in, a run folder out."""

import json
import shutil
import signal
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from smnoise import CheckpointError, DataError
from smnoise.data.signals import StopOnSignal
from smnoise.data.video.cache import make
from smnoise.data.video.clips import VideoClips
from smnoise.train import loop
from smnoise.train.run import checkpoint, log
from smnoise.train.run.throughput import LoaderWaits
from smnoise.train.video import pretrain

from .runs import losses, weights


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


def test_a_log_cut_short_by_a_kill_is_read_up_to_the_cut(tmp_path):
    (tmp_path / log.NAME).write_text('5\n{"step": "x"}\n{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    assert log.read(tmp_path) == [{"step": 1, "loss": 2.0}]
    assert log.read(tmp_path / "absent") == []


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
    assert (
        f"python -m smnoise.data.video.cache --data {config.data} --out CACHE, then --frames-cache CACHE"
        in told
    )


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
