# SPDX-License-Identifier: Apache-2.0
"""Pictures of what a model fills in: every view of models/filled.py, beside the original."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import Tensor

from ..masks import MaskBatch
from ..models.audiomae import AudioMAE
from ..models.cavmae import CAVMAE
from ..models.filled import audio_views, joint_views, video_views
from ..models.videomae import VideoMAE
from ..samplers.coupled import MaskPair
from . import film
from .scenes import STRIP, colored, upright
from .style import HIDDEN

TITLES = {
    "clip": "clip",
    "spectrogram": "spectrogram",
    "masked": "what the encoder sees",
    "own": "prediction,\nstatistics of the visible\ntokens near by",
    "leaked": "prediction,\ntrue statistics of the\nhidden tokens (leaked)",
    "means": "no prediction,\ntheir true means\nalone (leaked)",
    "raw": "prediction as it is\n(raw)",
}


Written = tuple[dict, list[Path]]


def reconstruct_video(
    model: VideoMAE,
    clip: Tensor,
    masks: MaskBatch,
    stem: Path,
    *,
    credit: str = "",
    formats: tuple[str, ...] = ("png",),
    moving: bool = False,
) -> Written:
    """Draw every view of one clip, uint8 [1, 3, frames, H, W], under one mask, as a film strip.

    moving: also stem.gif.

    Returns how the views compare with the clip (see `errors`), and the paths.
    """
    views, loss = video_views(model, clip, masks)
    return _draw_clip(
        views, loss, clip.shape[2], model.tubelet, masks, stem, credit=credit, formats=formats, moving=moving
    )


def reconstruct_audio(
    model: AudioMAE,
    spectrogram: Tensor,
    masks: MaskBatch,
    stem: Path,
    *,
    credit: str = "",
    formats: tuple[str, ...] = ("png",),
) -> Written:
    """Draw every view of one normalised spectrogram, float32 [1, frames, mel], under one mask, as `reconstruct_video`
    does of a clip, without the frames.
    """
    views, loss = audio_views(model, spectrogram, masks)
    return _draw_spectrogram(views, loss, masks, stem, model.normalise_target, credit=credit, formats=formats)


def reconstruct_pair(
    model: CAVMAE,
    clip: Tensor,
    spectrogram: Tensor,
    masks: MaskPair,
    stem: Path,
    *,
    credit: str = "",
    formats: tuple[str, ...] = ("png",),
    moving: bool = False,
) -> Written:
    """Draw what a model fills in of one clip, uint8 [1, C, T, H, W], and its spectrogram, float [1, frames, mels], as
    stem-picture and stem-sound. The numbers are of both, by "video_" and "audio_" before their names; a loss is the
    error of that modality.
    """
    seen, heard, error = joint_views(model, clip, spectrogram, masks)
    pictures, paths = _draw_clip(
        seen, error["video_error"], clip.shape[2], model.tubelet, masks.video,
        stem.with_name(f"{stem.name}-picture"), credit=credit, formats=formats, moving=moving,
    )  # fmt: skip
    sounds, more = _draw_spectrogram(
        heard, error["audio_error"], masks.audio, stem.with_name(f"{stem.name}-sound"),
        model.normalise_target, credit=credit, formats=formats,
    )  # fmt: skip
    numbers = {f"{of}_{name}": value for of, found in (("video", pictures), ("audio", sounds))
               for name, value in found.items()}  # fmt: skip
    return numbers, [*paths, *more]


def _draw_clip(
    views: dict[str, Tensor], loss: float, frames: int, tubelet: int, masks: MaskBatch, stem: Path,
    *, credit: str, formats: tuple[str, ...], moving: bool,
) -> Written:  # fmt: skip
    rows = {TITLES[name]: _as_bytes(view) for name, view in views.items()}
    steps = np.linspace(0, frames - tubelet, min(STRIP, masks.grid[0])).round().astype(int)
    shown = {title: images[steps] for title, images in rows.items()}
    footer = _footer(masks, loss, credit)
    paths = film.strip(shown, [f"frame {f}" for f in steps], stem, footer=footer, formats=formats)
    if moving:
        paths.append(stem.with_name(f"{stem.name}.gif"))
        film.gif({name: rows[TITLES[name]] for name in views}, paths[-1], footer=footer, columns=3)
    return {"loss": loss, **errors(views, "clip")}, paths


def _draw_spectrogram(
    views: dict[str, Tensor], loss: float, masks: MaskBatch, stem: Path, normalised: bool,
    *, credit: str, formats: tuple[str, ...],
) -> Written:  # fmt: skip
    true = views["spectrogram"].numpy()
    rows = {}
    for name, view in views.items():
        # Raw values of a model with normalised targets are on no scale of the spectrogram's.
        scale = view.numpy() if name == "raw" and normalised else true
        rows[TITLES[name]] = upright(colored(view.numpy(), scale))[None]
    footer = f"{_footer(masks, loss, '')}; time to the right, mel bins upwards. {credit}".strip()
    return {"loss": loss, **errors(views, "spectrogram")}, film.strip(
        rows, [""], stem, footer=footer, formats=formats
    )


def errors(views: dict[str, Tensor], original: str) -> dict[str, float]:
    """Root mean squared difference of each view from the original, over what is hidden; of `raw` none where it is not
    on the original's scale."""
    hidden = views["masked"].isnan()
    true = views[original][hidden]
    comparable: list[str] = [name for name in ("own", "leaked", "means") if name in views] or ["raw"]
    return {name: (views[name][hidden] - true).square().mean().sqrt().item() for name in comparable}


def _footer(masks: MaskBatch, loss: float, credit: str) -> str:
    text = f"{masks.num_visible} of {masks.num_tokens} tokens visible; loss {loss:.3f}"
    return f"{text}; {credit}" if credit else text


def _as_bytes(view: Tensor) -> np.ndarray:
    """[3, frames, H, W] as uint8 [frames, H, W, 3], NaN as what is hidden."""
    images = view.permute(1, 2, 3, 0).numpy()
    hidden = np.array(HIDDEN, np.float32)
    return (np.where(np.isnan(images), hidden, images).clip(0, 1) * 255).round().astype(np.uint8)
