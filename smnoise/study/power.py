# SPDX-License-Identifier: Apache-2.0
"""What a comparison of so many seeds can see, and when two masks count as equal.

All is of paired differences: their deviation over seeds, in the unit of the score, and Student's t.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

LEVEL, POWER = 0.05, 0.8  # two-sided
MOST_SEEDS = 1000


def power(effect: float, deviation: float, seeds: int) -> float:
    """The chance that a two-sided paired t test at 5 % finds a true difference, with so many seeds (2 or more)."""
    freedom, shift = seeds - 1, effect / deviation * math.sqrt(seeds)
    limit = stats.t.ppf(1 - LEVEL / 2, freedom)
    return float(stats.nct.sf(limit, freedom, shift) + stats.nct.cdf(-limit, freedom, shift))


def seeds_for(effect: float, deviation: float) -> int:
    """The fewest seeds with which a true difference is found with a chance of 80 %."""
    for seeds in range(2, MOST_SEEDS + 1):
        if power(effect, deviation, seeds) >= POWER:
            return seeds
    raise ValueError(f"more than {MOST_SEEDS} seeds: an effect of {effect} at a deviation of {deviation}")


def smallest_effect(deviation: float, seeds: int) -> float:
    """The smallest true difference that so many seeds find with a chance of 80 %; 0 where all differences are equal."""
    if not deviation:
        return 0.0
    low, high = 0.0, 1.0
    while power(high, 1.0, seeds) < POWER:
        high *= 2
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if power(middle, 1.0, seeds) >= POWER else (middle, high)
    return high * deviation


def equivalence(differences: Sequence[float], margin: float) -> float:
    """p of two one-sided t tests: how likely such differences are if the true one is `margin` or more, either way.
    Below 0.05 two masks count as equal up to the margin. Needs two differences or more."""
    values = np.asarray(differences, dtype=float)
    mean, error = float(values.mean()), float(values.std(ddof=1)) / math.sqrt(len(values))
    if not error:
        return float(abs(mean) >= margin)
    return float(stats.t.sf((margin - abs(mean)) / error, len(values) - 1))
