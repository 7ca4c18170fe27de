# SPDX-License-Identifier: Apache-2.0
"""Scores of classifiers: average precision and its mean over classes, accuracy.

Letters: N samples, C classes.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..tensors import check_tensors


class MeanAveragePrecision(NamedTuple):
    """Average precision over classes."""

    value: float
    """The mean over classes that have a positive; NaN where none has."""
    per_class: Tensor
    """float64 [C]; NaN where a class has no positive."""
    left_out: list[int]
    """The classes without a positive."""


def average_precision(scores: Tensor, labels: Tensor) -> float:
    """Precision at each threshold, weighted by the recall gained there (scikit-learn's definition: nothing is
    interpolated, and equal scores share a threshold, so their order does not matter).

    >>> average_precision(torch.tensor([0.9, 0.8, 0.1]), torch.tensor([1, 0, 1]))
    0.8333333333333333

    Args:
        scores: [N], higher for what is more likely positive.
        labels: [N], 0 or 1, or bool.

    Returns:
        A number in (0, 1]; NaN where no label is positive.
    """
    check_tensors(scores=scores, labels=labels)
    _check(scores, labels, labels.shape == scores.shape and scores.dim() == 1, "both [N]")
    if ((labels != 0) & (labels != 1)).any():
        raise ValueError("labels must be 0 or 1: average precision is for yes and no, not for class numbers")
    scores, order = scores.sort(descending=True)
    found = (labels[order] == 1).cumsum(0)
    ends = torch.ones_like(found, dtype=torch.bool)
    ends[:-1] = scores[:-1] != scores[1:]
    found, taken = found[ends], ends.nonzero()[:, 0] + 1
    gained = found.diff(prepend=found.new_zeros(1))
    return ((gained * found).double() / taken).sum().div(found[-1]).item()


def mean_average_precision(scores: Tensor, labels: Tensor) -> MeanAveragePrecision:
    """mAP, macro: the plain mean of the classes' average precision. Classes without a positive have none; they
    are left out of the mean and named.

    >>> mean_average_precision(torch.tensor([[0.9, 0.2], [0.8, 0.3]]), torch.tensor([[1, 0], [0, 0]])).left_out
    [1]

    Args:
        scores: [N, C], higher for what is more likely.
        labels: [N, C], 0 or 1, or bool.
    """
    check_tensors(scores=scores, labels=labels)
    _check(scores, labels, labels.shape == scores.shape and scores.dim() == 2, "both [N, C]")
    pairs = zip(scores.unbind(1), labels.unbind(1), strict=True)
    per_class = torch.tensor([average_precision(s, y) for s, y in pairs], dtype=torch.float64, device="cpu")
    left_out = per_class.isnan()
    return MeanAveragePrecision(per_class.nanmean().item(), per_class, left_out.nonzero()[:, 0].tolist())


def accuracy(scores: Tensor, labels: Tensor) -> float:
    """The share of samples whose highest score is that of their label.

    >>> accuracy(torch.tensor([[0.9, 0.1], [0.8, 0.2]]), torch.tensor([0, 1]))
    0.5

    Args:
        scores: [N, C], logits or probabilities; of equal scores one is taken.
        labels: integers [N], the class of each sample.
    """
    check_tensors(scores=scores, labels=labels)
    _check(scores, labels, scores.dim() == 2 and labels.shape == scores.shape[:1], "[N, C] and [N]")
    if labels.is_floating_point() or labels.dtype == torch.bool:
        raise TypeError(f"labels must be class numbers, integers; got {labels.dtype}")
    return (scores.argmax(dim=1) == labels).double().mean().item()


def _check(scores: Tensor, labels: Tensor, fits: bool, wanted: str) -> None:
    if not fits or len(scores) == 0:
        shapes = f"{tuple(scores.shape)} and {tuple(labels.shape)}"
        raise ValueError(f"scores and labels must be {wanted}, and not empty; got {shapes}")
    if scores.isnan().any():
        raise ValueError("scores hold NaN, which has no rank: look for a model that diverged")
