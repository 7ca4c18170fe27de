# SPDX-License-Identifier: Apache-2.0
"""Fine-tuning VideoMAE, run as a user runs it; and what it does to clips."""

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from media import write_video

from smnoise import CheckpointError, DataError
from smnoise.data.labels import labelled_videos
from smnoise.data.numbered import loader
from smnoise.data.video.augment import LabelledClips, mixed, seeded_globals, spread_indices
from smnoise.train import video
from smnoise.train.finetune_video import classifier_of, evaluate, finetune, pretrained
from smnoise.train.finetune_video_config import PRESETS, Config
from smnoise.train.run import checkpoint, log
from smnoise.train.settings import recipe_fields

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    for side, count in (("train", 6), ("test", 3)):
        for label in ("flat", "moving"):
            (folder / side / label).mkdir(parents=True)
            for n in range(count):
                write_video(folder / side / label / f"{n}.mp4", 12 + 3 * n, moving=label == "moving")
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
        epochs=1,
        warmup_epochs=0,
        workers=0,
        device="cpu",
    )
    video.pretrain(config)
    return config.out


@pytest.fixture
def config(corpus, run, tmp_path):
    return Config(
        train=corpus / "train",
        test=corpus / "test",
        out=tmp_path / "run",
        run=run,
        batch_size=4,
        accumulate=1,
        views=2,
        epochs=3,
        warmup_epochs=1,
        base_lr=0.06,
        segments=2,
        crops=2,
        workers=0,
        device="cpu",
        log_every=1,
        save_every=100,
    )


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def scores(run):
    return {r["step"]: {n: v for n, v in r.items() if n != "step"} for r in log.read(run) if "score" in r}


def losses(run):
    return {r["step"]: r["loss"] for r in log.read(run) if "loss" in r}


def test_it_learns_says_so_each_epoch_and_can_be_used(config):
    plain = replace(config, epochs=6, randaugment="", erasing=0.0, mixup=0.0, cutmix=0.0, head_drop=0.0)
    model = finetune(plain)
    found = scores(config.out)
    assert list(found) == [3, 6, 9, 12, 15, 18]
    assert found[18]["accuracy"] == found[18]["views_accuracy"] == 1
    assert "views_accuracy" not in found[15]
    loaded, views, names = classifier_of(config.out)
    assert names == ["flat", "moving"]
    assert all(torch.equal(v, model.state_dict()[n]) for n, v in loaded.state_dict().items())
    test = labelled_videos(config.train, config.test)[1]
    assert evaluate(plain, loaded, views, test, torch.device("cpu"), True)[0] == found[18]
    best = checkpoint.newest(config.out / "best")[2]["step"]
    assert best == min(s for s in found if found[s]["score"] == max(f["score"] for f in found.values()))


@pytest.mark.parametrize("change", [{}, {"sampling": "uniform", "views": 1, "accumulate": 2, "flip": False}])
def test_a_resumed_run_ends_where_an_uninterrupted_one_does(config, tmp_path, change):
    config = replace(config, **change)
    whole = weights(finetune(config))
    stopped = replace(config, out=tmp_path / "stopped")
    asked = iter([False] * 3 + [True] + [False] * 99)
    finetune(stopped, stop=lambda: next(asked))
    assert checkpoint.newest(stopped.out)[2]["step"] == 4
    resumed = weights(finetune(replace(stopped, resume=True)))
    assert all(torch.equal(whole[n], resumed[n]) for n in whole)
    assert losses(stopped.out) == losses(config.out)
    assert scores(stopped.out) == scores(config.out)


def test_any_workers_give_the_same_run_and_leave_all_generators_alone(config, tmp_path):
    states = torch.random.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    first = weights(finetune(replace(config, epochs=1, warmup_epochs=0)))
    other = replace(config, epochs=1, warmup_epochs=0, workers=2, out=tmp_path / "other")
    second = weights(finetune(other))
    assert all(torch.equal(first[n], second[n]) for n in first)
    assert torch.equal(torch.random.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert (np.random.get_state()[1] == states[2]).all()  # noqa: NPY002


def test_from_scratch_and_at_another_size(config):
    scratch = replace(config, run=None, from_scratch=True, model="tiny", frames=4, stride=2, size=32)
    first, views = pretrained(scratch)
    assert (views.frames, views.stride, views.size) == (4, 2, 32)
    second, _ = pretrained(config)
    assert not torch.equal(first.embed.weight, second.embed.weight)
    finetune(replace(config, epochs=1, frames=6, size=48))


def clips_of(corpus, **kw):
    paths = sorted((corpus / "train").rglob("*.mp4"))
    return LabelledClips(
        paths, **{"labels": torch.arange(len(paths)), "frames": 4, "stride": 2, "size": 32, "views": 2, **kw}
    )


AUGMENTED = {"randaugment": "rand-m7-n4-mstd0.5-inc1", "erasing": 1.0}


def test_a_clip_is_a_function_of_its_number(corpus):
    clips = clips_of(corpus, **AUGMENTED)
    want = [clips[n] for n in range(6)]
    assert want[0]["clip"].shape == (2, 3, 4, 32, 32)
    assert want[0]["clip"].dtype == torch.uint8
    assert not torch.equal(want[0]["clip"][0], want[0]["clip"][1])
    again = clips_of(corpus, **AUGMENTED)
    for item in reversed(want):
        assert torch.equal(again[item["sample"]]["clip"], item["clip"])
    (batch,) = loader(clips, range(6), 6, 2)
    assert torch.equal(batch["clip"], torch.stack([item["clip"] for item in want]))
    assert batch["label"].tolist() == [item["label"] for item in want]
    assert not torch.equal(clips_of(corpus, **AUGMENTED, seed=1)[0]["clip"], want[0]["clip"])


def test_all_frames_of_a_clip_are_treated_alike(corpus):
    """A clip of one frame four times: whatever was done to it, its frames are the same, but for erased noise."""
    clips = clips_of(corpus, randaugment=AUGMENTED["randaugment"])
    frame = np.random.default_rng(0).integers(0, 256, (1, 64, 96, 3), dtype=np.uint8).repeat(4, axis=0)
    for sample in range(20):
        view = clips.view(frame, sample, 0)
        assert (view == view[:, :1]).all()
    erased = clips_of(corpus, erasing=1.0)
    plain = clips_of(corpus)
    changed = torch.stack([(erased.view(frame, n, 0) != plain.view(frame, n, 0)).any(0) for n in range(20)])
    boxes = changed.any(dim=1)
    assert 0.02 < boxes.float().mean() < 0.34
    assert (changed.float().mean(dim=1)[boxes] > 0.9).all()
    assert not torch.equal(erased.view(frame, 0, 0)[:, 0], erased.view(frame, 0, 0)[:, 1])


def test_uniform_samples_take_a_frame_from_each_part(corpus):
    clips = clips_of(corpus, sampling="uniform")
    taken = np.array([clips.indices(22, n) for n in range(300)])
    for i, (a, b) in enumerate(((0, 5), (5, 11), (11, 16), (16, 22))):
        assert sorted(set(taken[:, i])) == list(range(a, b))
    assert clips.indices(2, 0) == [0, 0, 1, 1]
    dense = clips_of(corpus)
    path = dense.paths[dense.turn(0)]
    assert len({tuple(dense.indices(30, n)) for n in range(300)}) == 30 - 4 * 2, path


def test_dense_frames_are_spread_over_the_span_as_videomaes_are():
    assert spread_indices(300, 16, 4, 7) == [
        7 + n for n in (0, 4, 8, 12, 17, 21, 25, 29, 34, 38, 42, 46, 51, 55, 59, 63)
    ]
    clips = LabelledClips([None], labels=torch.zeros(1), frames=16, stride=4)
    ends = [clips.indices(300, n) for n in range(3000)]
    assert min(e[0] for e in ends) == 0
    assert max(e[-1] for e in ends) == 298  # of 236 starts the last is 235
    assert spread_indices(40, 16, 4, 0) == [0, 4, 8, 13, 17, 22, 26, 31, 35, 39] + [39] * 6
    assert spread_indices(64, 16, 4, 0)[-1] == 63
    assert spread_indices(3, 16, 4, 0) == [0] + [2] * 15
    assert spread_indices(9, 1, 4, 5) == [5]
    assert spread_indices(9, 2, 4, 0) == [0, 7]


def test_crops_cover_the_range_of_areas_and_aspects(corpus):
    boxes = [clips_of(corpus).box(240, 320, n, v) for n in range(300) for v in range(2)]
    assert len(set(boxes)) > 590
    area = [h * w / (240 * 320) for _, _, h, w, _ in boxes]
    assert min(area) > 0.07
    assert 0.8 < max(area) <= 1
    assert all(0.74 < w / h < 1.35 for _, _, h, w, _ in boxes)
    assert all(0 <= t <= 240 - h and 0 <= x <= 320 - w for t, x, h, w, _ in boxes)
    assert 230 < sum(flip for *_, flip in boxes) < 370
    assert clips_of(corpus).box(10, 4000, 0, 0)[2:4] == (10, 10)


def test_mixing_is_timms_on_every_frame_alike():
    pixels = torch.rand(4, 3, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 2, 1])
    common = {"seed": 0, "smoothing": 0.1}
    for number in range(8):
        found, targets = mixed(pixels.clone(), labels, 3, number=number, mixup=0.8, cutmix=0.0, **common)
        torch.testing.assert_close(targets.sum(1), torch.ones(4))
        share = (found - pixels.flip(0))[0, 0, 0, 0, 0] / (pixels - pixels.flip(0))[0, 0, 0, 0, 0]
        torch.testing.assert_close(found, share * pixels + (1 - share) * pixels.flip(0), atol=1e-4, rtol=1e-4)
        cut, _ = mixed(pixels.clone(), labels, 3, number=number, mixup=0.0, cutmix=1.0, **common)
        from_other = (cut == pixels.flip(0)) & (cut != pixels)
        assert (from_other == from_other[:1, :1, :1]).all()
        again, _ = mixed(pixels.clone(), labels, 3, number=number, mixup=0.0, cutmix=1.0, **common)
        assert torch.equal(cut, again)


def test_generators_are_the_callers_again_even_after_an_error():
    before = random.getstate()
    with pytest.raises(ZeroDivisionError), seeded_globals(0, 1, 2):
        random.random() / 0
    assert random.getstate() == before
    draws = []
    for arguments in ((0, 1, 2), (0, 1, 2), (0, 2, 2), (1, 1, 2), (0, 1, 1), (0, 1, 2, 1)):
        with seeded_globals(*arguments):
            draws.append((random.random(), np.random.rand(), torch.rand(()).item()))  # noqa: NPY002
    assert draws[0] == draws[1]
    assert len({value for draw in draws for value in draw}) == 15


TABLE = {  # batch, GPUs, views, base lr, epochs, layer decay, drop path, head drop, segments x crops
    "k400-800": (8, 64, 1, 1e-3, 100, 0.75, 0.1, 0.0, 5, 3),
    "k400-1600": (6, 64, 2, 5e-4, 75, 0.75, 0.1, 0.0, 5, 3),
    "ssv2-800": (8, 64, 1, 5e-4, 50, 0.75, 0.1, 0.0, 2, 3),
    "ssv2-2400": (6, 64, 2, 5e-4, 30, 0.75, 0.1, 0.0, 2, 3),
    "ucf101": (16, 8, 2, 5e-4, 100, 0.7, 0.2, 0.5, 5, 3),
}
COLUMNS = ("batch_size", "accumulate", "views", "base_lr", "epochs", "layer_decay", "drop_path", "head_drop",
           "segments", "crops")  # fmt: skip


@pytest.mark.parametrize("preset", TABLE)
def test_presets_are_the_published_recipes(preset, tmp_path):
    config = Config(train=tmp_path, test=tmp_path, out=tmp_path, run=tmp_path, preset=preset)
    assert tuple(getattr(config, name) for name in COLUMNS) == TABLE[preset]
    uniform = preset.startswith("ssv2")
    assert (config.sampling, config.flip) == (("uniform", False) if uniform else ("dense", True))
    shared = (config.betas, config.weight_decay, config.warmup_epochs, config.smoothing)
    assert shared == ((0.9, 0.999), 0.05, 5, 0.1)
    assert config.min_lr == (1e-5 if preset == "ucf101" else 1e-6)
    assert (config.mixup, config.cutmix, config.erasing) == (0.8, 1.0, 0.25)
    assert config.randaugment == "rand-m7-n4-mstd0.5-inc1"
    assert set(PRESETS[preset]) == set(PRESETS["ucf101"])


def test_the_recipe_is_all_of_the_config_but_how_and_where_it_runs():
    """Files, classes, encoder and inputs are in it as what they are."""
    elsewhere = {"out", "resume", "recipe", "device", "dtype", "compile", "checkpoint_blocks", "shard", "workers",
                 "log_every", "tensorboard", "save_every", "keep_every", "knn_every", "knn_train", "knn_test", "train",
                 "test", "run", "preset", "classes", "model", "tubelet", "patch", "frames", "stride",
                 "size", "frames_cache"}  # fmt: skip
    assert set(recipe_fields(Config)) == {f.name for f in fields(Config)} - elsewhere


def test_broken_files_of_either_set_are_named_and_left_out(config, corpus, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    lists = {}
    for side in ("train", "test"):
        lists[side] = tmp_path / f"{side}.txt"
        files = sorted((corpus / side).rglob("*.mp4"))
        lists[side].write_text(
            "".join(f"{p} {int('moving' in str(p))}\n" for p in [*files, broken]) + "gone.mp4 1\n"
        )
    finetune(replace(config, **lists, epochs=1))
    events = [r["event"] for r in log.read(config.out) if "event" in r]
    assert len([e for e in events if "broken.mp4" in e]) == 2
    assert len([e for e in events if "gone.mp4" in e]) == 2
    lists["train"].write_text(lists["train"].read_text().replace(" 1", " 1;0", 1))
    with pytest.raises(DataError, match="several labels"):
        finetune(replace(config, **lists, out=tmp_path / "other"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": "base"}, "another architecture: its model"),
        ({"tubelet": 4}, "its tubelet"),
        ({"frames": 5}, "multiple of the tubelet of 2"),
        ({"size": 40}, "size of the patch of 16"),
        ({"batch_size": 3, "views": 1}, "in pairs"),
        ({"randaugment": "nonsense"}, "randaugment must be"),
        ({"erasing": 1.5}, "erasing"),
        ({"head_drop": 1.0}, "head_drop"),
        ({"epochs": 0}, "epochs"),
        ({"base_lr": 0.0}, "base_lr"),
        ({"from_scratch": True}, "either run"),
    ],
)
def test_a_config_that_cannot_work_is_an_error(config, change, words):
    with pytest.raises(ValueError, match=words):
        finetune(replace(config, **change))
    assert not config.out.exists()


def test_runs_that_cannot_be_gone_on_from(config, run):
    with pytest.raises(CheckpointError, match=r"no run of smnoise\.train\.finetune_video"):
        classifier_of(run)
    finetune(replace(config, epochs=1))
    with pytest.raises(CheckpointError, match=r"another recipe(?s:.*)cutmix: 1.0 then, 0.5 now"):
        finetune(replace(config, epochs=1, cutmix=0.5, resume=True))


def test_a_step_of_a_preset_sees_no_more_clips_than_an_epoch_has(config, corpus):
    """Or the first try with ten files is refused: the 64 passes stand for as many GPUs."""
    config = replace(config, accumulate=64, epochs=2)
    finetune(config)
    events = [r["event"] for r in log.read(config.out) if "event" in r]
    assert sum("accumulate is 3 here" in event for event in events) == 1
    assert "2 steps of 12 clips" in events[0]
    state = checkpoint.find(config.out)[1]
    assert (state["step"], state["recipe"]["accumulate"]) == (2, 3)
    finetune(replace(config, resume=True))
    with pytest.raises(CheckpointError, match="accumulate: 3 then, 2 now"):
        finetune(replace(config, accumulate=2, resume=True))


def test_the_log_tells_the_grid_of_the_clips_not_of_pretraining(config):
    finetune(replace(config, frames=8, size=48, epochs=1))
    assert "grid (4, 3, 3), 2 classes" in log.read(config.out)[0]["event"]


def test_a_setting_that_this_version_does_not_know_is_an_error_everywhere(config, run, tmp_path):
    """A newer one trained by it: what is read or gone on with would be something else."""
    finetune(replace(config, epochs=1))
    for folder in (config.out, shutil.copytree(run, tmp_path / "newer")):
        file = checkpoint.steps(folder)[0] / "state.json"
        state = json.loads(file.read_text())
        state["recipe"]["twist"] = 0.5
        file.write_text(json.dumps(state))
        manifest = file.with_name("manifest.json")
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"state.json": digest}))
    with pytest.raises(CheckpointError, match=r"twist: 0\.5 then, \(no such setting\) now"):
        finetune(replace(config, epochs=1, resume=True))
    with pytest.raises(CheckpointError, match=r"does not know: twist; a newer one wrote it"):
        classifier_of(config.out)
    with pytest.raises(CheckpointError, match=r"does not know: twist"):
        finetune(replace(config, run=tmp_path / "newer", out=tmp_path / "other"))


def test_a_run_of_a_trainer_that_did_other_steps_is_not_gone_on_with(config):
    finetune(replace(config, epochs=1))
    file = checkpoint.steps(config.out)[0] / "state.json"
    state = json.loads(file.read_text())
    del state["recipe"]["trainer_revision"]
    file.write_text(json.dumps(state))
    manifest = file.with_name("manifest.json")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"state.json": digest}))
    with pytest.raises(CheckpointError, match="trainer_revision: 1 then, 2 now"):
        finetune(replace(config, epochs=1, resume=True))
    assert classifier_of(config.out)[2] == ["flat", "moving"]


def test_the_command_line(config, run, corpus):
    arguments = ["--run", run, "--train", corpus / "train", "--test", corpus / "test", "--out", config.out]
    arguments += ["--batch-size", 4, "--accumulate", 1, "--epochs", 1, "--warmup-epochs", 0, "--segments", 1]
    command = [sys.executable, "-m", "smnoise.train.finetune_video", *map(str, arguments)]
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--workers", "0", "--device", "cpu"], capture_output=True, text=True, env=alone
    )
    assert done.returncode == 0, done.stderr
    assert "after step 3: accuracy" in done.stdout
