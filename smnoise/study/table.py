# SPDX-License-Identifier: Apache-2.0
"""What the cells say: means and deviations over seeds, differences seed by seed, and how likely chance makes those.

Seeds are paired: models of one seed begin with the same weights and see the same clips, so what counts is the
difference seed by seed. Its test is Student's paired t test (two-sided). Beside it stands the exact sign-flip test,
which assumes no distribution, but with n seeds cannot fall below 2 / 2^n: with 3 seeds not below 0.25. Holm's method
corrects the t tests of the masks of one experiment for each other; gains over the untrained model are a check that
pretraining works at all, and are not corrected. With few seeds neither test finds anything but large differences: that
none is found does not say that there is none, and the confidence interval says how large it may be.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from .plan import BASELINES, EXPERIMENTS, INPUTS, UNTRAINED, Cell, Plan

CONFIDENCE = 0.95
METHOD = (
    "Paired by seed. p: two-sided paired t test. Holm: the same, corrected for all comparisons of masks in the "
    "experiment. Exact p: sign-flip permutation test, which with n seeds cannot be less than 2 / 2^n."
)


class Comparison(NamedTuple):
    """What `first` has more than `second`, over the seeds that both have."""

    seeds: int
    mean: float
    std: float | None
    """None with one seed; so are all below."""
    low: float | None
    high: float | None
    """Confidence interval of the mean."""
    p: float | None
    """Also None where all differences are equal but not 0, to which a t test has no answer."""
    exact_p: float | None


def compare(first: Sequence[float], second: Sequence[float]) -> Comparison:
    """Scores of the same seeds. Raises ValueError for lists of different lengths, or empty ones."""
    if len(first) != len(second) or not len(first):
        raise ValueError(f"need as many scores of each, and at least one; got {len(first)} and {len(second)}")
    pair = np.asarray(first, float), np.asarray(second, float)
    more = pair[0] - pair[1]
    if len(more) == 1:
        return Comparison(1, float(more[0]), None, None, None, None, None)
    std = float(more.std(ddof=1))
    reach = std / math.sqrt(len(more)) * float(stats.t.ppf((1 + CONFIDENCE) / 2, len(more) - 1))
    mean = float(more.mean())
    constant = None if abs(mean) > 1e-12 else 1.0
    p = float(stats.ttest_rel(*pair).pvalue) if std > 1e-12 else constant
    exact = stats.permutation_test(
        pair, lambda a, b, axis: np.mean(a - b, axis=axis), permutation_type="samples",
        vectorized=True, n_resamples=2 ** min(len(more), 16), rng=np.random.default_rng(0),
    )  # fmt: skip
    return Comparison(len(more), mean, std, mean - reach, mean + reach, p, float(exact.pvalue))


def holm(values: Sequence[float | None]) -> list[float | None]:
    """p values corrected by Holm's method; those that are None stay so and do not count."""
    known = sorted((p, place) for place, p in enumerate(values) if p is not None)
    corrected: list[float | None] = [None] * len(values)
    least = 0.0
    for rank, (p, place) in enumerate(known):
        least = max(least, min(1.0, p * (len(known) - rank)))
        corrected[place] = least
    return corrected


def summarise(plan: Plan, result_of: Callable[[Cell], dict | None]) -> dict:
    """All experiments: rows with mean and deviation, and comparisons, by exact number of visible tokens."""
    experiments = {}
    for name in plan.experiments:
        experiment = EXPERIMENTS[name]
        task = plan.task(experiment.medium)
        tokens = math.prod(task.grid)
        budgets: dict[str, dict[str, Any]] = {}
        wanted = 0
        for visible in plan.budgets(experiment.medium):
            scores = {}
            for strategy in (*BASELINES, *experiment.strategies):
                budget = None if strategy in BASELINES else visible
                seeds = range(1 if strategy == INPUTS else plan.seeds)
                found = {seed: result_of(Cell(experiment.medium, strategy, budget, seed)) for seed in seeds}
                scores[strategy] = {s: r["scores"] for s, r in found.items() if r is not None}
                wanted += len(seeds) - len(scores[strategy])
            budgets[str(visible)] = {
                "masked": 1 - visible / tokens,
                "rows": {strategy: _row(found) for strategy, found in scores.items()},
                "comparisons": [_pair(task.score, scores, *pair) for pair in experiment.pairs],
                "gain over untrained": [
                    _pair(task.score, scores, strategy, UNTRAINED) for strategy in experiment.strategies
                ],
            }
        pairs = [pair for budget in budgets.values() for pair in budget["comparisons"]]
        for pair, corrected in zip(pairs, holm([pair.get("p") for pair in pairs]), strict=True):
            pair["holm p"] = corrected
        experiments[name] = {
            "score": task.score,
            "grid": task.grid,
            "tokens": tokens,
            "missing cells": wanted,
            "visible tokens": budgets,
        }
    return experiments


def _row(scores: dict[int, dict[str, float]]) -> dict:
    """Mean and deviation over seeds of each score."""
    names = dict.fromkeys(name for found in scores.values() for name in found)
    row: dict = {"seeds": sorted(scores)}
    for name in names:
        values = np.array([scores[seed][name] for seed in row["seeds"]])
        row[name] = {
            "mean": float(values.mean()),
            "std": float(values.std(ddof=1)) if len(values) > 1 else None,
            "values": values.tolist(),
        }
    return row


def _pair(score: str, scores: dict, first: str, second: str) -> dict:
    both = sorted(set(scores[first]) & set(scores[second]))
    named = {"first": first, "second": second, "seeds": len(both)}
    if not both:
        return named
    found = compare(*([scores[side][seed][score] for seed in both] for side in (first, second)))
    return named | found._asdict()


def markdown(plan: Plan, summary: dict) -> str:
    """The summary as tables."""
    lines = []
    for name, experiment in summary.items():
        lines += [f"## {name}", ""]
        for visible, budget in experiment["visible tokens"].items():
            rows = budget["rows"]
            names = list(dict.fromkeys(n for row in rows.values() for n in row if n != "seeds"))
            lines += [
                f"{visible} of {experiment['tokens']} tokens visible ({budget['masked']:.1%} masked), grid "
                f"{tuple(experiment['grid'])}. The score is {experiment['score']}.",
                "",
                "| masks | seeds | " + " | ".join(names) + " |",
                "|---|---:|" + "---:|" * len(names),
            ]
            for strategy, row in rows.items():
                cells = [_mean(row.get(score)) for score in names]
                lines.append(f"| {strategy} | {len(row['seeds'])} | " + " | ".join(cells) + " |")
            lines += [
                "",
                "| difference | seeds | mean ± deviation | 95 % interval | p | Holm | exact p |",
                "|---|---:|---:|---:|---:|---:|---:|",
            ]
            lines += [_difference(pair) for pair in budget["comparisons"] + budget["gain over untrained"]]
            lines.append("")
        if experiment["missing cells"]:
            lines += [f"**{experiment['missing cells']} results are missing; run the study again.**", ""]
    few = ""
    if plan.seeds < 6:
        few = f" {plan.seeds} seeds are few: intervals are wide, and a difference that is not found may be there."
    return "\n".join([*lines, METHOD + few, ""])


def _mean(score: dict | None) -> str:
    if score is None:
        return "-"
    return f"{score['mean']:.3f}" + ("" if score["std"] is None else f" ± {score['std']:.3f}")


def _difference(pair: dict) -> str:
    cells = [f"{pair['first']} less {pair['second']}", str(pair["seeds"])]
    if not pair["seeds"]:
        return "| " + " | ".join([*cells, *["-"] * 5]) + " |"
    spread = "" if pair["std"] is None else f" ± {pair['std']:.3f}"
    interval = "-" if pair["low"] is None else f"{pair['low']:+.3f} to {pair['high']:+.3f}"
    tests = [pair["p"], pair.get("holm p"), pair["exact_p"]]
    shown = ["-" if p is None else f"{p:.3g}" for p in tests]
    return "| " + " | ".join([*cells, f"{pair['mean']:+.3f}{spread}", interval, *shown]) + " |"
