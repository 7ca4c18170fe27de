# SPDX-License-Identifier: Apache-2.0
"""Pictures of a run: its loss curve, masks over time, and what the model fills in."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor

from ..files import replace_file
from ..masks import MaskBatch
from ..models.common import gather_tokens
from ..models.videomae import VideoMAE
from . import log

INK, LINE, PALE = "#1b1b1b", "#1f7a4d", "#a9d3bd"
DARK, BRIGHT = np.float32([0.12, 0.14, 0.16]), np.float32([0.45, 0.85, 0.6])


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


@torch.no_grad()
def reconstruction(model: VideoMAE, clip: Tensor, masks: MaskBatch, path: Path) -> None:
    """A clip, its masked version and two honest readings of the prediction, over time.

    The model predicts pixels with each cube's own mean and deviation taken out. To show them, some statistics
    must be put back, and the picture says whose: the true ones of the hidden cubes (which leak the answer's
    brightness and contrast), or the mean ones of the visible cubes (which a user would have).

    clip: uint8 [1, 3, frames, H, W].
    """
    model.eval()
    _, prediction = model(clip, masks)
    every = torch.arange(masks.num_tokens).expand(len(clip), -1)
    cubes = model.cubes(clip, every) * model.std[:, None] + model.mean[:, None]
    visible, hidden = (gather_tokens(cubes, ids) for ids in (masks.ids_keep, masks.ids_mask))
    predicted = prediction.float().unflatten(2, (-1, model.channels)).transpose(-1, -2)
    own = [s.mean(dim=1, keepdim=True) for s in cube_statistics(visible)]
    rows = {
        "clip": cubes,
        "what the encoder sees": _fill(cubes, masks, torch.full_like(hidden, 0.13)),
        "prediction, true statistics\nof the hidden cubes (leaked)": _fill(
            cubes, masks, _unnormalise(predicted, *cube_statistics(hidden))
        ),
        "prediction, mean statistics\nof the visible cubes": _fill(
            cubes, masks, _unnormalise(predicted, *own)
        ),
    }
    frames = list(range(0, clip.shape[2], model.tubelet))
    figure, axes = _grid(len(rows), len(frames), left=1.7)
    for row, (title, filled) in enumerate(rows.items()):
        images = _as_frames(model, filled, masks.grid)[0].clamp(0, 1).permute(1, 2, 3, 0).cpu().numpy()
        for column, frame in enumerate(frames):
            axes[row, column].imshow(images[frame], interpolation="nearest")
            if row == 0:
                axes[row, column].set_title(f"frame {frame}", fontsize=8)
        axes[row, 0].set_ylabel(title, rotation=0, ha="right", va="center", fontsize=8)
    figure.suptitle(
        f"{masks.num_visible} of {masks.num_tokens} tokens visible; visible cubes are pasted from the clip",
        fontsize=10,
    )
    save(figure, path)


def cube_statistics(cubes: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and unbiased standard deviation of each channel of each cube [..., C, P]: [..., C, 1] both."""
    std, mean = torch.std_mean(cubes, dim=-1, keepdim=True, correction=1)
    return mean, std


def _unnormalise(normalised: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    return normalised * (std + 1e-6) + mean


def _fill(cubes: Tensor, masks: MaskBatch, hidden: Tensor) -> Tensor:
    """The cubes [B, L, C, P] with `hidden` [B, M, C, P] put in the masked places."""
    index = masks.ids_mask[..., None, None].expand_as(hidden)
    return cubes.scatter(1, index, hidden.to(cubes.dtype))


def _as_frames(model: VideoMAE, cubes: Tensor, grid: tuple[int, int, int]) -> Tensor:
    """Inverse of VideoMAE.cubes: [B, C, T, H, W]."""
    t, h, w = grid
    x = cubes.reshape(len(cubes), t, h, w, model.channels, model.tubelet, model.patch, model.patch)
    x = x.permute(0, 4, 1, 5, 2, 6, 3, 7)
    return x.reshape(len(cubes), model.channels, t * model.tubelet, h * model.patch, w * model.patch)


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
