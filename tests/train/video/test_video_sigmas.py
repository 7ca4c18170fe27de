# SPDX-License-Identifier: Apache-2.0
"""Sigmas that a run of the VideoMAE trainer draws by the step or by losses: what the log says, and what resumes."""

import hashlib
import json
from dataclasses import replace

import pytest
import torch

import smnoise
from smnoise import CheckpointError
from smnoise.bandit import SigmaBandit
from smnoise.sigmas import SigmaSchedule
from smnoise.train import video
from smnoise.train.run import checkpoint, log
from smnoise.train.video import pretrain

from .runs import losses, weights


@pytest.fixture
def learning(config):
    return replace(config, sigmas="bandit", bandit_reward="hardest", bandit_every=4)


def shares(run):
    return {r["step"]: r["sigma_shares"] for r in log.read(run) if "sigma_shares" in r}


def masks_of(monkeypatch):
    """Fills up with the masks that the model is given."""
    seen, forward = [], video.VideoMAE.forward
    monkeypatch.setattr(
        video.VideoMAE, "forward", lambda self, x, masks: seen.append(masks) or forward(self, x, masks)
    )
    return seen


def test_a_bandit_learns_of_the_loss_of_each_clip(learning, monkeypatch):
    """Its log is what a bandit makes that is given the losses of the clips one by one."""
    seen, tables, told = [], [], SigmaBandit.observe

    def observe(self, seed, samples, losses):
        seen.append((samples.tolist(), losses.tolist()))
        tables.append(self.table.clone())
        told(self, seed, samples, losses)

    monkeypatch.setattr(SigmaBandit, "observe", observe)
    pretrain(learning)
    assert [number for numbers, _ in seen for number in numbers] == list(range(72))
    by_step = losses(learning.out)
    for step, (_, of_clips) in enumerate(seen, 1):
        assert sum(of_clips) / 4 == pytest.approx(by_step[step], rel=1e-5)
    found = shares(learning.out)
    assert list(found) == [0, 1, 4, 8, 12, 16]
    assert found[0] == found[1] == [1 / 8] * 8
    assert len({tuple(s) for s in found.values()}) == 5
    again = SigmaBandit("hardest")
    monkeypatch.setattr(SigmaBandit, "observe", told)
    for step, ((numbers, of_clips), table) in enumerate(zip(seen, tables, strict=True), 1):
        assert torch.equal(table, again.table)
        again.observe(0, torch.tensor(numbers), torch.tensor(of_clips))
        if step == 1 or step % 4 == 0:
            again.update()
            assert again.shares() == found[step]
    assert checkpoint.newest(learning.out)[2]["bandit"] == again.state_dict()


def test_masks_are_those_of_the_table_and_exact(learning, monkeypatch):
    seen = masks_of(monkeypatch)
    tables, tabled = [], SigmaBandit.observe
    monkeypatch.setattr(
        SigmaBandit, "observe", lambda self, *given: tables.append(self.table.clone()) or tabled(self, *given)
    )
    pretrain(learning)
    sampler = learning.sampler()
    for step, (masks, table) in enumerate(zip(seen, tables, strict=True)):
        wanted = sampler(range(4 * step, 4 * step + 4), sigma_table=table)
        assert torch.equal(masks.ids_keep, wanted.ids_keep)
        assert masks.ids_keep.shape == (4, sampler.visible_per_sample)
    even = sampler(range(72)).ids_keep
    assert torch.equal(seen[3].ids_keep, even[12:16])  # before the first update
    assert not torch.equal(torch.cat([masks.ids_keep for masks in seen]), even)


@pytest.mark.parametrize("stopped", [2, 6, 9])
def test_a_resumed_bandit_is_the_one_that_went_on(learning, tmp_path, stopped):
    """Stopped between two updates, too, so that what was seen since the last one is in the checkpoint."""
    whole = weights(pretrain(learning))
    broken = replace(learning, out=tmp_path / "broken")
    asked = iter([False] * (stopped - 1) + [True])
    pretrain(broken, stop=lambda: next(asked))
    resumed = weights(pretrain(replace(broken, resume=True)))
    assert all(torch.equal(whole[n], resumed[n]) for n in whole)
    assert losses(broken.out) == losses(learning.out)
    assert shares(broken.out) == shares(learning.out)
    states = [checkpoint.newest(c.out)[2]["bandit"] for c in (learning, broken)]
    assert states[0] == states[1]


@pytest.mark.parametrize("kind", ["easy-to-hard", "hard-to-easy", "widen"])
def test_a_schedule_goes_over_the_run(config, monkeypatch, kind):
    seen = masks_of(monkeypatch)
    pretrain(replace(config, sigmas=kind))
    sampler, schedule = config.sampler(), SigmaSchedule(kind, 18)
    for step, masks in enumerate(seen):
        wanted = sampler(range(4 * step, 4 * step + 4), sigma_table=schedule(step))
        assert torch.equal(masks.ids_keep, wanted.ids_keep)
    found = shares(config.out)
    changes = [step for step in range(1, 18) if schedule.stage(step) != schedule.stage(step - 1)]
    assert list(found) == [0, *changes]
    assert all(sum(of) == pytest.approx(1) for of in found.values())
    larger = {k: sum(i * s for i, s in enumerate(of)) for k, of in found.items()}
    assert (larger[0] < larger[17]) == (kind == "easy-to-hard") or kind == "widen"


def test_an_even_run_is_the_run_of_before(config):
    """No table, no record, no state."""
    pretrain(replace(config, epochs=1))
    assert shares(config.out) == {}
    assert "bandit" not in checkpoint.newest(config.out)[2]


def test_dual_masks_and_views_and_frames_with_counts_learn_too(learning):
    pretrain(replace(learning, epochs=1, views=2, decoder_mask="running-cell", out=learning.out / "dual"))
    counts = smnoise.FrameCounts((2, 4, 4), (6, 2), strategy="green-3d").to_json()
    pretrain(replace(learning, epochs=1, mask=counts, mask_ratio=None, out=learning.out / "counts"))
    for run in ("dual", "counts"):
        assert list(shares(learning.out / run)) == [0, 1]


def test_another_bandit_is_another_recipe(learning):
    pretrain(replace(learning, epochs=1))
    with pytest.raises(CheckpointError, match="bandit_every: 4 then, 8 now"):
        pretrain(replace(learning, epochs=1, bandit_every=8, resume=True))
    with pytest.raises(CheckpointError, match="sigmas: bandit then, widen now"):
        pretrain(
            replace(learning, sigmas="widen", bandit_every=64, bandit_reward="band", epochs=6, resume=True)
        )


@pytest.mark.parametrize(
    ("change", "words"),
    [({"mask": "random"}, "sigmas bandit is for masks of colours that draw a sigma.*random draws none"),
     ({"mask": "white-3d"}, "white-3d draws none"), ({"mask": "videomae-tube"}, "draws none"),
     ({"bandit_every": 0}, "bandit_every must be at least 1"), ({"bandit_target": 0.0}, "target must be in"),
     ({"bandit_target": float("nan")}, "target"),
     ({"sigmas": "even"}, "bandit_reward, bandit_every is for sigmas bandit"),
     ({"sigmas": "widen", "bandit_reward": "band"}, "bandit_every is for sigmas bandit")],
)  # fmt: skip
def test_sigmas_that_cannot_be_drawn_are_wrong_settings(learning, change, words):
    with pytest.raises(ValueError, match=words):
        replace(learning, **change)


def test_a_schedule_needs_a_step_for_each_stage(config):
    with pytest.raises(ValueError, match="has 16 stages, and the run 15 steps; raise epochs"):
        pretrain(replace(config, sigmas="widen", epochs=5))


def test_a_checkpoint_without_its_bandit_is_told(learning):
    pretrain(replace(learning, epochs=1))
    folder = checkpoint.steps(learning.out)[0]
    state = json.loads((folder / "state.json").read_text())
    state["bandit"]["logs"] = [5] * 8
    (folder / "state.json").write_text(json.dumps(state))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["state.json"] = hashlib.sha256((folder / "state.json").read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match=r"cannot be gone on from.*logs must be integers"):
        pretrain(replace(learning, epochs=1, resume=True))
