# SPDX-License-Identifier: Apache-2.0
"""Pictures of a run: its loss curve, and masks over time. What the model fills in is drawn by viz.reconstruct."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..files import replace_file
from ..masks import MaskBatch
from ..train.run import log

INK, LINE, PALE = "#1b1b1b", "#1f7a4d", "#a9d3bd"
DARK, BRIGHT = np.array([0.12, 0.14, 0.16], np.float32), np.array([0.45, 0.85, 0.6], np.float32)


def loss_curve(run: Path, path: Path) -> None:
    """Loss against step from the run's log, each logged value and a running mean."""
    records = [r for r in log.read(run) if "loss" in r]
    step, loss = (np.array([r[k] for r in records]) for k in ("step", "loss"))
    figure, axes = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    axes.plot(step, loss, color=PALE, linewidth=1, label="mean since the last log line")
    width = max(1, len(loss) // 15)
    if width > 1:
        smooth = np.convolve(loss, np.ones(width) / width, mode="valid")
        axes.plot(step[width - 1 :], smooth, color=LINE, linewidth=2, label=f"mean of {width} lines")
    axes.axhline(1, color=INK, linewidth=0.8, linestyle=":")
    axes.annotate(
        "predicting each cube's mean", (step[-1], 1), ha="right", va="bottom", fontsize=8, color=INK
    )
    axes.set(
        xlabel="step", ylabel="loss (squared error, normalised pixels)", title="VideoMAE pretraining loss"
    )
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    save(figure, path)


def losses_of_seeds(
    runs: dict[str, list[Path]], colors: Sequence[str], ylabel: str, title: str
) -> tuple[Figure, Axes, int]:
    """The loss of each run against its step; runs of one name share a colour, and a thick line is their mean. Returns
    the figure, its axes, and the last step."""
    figure, axes = plt.subplots(figsize=(6.8, 4.0), layout="constrained")
    for (name, folders), color in zip(runs.items(), colors, strict=False):
        logged = [[r for r in log.read(folder) if "loss" in r] for folder in folders]
        step = np.array([r["step"] for r in logged[0]])
        loss = np.array([[r["loss"] for r in records] for records in logged])
        axes.plot(step, loss.T, color=color, linewidth=0.8, alpha=0.45)
        axes.plot(
            step, loss.mean(axis=0), color=color, linewidth=2, label=f"{name}, mean of {len(loss)} seeds"
        )
    axes.set(ylabel=ylabel, title=title)
    axes.set_xlabel(
        "step\n\nA low loss may just mean an easy mask: the loss tells whether training works, it does not rank masks.",
        fontsize=9,
    )
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)
    return figure, axes, int(step[-1])


def masks_over_time(masks: dict[str, MaskBatch], path: Path) -> None:
    """A row for the first mask of each batch, named by its key; a column for each time step; visible tokens
    bright, masked ones dark."""
    volumes = {name: batch.volume()[0].cpu().numpy() for name, batch in masks.items()}
    figure, axes = _grid(len(volumes), max(len(v) for v in volumes.values()), left=0.9)
    for row, (name, volume) in enumerate(volumes.items()):
        for t, hidden in enumerate(volume):
            axes[row, t].imshow(np.where(hidden[..., None], DARK, BRIGHT), interpolation="nearest")
        axes[row, 0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
    for t, axis in enumerate(axes[0]):
        axis.set_title(f"t = {t}", fontsize=8)
    counts = {f"{b.num_visible} of {b.num_tokens} tokens visible (bright)" for b in masks.values()}
    figure.suptitle("; ".join(sorted(counts)), fontsize=10)
    save(figure, path)


def _grid(rows: int, columns: int, left: float = 0.0):
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(left + 1.05 * columns, 0.55 + 1.08 * rows),
        squeeze=False,
        layout="constrained",
    )
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    return figure, axes


def save(figure, path: Path, dpi: int = 130) -> None:
    """Write a figure as PNG, whole or not at all, and close it."""
    with replace_file(path) as temporary:
        figure.savefig(temporary, dpi=dpi, format="png")
    plt.close(figure)
