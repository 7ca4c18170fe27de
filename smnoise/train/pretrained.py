# SPDX-License-Identifier: Apache-2.0
"""A pretrained model to use: of a run of either trainer, or of converted weights, whose training is not on record."""

from __future__ import annotations

from pathlib import Path

from ..convert.files import holds_weights, load_model_and_notes
from ..errors import CheckpointError
from ..models.audiomae import AudioMAE
from . import audio_runs, video_runs
from .audio_runs import AudioPretrained
from .run import checkpoint
from .video_runs import VideoPretrained


def pretrained(run: Path) -> VideoPretrained | AudioPretrained:
    """The model of a run's newest whole checkpoint, or of a folder that `smnoise convert` wrote (in any layout); on the
    CPU. Raises CheckpointError where there is none."""
    if holds_weights(run):
        model, notes = load_model_and_notes(run)
        if not all(parameter.isfinite().all() for parameter in model.parameters()):
            raise CheckpointError(f"{run} has weights that are NaN or Inf; its training had diverged")
        if isinstance(model, AudioMAE):
            return audio_runs.of_weights(run, model, notes)
        return video_runs.of_weights(run, model, notes)
    check_is_folder(run)
    recipe = checkpoint.find(run)[1].get("recipe", {})
    if "tubelet" in recipe:
        return video_runs.of_run(run)
    if "rate" in recipe:
        return audio_runs.of_run(run)
    what = (
        "one of fine-tuning, whose encoder has learned classes" if "classes" in recipe else "something else"
    )
    raise CheckpointError(f"{run} is no run of smnoise.train.audio or smnoise.train.video, but {what}")


def pretrained_video(run: Path) -> VideoPretrained:
    """As `pretrained`, of videos alone."""
    if not holds_weights(run) and not run.is_file():
        return video_runs.of_run(run)
    found = pretrained(run)
    if not isinstance(found, VideoPretrained):
        raise CheckpointError(f"{run} holds an AudioMAE, of sounds; a VideoMAE is needed here")
    return found


def pretrained_audio(run: Path) -> AudioPretrained:
    """As `pretrained`, of sounds alone."""
    if not holds_weights(run) and not run.is_file():
        return audio_runs.of_run(run)
    found = pretrained(run)
    if not isinstance(found, AudioPretrained):
        raise CheckpointError(f"{run} holds a VideoMAE, of videos; an AudioMAE is needed here")
    return found


def check_is_folder(run: Path) -> None:
    """Raises CheckpointError for a file of weights."""
    if run.is_file():
        raise CheckpointError(
            f"{run} is a file; make a folder of it with smnoise convert {run} FOLDER, and name that"
        )
