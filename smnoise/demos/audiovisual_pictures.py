# SPDX-License-Identifier: Apache-2.0
"""Pictures of the demo of sound and picture: losses, scores with their intervals, masks, and what a model fills in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from torch import Tensor

from ..models.cavmae import CAVMAE
from ..samplers.coupled import MaskPair
from ..viz.pair import pair
from ..viz.reconstruct import reconstruct_pair
from ..viz.style import BLUE, GREEN, GREY, PINK, VERMILION
from .pictures import INK, losses_of_seeds, save

COLORS = (BLUE, GREEN, VERMILION, GREY, PINK)


def losses(runs: dict[str, list[Path]], path: Path) -> None:
    """The loss of each run against its step; runs of one kind of masks share a colour, and a thick line is their
    mean."""
    ylabel = "loss (both errors and a tenth of the contrast)"
    figure, _, _ = losses_of_seeds(runs, COLORS, ylabel, "CAV-MAE pretraining loss")
    save(figure, path)


def scores(
    summary: dict, runs: list[dict], models: Sequence[str], pairs: int, classes: int, path: Path
) -> None:
    """A panel for each score: a dot for each seed, and a bar with its 95 % interval at each model's mean."""
    panels = {
        "shuffle gap,\nthe model's own masks": ("gap, own masks", 0.0),
        "shuffle gap,\nrandom masks for all": ("gap, random masks", 0.0),
        f"partner among the first 5\nof {pairs}": ("R@5", 5 / pairs),
        "part of the film,\nboth": ("accuracy, both", 1 / classes),
        "part of the film,\nsound alone": ("accuracy, sound", 1 / classes),
        "part of the film,\npicture alone": ("accuracy, picture", 1 / classes),
    }
    figure, axes = plt.subplots(2, 3, figsize=(10, 6.4), layout="constrained")
    for axis, (title, (name, chance)) in zip(axes.flat, panels.items(), strict=True):
        for place, (model, color) in enumerate(zip(models, COLORS, strict=True)):
            values = [r[name] for r in runs if r["model"] == model]
            found = summary[model][name]
            axis.scatter([place] * len(values), values, s=22, color=color, zorder=3)
            axis.hlines(found["mean"], place - 0.25, place + 0.25, color=color, linewidth=2.5, zorder=2)
            axis.errorbar(
                place, found["mean"], yerr=found["half"] or 0.0, color=color, capsize=4, linewidth=1
            )
        axis.axhline(chance, color=INK, linewidth=0.8, linestyle=":")
        axis.set_title(title, fontsize=10)
        axis.set_xticks(range(len(models)), [m.replace(" ", "\n") for m in models], fontsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    figure.supxlabel(
        "A dot is a seed, a bar the mean with its 95 % interval over seeds; dotted: what chance gives",
        fontsize=9,
    )
    save(figure, path)


def masks(
    found: dict[str, MaskPair], clip: np.ndarray, spectrogram: np.ndarray, stem: Path, credit: str
) -> None:
    """Pairs of masks over a clip and its sound, moving (stem.gif) and as a strip (stem.png)."""
    first = next(iter(found.values()))
    seen, heard = (f"{m.num_visible} of {m.num_tokens}" for m in (first.video, first.audio))
    footer = f"{seen} tokens of the picture visible, {heard} of its 10.24 s of sound; {credit}"
    pair(found, clip, spectrogram, stem, milliseconds=320, footer=footer)


def filled_in(
    model: CAVMAE, clip: Tensor, spectrogram: Tensor, found: MaskPair, stem: Path, credit: str
) -> None:
    """What the first model of rho -1 fills in of a test clip and of its sound."""
    reconstruct_pair(model, clip, spectrogram, found, stem, credit=credit)
