# SPDX-License-Identifier: Apache-2.0
"""A picture of what a run drew its sigmas by: the share of each bucket over the steps, and what a bandit saw."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np

from ..errors import DataError
from . import style

COLORS = "viridis"  # from the smallest sigmas to the largest


def draw_sigmas(
    records: list[dict], steps: int, target: float | None, stem: Path, formats: tuple[str, ...]
) -> tuple[dict, list[Path]]:
    """Shares of the buckets over the steps; below, of a bandit, their mean losses.

    Args:
        records: of a run's log; those with `sigma_shares` count.
        steps: that the run has trained so far.
        target: the loss that a bandit seeks; None for no line.
        stem: of the files.

    Returns the shares at the end, by name, and the paths. Raises DataError where the log has no such records.
    """
    found = [r for r in records if "sigma_shares" in r]
    if not found:
        raise DataError(
            "the run's log has no shares of sigmas: it drew all evenly; train with --sigmas bandit, or a schedule"
        )
    seen = [r for r in found if any(loss is not None for loss in r.get("sigma_losses", ()))]
    buckets = len(found[0]["sigma_shares"])
    colors = matplotlib.colormaps[COLORS](np.linspace(0, 0.95, buckets))
    names = [f"{bucket}" for bucket in range(buckets)]
    with style.new_figure(style.THEMES["paper"].width, 4.4 if seen else 2.6) as figure:
        axes = figure.subplots(1 + bool(seen), 1, sharex=True, squeeze=False)[:, 0]
        ends = np.array([r["step"] for r in found] + [max(steps, found[-1]["step"])])
        shares = np.array([r["sigma_shares"] for r in found])
        # A share holds from its record on to the next one.
        axes[0].stackplot(
            ends, *np.concatenate([shares, shares[-1:]]).T, step="post", colors=colors, labels=names
        )
        axes[0].set(ylabel="share of the draws", ylim=(0, 1), xlim=(0, max(1, ends[-1])))
        axes[0].legend(
            title="bucket of sigma", loc="upper left", bbox_to_anchor=(1.01, 1), reverse=True, frameon=False
        )
        for bucket in range(buckets) if seen else ():
            at = [
                (r["step"], r["sigma_losses"][bucket]) for r in seen if r["sigma_losses"][bucket] is not None
            ]
            axes[1].plot(*zip(*at, strict=True), color=colors[bucket], linewidth=1.2)
        if seen:
            axes[1].set(ylabel="mean loss of a bucket")
            if target is not None:
                axes[1].axhline(target, color=style.theme().faint, linestyle="--", linewidth=1)
                axes[1].annotate(
                    "target",
                    (0, target),
                    xytext=(3, 3),
                    textcoords="offset points",
                    color=style.theme().faint,
                )
        axes[-1].set(xlabel="step")
        last = {
            f"share of bucket {name}": share for name, share in zip(names, shares[-1].tolist(), strict=True)
        }
        return last, style.save(figure, stem, formats)
