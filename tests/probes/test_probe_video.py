# SPDX-License-Identifier: Apache-2.0
"""Probes on videos: views, the motion task, the attentive and the k-NN probe, curves over checkpoints."""

import json
import math
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from media import frame_number, write_video

from smnoise import CheckpointError, DataError
from smnoise.data.video.clips import VideoFile
from smnoise.data.video.views import EveryVideo, over_views, spread, uniform_indices
from smnoise.models.common import Size
from smnoise.models.videomae import VideoMAE
from smnoise.probes.attentive import attentive_probe, standard
from smnoise.probes.features import features_of
from smnoise.probes.linear import linear_probe
from smnoise.probes.nearest import nearest_probe
from smnoise.train import video
from smnoise.train.pretrained.video import trained, untrained
from smnoise.train.probe import Config, probe_run
from smnoise.train.run import checkpoint

from .clusters import clusters

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Flat grey and moving videos, in folders by label."""
    folder = tmp_path_factory.mktemp("corpus")
    for side, count in (("train", 4), ("test", 2)):
        for label in ("flat", "moving"):
            (folder / side / label).mkdir(parents=True)
            for n in range(count):
                write_video(folder / side / label / f"{label}-{n}.mp4", 20 + 3 * n, moving=label == "moving")
    return folder


@pytest.fixture(scope="module")
def run(corpus, tmp_path_factory):
    config = video.Config(
        data=corpus / "train",
        out=tmp_path_factory.mktemp("pretrained") / "run",
        model="tiny",
        frames=4,
        stride=2,
        size=32,
        patch=16,
        mask_ratio=0.75,
        batch_size=4,
        epochs=2,
        warmup_epochs=0,
        workers=0,
        device="cpu",
        save_every=2,
    )
    video.pretrain(config)
    return config.out


@pytest.fixture
def config(run, corpus):
    return Config(run, corpus / "train", corpus / "test", device="cpu")


def test_one_view_is_the_middle_in_time_and_space(corpus):
    path = corpus / "train" / "flat" / "flat-0.mp4"
    item = EveryVideo([path], frames=4, stride=2, size=32)[0]
    assert (item["clip"].shape, item["clip"].dtype) == ((1, 3, 4, 32, 32), torch.uint8)
    numbers = [frame_number(item["clip"][0, :, t].permute(1, 2, 0).numpy()) for t in range(4)]
    assert numbers == [6, 8, 10, 12]  # of 20 frames 13 are the last 7 apart


def test_views_are_segments_times_crops(corpus):
    path = corpus / "train" / "moving" / "moving-0.mp4"
    clips = EveryVideo([path], frames=2, stride=4, size=64, segments=3, crops=3)
    views = clips[0]["clip"].unflatten(0, (3, 3))
    assert views.shape == (3, 3, 3, 2, 64, 64)
    for k, first in enumerate((0, 4, 12)):  # of 0, 4, 8, 12, as the clip has a second frame
        want = torch.from_numpy(VideoFile(path).read([first, first + 4])).permute(3, 0, 1, 2)
        for crop, x in enumerate((0, 16, 32)):
            assert torch.equal(views[k, crop], want[..., x : x + 64])


def test_segments_of_a_test_begin_where_videomaes_do():
    views = EveryVideo([], segments=5)
    assert [views._indices(300, k)[0] for k in range(5)] == [0, 56, 116, 176, 236]
    assert views._indices(300, 4) == [*range(236, 300, 4)]
    assert [views._indices(40, k) for k in range(5)] == [[*range(0, 40, 4)] + [36] * 6] * 5  # a short one


def test_uniform_views_are_spread_over_the_whole_video(corpus):
    path = corpus / "train" / "flat" / "flat-0.mp4"
    views = EveryVideo([path], frames=4, size=32, segments=2, sampling="uniform")[0]["clip"]
    numbers = [[frame_number(v[:, t].permute(1, 2, 0).numpy()) for t in range(4)] for v in views]
    assert numbers == [[0, 5, 10, 15], [2, 7, 12, 17]]
    assert uniform_indices(2, 4, 0.5) == [0, 0, 1, 1]
    ssv2 = EveryVideo([], sampling="uniform", segments=2)
    assert [ssv2._indices(100, k)[:5] for k in range(2)] == [[0, 6, 12, 18, 25], [3, 9, 15, 21, 28]]
    once = EveryVideo([], sampling="uniform")._indices(100, 0)
    assert once[:3] == [3, 9, 15]
    assert [spread(10, k, 3) for k in range(3)] == [0, 5, 10]


def test_small_frames_are_enlarged_and_high_ones_are_cropped_along_their_height(tmp_path):
    path = write_video(tmp_path / "wide.mp4", 4)
    assert EveryVideo([path], frames=2, stride=1, size=112)[0]["clip"].shape == (1, 3, 2, 112, 112)
    clips = EveryVideo([path], size=40, crops=3)
    tall = torch.arange(80, dtype=torch.uint8).view(1, 1, 80, 1).expand(3, 2, 80, 40)
    assert [int(c[0, 0, 0, 0]) for c in clips._crops(tall)] == [0, 20, 40]


def test_a_broken_video_has_a_message_and_no_row(corpus, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    torch.manual_seed(0)
    model = VideoMAE(Size(24, 2, 2, 16, 2, 2), (2, 2, 2))
    good = corpus / "train" / "flat" / "flat-0.mp4"
    clips = EveryVideo([broken, good], frames=4, stride=1, size=32)
    found = features_of(model, clips, lambda views: views[:, 0])
    assert found.places == [1]
    assert "broken.mp4" in found.broken[0]
    with pytest.raises(DataError, match="none of the 1 videos decodes"):
        features_of(model, EveryVideo([broken], frames=4, size=32), lambda views: views[:, 0])


def test_features_are_the_mean_of_tokens_and_of_views():
    torch.manual_seed(0)
    model = VideoMAE(Size(24, 2, 2, 16, 2, 2), (2, 2, 2)).eval()
    views = torch.randint(0, 256, (2, 3, 3, 4, 32, 32), dtype=torch.uint8)
    torch.testing.assert_close(model.features(views[:, 0]), model.tokens(views[:, 0]).mean(1))
    want = torch.stack([model.features(views[:, v]) for v in range(3)]).mean(0)
    torch.testing.assert_close(over_views(model.features)(views), want)


def test_the_nearest_vote_by_the_weights_of_the_paper():
    x, y = clusters(40, spread=2.0)
    test_x, test_y = clusters(9, spread=2.0, seed=3)
    found = nearest_probe(x, y, test_x, test_y, neighbours=5)
    for i, row in enumerate(test_x.double()):
        cosine = torch.nn.functional.cosine_similarity(row[None], x.double())
        votes = torch.zeros(3, dtype=torch.float64)
        for j in cosine.argsort(descending=True)[:5]:
            votes[y[j]] += math.exp(cosine[j] / 0.07)
        torch.testing.assert_close(found.votes[i], votes / votes.sum())
    right = (found.votes.argmax(1) == test_y).double().mean()
    assert found.accuracy == pytest.approx(right.item())
    assert nearest_probe(*clusters(30, spread=0.1), *clusters(30, spread=0.1, seed=3)).accuracy == 1
    assert nearest_probe(x, y, 1e30 * test_x, test_y).votes.isfinite().all()
    several = torch.nn.functional.one_hot(y, 3)
    assert math.isnan(nearest_probe(x, several, x, several).accuracy)
    assert nearest_probe(x[:4], y[:4], x[:4], y[:4], neighbours=99).votes.shape == (4, 3)
    for wrong in ({"neighbours": 0}, {"temperature": 0.0}):
        with pytest.raises(ValueError, match="at least 1 neighbour"):
            nearest_probe(x, y, x, y, **wrong)


def needles(count, seed):
    """Noise in which a marked token, anywhere, tells the class by a sign that another token cancels in the mean."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(count, 8, 16, generator=generator)
    y = torch.arange(count) % 2
    for i in range(count):
        at = torch.randperm(8, generator=generator)[:2]
        tokens[i, at[0], 0] = 12.0
        tokens[i, at[0], 1] = 6.0 if y[i] else -6.0
        tokens[i, at[1], 1] = -6.0 if y[i] else 6.0
    return tokens, y


def test_the_attentive_probe_finds_what_the_mean_hides():
    (x, y), (test_x, test_y) = needles(400, 1), needles(200, 2)
    found = attentive_probe(x, y, test_x, test_y, epochs=20, lr=5e-3)
    assert found.accuracy > 0.95
    assert found.losses[-1] < 0.5 * found.losses[0]
    assert linear_probe(x.mean(1), y, test_x.mean(1), test_y).accuracy < 0.7


def test_the_attentive_probe_is_the_same_every_time_and_takes_half_precision():
    (x, y), (test_x, test_y) = needles(64, 1), needles(32, 2)
    state = torch.random.get_rng_state()
    one = attentive_probe(x, y, test_x, test_y, epochs=2)
    assert torch.equal(torch.random.get_rng_state(), state)
    two = attentive_probe(x, y, test_x, test_y, epochs=2)
    assert one[:3] == two[:3]
    assert attentive_probe(x, y, test_x, test_y, epochs=2, seed=1).losses != one.losses
    half = attentive_probe(x.half(), y, test_x.half(), test_y, epochs=2)
    assert half.losses == pytest.approx(one.losses, rel=1e-2)
    mean, scale = standard(x)
    torch.testing.assert_close(mean, x.double().mean((0, 1)))
    torch.testing.assert_close(1 / scale, x.double().flatten(0, 1).std(0, correction=0))
    several = torch.nn.functional.one_hot(y, 2)
    assert math.isnan(attentive_probe(x, several, test_x, several[:32], epochs=1).accuracy)


def test_what_cannot_be_attended_to_is_an_error():
    (x, y), nan = needles(8, 1), torch.full((8, 2, 4), math.nan)
    for arguments in ((x[:, 0], y, x, y), (x, y, x[:, 0], y)):
        with pytest.raises(ValueError, match=r"need tokens \[N, L, D\]"):
            attentive_probe(*arguments)
    with pytest.raises(ValueError, match="train features hold NaN"):
        attentive_probe(nan, y, nan, y)
    with pytest.raises(ValueError, match="positive lr"):
        attentive_probe(x, y, x, y, lr=0)


def test_labels_of_folders_and_of_lists(config, corpus, tmp_path):
    scores = probe_run(config)
    assert scores["classes"] == ["flat", "moving"]
    assert (scores["train_clips"], scores["test_clips"], scores["step"]) == (8, 4, 4)
    assert scores["accuracy"] == 1
    lists = {}
    for side in ("train", "test"):
        files = sorted((corpus / side).rglob("*.mp4"))
        lists[side] = tmp_path / f"{side}.txt"
        lists[side].write_text("".join(f"{p} {int('moving' in p.name)}\n" for p in files) + "gone.mp4 1\n")
    by_list = probe_run(replace(config, **lists))
    assert by_list["accuracy"] == 1
    assert len(by_list["skipped"]) == 2
    views = probe_run(replace(config, segments=2, crops=2, groups="(.*)-"))
    assert views["accuracy"] == 1
    assert probe_run(replace(config, per_class=2, draws=3))["accuracy"] == 1


def test_every_checkpoint_and_the_first_weights(config, run):
    curve = probe_run(replace(config, all_checkpoints=True, probes=("linear", "attentive", "nearest")))
    assert [at["step"] for at in curve["checkpoints"]] == [0, 2, 4]
    last = probe_run(replace(config, probes=("linear", "attentive", "nearest")))
    assert {k: v for k, v in last.items() if k in curve["checkpoints"][2]} == curve["checkpoints"][2]
    names = [
        f"{p}{n}" for p in ("", "attentive_", "nearest_") for n in ("accuracy", "mean_average_precision")
    ]
    assert set(names) <= set(last)
    model, settings = trained(run)
    tensors = checkpoint.newest(run)[0]
    assert all(torch.equal(v, tensors[n]) for n, v in model.state_dict().items())
    first = untrained(settings).state_dict()
    assert any(not torch.equal(v, tensors[n]) for n, v in first.items())


def test_a_damaged_checkpoint_is_named_and_left_out(config, run, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    (copy / "checkpoints" / "step-00000002" / "model.safetensors").write_bytes(b"")
    curve = probe_run(replace(config, run=copy, all_checkpoints=True))
    assert [at["step"] for at in curve["checkpoints"]] == [0, 4]
    assert "step-00000002" in curve["skipped"][0]


def test_the_motion_task(config, corpus):
    motion = replace(config, motion=True, motion_clips=(30, 16))
    scores = probe_run(motion)
    assert (scores["train_clips"], scores["test_clips"]) == (32, 16)
    assert scores["classes"][1] == "left"
    assert 0 <= scores["accuracy"] <= 1
    assert probe_run(motion) == scores
    playing = probe_run(replace(motion, motion_source="moving", train=None, test=None))
    assert playing["train_clips"] == 32


def test_runs_and_settings_that_cannot_be_probed(config, run, tmp_path):
    with pytest.raises(ValueError, match="or --motion"):
        Config(run)
    with pytest.raises(ValueError, match="both train and test"):
        Config(run, train=config.train, motion=True)
    with pytest.raises(ValueError, match="at least one probe"):
        replace(config, segments=0)
    model = torch.nn.Linear(1, 1)
    checkpoint.save(tmp_path, 1, model, torch.optim.AdamW(model.parameters()), {"recipe": {"tubelet": 2}})
    with pytest.raises(CheckpointError, match=r"no run of smnoise\.train\.video: its recipe has no model"):
        probe_run(replace(config, run=tmp_path))


def test_the_command_line(run, corpus):
    command = [sys.executable, "-m", "smnoise.train.probe", "--run", run, "--train", corpus / "train"]
    command += [
        "--test",
        corpus / "test",
        "--device",
        "cpu",
        "--probes",
        "linear",
        "nearest",
        "--all-checkpoints",
    ]
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*map(str, command), "--json"], capture_output=True, text=True, env=alone)
    assert done.returncode == 0, done.stderr
    assert [at["step"] for at in json.loads(done.stdout)["checkpoints"]] == [0, 2, 4]
    table = subprocess.run([*map(str, command)], capture_output=True, text=True, env=alone).stdout
    assert "nearest" in table
    assert np.all([f"│ {step} " in table for step in (0, 2, 4)])
