# SPDX-License-Identifier: Apache-2.0
"""Pictures of the sound demo: loss curves, what models fill in, and how linear probes score."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from torch import Tensor

from ..masks import MaskBatch
from ..models.audiomae import AudioMAE
from ..models.filled import audio_views
from ..viz.reconstruct import TITLES
from .pictures import INK, losses_of_seeds, save

COLORS = ("#1f6fb4", "#c8641e", "#6b6b6b")
HIDDEN = "#9aa4ad"


def losses(runs: dict[str, list[Path]], path: Path) -> None:
    """The loss of each run against its step; runs of one name share a colour, and a thick line is their mean."""
    ylabel = "loss (squared error, normalised patches)"
    figure, axes, last = losses_of_seeds(runs, COLORS, ylabel, "AudioMAE pretraining loss")
    axes.axhline(1, color=INK, linewidth=0.8, linestyle=":")
    axes.annotate("predicting each patch's mean", (last, 1), ha="right", va="bottom", fontsize=8, color=INK)
    # The first steps, from random weights, would press the rest flat.
    axes.set_ylim(top=min(axes.get_ylim()[1], 1.1))
    save(figure, path)


def reconstructions(
    sounds: dict[str, Tensor], models: dict[str, tuple[AudioMAE, MaskBatch]], path: Path
) -> None:
    """Spectrograms, what the encoders see of them, and honest readings of the predictions.

    The models predict each patch with its own mean and deviation taken out. To show them, some statistics must be
    put back, and the picture says whose: those of the visible patches near by (which a user would have), or the
    true ones of the hidden patches (which leak the answer: the last row shows how much they alone give).

    sounds: normalised spectrograms [1, frames, mel] by name; models: by name, each with a mask of their grid.
    """
    columns = [(sound, model) for sound in sounds for model in models]
    rows = [_readings(sounds[sound][0][None], *models[model]) for sound, model in columns]
    titles = list(rows[0])
    figure, axes = plt.subplots(
        len(titles),
        len(columns),
        figsize=(1.9 + 2.45 * len(columns), 0.7 + 1.4 * len(titles)),
        squeeze=False,
        layout="constrained",
    )
    colors = plt.get_cmap("magma").with_extremes(bad=HIDDEN)
    for column, (sound, model) in enumerate(columns):
        true = rows[column][titles[0]]
        low, high = np.quantile(true, 0.02), true.max()
        for row, title in enumerate(titles):
            axis = axes[row, column]
            image = rows[column][title].T
            axis.imshow(image, origin="lower", aspect="auto", cmap=colors, vmin=low, vmax=high)
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
            if column == 0:
                axis.set_ylabel(title, rotation=0, ha="right", va="center", fontsize=9)
        axes[0, column].set_title(f"{sound}\n{model}", fontsize=10)
    masks = next(iter(models.values()))[1]
    figure.suptitle(
        f"Held-out sounds; time to the right, mel bins upwards. {masks.num_visible} of {masks.num_tokens} patches "
        "visible; they are pasted into every prediction",
        fontsize=10,
    )
    save(figure, path, dpi=85)  # many small pictures: more would be a megabyte


def _readings(spectrogram: Tensor, model: AudioMAE, masks: MaskBatch) -> dict[str, np.ndarray]:
    """Arrays [frames, mel] by row title; NaN where hidden."""
    views, _ = audio_views(model, spectrogram, masks)
    del views["raw"]  # on another scale than the others
    return {TITLES[name]: view.numpy() for name, view in views.items()}


def scores(panels: dict[str, dict[str, list[float]]], chance: float, path: Path) -> None:
    """A panel for each measure: a dot for each seed, joined across the models, and a bar and a number at each model's
    mean."""
    figure, axes = plt.subplots(
        1, len(panels), figsize=(3.6 * len(panels), 3.8), sharey=True, squeeze=False, layout="constrained"
    )
    for axis, (title, models) in zip(axes[0], panels.items(), strict=True):
        values = np.array(list(models.values()))
        axis.plot(values, color=HIDDEN, linewidth=0.8, zorder=1)
        for place, (row, color) in enumerate(zip(values, COLORS, strict=False)):
            axis.scatter([place] * len(row), row, s=28, color=color, zorder=3)
            axis.hlines(row.mean(), place - 0.22, place + 0.22, color=color, linewidth=2.5, zorder=2)
            axis.annotate(
                f"{row.mean():.3f}",
                (place, row.max()),
                xytext=(0, 7),
                textcoords="offset points",
                ha="center",
                fontsize=9,
                color=color,
            )
        axis.axhline(chance, color=INK, linewidth=0.8, linestyle=":")
        axis.set_ylim(top=1.05)
        axis.set_title(title, fontsize=10)
        axis.set_xticks(range(len(models)), models, fontsize=9)
        axis.set_xlim(-0.5, len(models) - 0.5)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0, 0].set_ylabel("accuracy on the held-out voice and artist")
    axes[0, 0].annotate("chance", (-0.45, chance), va="bottom", fontsize=8, color=INK)
    figure.supxlabel("A dot is a seed; a line joins the models that began with the same weights", fontsize=9)
    save(figure, path)
