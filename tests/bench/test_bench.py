# SPDX-License-Identifier: Apache-2.0
"""The benchmark's harness: what it refuses to time, what it counts, what it writes. No time is asserted."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import smnoise
from bench import __main__ as run
from bench import about, baselines, clock, compare, floor, visibility, workloads

GRID, TOKENS, VISIBLE = (2, 5, 6), 60, 12


COLORMAE = baselines.colormae(torch.rand(8, 3, 7, 9))


def scipy_batch(batch, grid, visible):
    """What runs as cupyx.scipy.ndimage on a GPU."""
    import numpy
    import scipy.ndimage

    return baselines.band_pass_batch(numpy, scipy.ndimage)(batch, grid, visible)


RIVALS = [
    *(
        baselines.mae_random,
        baselines.topk_random,
        baselines.tubes,
        baselines.scipy_field,
        baselines.scipy_wrap,
    ),
    *(baselines.conv3d_topk, baselines.optim_blue_numpy, baselines.void_and_cluster, COLORMAE, scipy_batch),
]


@pytest.mark.parametrize("make", RIVALS)
def test_rivals_have_exact_counts(make):
    made = make(4, GRID, VISIBLE)
    workloads.check_masks("rival", made, 4, TOKENS, VISIBLE)
    with pytest.raises(workloads.WrongAnswerError, match="show 11 tokens"):
        workloads.check_masks("rival", made, 4, TOKENS, VISIBLE - 1)


def test_conv3d_filters_as_scipy_does():
    from scipy.ndimage import gaussian_filter

    noise = torch.rand(1, 3, 27, 29, 31, dtype=torch.float64)
    sigma = torch.tensor([0.5, 1.3, 2.9], dtype=torch.float64)
    got = baselines._blurred(noise, sigma, 12)[0]
    for i in range(3):
        right = gaussian_filter(noise[0, i].numpy(), sigma[i].item(), mode="constant", truncate=4.0)
        assert torch.allclose(got[i], torch.from_numpy(right[12:-12, 12:-12, 12:-12]), rtol=1e-9, atol=0)


@pytest.mark.parametrize("workload", workloads.WORKLOADS)
def test_every_strategy_is_in_a_workload_and_right(workload):
    chosen = workloads.WORKLOADS[workload]
    for name in chosen.strategies:
        if name.startswith("pool"):  # thousands of patterns
            continue
        workloads.check_sampler(name, workloads.make_sampler(workload, name), 3, against=1)
    named = {n.partition(",")[0] for w in workloads.WORKLOADS.values() for n in w.strategies}
    assert set(smnoise.STRATEGIES) <= named


class Wrong:
    """A sampler one of whose outputs is spoilt, but on the reference."""

    def __init__(self, spoil):
        self.sampler, self.spoil = smnoise.Green3D(GRID, num_visible=VISIBLE), spoil
        self.num_tokens, self.visible_per_sample = TOKENS, VISIBLE

    def __call__(self, *arguments, backend="auto", **named):
        masks = self.sampler(*arguments, backend=backend, **named)
        if backend != "reference":
            self.spoil(masks)
        return masks


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (lambda m: m.mask[0].copy_(m.mask[0].roll(1)), "mask is not the reference's"),
        (lambda m: m.ids_mask[1].copy_(m.ids_mask[1].flip(0)), "ids_mask is not the reference's"),
        (lambda m: m.mask[3].fill_(True), "do not show 12 tokens"),
        (lambda m: m.ids_keep[3].copy_(m.ids_keep[2]), "ids_keep that are not what the mask shows"),
        (lambda m: m.ids_restore[3].zero_(), "no permutation"),
        (lambda m: m.ids_restore[3].copy_(m.ids_restore[2]), "do not fit the mask"),
    ],
)
def test_a_wrong_answer_is_not_timed(spoil, what):
    workloads.check_sampler("right", Wrong(lambda m: None), 4)
    with pytest.raises(workloads.WrongAnswerError, match=what):
        workloads.check_sampler("wrong", Wrong(spoil), 4)


def test_rounds_take_turns():
    order = []
    found = clock.in_turns({n: lambda n=n: order.append(n) for n in "ab"}, seconds=1e-9, rounds=3)
    assert list(found) == ["a", "b"]
    assert order == list("aabb") + list("ab") * 3  # first and calibration, then turns


def counted_by_hand(grid, narrow, wide):
    """Field, one radius for all axes: products and sums of each output, the narrow filter's sums along x left out."""
    t, y, x = grid
    floats = t * y * x  # the difference
    for r, along_x in ((narrow, 1 + 2 * narrow), (wide, 1 + 3 * wide)):
        floats += (t + 2 * r) * (y + 2 * r) * x * along_x
        floats += (t + 2 * r) * y * x * (1 + 3 * r) + t * y * x * (1 + 3 * r)
    return floats


def test_the_floor_counts_the_contracts_arithmetic():
    sigmas = {"sigma1": (0.5, 0.5), "sigma2": (1.0, 1.0)}  # radii 2 and 4
    green = smnoise.Green3D((4, 5, 16), 0.9, **sigmas)
    calls, floats = floor.counts(green.spec)
    assert floats == counted_by_hand((4, 5, 16), 2, 4)
    assert calls == 12 * 13 * 4  # x from -4 to 19: blocks -1, 0, 1, 2
    assert floor.counts(smnoise.White3D((4, 5, 16), 0.9).spec) == (4 * 5 * 2, 0)
    wider = replace(green, sigma2=(2.0, 2.0))
    assert floor.counts(wider.spec)[1] > floats
    assert floor.counts(replace(green, boundary="wrap").spec)[1] < floats


def test_swaps_are_counted_up_to_the_last_that_changes_something():
    blue = smnoise.OptimBlue((8, 8), 0.75, steps=0)
    assert floor.swap_operations(blue, 2) == 0
    some, many = (floor.swap_operations(replace(blue, steps=n), 2) for n in (4, 100_000))
    assert 0 < some <= 7 * 64 * 4
    assert some < many < 7 * 64 * 100_000


class Answers:
    """A side of a comparison that answers from a list; what a worker is to bench/compare.py."""

    def __init__(self, folder, microseconds, masks="same"):
        self.folder, self.microseconds, self.masks, self.calls = folder, microseconds, masks, []

    def ask(self, **asked):
        if "threads" in asked:
            return {"smnoise": self.folder}
        if asked["name"] == "tube":
            return {"missing": "no tube"}
        if "calls" not in asked:
            return {"masks": self.masks if asked["name"] == "random" else "same"}
        self.calls.append(asked["calls"])
        return {"microseconds": self.microseconds * asked["batch"]}


def test_ratios_to_a_base():
    here, base = Answers("here", 3.0), Answers("base", 4.0, masks="other")
    found = compare.compare(here, base, seconds=1e-3, rounds=3)
    assert found["video"]["green-3d"] == {"here": 3.0, "base": 4.0, "ratio": 0.75}
    assert "ratio" not in found["video"]["tube"]
    assert "ratio" not in found["video"]["random"]
    text = compare.table({"base": "REF", "microseconds a mask": found})
    assert "| green-3d, video | 3.00 | 4.00 | 0.750x |" in text
    assert "OTHER MASKS THAN IN THE OTHER COMMIT: random, video" in text
    with pytest.raises(RuntimeError, match="nothing to compare"):
        compare.compare(here, here, seconds=1e-3)


def test_a_real_worker_answers():
    """Both sides are this tree; that they differ is what compare.compare checks."""
    with compare.Side(compare.ROOT) as side:
        assert Path(side.ask(threads=1)["smnoise"]).parent == compare.ROOT / "smnoise"
        case = {"name": "green-3d", "grid": GRID, "visible": VISIBLE, "batch": 2}
        masks = side.ask(**case)
        assert len(masks["masks"]) == 64
        assert side.ask(**case) == masks
        assert side.ask(**case, calls=2)["microseconds"] > 0
        assert "missing" in side.ask(**{**case, "name": "no-such-strategy"})


def test_unknown_commits_are_refused():
    with pytest.raises(SystemExit, match="no such commit"), compare.checkout("no-such-commit"):
        pass


def test_command_line_refuses_to_replace_good_results(monkeypatch, capsys):
    for arguments, message in ((["--quick"], "--out"), (["masks", "nonsense"], "no such part: nonsense")):
        monkeypatch.setattr(sys, "argv", ["bench", *arguments])
        with pytest.raises(SystemExit):
            run.main()
        assert message in capsys.readouterr().err


def test_the_rule_of_the_rest_is_measured_against_masks_without_it():
    sampler = smnoise.OptimBlue((6, 7), 0.4)
    samples = torch.arange(40)
    kept, free = (visibility.masks_of(sampler, samples, alike) for alike in (False, True))
    assert torch.equal(kept.mask, sampler(samples).mask)
    assert torch.equal(kept.ids_keep, sampler(samples).ids_keep)
    corners = visibility.regions(6, 7)["corners"]
    assert (~free.mask)[:, corners].double().mean() > (~kept.mask)[:, corners].double().mean() + 0.2
    three = torch.ones(1, 42, dtype=torch.bool).index_fill(1, torch.tensor([0, 8, 40]), False)
    askew = 45 + 3  # one and four apart along a diagonal: int(64 * 0.7 / d^2 + 0.5)
    assert visibility.energy(sampler, kept._replace(mask=three)) == askew


def test_about_needs_no_git(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert about.git("rev-parse", "HEAD") is None
