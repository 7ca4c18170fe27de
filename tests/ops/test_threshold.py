# SPDX-License-Identifier: Apache-2.0
"""threshold: exact counts whatever the scores are."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from smnoise import ops, reference
from smnoise.backends.outputs import NAMES

INF, NAN = float("inf"), float("nan")


def assert_same_as_reference(target, scores, visible, groups=1):
    got = target.threshold(scores, visible, groups)
    for i, row in enumerate(scores.numpy()):
        want = reference.threshold(row.reshape(groups, -1), visible)
        for name in NAMES:
            assert torch.equal(got[name][i], torch.from_numpy(getattr(want, name))), name
    return got


@pytest.mark.parametrize(
    "row",
    [
        [0.0] * 37,
        [1.0, -0.0, 0.0, -0.0, 0.0, 5.0, -1.0],
        [INF, -INF, 0.0, INF, -INF, 1.0],
        [NAN, 1.0, -NAN, INF, -INF, 0.0, NAN],
        [1e-45, -1e-45, 0.0, 2e-45, 1e-38, -1e-38],
        [3.4e38, 3.3e38, -3.4e38, 3.4e38],
        list(np.linspace(-1, 1, 1001)),
        [1.0] * 500 + [np.nextafter(np.float32(1), np.float32(2))] + [1.0] * 499,
    ],
    ids=["constant", "zeros", "infinities", "nans", "denormals", "largest", "ramp", "needle"],
)
def test_hard_scores(target, row):
    scores = torch.tensor([row, row[::-1]], dtype=torch.float32)
    for visible in {1, 2, len(row) // 3 or 1, len(row) - 1}:
        assert_same_as_reference(target, scores, visible)


def test_ties_go_to_the_lower_token(target):
    got = target.threshold(torch.tensor([[1.0, 2.0, 1.0, 1.0]]), 2)
    assert got["ids_keep"].tolist() == [[0, 1]]
    assert got["ids_restore"].tolist() == [[0, 1, 2, 3]]


def test_zero_has_one_sign(target):
    got = target.threshold(torch.tensor([[-0.0, 0.0, -1.0]]), 1)
    assert got["ids_keep"].tolist() == [[0]]


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_bits(target, data):
    groups, tokens = data.draw(st.integers(1, 4)), data.draw(st.integers(2, 300))
    few = data.draw(st.booleans())  # few different values: many ties
    value = st.sampled_from([0.0, -0.0, 1.0, -1.0, NAN]) if few else st.floats(width=32)
    row = data.draw(st.lists(value, min_size=groups * tokens, max_size=groups * tokens))
    scores = torch.tensor([row], dtype=torch.float32)
    assert_same_as_reference(target, scores, data.draw(st.integers(1, tokens - 1)), groups)


@pytest.mark.parametrize("spread", [1e-30, 1.0, 1e30])
@pytest.mark.parametrize("kind", ["normal", "cauchy", "rounded", "one outlier"])
def test_the_search_ends_wherever_the_threshold_is(target, kind, spread):
    """The CPU search starts from a normal guess: distributions far from normal must not mislead it."""
    generator = torch.Generator().manual_seed(5)
    scores = torch.empty(6, 1568)
    (scores.cauchy_ if kind == "cauchy" else scores.normal_)(generator=generator)
    if kind == "rounded":
        scores = scores.round()
    if kind == "one outlier":
        scores[:, 700] = 1e8
    for visible in (1, 156, 784, 1567):
        assert_same_as_reference(target, scores * spread, visible)


def test_large_rows(target):
    """Against torch.topk, which agrees where no two scores are equal."""
    scores = torch.rand(2, 100_003, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    scores = scores.argsort(dim=1).float()
    got = target.threshold(scores, 9_999)
    assert torch.equal(got["ids_keep"], scores.topk(9_999, dim=1).indices.sort(dim=1).values)


def test_strided_scores(target):
    scores = torch.randn(10, 6, generator=torch.Generator().manual_seed(0)).t()
    got, want = target.threshold(scores, 3), target.threshold(scores.contiguous(), 3)
    assert all(torch.equal(got[n], want[n]) for n in NAMES)


@pytest.mark.parametrize(
    ("scores", "visible", "groups", "error", "words"),
    [
        (torch.zeros(2, 8, dtype=torch.float64), 2, 1, TypeError, "float32"),
        (torch.zeros(8), 2, 1, ValueError, r"\[B, L\]"),
        (torch.zeros(2, 8), 0, 1, ValueError, "1..7"),
        (torch.zeros(2, 8), 8, 1, ValueError, "1..7"),
        (torch.zeros(2, 8), 2, 3, ValueError, "divisor"),
        (torch.zeros(2, 8), 2, 0, ValueError, "divisor"),
        (torch.zeros(2, 8), 2, 4, ValueError, "1..1"),
        (torch.zeros(2, 0), 0, 1, ValueError, "visible"),
    ],
)
def test_rejects(scores, visible, groups, error, words):
    with pytest.raises(error, match=words):
        ops.threshold(scores, visible, groups)
