# SPDX-License-Identifier: Apache-2.0
"""The measures of diversity: against plain sums over pairs, and on samplers that are known to be fair or not."""

import math

import numpy as np
import pytest
import torch

import smnoise
from smnoise import PoolSampler, pools
from smnoise.measures.diversity import diversity

GRID = (2, 5, 6)


def plain(masks: torch.Tensor) -> dict:
    """By its definitions, one pair at a time."""
    shown = (~masks).double().numpy()
    n, tokens = shown.shape
    visible = int(shown[0].sum())
    share = visible / tokens
    both = np.array([[(a * b).sum() for b in shown] for a in shown])
    correlation = np.corrcoef(shown)
    apart = ~np.eye(n, dtype=bool)
    return {
        "masks": n,
        "distinct": len(np.unique(shown, axis=0)),
        "seen_least": shown.mean(0).min(),
        "seen_most": shown.mean(0).max(),
        "bias": sum((c - n * share) ** 2 / (n * share * (1 - share)) for c in shown.sum(0)) / tokens,
        "overlap": both[apart].mean(),
        "expected_overlap": visible**2 / tokens,
        "correlation": correlation[apart].mean(),
        "deviation": (correlation[apart] ** 2).mean() ** 0.5,
        "nearest": np.where(apart, correlation, -1).max(1).mean(),
        "compared": n,
    }


@pytest.mark.parametrize("per", ["clip", "frame"])
@pytest.mark.parametrize("batch_size", [1, 7, 256])
def test_by_its_definitions(per, batch_size):
    green = smnoise.Green3D(GRID, 0.8, per=per)
    found = diversity(green, 40, first=3, batch_size=batch_size)
    assert found._asdict() == pytest.approx(plain(green(range(3, 43)).mask))


def test_copies_are_found():
    pool = pools.build_masks(smnoise.White3D(GRID, 0.8), 10)
    sampler = PoolSampler(pool, flip="")
    found = diversity(sampler, 200)
    assert found._asdict() == pytest.approx(plain(sampler(range(200)).mask))
    assert (found.distinct, found.nearest) == (10, pytest.approx(1))


def test_only_the_first_are_compared():
    green = smnoise.Green3D(GRID, 0.8)
    found, first = diversity(green, 60, compare=25, batch_size=10), diversity(green, 25)
    assert (found.compared, found.deviation, found.nearest) == (25, first.deviation, first.nearest)
    assert found.seen_most == plain(green(range(60)).mask)["seen_most"]


def test_more_than_a_block_is_compared():
    white = smnoise.White3D((1, 3, 4), num_visible=3)
    shown = (~white(range(1500)).mask).double().numpy()
    correlation = np.corrcoef(shown)
    np.fill_diagonal(correlation, 0)
    found = diversity(white, 1500)
    assert found.deviation == pytest.approx(math.sqrt((correlation**2).sum() / (1500 * 1499)))
    np.fill_diagonal(correlation, -1)
    assert found.nearest == pytest.approx(correlation.max(1).mean())


def test_random_masks_are_fair_and_unlike_each_other():
    """Within five standard deviations of what is expected of 4000 independent masks."""
    found = diversity(smnoise.White3D((4, 8, 8), 0.9), 4000)
    assert found.distinct == 4000
    assert found.bias == pytest.approx(1, abs=5 * math.sqrt(2 / 256))
    assert found.deviation == pytest.approx(1 / math.sqrt(255), rel=0.01)
    assert found.correlation == pytest.approx(0, abs=5 * math.sqrt(2 / 256) / 4000)


def test_a_favoured_corner_shows():
    """Blocks that lie within the grid favour the border (their docstring says so); complementary masks nothing."""
    assert diversity(smnoise.Block((1, 14, 14), 0.7), 2000).bias > 2
    assert diversity(smnoise.OptimBlue((14, 14), 0.7, masks="independent"), 2000).bias < 1.5
    assert diversity(smnoise.OptimBlue((14, 14), 0.75), 2000).bias < 0.01


def test_what_cannot_be_measured_is_refused():
    green = smnoise.Green3D(GRID, 0.8)
    with pytest.raises(ValueError, match="masks must be in 2"):
        diversity(green, 1)
    with pytest.raises(ValueError, match="compare must be in 2"):
        diversity(green, 10, compare=0)
    with pytest.raises(TypeError, match="batch_size"):
        diversity(green, 10, batch_size=2.0)
    with pytest.raises(TypeError, match="sampler must be one of smnoise's"):
        diversity("green-3d", 10)
