# SPDX-License-Identifier: Apache-2.0
"""Several views of a clip that is decoded once: what they share and what not, in any order of reading."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from media import write_video

from smnoise.data.audio.clips import AudioClips, find_sounds
from smnoise.data.numbered import loader
from smnoise.data.video.clips import VideoClips, VideoFile, find_videos
from smnoise.train import audio, video
from smnoise.train.run import log as logs


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for n in range(3):
        write_video(folder / f"{n}.mp4", 24 + 5 * n, moving=True)
        soundfile.write(folder / f"{n}.wav", np.random.default_rng(n).uniform(-1, 1, 12000), 8000)
    return folder


@pytest.fixture
def videos(data):
    return VideoClips(find_videos(data), frames=4, stride=2, size=32, seed=3, views=3)


@pytest.fixture
def sounds(data):
    return AudioClips(find_sounds(data), rate=8000, samples=4000, seed=3, gain=True, views=3)


def test_views_of_a_clip_are_crops_of_the_same_frames_decoded_once(videos, monkeypatch):
    reads, read = [], VideoFile.read
    monkeypatch.setattr(VideoFile, "read", lambda self, *a: reads.append(self.path) or read(self, *a))
    rows = [videos[n] for n in range(9)]
    assert len(reads) == 3
    assert sorted(reads) == videos.paths  # an epoch is each file once, whatever the views
    assert [row["sample"] for row in rows] == list(range(9))
    crops = torch.stack([row["clip"] for row in rows]).float()
    assert all((crops[i] != crops[j]).any() for i in range(9) for j in range(i))


def test_a_view_is_the_same_whatever_was_read_before(videos, sounds):
    for clips, name in ((videos, "clip"), (sounds, "wave")):
        in_order = [clips[n][name] for n in range(9)]
        for n in (5, 0, 8, 4, 3, 5):
            assert torch.equal(clips[n][name], in_order[n])
        batches = loader(clips, range(9), 3, workers=2)
        assert torch.equal(torch.cat([batch[name] for batch in batches]), torch.stack(in_order))


def test_views_of_a_sound_are_the_same_part_at_other_gains(sounds):
    first, second, third, other = (sounds[n]["wave"] for n in range(4))
    for wave in (second, third):
        ratio = (wave / first)[first.abs() > 0.01]
        assert ratio.std() < 1e-4
        assert abs(ratio.mean() - 1) > 1e-3
    assert (other / first).std() > 0.1


def test_one_view_is_what_it_was(data):
    """The same frames and crops for each clip as without `views`."""
    plain = VideoClips(find_videos(data), frames=4, stride=2, size=32, seed=3)
    assert torch.equal(plain[4]["clip"], replace(plain, views=1)[4]["clip"])


@pytest.fixture
def config(data, tmp_path):
    return audio.Config(
        data=data,
        out=tmp_path / "run",
        model="tiny",
        rate=8000,
        frames=32,
        mels=32,
        patch=8,
        mask_ratio=0.75,
        batch_size=2,
        accumulate=1,
        epochs=4,
        warmup_epochs=1,
        workers=0,
        device="cpu",
        log_every=1,
        views=2,
    )


@pytest.mark.parametrize("view_masks", ["consecutive", "partition"])
def test_masks_of_the_views(config, monkeypatch, view_masks):
    """By number, or the first two of the four complementary masks of the clip's own partition."""
    config = replace(config, view_masks=view_masks)
    seen, forward = [], audio.AudioMAE.forward
    monkeypatch.setattr(
        audio.AudioMAE, "forward", lambda self, x, m: seen.append((x, m)) or forward(self, x, m)
    )
    audio.pretrain(config)
    assert len(seen) == 6  # 4 epochs of 3 clips in steps of 2
    sampler = config.sampler()
    shape = 12, -1, sampler.visible_per_sample
    views = sampler.views(range(12)).ids_keep.view(shape)[:, :2]
    expected = sampler(range(24)).ids_keep.view(shape) if view_masks == "consecutive" else views
    assert torch.equal(torch.cat([masks.ids_keep for _, masks in seen]).view(shape), expected)
    assert all(len(spectrograms) == 4 for spectrograms, _ in seen)
    records = [r for r in logs.read(config.out) if "loss" in r]
    assert records[-1]["epoch"] == 4
    assert records[-1]["lr"] <= config.base_lr * 2 / 256  # of clips


def test_partitions_have_only_so_many_views(config):
    replace(config, view_masks="partition", views=4)
    with pytest.raises(ValueError, match="4 masks, and no more views than that; got optim-blue and 5 views"):
        replace(config, view_masks="partition", views=5)
    with pytest.raises(ValueError, match="is for mask optim-blue"):
        replace(config, view_masks="partition", mask="random")
    with pytest.raises(ValueError, match="views must be at least 1"):
        replace(config, views=0)


def test_a_video_run_of_views_resumes(data, tmp_path):
    config = video.Config(
        data=data,
        out=tmp_path / "run",
        model="tiny",
        frames=4,
        stride=2,
        size=32,
        patch=8,
        batch_size=3,
        epochs=4,
        warmup_epochs=1,
        workers=0,
        device="cpu",
        log_every=1,
        views=2,
    )
    video.pretrain(config)
    stopped = replace(config, out=tmp_path / "stopped")
    asked = iter([False, True])
    video.pretrain(stopped, stop=lambda: next(asked))
    video.pretrain(replace(stopped, resume=True))
    whole, again = ([r["loss"] for r in logs.read(c.out) if "loss" in r] for c in (config, stopped))
    assert whole == again
    assert len(whole) == 4
