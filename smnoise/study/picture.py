# SPDX-License-Identifier: Apache-2.0
"""The study as a picture: a panel for each experiment and number of visible tokens, a dot for each seed."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from smnoise.files import replace_file

from .plan import INPUTS, UNTRAINED, Plan

COLORS = {
    "green-3d": "#1f7a4d", "tube": "#6b5b95", "red-3d": "#b5403a", "blue-3d": "#2f5f9e", "optim-blue": "#2f5f9e",
    "random": "#8a6d1f", UNTRAINED: "#777777",
}  # fmt: skip


def draw(plan: Plan, summary: dict, path: Path) -> None:
    """Write a PNG. Lines join the models of one seed, which began with the same weights; bars are means."""
    panels = [(n, v) for n, experiment in summary.items() for v in experiment["visible tokens"]]
    figure, axes = plt.subplots(
        1, len(panels), figsize=(3.7 * len(panels), 4.0), squeeze=False, layout="constrained"
    )
    for axis, (name, visible) in zip(axes[0], panels, strict=True):
        experiment = summary[name]
        budget, score = experiment["visible tokens"][visible], experiment["score"]
        rows = {s: row for s, row in budget["rows"].items() if s != INPUTS and row["seeds"]}
        for seed in range(plan.seeds):
            points = [
                (x, row[score]["values"][row["seeds"].index(seed)])
                for x, row in enumerate(rows.values())
                if seed in row["seeds"]
            ]
            axis.plot(
                *zip(*points, strict=True), color="#cccccc", linewidth=0.8, zorder=1
            ) if points else None
        for x, (strategy, row) in enumerate(rows.items()):
            color, values = COLORS.get(strategy, "#333333"), row[score]["values"]
            axis.scatter([x] * len(values), values, s=26, color=color, zorder=3)
            axis.hlines(row[score]["mean"], x - 0.25, x + 0.25, color=color, linewidth=2.5, zorder=2)
            axis.annotate(
                f"{row[score]['mean']:.3f}", (x, max(values)), xytext=(0, 7), textcoords="offset points",
                ha="center", fontsize=9, color=color,
            )  # fmt: skip
        if score in budget["rows"][INPUTS]:
            level = budget["rows"][INPUTS][score]["mean"]
            axis.axhline(level, color="#333333", linewidth=0.8, linestyle=":", zorder=0)
            axis.annotate("probe on the inputs", (-0.45, level), va="bottom", fontsize=8)
        axis.set_xticks(range(len(rows)), rows, fontsize=9)
        axis.set_xlim(-0.5, max(len(rows), 1) - 0.5)
        axis.margins(y=0.15)
        axis.set_title(f"{name}\n{visible} of {experiment['tokens']} tokens visible", fontsize=10)
        axis.set_ylabel(score)
        axis.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("A dot is a seed; a line joins models that began with the same weights", fontsize=9)
    with replace_file(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
    plt.close(figure)
