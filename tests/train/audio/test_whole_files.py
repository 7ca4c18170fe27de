# SPDX-License-Identifier: Apache-2.0
"""Training on whole sound files, of several lengths in a batch."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch

from smnoise import CheckpointError, Ragged
from smnoise.models.whole import Heard, WholeAudioMAE
from smnoise.train import probe
from smnoise.train.audio import job, pretrain
from smnoise.train.pretrained.audio import of_run, trained
from smnoise.train.run import checkpoint
from smnoise.train.whole_files import ragged_of
from smnoise.train.world import ALONE

from .runs import CPU, RATE, losses, same, weights

SECONDS = (0.09, 0.2, 0.32, 0.5)


@pytest.fixture(scope="module")
def lengths(tmp_path_factory):
    """Sounds of 0.09 to 0.5 s; the last is longer than the spectrogram."""
    folder = tmp_path_factory.mktemp("lengths")
    for n, seconds in enumerate(SECONDS):
        time = np.arange(round(seconds * RATE)) / RATE
        noise = np.random.default_rng(n).normal(0, 0.02, len(time))
        soundfile.write(folder / f"{n}.wav", 0.3 * np.sin(2 * np.pi * (300 + 200 * n) * time) + noise, RATE)
    (folder / "list.txt").write_text("".join(f"{n}.wav {n % 2}\n" for n in range(4)))
    return folder


@pytest.fixture
def whole(config, lengths):
    return replace(config, data=lengths, whole_files=True, mask="green-2d")


def seen_by(monkeypatch):
    seen, forward = [], WholeAudioMAE.forward
    monkeypatch.setattr(
        WholeAudioMAE, "forward", lambda self, x, masks: seen.append((x, masks)) or forward(self, x, masks)
    )
    return seen


def test_each_file_has_the_ratio_of_its_own_length(whole, monkeypatch):
    seen = seen_by(monkeypatch)
    pretrain(whole)
    by_step = losses(whole.out)
    assert by_step[18] < by_step[1]
    sampler = Ragged((4, 4), 0.75, strategy="green-2d")
    lengths = set()
    inputs = trained(whole.out)[1]
    for samples in range(0, 5000, 7):
        assert inputs.longest([samples, 5]) == int(inputs.steps(torch.tensor([samples, 5])).max())
    for step, (spectrograms, masks) in enumerate(seen):
        steps = masks.tokens // 4
        lengths |= set(steps.tolist())
        assert spectrograms.shape == (4, 8 * int(steps.max()), 32)  # no longer than the longest
        wanted = sampler(range(4 * step, 4 * step + 4), lengths=steps)
        for mine, its in zip(masks, wanted, strict=True):
            assert torch.equal(mine, its)
        assert (masks.num_visible == masks.tokens // 4).all()  # a quarter, exactly
    assert lengths == {1, 3, 4}


def test_a_batch_is_its_clips_one_by_one(whole):
    made = job(whole, CPU, False, ALONE)
    made.begin({"mean": -5.0, "std": 3.0})
    made.model.eval()
    items = [made.clips[n] for n in range(4)]

    def loss(some):
        names = ("wave", "length", "sample")
        batch = {n: torch.stack([torch.as_tensor(item[n]) for item in some]) for n in names}
        with torch.no_grad():
            return made.loss(made.model, batch, 1, 0).item()

    assert loss(items) == pytest.approx(sum(loss([item]) for item in items) / 4, rel=1e-4)


def test_accumulating_is_a_larger_batch(whole, tmp_path):
    """Each clip counts alike, however long the others of its pass are."""
    pretrain(replace(whole, epochs=3))
    pretrain(replace(whole, epochs=3, batch_size=1, accumulate=4, out=tmp_path / "other"))
    assert list(losses(whole.out).values()) == pytest.approx(
        list(losses(tmp_path / "other").values()), rel=1e-3
    )


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(whole, tmp_path):
    done = weights(pretrain(replace(whole, sigmas="bandit", bandit_every=4, decoder="global")))
    broken = replace(whole, sigmas="bandit", bandit_every=4, decoder="global", out=tmp_path / "broken")
    asked = iter([False] * 6 + [True])
    pretrain(broken, stop=lambda: next(asked))
    assert same(done, weights(pretrain(replace(broken, resume=True))))
    assert losses(broken.out) == losses(whole.out)
    states = [checkpoint.newest(run)[2]["bandit"] for run in (whole.out, broken.out)]
    assert states[0] == states[1]


def test_a_run_is_read_as_it_was_trained(whole, lengths):
    """By probes too, whose features are of a file's own patches."""
    model = pretrain(replace(whole, epochs=1))
    again, inputs = trained(whole.out)
    assert isinstance(again, WholeAudioMAE)
    assert same(again.state_dict(), model.state_dict())
    wave = torch.randn(2, inputs.samples, generator=torch.Generator().manual_seed(0)) / 10
    wave[0, 1000:] = 0
    heard = inputs(wave, torch.tensor([1000, inputs.samples]))
    assert isinstance(heard, Heard)
    assert heard.steps.tolist() == [2, 4]
    alone = inputs(wave[:1, :1000], torch.tensor([1000]))
    cut = Heard(alone.spectrograms[:, :16], alone.steps)
    torch.testing.assert_close(again.eval().features(heard)[0], again.features(cut)[0], atol=1e-5, rtol=1e-4)
    found = of_run(whole.out)
    assert found.first().state_dict().keys() == model.state_dict().keys()
    assert found.config.whole_files
    scores = probe.probe_run(
        probe.Config(run=whole.out, train=lengths / "list.txt", test=lengths / "list.txt",
                     probes=("linear", "nearest", "attentive"), device="cpu", attentive_epochs=1)
    )  # fmt: skip
    assert scores["test_clips"] == 4


def test_pictures_and_knn_of_whole_files(whole, lengths):
    knn = {"knn_every": 3, "knn_train": lengths / "list.txt", "knn_test": lengths / "list.txt"}
    pretrain(replace(whole, epochs=1, **knn))
    made = job(whole, CPU, False, ALONE)
    made.begin({"mean": -5.0, "std": 3.0})
    made.model.eval()
    assert set(made.pictures()) == {"mask", "reconstruction"}


def test_whole_files_are_another_recipe(whole):
    pretrain(replace(whole, epochs=1))
    with pytest.raises(CheckpointError, match="whole_files: True then, False now"):
        pretrain(replace(whole, epochs=1, whole_files=False, resume=True))


@pytest.mark.parametrize(
    "mask", ["random", "red-2d", "green-3d", '{"sampler": "Blue2D", "sigma1": [0.5, 0.9]}']
)
def test_masks_that_can_be_cut_at_any_length(whole, mask):
    ragged = ragged_of(replace(whole, mask=mask, seed=3).sampler())
    assert ragged.seed == 3
    masks = ragged([0, 1], lengths=[1, 4])
    assert masks.num_visible.tolist() == [1, 4]
    if mask.startswith("{"):
        assert tuple(ragged.parameters["sigma1"]) == (0.5, 0.9)


@pytest.mark.parametrize(
    ("change", "words"),
    [({"mask": "optim-blue"}, "whole_files needs a mask that can be cut at any length.*got OptimBlue"),
     ({"mask": "time-bars"}, "got TimeBars"), ({"mask": "green-2d-tube"}, "Green2D"),
     ({"mask_ratio": None, "num_visible": 4}, "needs a mask_ratio"), 
     ({"per": "frame", "mask": "green-3d"}, "leave num_visible and per out"),
     ({"positions": "published"}, "needs positions right"), ({"roll": True}, "begin at their beginning"),
     ({"mask_ratio": 0.99, "mask": "random"}, "visible")],
)  # fmt: skip
def test_what_does_not_go_with_whole_files(whole, change, words):
    with pytest.raises(ValueError, match=words):
        replace(whole, **change)


def test_a_teacher_hears_one_length(whole, tmp_path):
    with pytest.raises(ValueError, match="a teacher hears clips of one length"):
        replace(whole, teacher=tmp_path)
