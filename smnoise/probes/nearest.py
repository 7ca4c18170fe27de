# SPDX-License-Identifier: Apache-2.0
"""k-NN probe: the labels of the nearest training clips, weighted as DINO does (Caron et al., ICCV 2021). Nothing is
fitted, so it says what a linear probe cannot: whether like clips lie together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from .logistic import Labelled
from .metrics import mean_average_precision

CHUNK = 1024  # test clips compared at once


class Nearest(NamedTuple):
    """Scores on the test set."""

    accuracy: float
    """NaN for several labels a clip."""
    mean_average_precision: float
    votes: Tensor
    """float64 [M, C], the share of the weights that each class has."""


def nearest_probe(
    train_x: Tensor,
    train_y: Tensor | Sequence[int],
    test_x: Tensor,
    test_y: Tensor | Sequence[int],
    *,
    neighbours: int = 20,
    temperature: float = 0.07,
) -> Nearest:
    """Each test clip's `neighbours` nearest training clips by cosine vote with weight exp(cosine / temperature).

    Arguments and errors as in `linear_probe`; ValueError too for numbers that are not positive. Of fewer training
    clips all vote.
    """
    if neighbours < 1 or not temperature > 0:
        raise ValueError(
            f"need at least 1 neighbour and a positive temperature, got {neighbours}, {temperature}"
        )
    train = Labelled.checked("train", train_x, train_y)
    test = Labelled.checked("test", test_x, test_y, classes=train.y.shape[1])
    train.check_test(test)
    known = normalize(train.x, dim=1)
    parts: list[Tensor] = []
    for rows in normalize(test.x, dim=1).split(CHUNK):
        cosine, nearest = (rows @ known.T).topk(min(neighbours, len(known)), dim=1)
        weight = (cosine / temperature).softmax(dim=1)  # the same shares, and no overflow
        parts.append((weight[..., None] * train.y[nearest]).sum(dim=1))
    votes = torch.cat(parts)
    right = (votes.argmax(dim=1) == test.y.argmax(dim=1)).double().mean().item()
    return Nearest(
        float("nan") if train.several else right, mean_average_precision(votes, test.y).value, votes
    )
