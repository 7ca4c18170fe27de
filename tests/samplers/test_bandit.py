# SPDX-License-Identifier: Apache-2.0
"""The bandit over sigmas: its arithmetic against one written from the contract's text, integers that do not depend on
order, states that go on where they were."""

import json
import math
from fractions import Fraction

import pytest
import torch

import smnoise
from smnoise import SigmaBandit, sigma_table
from smnoise.bandit import ARMS, LEAST_LOG, ONE, REWARDS

EVEN = [1 / ARMS] * ARMS


def drawn(table, samples, seed=0):
    """Which bucket each sample draws from, by the table, in plain Python."""
    words = smnoise.ops.random_words(torch.tensor(seed), samples, 1, 1)[:, 0].tolist()
    return torch.tensor([sum(entry <= word for entry in table.tolist()) // 4 for word in words])


def losses_of(arms, seed=0):
    """A loss for each bucket, and noise."""
    noise = torch.rand(len(arms), generator=torch.Generator().manual_seed(seed))
    return 0.4 + 0.06 * arms + 0.1 * noise


def taught(bandit, updates, clips=64):
    """After so many updates; the first is of the untrained model."""
    for update in range(updates):
        samples = torch.arange(update * clips, (update + 1) * clips)
        arms = drawn(bandit.table, samples)
        bandit.observe(0, samples, losses_of(arms, update) if update else torch.full((clips,), 1.0))
        bandit.update()
    return bandit


def test_it_begins_with_the_draw_of_the_contract():
    bandit = SigmaBandit()
    assert bandit.table.tolist() == sigma_table([1.0] * 32).tolist()
    assert bandit.shares() == EVEN
    assert bandit.losses() == [None] * ARMS


def test_the_first_update_only_notes_the_untrained_loss():
    bandit = taught(SigmaBandit(), 1)
    assert bandit.first == ONE
    assert bandit.table.tolist() == sigma_table([1.0] * 32).tolist()
    assert bandit.state_dict()["counts"] == [0] * ARMS


@pytest.mark.parametrize("reward", REWARDS)
def test_updates_are_those_of_the_text(reward):
    """Written anew from contract/extensions.md, 17, with floats only where the text has an exponential."""
    bandit, clips = SigmaBandit(reward, 0.55), 96
    first, averages, logs = None, [None] * 8, [0] * 8
    for update in range(7):
        samples = torch.arange(update * clips, (update + 1) * clips)
        arms = drawn(bandit.table, samples)
        losses = losses_of(arms, update)
        bandit.observe(0, samples, losses)
        bandit.update()
        fixed = [round(loss * 2**20) for loss in losses.tolist()]
        if first is None:
            first = sum(fixed) // clips
            continue
        for arm in range(8):
            if own := [n for n, a in zip(fixed, arms.tolist(), strict=True) if a == arm]:
                mean = sum(own) // len(own)
                averages[arm] = mean if averages[arm] is None else (averages[arm] + mean) // 2
        assert None not in averages
        shares = [average * 2**20 // first for average in averages]
        target = round(0.55 * 2**20)
        kinds = {
            "band": [-abs(s - target) for s in shares],
            "hardest": shares,
            "easiest": [-s for s in shares],
        }
        logs = [log * 19 // 20 + r for log, r in zip(logs, kinds[reward], strict=True)]
        logs = [log - max(logs) for log in logs]
        assert bandit.state_dict()["logs"] == logs
        powers = [round(math.exp(log / 2**20) * 10**9) for log in logs]
        weights = [72 * p + sum(powers) for p in powers]
        sums = [Fraction(sum(weights[i // 4] for i in range(k + 1)), 4 * sum(weights)) for k in range(31)]
        table = [math.floor(2**32 * s + Fraction(1, 2)) for s in sums]
        assert max(abs(a - b) for a, b in zip(table, bandit.table.tolist(), strict=True)) <= 8  # C's exp
        assert bandit.shares() == pytest.approx([w / sum(weights) for w in weights], abs=1e-8)


def test_known_answers():
    """Of five updates, the same on every machine."""
    state = taught(SigmaBandit(), 5).state_dict()
    assert state["first"] == ONE
    assert state["logs"] == KNOWN["logs"]
    assert taught(SigmaBandit(), 5).table[::6].tolist() == KNOWN["table"]


KNOWN = {"logs": [-441813, -211777, 0, -18822, -218056, -448600, -777042, -929454],
         "table": [122589931, 938467573, 1983853350, 2960032734, 3688850797, 4212976647]}  # fmt: skip


@pytest.mark.parametrize(
    ("reward", "best"), [("band", range(2, 5)), ("hardest", range(7, 8)), ("easiest", range(1))]
)
def test_it_comes_to_draw_what_it_seeks(reward, best):
    """Mean losses are .45 + .06 * bucket; .6 lies between buckets 2 and 3. A tenth stays spread evenly."""
    shares = taught(SigmaBandit(reward), 40, 256).shares()
    assert shares.index(max(shares)) in best
    assert max(shares) > 2 / ARMS
    assert min(shares) >= 0.1 / ARMS
    assert sum(shares) == pytest.approx(1)


@pytest.mark.parametrize("cuts", [(1,), (17,), (1, 2, 60), tuple(range(1, 64))])
def test_sums_do_not_depend_on_order_or_on_who_adds_them(cuts):
    """Of clips in another order, in parts, by several processes that add up their tallies."""
    whole = taught(SigmaBandit(), 3)
    state, samples = whole.state_dict(), torch.arange(1000, 1064)
    losses = losses_of(drawn(whole.table, samples), 5)
    whole.observe(0, samples, losses)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(1))
    parts = list(zip(samples[order].tensor_split(cuts), losses[order].tensor_split(cuts), strict=True))
    alone = SigmaBandit()
    alone.load_state_dict(state)
    ranks = [SigmaBandit() for _ in parts]
    for rank, (some, of_some) in zip(ranks, parts, strict=True):
        rank.load_state_dict(state, observed=rank is ranks[0])
        rank.observe(0, some, of_some)
        alone.observe(0, some, of_some)
    everyone = sum(rank.tallies for rank in ranks)
    for rank in ranks:
        rank.update(lambda tallies: everyone.clone())
    whole.update()
    alone.update()
    assert all(rank.state_dict() == whole.state_dict() == alone.state_dict() for rank in ranks)
    assert all(torch.equal(rank.table, whole.table) for rank in ranks)


def test_a_state_goes_on_in_the_middle_of_a_window():
    bandit = taught(SigmaBandit("hardest"), 4)
    table = bandit.table
    bandit.observe(0, torch.arange(9), torch.linspace(0, 1, 9))
    again = SigmaBandit("hardest")
    again.load_state_dict(json.loads(json.dumps(bandit.state_dict())))
    for one in (bandit, again):
        one.observe(0, torch.arange(9, 12), torch.ones(3))
        one.update()
    assert again.state_dict() == bandit.state_dict()
    assert torch.equal(again.table, bandit.table)
    assert bandit.table is table  # written into, for graphs
    without = SigmaBandit("hardest")
    without.load_state_dict(bandit.state_dict(), observed=False)
    assert without.state_dict()["sums"] == [0] * ARMS


def test_losses_that_are_no_usual_ones_are_bounded():
    bandit = taught(SigmaBandit(), 2)
    strange = torch.tensor([math.nan, math.inf, -math.inf, -3.0, 1e30, 0.5])
    bandit.observe(0, torch.arange(6), strange)
    assert sum(bandit.state_dict()["sums"]) == (64 + 64 + 0 + 0 + 64) * ONE + ONE // 2
    for _ in range(400):
        bandit.observe(0, torch.arange(64), torch.full((64,), math.inf))
        bandit.update()
    assert min(bandit.state_dict()["logs"]) >= LEAST_LOG
    assert sum(bandit.shares()) == pytest.approx(1)


def test_an_update_without_observations_changes_nothing():
    bandit = taught(SigmaBandit(), 3)
    before = bandit.state_dict()
    bandit.update()
    assert bandit.state_dict() == before
    empty = torch.arange(0)
    bandit.observe(0, empty, empty.float())
    assert bandit.state_dict() == before


def test_masks_stay_exact_whatever_it_draws():
    bandit = taught(SigmaBandit("hardest"), 20)
    masks = smnoise.Green3D((4, 8, 8), 0.9)(range(64), sigma_table=bandit.table)
    assert (masks.mask.sum(1) == 256 - masks.num_visible).all()
    large = smnoise.Green3D((4, 8, 8), 0.9)(range(64))
    assert not torch.equal(masks.mask, large.mask)


@pytest.mark.parametrize(
    ("change", "words"),
    [({"extra": 1}, "not \\["), ({"logs": [0] * 7}, "logs must be 8"), ({"logs": [1] * 8}, "logs must be"),
     ({"counts": [0.5] * 8}, "counts must be integers"), ({"first": None}, "first is None"),
     ({"first": 0.5}, "first is"), ({"first": -1}, "first is"), ({"updates": True}, "updates is True"),
     ({"reward": "easiest"}, "of reward 'easiest'"), ({"averages": "12345678"}, "averages must be 8"),
     ({"averages": [2**62] * 8}, "averages must be integers")],
)  # fmt: skip
def test_what_is_no_state_is_refused_and_changes_nothing(change, words):
    bandit = taught(SigmaBandit(), 2)
    before = bandit.state_dict()
    with pytest.raises(ValueError, match=words):
        bandit.load_state_dict(before | change)
    assert bandit.state_dict() == before
    with pytest.raises(ValueError, match="it is a list"):
        bandit.load_state_dict([])


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [((0, torch.arange(2), torch.ones(3)), ValueError, "need a loss for each sample"),
     ((0, torch.arange(2), torch.ones(2, dtype=torch.int64)), TypeError, "losses must be floats"),
     ((0, torch.ones(2), torch.ones(2)), TypeError, "samples int64"),
     ((0, [1, 2], torch.ones(2)), TypeError, "samples must be a tensor"),
     ((0, torch.arange(2), torch.ones(2, device="meta")), ValueError, "losses are on meta"),
     ((0.5, torch.arange(2), torch.ones(2)), TypeError, "seed")],
)  # fmt: skip
def test_what_cannot_be_observed_is_refused(given, error, words):
    with pytest.raises(error, match=words):
        SigmaBandit().observe(*given)


@pytest.mark.parametrize("target", [0, -1, 9, math.nan, math.inf])
def test_targets_that_are_none(target):
    with pytest.raises(ValueError, match="target"):
        SigmaBandit(target=target)


def test_rewards_that_there_are_not():
    with pytest.raises(ValueError, match="reward must be"):
        SigmaBandit("progress")
    with pytest.raises(TypeError):
        SigmaBandit(target="0.6")
