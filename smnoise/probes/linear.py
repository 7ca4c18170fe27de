# SPDX-License-Identifier: Apache-2.0
"""The linear probe: logistic regression on features, with all labels or with a few.

    probe = linear_probe(train.features, labels, test.features, test_labels, groups=tracks)
    print(probe.accuracy, probe.mean_average_precision, probe.strength)

How strongly the classifier (`logistic`) is held back is chosen on the training set alone: it is dealt into four parts,
whole groups at a time, and of STRENGTHS the one with the lowest cross-entropy on the parts left out in turn is used.
Cross-entropy, since accuracies of few clips are often equal. The test set is looked at once, after that. Nothing is
drawn: the same features give the same scores.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..data.draws import permutation
from .logistic import Labelled, Linear, choose_strength, fit
from .metrics import MeanAveragePrecision, accuracy, mean_average_precision

STRENGTHS = (1.0, 1e-1, 1e-2, 1e-3, 1e-4)
FEW = 1e-2  # of few_shot: a handful of labels does not tell strengths apart


class Probe(NamedTuple):
    """A linear probe's scores on the test set."""

    accuracy: float
    """NaN for several labels a clip."""
    mean_average_precision: float
    """Over the classes that the test set has; see `smnoise.probes.metrics`."""
    strength: float
    """Of the L2 penalty, as chosen."""
    left_out: list[int]
    """Classes that the test set has none of."""
    classifier: Linear


class FewShot(NamedTuple):
    """Means over draws of a few labelled clips."""

    accuracy: float
    mean_average_precision: float
    accuracies: list[float]
    """Of each draw."""


def linear_probe(
    train_x: Tensor,
    train_y: Tensor | Sequence[int],
    test_x: Tensor,
    test_y: Tensor | Sequence[int],
    *,
    groups: Sequence[Hashable] | None = None,
    strengths: Sequence[float] = STRENGTHS,
) -> Probe:
    """Fit a linear probe on the training set, and score it on the test set.

    It is computed in float64 where the features are. The same numbers come out for any order of the rows.

    Args:
        train_x, test_x: features, floats [N, D] and [M, D].
        train_y, test_y: class numbers, integers [N] and [M]; or for several labels a clip 0 and 1, [N, C] and [M, C].
        groups: what each training clip was cut from (a track, a speaker). Clips of one group are never both fitted and
            left out while the strength is chosen; by default each clip is its own.
        strengths: the L2 penalties to choose from. If there is just one, it is used and nothing is left out.

    Raises ValueError for sets that are empty or of different lengths, features that are NaN or infinite, less than two
    classes, and test labels that the training set lacks; TypeError for labels that are no integers.
    """
    train = Labelled.checked("train", train_x, train_y)
    test = Labelled.checked("test", test_x, test_y, classes=train.y.shape[1])
    train.check_test(test)
    if groups is not None and len(groups) != len(train.x):
        raise ValueError(f"need a group for each of {len(train.x)} training clips, got {len(groups)}")
    strength = choose_strength(train, groups, strengths)
    classifier = fit(train, [strength])[0]
    logits = classifier(test.x)
    right, precision = scores_of(logits, test.y, train.several)
    return Probe(right, precision.value, strength, precision.left_out, classifier)


def scores_of(logits: Tensor, targets: Tensor, several: bool) -> tuple[float, MeanAveragePrecision]:
    """Compute accuracy (NaN for several labels a clip) and mAP of logits, float [N, C], for targets [N, C], 0 or 1."""
    if several:
        return math.nan, mean_average_precision(logits, targets)
    return accuracy(logits, targets.argmax(dim=1)), mean_average_precision(logits.log_softmax(dim=1), targets)


def few_shot(
    train_x: Tensor,
    train_y: Tensor | Sequence[int],
    test_x: Tensor,
    test_y: Tensor | Sequence[int],
    *,
    per_class: int = 4,
    draws: int = 20,
    seed: int = 0,
) -> FewShot:
    """Return the mean of probes that see just `per_class` training clips of each class, drawn anew `draws` times as
    functions of (seed, draw). The strength is FEW. Arguments and errors are as in `linear_probe`, with one label a
    clip; ValueError too where a class has fewer clips.
    """
    train_x, labels = torch.as_tensor(train_x), torch.as_tensor(train_y)
    if Labelled.checked("train", train_x, labels).several:
        raise ValueError(f"few_shot needs one label a clip, class numbers [N]; got {tuple(labels.shape)}")
    counts = Counter(labels.tolist())
    scarce = min(counts, key=counts.__getitem__)
    if per_class < 1 or draws < 1 or counts[scarce] < per_class:
        raise ValueError(
            "need at least 1 draw of at least 1 clip a class, and as many clips as that in each; got "
            f"draws={draws}, per_class={per_class}, and {counts[scarce]} clips of class {scarce}"
        )
    probes = []
    for draw in range(draws):
        order = torch.from_numpy(permutation(seed, draw, len(labels))).to(labels.device)
        rows = torch.cat([order[labels[order] == label][:per_class] for label in sorted(counts)])
        probes.append(
            linear_probe(train_x[rows.to(train_x.device)], labels[rows], test_x, test_y, strengths=[FEW])
        )
    accuracies = [probe.accuracy for probe in probes]
    precisions = [probe.mean_average_precision for probe in probes]
    return FewShot(sum(accuracies) / draws, sum(precisions) / draws, accuracies)
