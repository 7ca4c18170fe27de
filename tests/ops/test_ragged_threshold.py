# SPDX-License-Identifier: Apache-2.0
"""ragged_threshold: an exact count of each row's own tokens, whatever stands in the padding."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from smnoise import backends, ops, reference
from smnoise.backends.outputs import NAMES

INF, NAN = float("inf"), float("nan")


def run(target, scores, lengths, visible, keep, hide, **kw) -> dict[str, torch.Tensor]:
    numbers = (torch.tensor(v, dtype=torch.int64) for v in (lengths, visible))
    tensors = (v.to(target.device) for v in (scores, *numbers))
    results = ops.ragged_threshold(*tensors, keep, hide, target.backend, **kw)
    return dict(zip(NAMES, (r.cpu() for r in results), strict=True))


def assert_same_as_reference(target, scores, lengths, visible, keep, hide) -> dict[str, torch.Tensor]:
    got = run(target, scores, lengths, visible, keep, hide)
    for i, (length, count) in enumerate(zip(lengths, visible, strict=True)):
        want = reference.ragged_threshold(scores[i].numpy(), length, count, keep, hide)
        for name in NAMES:
            assert torch.equal(got[name][i], torch.from_numpy(getattr(want, name))), (name, i)
    return got


@pytest.mark.parametrize("tokens", [5, 64, 700])
def test_rows_of_every_kind(target, tokens):
    """Whole, empty, of one token, all shown, none shown; with a NaN and infinities in what is padding."""
    scores = torch.randn(6, tokens, generator=torch.Generator().manual_seed(3))
    lengths = [tokens, 0, 1, tokens // 2, tokens // 2, tokens - 1]
    visible = [tokens // 3, 0, 1, tokens // 2, 0, 2]
    for row, length in enumerate(lengths):
        scores[row, length:] = torch.tensor([NAN, INF, -NAN]).repeat(tokens)[: tokens - length]
    got = assert_same_as_reference(target, scores, lengths, visible, max(visible), tokens)
    for row, (length, count) in enumerate(zip(lengths, visible, strict=True)):
        assert not got["mask"][row, length:].any()
        assert (~got["mask"][row, :length]).sum() == count


def test_a_row_of_full_length_is_threshold_s(target):
    scores = torch.randn(4, 96, generator=torch.Generator().manual_seed(0))
    got = run(target, scores, [96] * 4, [30] * 4, 30, 66)
    want = target.threshold(scores, 30)
    assert all(torch.equal(got[n], want[n]) for n in NAMES)


def test_ids_restore_undoes_the_padded_lists(target):
    scores = torch.randn(3, 50, generator=torch.Generator().manual_seed(1))
    lengths = [50, 20, 31]
    got = run(target, scores, lengths, [10, 4, 6], 12, 45)
    both = torch.cat([got["ids_keep"], got["ids_mask"]], dim=1)
    for row, length in enumerate(lengths):
        assert both[row][got["ids_restore"][row, :length]].tolist() == list(range(length))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_bits(target, data):
    tokens, batch = data.draw(st.integers(1, 90)), data.draw(st.integers(1, 3))
    value = st.sampled_from([0.0, -0.0, 1.0, NAN, -INF]) if data.draw(st.booleans()) else st.floats(width=32)
    rows = [data.draw(st.lists(value, min_size=tokens, max_size=tokens)) for _ in range(batch)]
    lengths = [data.draw(st.integers(0, tokens)) for _ in range(batch)]
    visible = [data.draw(st.integers(0, n)) for n in lengths]
    keep = data.draw(st.integers(max(visible), tokens))
    hide = data.draw(st.integers(max(n - v for n, v in zip(lengths, visible, strict=True)), tokens))
    assert_same_as_reference(target, torch.tensor(rows), lengths, visible, keep, hide)


def test_some_outputs_and_strided_tensors(target):
    scores = torch.randn(12, 5, generator=torch.Generator().manual_seed(1)).t()
    lengths, visible = [12, 3, 7, 9, 0], [2, 1, 0, 9, 0]
    want = run(target, scores.contiguous(), lengths, visible, 9, 10)
    for name in NAMES:
        got = run(target, scores, lengths, visible, 9, 10, outputs=name)
        assert torch.equal(got[name], want[name])
        assert all(got[other].shape == (0,) for other in NAMES if other != name)
    assert run(target, torch.zeros(0, 6), [], [], 1, 2, outputs="ids_keep")["ids_keep"].shape == (0, 1)


def test_what_a_gpu_cannot_look_at_stays_in_bounds(target):
    """Lengths and counts that do not fit are brought to what does: nothing is written elsewhere."""
    if target.backend == "reference":
        pytest.skip("the values are checked on the CPU")
    choose = backends.choose("ragged_threshold", target.backend, target.device)
    scores = torch.randn(5, 20, generator=torch.Generator().manual_seed(2)).to(target.device)
    lengths, visible = (
        torch.tensor(v, device=target.device) for v in ([99, -1, 20, 20, 2**62], [3, 3, 15, 0, -(2**62)])
    )
    got = choose(scores, lengths, visible, 6, 12, NAMES)
    assert got["mask"].sum(1).cpu().tolist() == [12, 0, 12, 12, 12]
    assert got["ids_keep"].max() < 20
    assert got["ids_mask"].max() < 20


SCORES, TWO = torch.zeros(2, 8), torch.tensor([8, 4])


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((SCORES.double(), TWO, TWO, 8, 8), TypeError, "float32"),
        ((SCORES[0], TWO, TWO, 8, 8), ValueError, r"\[B, L\]"),
        ((SCORES, TWO.int(), TWO, 8, 8), TypeError, "lengths must be an int64"),
        ((SCORES, TWO, TWO.float(), 8, 8), TypeError, "visible must be an int64"),
        ((SCORES, TWO[:1], TWO, 8, 8), ValueError, "2 rows"),
        ((SCORES, TWO + 1, TWO, 8, 8), ValueError, r"lengths\[0\] must be in 0..8"),
        ((SCORES, TWO, TWO + 1, 8, 8), ValueError, r"visible\[0\] must be in 0..8"),
        ((SCORES, TWO, -TWO, 8, 8), ValueError, r"visible\[0\]"),
        ((SCORES, TWO, TWO, 7, 8), ValueError, "keep=7"),
        ((SCORES, TWO, TWO - 4, 8, 3), ValueError, "hide=3"),
        ((SCORES, TWO, TWO, 9, 8), ValueError, "keep must be in 0..8"),
        ((SCORES, TWO.to("meta"), TWO, 8, 8), ValueError, "lengths is on meta"),
    ],
)
def test_rejects(arguments, error, words):
    with pytest.raises(error, match=words):
        ops.ragged_threshold(*arguments)
