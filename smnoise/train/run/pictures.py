# SPDX-License-Identifier: Apache-2.0
"""Pictures of a model as it is: a mask, and what is filled in under it. Arrays uint8 [height, width, 3]."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from ...masks import MaskBatch
from ...models.audiomae import AudioMAE
from ...models.filled import audio_views, video_views
from ...models.videomae import VideoMAE

HIDDEN = 0.5  # grey
GAP = 2  # pixels from one picture of a row to the next
TOKEN = 8  # pixels along an edge of a token in the picture of a mask


def of_video(model: VideoMAE, clip: Tensor, masks: MaskBatch) -> dict[str, np.ndarray]:
    """Draw one clip, uint8 [1, 3, frames, H, W], under one mask.

    Returns "mask" and "reconstruction", uint8 [height, width, 3]: a row for the clip, what the encoder sees, and the
    prediction with the statistics of the visible tokens near by and with none; a column for each time step, of which
    the first frame.
    """
    with evaluating(model):
        views, _ = video_views(model, clip, masks)
    rows = [views[name][:, :: model.tubelet].permute(1, 2, 3, 0) for name in ("clip", "masked", "own", "raw")]
    return {"mask": mask_picture(masks), "reconstruction": tiled([row.numpy() for row in rows])}


def of_audio(model: AudioMAE, spectrogram: Tensor, masks: MaskBatch) -> dict[str, np.ndarray]:
    """Draw one normalised spectrogram, float32 [1, frames, mel], under one mask, as `of_video` draws a clip, without
    the prediction as it is where that is on another scale: time to the right, mel bins upwards, black the smallest
    value of the spectrogram and white the largest.
    """
    with evaluating(model):
        views, _ = audio_views(model, spectrogram, masks)
    low, high = views["spectrogram"].min(), views["spectrogram"].max()
    shown = ("spectrogram", "masked", "own" if "own" in views else "raw")
    rows = [((views[name] - low) / (high - low).clamp_min(1e-6)).T.flip(0) for name in shown]
    grey = [row[None, ..., None].expand(1, *row.shape, 3).numpy() for row in rows]
    return {"mask": mask_picture(masks, upright=True), "reconstruction": tiled(grey)}


def mask_picture(masks: MaskBatch, upright: bool = False) -> np.ndarray:
    """Draw the first mask of a batch, a column for each time step: uint8 [height, width, 3], visible tokens white,
    masked ones black. upright: the grid's rows go to the right and its columns upwards, as spectrograms are shown.
    """
    volume = masks.volume()[0].cpu()
    steps = volume.transpose(1, 2).flip(1) if upright else volume
    pixels = (~steps).float().repeat_interleave(TOKEN, 1).repeat_interleave(TOKEN, 2)
    return tiled([pixels[..., None].expand(*pixels.shape, 3).numpy()])


def tiled(rows: list[np.ndarray]) -> np.ndarray:
    """Put rows of pictures, float32 [N, H, W, 3] in [0, 1] and NaN where hidden, together as one: uint8 [height, width,
    3].
    """
    framed = [np.pad(np.nan_to_num(row, nan=HIDDEN), ((0, 0), (0, GAP), (0, GAP), (0, 0))) for row in rows]
    picture = np.concatenate([np.concatenate(list(row), axis=1) for row in framed])[:-GAP, :-GAP]
    return (picture.clip(0, 1) * 255).round().astype(np.uint8)


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """The model is in training or not afterwards as it was before."""
    training = model.training
    yield
    model.train(training)
