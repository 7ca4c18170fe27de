# SPDX-License-Identifier: Apache-2.0
"""Logistic regression on features: softmax for one label a clip, a sigmoid a class for several.

Features are standardised by the training set. The loss is the mean over clips of the cross-entropy (for several
labels its sum over classes) plus strength / 2 times the sum of squared weights: strictly convex, so that the
answer is one set of weights, without a learning rate, a number of epochs or a seed. Letters: N clips, D features,
C classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, one_hot

from ..data.classes import check_classes

FOLDS = 4
BIAS_STRENGTH = 1e-6  # keeps the bias of a class without a clip finite, and the answer unique
CONSTANT = 1e-6  # a feature whose deviation is less than this share of the largest is taken as constant


@dataclass(frozen=True)
class Linear:
    """A classifier of features [N, D] with C classes: standardise, multiply, add."""

    mean: Tensor
    """float64 [D], of the training set."""
    scale: Tensor
    """float64 [D], 1 over its deviation; 0 for a feature that is constant there."""
    weight: Tensor
    """float64 [D, C]."""
    bias: Tensor
    """float64 [C]."""

    def __call__(self, x: Tensor) -> Tensor:
        """Logits, float64 [N, C]."""
        return (x.double() - self.mean) * self.scale @ self.weight + self.bias


@dataclass(frozen=True)
class Labelled:
    """Features and labels that fit each other."""

    x: Tensor
    """float64 [N, D], finite."""
    y: Tensor
    """float64 [N, C], 0 or 1."""
    several: bool
    """Whether a clip may have several labels, or none."""

    @staticmethod
    def checked(name: str, x: Tensor, y: Tensor | Sequence[int], classes: int = 0) -> Labelled:
        """Check features, float [N, D], and labels, integers [N] (of at least so many classes) or [N, C], 0 or 1, and
        put them together; `name` is for messages. Raises ValueError or TypeError where they cannot be used.
        """
        x, y = torch.as_tensor(x), torch.as_tensor(y)
        if x.dim() != 2 or not len(x) or y.dim() not in (1, 2) or len(y) != len(x):
            raise ValueError(
                f"{name} needs features [N, D] and as many labels, [N] or [N, C], and at least one; got "
                f"{tuple(x.shape)} and {tuple(y.shape)}"
            )
        if wrong := int((~x.isfinite()).any(dim=1).sum()):
            raise ValueError(
                f"{name} features hold NaN or Inf in {wrong} of {len(x)} rows: look for a model that diverged"
            )
        several = y.dim() == 2
        if y.is_complex() or (not several and (y.is_floating_point() or y.dtype == torch.bool)):
            raise TypeError(f"{name} labels must be class numbers, integers [N]; got {y.dtype}")
        if (several and ((y != 0) & (y != 1)).any()) or (not several and y.min() < 0):
            raise ValueError(
                f"{name} labels must be 0, 1, ... [N], or 0 and 1 [N, C]; got {y.min()} to {y.max()}"
            )
        if not several:
            count = max(classes, int(y.max()) + 1)
            check_classes(count, len(y), f"{name} labels", guessed=count > classes)
            y = one_hot(y.long(), count)
        y = y.to(x.device, torch.float64)
        return Labelled(x.double(), y, several)

    def rows(self, chosen: Tensor) -> Labelled:
        """Return the clips that are chosen, by bool [N]."""
        return Labelled(self.x[chosen], self.y[chosen], self.several)

    def check_test(self, test: Labelled) -> None:
        """Raise ValueError unless these labels can be learned, and `test` can be scored by what is."""
        positives = self.y.sum(dim=0)
        if not self.several and (positives > 0).sum() < 2:
            raise ValueError(
                f"train has clips of one class only, {int(positives.argmax())}; need two or more"
            )
        if self.several and not ((positives > 0) & (positives < len(self.y))).any():
            raise ValueError("train has no class that some clips are of and others are not; need one or more")
        if test.x.shape[1] != self.x.shape[1]:
            raise ValueError(
                f"train has features of width {self.x.shape[1]}, test of {test.x.shape[1]}; need one model's"
            )
        if test.several != self.several or test.y.shape[1] != self.y.shape[1]:
            raise ValueError(
                f"test labels must be of train's classes, {self.y.shape[1]} in number; got {test.y.shape[1]}"
            )
        unknown = (test.y.sum(dim=0) > 0) & (positives == 0)
        if not self.several and unknown.any():
            raise ValueError(f"test has clips of class {int(unknown.int().argmax())}, and train has none")


def fit(data: Labelled, strengths: Sequence[float]) -> list[Linear]:
    """Find the minimum of the loss for each strength, by L-BFGS in float64. Each is the next one's first guess, so give
    them from strong to weak.
    """
    deviation, mean = torch.std_mean(data.x, dim=0, correction=0)
    scale = torch.where(deviation > CONSTANT * deviation.max(), 1 / deviation, 0.0)
    standard = (data.x - mean) * scale
    weight = standard.new_zeros(data.x.shape[1], data.y.shape[1], requires_grad=True)
    bias = standard.new_zeros(data.y.shape[1], requires_grad=True)
    found = []
    for strength in strengths:
        solver = torch.optim.LBFGS(
            [weight, bias],
            max_iter=500,
            history_size=20,
            tolerance_grad=1e-9,
            tolerance_change=1e-14,
            line_search_fn="strong_wolfe",
        )

        def loss(solver=solver, strength=strength):
            solver.zero_grad()
            penalty = strength * weight.square().sum() + BIAS_STRENGTH * bias.square().sum()
            value = mean_cross_entropy(standard @ weight + bias, data) + penalty / 2
            value.backward()
            return value

        solver.step(loss)
        found.append(Linear(mean, scale, weight.detach().clone(), bias.detach().clone()))
    return found


def mean_cross_entropy(logits: Tensor, data: Labelled) -> Tensor:
    """Compute the loss without its penalty, a float64 scalar, of logits, float64 [N, C]."""
    if data.several:
        return binary_cross_entropy_with_logits(logits, data.y, reduction="sum") / len(logits)
    return cross_entropy(logits, data.y)


def choose_strength(data: Labelled, groups: Sequence[Hashable] | None, strengths: Sequence[float]) -> float:
    """Choose the strength with the lowest cross-entropy over the parts of `folds`, each left out once; of equal ones
    the strongest. Where nothing can be scored, since every class is one group, it is the middle one.

    A clip of a class that the other parts lack is not scored: no strength could know of it.
    """
    if not strengths or not all(strength > 0 for strength in strengths):
        raise ValueError(f"strengths must be positive numbers, at least one; got {list(strengths)}")
    strengths = sorted(strengths, reverse=True)
    if len(strengths) == 1:
        return strengths[0]
    part = folds(data, groups)
    losses = torch.zeros(len(strengths), dtype=torch.float64)
    for left_out in range(FOLDS):
        fitted = data.rows(part != left_out)
        known = fitted.y.sum(dim=0) > 0
        held = data.rows((part == left_out) & (data.y[:, ~known] == 0).all(dim=1))
        if len(held.x) and known.sum() >= (1 if data.several else 2):
            for i, classifier in enumerate(fit(fitted, strengths)):
                losses[i] += len(held.x) * mean_cross_entropy(classifier(held.x), held).item()
    return strengths[int(losses.argmin()) if losses.any() else len(strengths) // 2]


def folds(data: Labelled, groups: Sequence[Hashable] | None) -> Tensor:
    """Deal the clips out to parts 0 .. FOLDS - 1, int64 [N]: groups are sorted by class and dealt in turn, so that each
    part has as much of a class as can be. The parts depend on what clips hold, not on their order.
    """
    labels = data.y.argmax(dim=1).tolist()
    content = [
        row.tobytes() for row in data.x.cpu().numpy().astype(">f8")
    ]  # sorts by the first feature first
    members: dict[Hashable, list[tuple[int, bytes, int]]] = {}
    for i, group in enumerate(range(len(labels)) if groups is None else groups):
        members.setdefault(group, []).append((labels[i], content[i], i))
    order = sorted(members.values(), key=lambda clips: (most_frequent([c[0] for c in clips]), min(clips)))
    part = torch.empty(len(labels), dtype=torch.int64, device=data.x.device)
    for turn, clips in enumerate(order):
        part[[i for *_, i in clips]] = turn % FOLDS
    return part


def most_frequent(labels: list[int]) -> int:
    """Return the most frequent label; of equally frequent ones the smallest."""
    counts = Counter(labels)
    return min(counts, key=lambda label: (-counts[label], label))
