# SPDX-License-Identifier: Apache-2.0
"""add_bias, and the bias of a sampler's call: two roundings, a NaN that is defined, counts that stay exact."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import smnoise
from smnoise import ops, reference

INF, NAN = float("inf"), float("nan")


def run(target, scores, bias, weight=1.0) -> torch.Tensor:
    return ops.add_bias(scores.to(target.device), bias.to(target.device), weight, target.backend).cpu()


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    return torch.equal(a.contiguous().view(torch.int32), b.contiguous().view(torch.int32))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_bits(target, data):
    rows, tokens = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 40))
    scores, bias = (
        torch.tensor(
            data.draw(st.lists(st.floats(width=32, **nan), min_size=rows * tokens, max_size=rows * tokens))
        )
        .float()
        .view(rows, tokens)
        for nan in ({}, {"allow_nan": False})
    )
    weight = data.draw(st.floats(-1e3, 1e3) | st.just(3.4e38))
    want = torch.from_numpy(reference.add_bias(scores.numpy(), bias.numpy(), weight))
    assert same_bits(run(target, scores, bias, weight), want)


def test_product_and_sum_are_rounded_apart(target):
    """Fused, (1 + 2^-12)^2 - (1 + 2^-11) would be 2^-24; the rounded product is 1 + 2^-11."""
    got = run(target, torch.tensor([[-1 - 2**-11]]), torch.tensor([[1 + 2**-12]]), 1 + 2**-12)
    assert got.item() == 0.0


def test_whatever_is_nan_is_the_quiet_one(target):
    scores = torch.tensor([[INF, 1.0, 0x7F80_0001, 0.0]])
    scores[0, 2] = torch.tensor([-0x7FFFFF], dtype=torch.int32).view(torch.float32)[
        0
    ]  # a NaN with sign and payload
    bias = torch.tensor([[-INF, 2.0, 0.0, INF]])
    got = run(target, scores, bias)
    assert got.view(torch.int32)[0].tolist() == [0x7FC00000, 0x40400000, 0x7FC00000, 0x7F800000]


def test_denormals_are_kept_in_a_flushing_thread():
    scores, bias = torch.full((1, 40), 1e-40), torch.full((1, 40), 1e-41)
    want = reference.add_bias(scores.numpy(), bias.numpy(), 1.0)
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush denormal numbers")
    try:
        got = ops.add_bias(scores, bias)
    finally:
        torch.set_flush_denormal(False)
    assert np.array_equal(got.numpy(), want)
    assert got[0, 0] > 0


def test_a_nan_that_can_be_seen_is_refused():
    with pytest.raises(ValueError, match="bias is NaN at row 1, token 2"):
        ops.add_bias(torch.zeros(2, 3), torch.tensor([[0.0, 1, 2], [3, 4, NAN]]))


SCORES = torch.zeros(2, 3)


@pytest.mark.parametrize(
    ("scores", "bias", "weight", "error", "words"),
    [
        (SCORES.double(), SCORES, 1.0, TypeError, "scores must be float32"),
        (SCORES[0], SCORES[0], 1.0, ValueError, r"scores must have shape \[B, L\]"),
        (SCORES, SCORES.half(), 1.0, TypeError, "bias must be float32"),
        (SCORES, SCORES[:1], 1.0, ValueError, r"\(2, 3\); got \(1, 3\)"),
        (SCORES, SCORES.to("meta"), 1.0, ValueError, "bias is on meta"),
        (SCORES, SCORES, NAN, ValueError, "weight must be finite"),
        (SCORES, SCORES, INF, ValueError, "weight must be finite"),
        (SCORES, SCORES, 1e39, ValueError, "weight must be finite in float32"),
    ],
)
def test_rejects(scores, bias, weight, error, words):
    with pytest.raises(error, match=words):
        ops.add_bias(scores, bias, weight)


# --- of a sampler's call

GRID = (2, 4, 5)
SAMPLERS = [
    smnoise.Green3D(GRID, 0.75, seed=2),
    smnoise.White3D(GRID, 0.75, per="frame"),
    smnoise.Random(GRID, num_visible=12, per="frame"),
    smnoise.Blue2D(GRID, 0.8),
    smnoise.FrameCounts(GRID, (20, 3), strategy="red-3d", drawn=True),
    smnoise.ContextTargets(GRID, num_context=7, num_target=9),
]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda s: type(s).__name__)
def test_a_bias_moves_masks_and_keeps_counts(target, sampler):
    samples = torch.arange(4, device=target.device)
    plain = sampler(samples, backend=target.backend)
    bias = torch.zeros(4, *GRID, device=target.device)
    none = sampler(samples, bias=bias, backend=target.backend)
    assert all(torch.equal(a, b) for a, b in zip(plain.tensors, none.tensors, strict=True))
    bias[:, :, 1:3, 2] = 1.0
    more = sampler(samples, bias=bias, bias_weight=9.0, backend=target.backend)
    assert more.ids_keep.shape == plain.ids_keep.shape
    if not isinstance(sampler, smnoise.FrameCounts):
        assert not more.volume()[:, :, 1:3, 2].any()
        less = sampler(samples, bias=bias.flatten(1), bias_weight=-9.0, backend=target.backend)
        assert less.volume()[:, :, 1:3, 2].all()
    scores = sampler.scores(torch.tensor(sampler.seed, device=target.device), samples, target.backend).cpu()
    biased = torch.from_numpy(reference.add_bias(scores.numpy(), bias.cpu().flatten(1).numpy(), 9.0))
    if getattr(sampler, "per", "") == "frame":
        want = ops.threshold(biased, sampler.visible_per_sample // 2, 2)[0]
        assert torch.equal(more.mask.cpu(), want)


def test_a_row_depends_on_its_own_bias_only():
    sampler, bias = SAMPLERS[0], torch.rand(5, 40, generator=torch.Generator().manual_seed(0))
    whole = sampler(range(5), bias=bias, bias_weight=0.1).mask
    for i in range(5):
        assert torch.equal(sampler([i], bias=bias[i : i + 1], bias_weight=0.1).mask, whole[i : i + 1])


def test_in_a_compiled_step():
    torch._dynamo.reset()

    @torch.compile(fullgraph=True)
    def step(number, motion):
        return SAMPLERS[0](batch_size=3, step=number, bias=motion * 0.5, bias_weight=0.3).mask & True

    for number in range(2):
        motion = torch.randn(3, 40, generator=torch.Generator().manual_seed(number))
        want = SAMPLERS[0](batch_size=3, step=number, bias=motion * 0.5, bias_weight=0.3).mask
        assert torch.equal(step(torch.tensor(number), motion), want)


@pytest.mark.parametrize(
    ("sampler", "bias", "error", "words"),
    [
        (SAMPLERS[0], torch.zeros(3, 40), ValueError, r"\(2, 40\) or \(2, 2, 4, 5\)"),
        (SAMPLERS[0], torch.zeros(2, 40).double(), TypeError, "bias must be float32"),
        (SAMPLERS[0], [[0.0] * 40] * 2, TypeError, "bias must be a tensor"),
        (SAMPLERS[0], torch.full((2, 40), NAN), ValueError, "bias is NaN at row 0, token 0"),
        (smnoise.OptimBlue((4, 5), 0.8), torch.zeros(2, 20), ValueError, "bias needs scores"),
        (smnoise.Tube(GRID, 0.8), torch.zeros(2, 40), ValueError, "bias needs scores"),
        (smnoise.Green2D(GRID, 0.8, tube=True), torch.zeros(2, 40), ValueError, "bias needs scores"),
        (smnoise.Block(GRID, 0.8), torch.zeros(2, 40), ValueError, "bias needs scores"),
    ],
)
def test_calls_reject(sampler, bias, error, words):
    with pytest.raises(error, match=words):
        sampler([0, 1], bias=bias)
