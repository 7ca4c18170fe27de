# SPDX-License-Identifier: Apache-2.0
"""Sigmas by a table: the even one changes no bit, others are drawn as they say, schedules follow the step alone."""

import pickle

import pytest
import torch

import smnoise
from smnoise import ops, reference
from smnoise.sigmas import KINDS
from smnoise.spec import ColorSpec

EVEN = [1.0] * 32
SPEC = ColorSpec("green", (2, 5, 6), 7)


def mask_of(target, spec, table, samples=range(3)) -> torch.Tensor:
    seed, samples = target.tensors(5, samples)
    return ops.color_mask(seed, samples, spec.to_json(), target.backend, "mask", table.to(target.device))[
        0
    ].cpu()


@pytest.mark.parametrize("color", ["white", "red", "blue", "green", "purple"])
def test_the_even_table_changes_no_bit(target, color):
    spec = ColorSpec(color, (2, 5, 6), 7)
    want = target.color_mask(spec, range(3), seed=5)["mask"]
    assert torch.equal(mask_of(target, spec, smnoise.sigma_table(EVEN)), want)


@pytest.mark.parametrize("boundary", ["field", "wrap"])
def test_a_table_of_one_entry_is_a_fixed_sigma(target, boundary):
    """The last and the first sigma, of noise and masks: as the reference's with that sigma given."""
    spec = ColorSpec("red", (2, 5, 6), 7, boundary=boundary)
    bank = reference.bank(spec.sigma1)
    for entry in (0, 31):
        table = smnoise.sigma_table([float(i == entry) for i in range(32)])
        seed, samples = target.tensors(5, range(2))
        got = ops.color_noise(seed, samples, spec.to_json(), target.backend, table.to(target.device)).cpu()
        for i in range(2):
            want = reference.color_noise(5, i, spec, (bank[entry], 0.0))
            assert torch.equal(got[i], torch.from_numpy(want))


def test_is_the_reference(target):
    table = smnoise.SigmaSchedule("easy-to-hard", 16)(4)
    got = mask_of(target, SPEC, table, range(4))
    for i in range(4):
        scores = reference.color_noise(5, i, SPEC, table=table.tolist())
        assert torch.equal(got[i], torch.from_numpy(reference.threshold(scores.reshape(1, -1), 7).mask))


def test_any_table_gives_an_entry(target):
    """What a GPU cannot check without waiting: whatever a table holds, the entry is one of the 32."""
    if target.device == "cpu" and target.backend != "triton":
        pytest.skip("the values are checked on the CPU")
    falling = torch.arange(31, 0, -1) * 2**27
    seed, samples = target.tensors(5, range(3))
    run = smnoise.backends.choose("color_mask", target.backend, target.device)
    mask = run(seed, samples, SPEC, ("mask",), falling.to(target.device))["mask"]
    assert (~mask).sum(1).tolist() == [7] * 3


def test_draws_follow_the_weights():
    weights = smnoise.SigmaSchedule("easy-to-hard", 16).weights(6)
    table = smnoise.sigma_table(weights).tolist()
    drawn = torch.tensor([reference.draw_sigmas(0, i, None, table)[0] for i in range(20_000)]).bincount(
        minlength=32
    )
    expected = torch.tensor(weights) / sum(weights) * 20_000
    assert (drawn[expected == 0] == 0).all()
    some = expected > 0
    chi = ((drawn[some] - expected[some]) ** 2 / expected[some]).sum()
    assert chi < 45  # of 14 degrees of freedom; exceeded less than once in ten thousand


@pytest.mark.parametrize("kind", KINDS)
def test_schedules(kind):
    schedule = smnoise.SigmaSchedule(kind, 1600)
    assert [schedule.stage(step) for step in (0, 99, 100, 1599, 1600, 10**9)] == [0, 0, 1, 15, 15, 15]
    for step in (0, 99, 100, 850, 1599, 5000):
        table = schedule(step)
        assert torch.equal(schedule(torch.tensor(step)), table)
        assert torch.equal(table, smnoise.sigma_table(schedule.weights(schedule.stage(step))))
    means = [
        sum(i * w for i, w in enumerate(schedule.weights(s))) / sum(schedule.weights(s)) for s in range(16)
    ]
    if kind == "widen":
        assert means == [15.5] * 16
        assert [sum(w > 0 for w in schedule.weights(s)) for s in range(16)] == list(range(2, 33, 2))
    else:
        assert sorted(means, reverse=kind == "hard-to-easy") == means
        assert len(set(means)) == 16
    assert pickle.loads(pickle.dumps(schedule)) == schedule


def test_schedules_of_both_directions_mirror_each_other():
    up, down = (smnoise.SigmaSchedule(kind, 16) for kind in ("easy-to-hard", "hard-to-easy"))
    for stage in range(16):
        assert up.weights(stage) == down.weights(15 - stage) == up.weights(15 - stage)[::-1]


def test_a_compiled_step_takes_a_new_table_each_time():
    sampler, schedule = smnoise.Green3D((2, 5, 6), num_visible=7), smnoise.SigmaSchedule("easy-to-hard", 32)
    schedule(torch.tensor(0))
    torch._dynamo.reset()
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]

    @torch.compile(fullgraph=True)
    def masks_of(number, table):
        return sampler(batch_size=4, step=number, sigma_table=table).mask & True

    for step in (0, 9, 31):
        want = sampler(batch_size=4, step=step, sigma_table=schedule(step)).mask
        assert torch.equal(masks_of(torch.tensor(step), schedule(step)), want)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == before + 1


@pytest.mark.parametrize(
    "sampler",
    [
        smnoise.Red2D((2, 5, 6), 0.8, tube=True),
        smnoise.Green1D((30,), 0.8),
        smnoise.FrameCounts((2, 5, 6), (1, 9), strategy="green-3d"),
        smnoise.ContextTargets((2, 5, 6), num_context=6, num_target=7, target_sets=2),
    ],
    ids=lambda s: type(s).__name__,
)
def test_every_colour_takes_a_table(sampler):
    plain = sampler(range(40)).mask
    assert torch.equal(sampler(range(40), sigma_table=smnoise.sigma_table(EVEN)).mask, plain)
    largest = smnoise.sigma_table([0.0] * 31 + [1.0])
    assert not torch.equal(sampler(range(40), sigma_table=largest).mask, plain)


@pytest.mark.parametrize(
    ("weights", "error", "words"),
    [
        (EVEN[1:], ValueError, "32 numbers"),
        (None, TypeError, "32 numbers"),
        ("1" * 32, TypeError, "32 numbers"),
        ([0.0] * 32, ValueError, "not all 0"),
        ([-1.0, *EVEN[1:]], ValueError, "not be negative"),
        ([float("nan"), *EVEN[1:]], ValueError, "weights"),
        (["1", *EVEN[1:]], TypeError, "weights"),
    ],
)
def test_weights_are_checked(weights, error, words):
    with pytest.raises(error, match=words):
        smnoise.sigma_table(weights)


TABLE = smnoise.sigma_table(EVEN)


@pytest.mark.parametrize(
    ("sampler", "table", "error", "words"),
    [
        (smnoise.Green3D((2, 3, 3), 0.5), TABLE.float(), TypeError, "int64"),
        (smnoise.Green3D((2, 3, 3), 0.5), TABLE[1:], ValueError, r"\[31\]"),
        (smnoise.Green3D((2, 3, 3), 0.5), TABLE.flip(0), ValueError, "never fall"),
        (smnoise.Green3D((2, 3, 3), 0.5), TABLE - 2**28, ValueError, "0 .. 2"),
        (smnoise.Green3D((2, 3, 3), 0.5), TABLE * 2, ValueError, "0 .. 2"),
        (smnoise.Green3D((2, 3, 3), 0.5), TABLE.to("meta"), ValueError, "meta"),
        (smnoise.Green3D((2, 3, 3), 0.5), TABLE.tolist(), TypeError, "int64 tensor"),
        (smnoise.Random((2, 3, 3), 0.5), TABLE, ValueError, "Random draws no sigma"),
        (smnoise.OptimBlue((3, 3), 0.5), TABLE, ValueError, "OptimBlue draws no sigma"),
        (smnoise.FrameCounts((2, 3, 3), (1, 2)), TABLE, ValueError, "FrameCounts draws no sigma"),
    ],
)
def test_tables_are_checked(sampler, table, error, words):
    with pytest.raises(error, match=words):
        sampler([0], sigma_table=table)


@pytest.mark.parametrize(
    ("kind", "steps", "step", "error", "words"),
    [
        ("easy-to-harder", 100, 0, ValueError, "did you mean easy-to-hard"),
        ("widen", 15, 0, ValueError, "total_steps"),
        ("widen", 100.0, 0, TypeError, "total_steps"),
        ("widen", 100, -1, ValueError, "step"),
        ("widen", 100, torch.tensor(1.0), TypeError, "one int64"),
    ],
)
def test_schedules_reject(kind, steps, step, error, words):
    with pytest.raises(error, match=words):
        smnoise.SigmaSchedule(kind, steps)(step)
