# SPDX-License-Identifier: Apache-2.0
"""Average precision and accuracy against their definitions, counted out."""

import math

import pytest
import torch

from smnoise.probes.metrics import accuracy, average_precision, mean_average_precision


def counted(scores, labels):
    """Sum over thresholds, highest first, of (recall - recall before) * precision."""
    scores, labels = scores.tolist(), labels.tolist()
    total, before = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        taken = [y for s, y in zip(scores, labels, strict=True) if s >= threshold]
        recall = sum(taken) / sum(labels)
        total += (recall - before) * sum(taken) / len(taken)
        before = recall
    return total


@pytest.mark.parametrize("seed", range(30))
def test_average_precision_as_counted(seed):
    generator = torch.Generator().manual_seed(seed)
    n = int(torch.randint(1, 60, (), generator=generator))
    levels = (2, 5, 1000)[seed % 3]  # many ties, some, few
    scores = torch.randint(0, levels, (n,), generator=generator).float() / levels
    labels = torch.randint(0, 2, (n,), generator=generator)
    labels[seed % n] = 1
    assert average_precision(scores, labels) == pytest.approx(counted(scores, labels), abs=1e-12)


def test_known_values():
    scores = torch.tensor([0.1, 0.4, 0.35, 0.8])
    assert average_precision(scores, torch.tensor([0, 0, 1, 1])) == pytest.approx(5 / 6)
    assert average_precision(scores, scores > 0.3) == 1
    assert average_precision(torch.zeros(4), torch.tensor([0, 1, 0, 0])) == 0.25
    assert average_precision(torch.tensor([2, 1]), torch.tensor([0.0, 1.0])) == 0.5
    assert math.isnan(average_precision(scores, torch.zeros(4)))


def test_equal_scores_may_come_in_any_order():
    scores = torch.tensor([1, 1, 0, 0, 0, 2.0])
    labels = torch.tensor([1, 0, 0, 1, 0, 0])
    results = {average_precision(scores[p], labels[p]) for p in (torch.randperm(6) for _ in range(20))}
    assert len(results) == 1


def test_mean_leaves_out_classes_without_a_positive():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(0, 9, (40, 5), generator=generator).float()
    labels = torch.rand(40, 5, generator=generator) < 0.3
    labels[:, [1, 4]] = False
    got = mean_average_precision(scores, labels)
    want = [counted(scores[:, c], labels[:, c]) for c in (0, 2, 3)]
    assert got.left_out == [1, 4]
    assert got.value == pytest.approx(sum(want) / 3, abs=1e-12)
    assert got.per_class[[0, 2, 3]].tolist() == pytest.approx(want, abs=1e-12)
    assert got.per_class.isnan().tolist() == [False, True, False, False, True]
    none = mean_average_precision(scores, torch.zeros(40, 5))
    assert math.isnan(none.value)
    assert none.left_out == [0, 1, 2, 3, 4]


def test_many_positives_are_counted_exactly():
    """More than float32 can count."""
    labels = torch.ones(2**24 + 8, dtype=torch.bool)
    labels[0] = False
    assert average_precision(torch.zeros(len(labels)), labels) == (len(labels) - 1) / len(labels)


def test_accuracy():
    scores = torch.tensor([[1.0, 2, 3], [3, 1, 2], [0, 5, 1], [9, 1, 1]])
    assert accuracy(scores, torch.tensor([2, 0, 0, 1])) == 0.5
    assert accuracy(scores, scores.argmax(dim=1)) == 1


def test_rejects():
    with pytest.raises(ValueError, match=r"both \[N\].*got \(3,\) and \(2,\)"):
        average_precision(torch.zeros(3), torch.zeros(2))
    with pytest.raises(ValueError, match="not empty"):
        average_precision(torch.zeros(0), torch.zeros(0))
    with pytest.raises(ValueError, match="NaN"):
        average_precision(torch.tensor([float("nan"), 1]), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="0 or 1"):
        average_precision(torch.zeros(3), torch.tensor([0, 1, 2]))
    with pytest.raises(ValueError, match=r"both \[N, C\]"):
        mean_average_precision(torch.zeros(3), torch.zeros(3))
    with pytest.raises(ValueError, match=r"\[N, C\] and \[N\]"):
        accuracy(torch.zeros(3, 2), torch.zeros(3, 2))
    with pytest.raises(TypeError, match="class numbers"):
        accuracy(torch.zeros(3, 2), torch.zeros(3))
