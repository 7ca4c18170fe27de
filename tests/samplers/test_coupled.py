# SPDX-License-Identifier: Apache-2.0
"""Coupled: masks of a picture and its sound whose visible tokens come together in time, or avoid each other."""

import json

import numpy as np
import pytest
import torch
from scipy.stats import chi2, chi2_contingency

import smnoise
from smnoise import Coupled, Green3D, OptimBlue, Random, reference, reference_coupled
from smnoise.spec import signed64

CLIP, SOUND = (8, 14, 14), (64, 8)
WHOLE = Coupled(Green3D(CLIP, num_visible=160), OptimBlue(SOUND, 0.8), rho=-1)
PAIRS = {
    "green and blue": Coupled(Green3D((4, 3, 4), num_visible=12), OptimBlue((8, 4), 0.75, delta=2), rho=-1),
    "independent blue": Coupled(
        Green3D((2, 4, 4), 0.75, boundary="wrap"), OptimBlue((6, 4), 0.6, masks="independent", delta=2), rho=0.3
    ),
    "one step a frame": Coupled(Random((4, 6, 6), 0.75), Random((4, 8), 0.75), rho=0.5, share=0.3, sigmas=(1, 2.5)),
    "blue clip, flat green": Coupled(
        OptimBlue((3, 3, 4), 0.6, delta=1), smnoise.Green2D((6, 4), 0.75), rho=1.0, seed=9
    ),
}  # fmt: skip
SAMPLES = [5, 2**64 - 1]


def scores_by_reference(sampler, seed: int, sample: int, slots: int) -> np.ndarray:
    if isinstance(sampler, OptimBlue):
        number, labels = reference.masks_of(sample, sampler.spec)
        scores = reference_coupled.blue_order(seed, sample, number, labels[0], sampler.spec)
    else:
        scores = reference.color_noise(seed, sample, sampler._spec)
    return scores.reshape(slots, -1)


@pytest.mark.parametrize("name", PAIRS)
def test_is_the_reference(target, name):
    pair, seed = PAIRS[name], 2**63 + 11
    samples = torch.tensor([signed64(s) for s in SAMPLES], device=target.device)
    got = pair(samples, seed=seed, backend=target.backend)
    slots = pair.video.grid[0], smnoise.spec.with_ones(pair.audio.grid)[1]
    for i, sample in enumerate(SAMPLES):
        lines = reference_coupled.lines(seed, sample, slots, pair.rho, pair.sigmas)
        seeds = seed, seed ^ reference_coupled.SOUND
        for sampler, masks, line, own, count in zip(
            (pair.video, pair.audio), got, lines, seeds, slots, strict=True
        ):
            scores = scores_by_reference(sampler, own, sample, count)
            counts = reference_coupled.counts_by_rank(sampler.visible_per_sample, count, pair.share)
            want = reference.outputs_of(reference_coupled.slot_mask(scores, line, counts))
            for found, expected in zip(masks[:4], want, strict=True):
                assert torch.equal(found[i].cpu(), torch.from_numpy(expected))


def test_counts_by_rank():
    half = Coupled(Green3D(CLIP, num_visible=160), OptimBlue(SOUND, 0.8), share=0.5)
    assert half.counts[0] == (29, 26, 24, 21, 19, 16, 14, 11)
    assert WHOLE.counts[0] == (38, 33, 28, 23, 17, 12, 7, 2)
    assert [WHOLE.counts[1].count(n) for n in range(4)] == [10, 20, 20, 14]
    even = Coupled(Green3D(CLIP, num_visible=160), Random(SOUND, num_visible=128), share=0)
    assert even.counts == ((20,) * 8, (2,) * 64)


@pytest.mark.parametrize("name", PAIRS)
def test_every_sample_has_all_counts(name):
    pair = PAIRS[name]
    for masks, counts in zip(pair(range(50), outputs="mask"), pair.counts, strict=True):
        shown = (~masks.mask).unflatten(1, (len(counts), -1)).sum(2)
        assert shown.sort(dim=1, descending=True).values.tolist() == [list(counts)] * 50


def visible_by_slot(rho: float, share: float, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Tokens that frames show, and that the time steps beside them show: [count, 8] each."""
    pair = Coupled(Random(CLIP, num_visible=160), Random(SOUND, 0.8), rho=rho, share=share)
    video, audio = pair(range(count), outputs="mask")
    return tuple((~m.mask).view(count, 8, -1).sum(2).numpy() for m in (video, audio))


@pytest.mark.parametrize("share", [0.5, 1])
def test_correlation_of_visible_tokens(share):
    """What a simulation with other noise found: -.88 -.42 .01 .41 .88 at share 0.5; -.94 -.44 .00 .45 .94 at 1. The
    standard error of the mean over 2,000 samples is 0.01."""
    want = {0.5: (-0.88, -0.42, 0.01, 0.41, 0.88), 1: (-0.94, -0.44, 0.0, 0.45, 0.94)}[share]
    for rho, expected in zip((-1, -0.5, 0, 0.5, 1), want, strict=True):
        video, audio = visible_by_slot(rho, share, 2000)
        assert abs(np.corrcoef(video.ravel(), audio.ravel())[0, 1] - expected) < 0.045


def test_sound_beside_what_the_picture_hides():
    """How often a stretch of sound shows at most half its share where the frame is among the two with fewest tokens;
    the same simulation found 0, .16 and .61."""
    for rho, expected in ((-1, 0.0), (0, 0.16), (1, 0.61)):
        video, audio = visible_by_slot(rho, 1, 2000)
        few = audio[video < 10] <= 102 / 8 / 2
        assert abs(few.mean() - expected) < 0.03


def test_the_picture_does_not_depend_on_rho():
    masks = [
        Coupled(Green3D(CLIP, 0.9), OptimBlue(SOUND, 0.8), rho=rho)(range(4)).video.mask for rho in (-1, 0.2, 1)
    ]  # fmt: skip
    assert torch.equal(masks[0], masks[1])
    assert torch.equal(masks[0], masks[2])


@pytest.mark.parametrize("rho", [-1, -0.4, 0.4, 1])
@pytest.mark.parametrize("audio", [Random(SOUND, 0.8), OptimBlue(SOUND, 0.8)], ids=["random", "blue"])
def test_the_sound_has_the_same_law_at_every_rho(audio, rho):
    """Two-sample tests against rho 0 with other samples. Each statistic is of independent samples, one number each."""
    count = 1500
    picture = Random((8, 2, 2), 0.5)
    steps = [
        (~Coupled(picture, audio, rho=r)(range(first, first + count), outputs="mask").audio.mask).view(count, 64, 8)
        for r, first in ((rho, 10**6), (0, 0))
    ]  # fmt: skip
    statistics = {
        "step": lambda shown: shown[:, 20].sum(1),
        "first step": lambda shown: shown[:, 0].sum(1),
        "two steps": lambda shown: 4 * shown[:, 40].sum(1) + shown[:, 41].sum(1),
        "far steps": lambda shown: 4 * shown[:, 10].sum(1) + shown[:, 20].sum(1),
        "half": lambda shown: shown[:, :32].sum((1, 2)),
        "token": lambda shown: shown[:, 30, 3].long(),
    }
    for name, statistic in statistics.items():
        values = [statistic(shown).numpy() for shown in steps]
        seen = np.unique(np.concatenate(values))
        table = np.array([[(v == s).sum() for s in seen] for v in values])
        table = table[:, table.sum(0) >= 10]
        if table.shape[1] > 1:
            assert chi2_contingency(table, correction=False).pvalue > 1e-4, name


def test_lines_at_the_ends():
    lines = {
        rho: Coupled(Random((8, 2, 2), 0.5), Random((8, 4), 0.5), rho=rho).lines(range(9))
        for rho in (-1, 0, 1)
    }
    assert torch.equal(*lines[1])
    assert torch.equal(lines[-1][0], -lines[-1][1])
    assert torch.equal(lines[0][0], lines[1][0])
    assert not torch.equal(*lines[0])
    counts = [
        (~m.mask).view(9, 8, 4).sum(2)
        for m in Coupled(Random((8, 2, 2), 0.5), Random((8, 4), 0.5), rho=1)(range(9))
    ]
    assert torch.equal(*counts)  # of equal lines, equal counts


def test_tokens_of_the_two_are_independent():
    """At share 0 every slot shows 4 of 8; whether the same ones are shown in the slots beside each other is chance,
    also where both grids, and so their places in the noise, are alike."""
    pair = Coupled(Random((2, 1, 8), 0.5), Random((2, 8), 0.5), rho=1, share=0)
    video, audio = (m.mask for m in pair(range(4000), outputs="mask"))
    counts = np.bincount((~video & ~audio)[:, :8].sum(1).numpy(), minlength=5)
    expected = 4000 * np.array([1, 16, 36, 16, 1]) / 70
    assert ((counts - expected) ** 2 / expected).sum() < chi2.ppf(1 - 1e-4, 4)


def test_blue_shows_all_frequencies_alike():
    """Within a time step tokens at the ends have fewer neighbours; choosing the least crowded then shows them 1.5 times
    as often as others, if nothing is done. Seen are 0.943 to 1.036."""
    shown = ~WHOLE(range(3000), outputs="mask").audio.mask.view(3000, 64, 8)
    of_bins = shown.float().mean((0, 1))
    assert (of_bins / of_bins.mean() - 1).abs().max() < 0.08
    of_steps = shown.float().mean((0, 2))
    assert (of_steps / of_steps.mean() - 1).abs().max() < 0.08


def test_a_row_depends_on_its_sample_alone():
    pair = PAIRS["green and blue"]
    whole = pair(range(6))
    assert all(torch.equal(pair([n]).audio.mask[0], whole.audio.mask[n]) for n in range(6))
    second = pair(batch_size=2, step=0, rank=1, world_size=3)
    assert torch.equal(second.video.ids_keep, whole.video.ids_keep[2:4])
    assert not torch.equal(pair([0], seed=1).audio.mask, whole.audio.mask[:1])
    assert torch.equal(pair([0], seed=torch.tensor(0)).audio.mask, whole.audio.mask[:1])
    alone = pair([3], outputs="ids_keep").audio
    assert alone.mask is None
    assert torch.equal(alone.ids_keep, whole.audio.ids_keep[3:4])


@pytest.mark.parametrize("name", PAIRS)
def test_json_and_compiled_steps(name):
    pair = PAIRS[name]
    again = smnoise.pair_from_json(pair.to_json())
    assert again == pair
    assert hash(again) == hash(pair)
    torch._dynamo.reset()
    step = torch.compile(
        lambda n: pair(batch_size=2, step=n).audio.ids_keep + 0, fullgraph=True, backend="eager"
    )
    for number in range(2):
        assert torch.equal(step(torch.tensor(number)), pair(batch_size=2, step=number).audio.ids_keep)


def test_a_function_of_your_own():
    @smnoise.register("test-coupled-first")
    def first(seed, samples, grid):
        return -torch.arange(float(grid[0] * grid[1] * grid[2])).expand(len(samples), -1)

    own = smnoise.strategy("test-coupled-first", (2, 1, 3), num_visible=3)
    video = Coupled(own, Random((2, 4), 0.5))([0, 1]).video
    shown = (~video.mask).view(2, 2, 3)
    assert (shown.long().diff(dim=2) <= 0).all()  # the first ones of each frame


GREEN, BLUE = Green3D(CLIP, 0.9), OptimBlue(SOUND, 0.8)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"rho": 1.01}, ValueError, r"rho must be in -1\.\.1"),
        ({"rho": float("nan")}, ValueError, "rho must be a number"),
        ({"rho": "1"}, TypeError, "rho must be a real number"),
        ({"share": 1.5}, ValueError, r"share must be in 0\.\.1"),
        ({"share": -0.1}, ValueError, "share must be"),
        ({"sigmas": (7, 3)}, ValueError, "0 < first < second"),
        ({"sigmas": 3}, TypeError, "two numbers"),
        ({"sigmas": (900, 1000), "audio": OptimBlue((2**18, 1), 0.5)}, ValueError, "shorter grid"),
        ({"seed": -1}, ValueError, "seed must be in"),
        ({"video": "green-3d"}, TypeError, "sampler must be"),
        (
            {"video": smnoise.Tube(CLIP, 0.9)},
            ValueError,
            "video: Tube cannot be coupled: a tube shows the same",
        ),
        ({"video": smnoise.Green2D(CLIP, 0.9, tube=True)}, ValueError, "Green2D cannot be coupled: a tube"),
        ({"video": smnoise.Frame(CLIP, 0.75)}, ValueError, "whole time steps"),
        (
            {"audio": smnoise.TimeBars(SOUND, 0.8)},
            ValueError,
            "audio: TimeBars cannot be coupled: it shows whole",
        ),
        ({"audio": smnoise.FrequencyBars(SOUND, 0.75)}, ValueError, "the same frequencies"),
        ({"video": smnoise.Block(CLIP, 0.9)}, ValueError, "Block does not cut"),
        ({"video": smnoise.FrameCounts(CLIP, (20,) * 8)}, ValueError, "counts of its own"),
        ({"video": Green3D(CLIP, 0.9, per="frame")}, ValueError, 'leave out per="frame"'),
        ({"video": Green3D(CLIP, 0.9, seed=3)}, ValueError, "one seed"),
        ({"video": Green3D((1, 14, 14), 0.75)}, ValueError, "at least two frames"),
        ({"audio": Random((2, 32, 8), 0.8)}, ValueError, r"grid \(time, frequency\)"),
        ({"audio": OptimBlue((60, 8), 0.8)}, ValueError, "multiple of the picture's.*got 60 beside 8"),
        ({"video": Green3D(CLIP, 0.25)}, ValueError, "take share 0.38 or less"),
    ],
)
def test_rejects(arguments, error, words):
    with pytest.raises(error, match=words):
        Coupled(**{"video": GREEN, "audio": BLUE} | arguments)


def test_the_largest_share_that_is_named_is_taken():
    pair = Coupled(Green3D(CLIP, 0.25), BLUE, share=0.38)
    assert pair.counts[0][0] <= 196


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda v: v.pop("audio"), "lacks audio"),
        (lambda v: v.update(twist=1), "has no twist"),
        (lambda v: v.update(rho="x"), "wrong type"),
        (lambda v: v.update(sampler="Green3D"), "was expected"),
        (lambda v: v.update(contract=2), "was expected"),
        (lambda v: v.update(video=3), "sampler"),
    ],
)
def test_json_that_is_none(change, words):
    values = json.loads(PAIRS["green and blue"].to_json())
    change(values)
    with pytest.raises(ValueError, match=words):
        smnoise.pair_from_json(json.dumps(values))


@pytest.mark.parametrize("text", ["", "[]", "3", "{", None])
def test_text_that_is_no_pair(text):
    with pytest.raises(ValueError, match="JSON of a Coupled"):
        smnoise.pair_from_json(text)
