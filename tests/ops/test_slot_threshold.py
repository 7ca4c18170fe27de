# SPDX-License-Identifier: Apache-2.0
"""slot_threshold: an exact count for each slot, whatever the scores and the line are."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from smnoise import ops, reference
from smnoise.backends.outputs import NAMES

INF, NAN = float("inf"), float("nan")


def run(target, scores, counts, line=None, **kw) -> dict[str, torch.Tensor]:
    line = None if line is None else line.to(target.device)
    results = ops.slot_threshold(scores.to(target.device), counts, line, target.backend, **kw)
    return dict(zip(NAMES, (r.cpu() for r in results), strict=True))


def assert_same_as_reference(target, scores, counts, line=None) -> dict[str, torch.Tensor]:
    got = run(target, scores, counts, line)
    for i, row in enumerate(scores.numpy()):
        own = None if line is None else line[i].numpy()
        want = reference.slot_threshold(row.reshape(len(counts), -1), counts, own)
        for name in NAMES:
            assert torch.equal(got[name][i], torch.from_numpy(getattr(want, name))), name
    return got


@pytest.mark.parametrize("tokens", [1, 7, 196, 300])
@pytest.mark.parametrize("drawn", [False, True])
def test_whole_empty_and_partial_slots(target, tokens, drawn):
    """Past frames whole, a future frame almost hidden, one empty: also where a slot is one token or one vector."""
    generator = torch.Generator().manual_seed(3)
    scores = torch.randn(3, 4 * tokens, generator=generator)
    counts = (tokens, 0, tokens // 2, tokens)
    line = torch.randn(3, 4, generator=generator) if drawn else None
    got = assert_same_as_reference(target, scores, counts, line)
    shown = (~got["mask"]).view(3, 4, tokens).sum(2)
    assert shown.sort(dim=1).values.tolist() == [sorted(counts)] * 3
    if not drawn:
        assert shown.tolist() == [list(counts)] * 3


def test_equal_counts_are_those_of_threshold(target):
    scores = torch.randn(4, 96, generator=torch.Generator().manual_seed(0))
    got, want = run(target, scores, (5,) * 8), target.threshold(scores, 5, 8)
    assert all(torch.equal(got[n], want[n]) for n in NAMES)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_bits(target, data):
    slots, tokens = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 80))
    value = st.sampled_from([0.0, -0.0, 1.0, NAN, -INF]) if data.draw(st.booleans()) else st.floats(width=32)
    counts = data.draw(st.lists(st.integers(0, tokens), min_size=slots, max_size=slots))
    if not 0 < sum(counts) < slots * tokens:
        return
    batch = data.draw(st.integers(1, 2))
    rows = data.draw(st.lists(value, min_size=slots * tokens, max_size=slots * tokens))
    lines = data.draw(st.lists(value, min_size=slots, max_size=slots))
    scores, line = torch.tensor([rows] * batch), torch.tensor([lines] * batch)
    assert_same_as_reference(target, scores, tuple(counts), line if data.draw(st.booleans()) else None)


def test_nans_of_a_line_keep_their_sign_and_payload(target):
    bits = [0x7FC00001, 0x7F800001, -1, 0x7F800000, 0, -(2**31), -0x800000, 0x3F800000]
    line = torch.tensor([bits], dtype=torch.int64).to(torch.int32).view(torch.float32)
    assert_same_as_reference(target, torch.arange(24.0).view(1, 24), (3, 2, 1, 0, 3, 2, 1, 0), line)


def test_some_outputs_and_strided_tensors(target):
    generator = torch.Generator().manual_seed(1)
    scores, line = torch.randn(12, 5, generator=generator).t(), torch.randn(3, 5, generator=generator).t()
    want = run(target, scores.contiguous(), (2, 4, 1), line.contiguous())
    for name in NAMES:
        got = run(target, scores, (2, 4, 1), line, outputs=name)
        assert torch.equal(got[name], want[name])
        assert all(got[other].shape == (0,) for other in NAMES if other != name)


def test_no_rows(target):
    got = run(target, torch.zeros(0, 6), (1, 2), torch.zeros(0, 2))
    assert got["ids_keep"].shape == (0, 3)


def test_a_row_does_not_depend_on_its_batch(target):
    generator = torch.Generator().manual_seed(2)
    scores, line = torch.randn(5, 60, generator=generator), torch.randn(5, 3, generator=generator)
    whole = run(target, scores, (20, 1, 7), line)
    for i in range(5):
        alone = run(target, scores[i : i + 1], (20, 1, 7), line[i : i + 1])
        assert all(torch.equal(whole[n][i : i + 1], alone[n]) for n in NAMES)


SCORES = torch.zeros(2, 8)


@pytest.mark.parametrize(
    ("scores", "counts", "line", "error", "words"),
    [
        (SCORES.double(), (1, 1), None, TypeError, "float32"),
        (SCORES[0], (1, 1), None, ValueError, r"\[B, L\]"),
        (SCORES, (1, 1, 1), None, ValueError, "3 slots do not divide the 8"),
        (SCORES, (), None, ValueError, "0 slots"),
        (SCORES, 3, None, TypeError, "one for each slot; got 3"),
        (SCORES, (5, 0), None, ValueError, r"counts\[0\] must be in 0..4"),
        (SCORES, (1, -1), None, ValueError, r"counts\[1\]"),
        (SCORES, (4, 4), None, ValueError, "at least one"),
        (SCORES, (0, 0), None, ValueError, "at least one"),
        (SCORES, (1, 1), torch.zeros(2, 2).double(), TypeError, "line must be float32"),
        (SCORES, (1, 1), torch.zeros(2, 3), ValueError, r"\(2, 2\); got \(2, 3\)"),
        (SCORES, (1, 1), torch.zeros(2, 2, device="meta"), ValueError, "line is on meta"),
    ],
)
def test_rejects(scores, counts, line, error, words):
    with pytest.raises(error, match=words):
        ops.slot_threshold(scores, counts, line)


def test_a_line_orders_counts_as_numpy_does():
    line = np.array([0.5, 2.0, 2.0, -1.0], np.float32)
    got = ops.slot_threshold(torch.arange(8.0)[None], (2, 1, 0, 0), torch.from_numpy(line)[None])[1]
    assert got.tolist() == [[2, 3, 5]]
