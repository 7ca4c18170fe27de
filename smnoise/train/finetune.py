# SPDX-License-Identifier: Apache-2.0
"""What fine-tuning of every medium shares: its part of a Job, checks of labels, steps of few clips."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from ..data.found import file_notes
from ..data.labels import LabelledFiles
from ..data.medium import Medium
from ..data.numbered import NumberedClips
from ..errors import DataError
from ..models.classifier import Classifier
from .run.folder import REVISION, digest_of_names
from .settings import FineTuning, recipe_of

# In a recipe besides the settings and what `run` knows.
OF_JOB = ("encoder", "inputs", "labels", "test_videos", "test_sounds", "classes")
Settings = TypeVar("Settings", bound=FineTuning)


def title(
    model: Classifier, grid: tuple[int, ...], train: LabelledFiles, test: LabelledFiles, medium: Medium
) -> str:
    """Write the run's first line. grid: tokens of a clip, which need not be those of pretraining."""
    return (
        f"classifier, {sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters, grid {grid}, "
        f"{len(train.names)} classes; {len(train.paths)} {medium.word}s, {len(test.paths)} files to test"
    )


def recipe(
    config: FineTuning, train: LabelledFiles, test: LabelledFiles, medium: Medium, encoder: dict, inputs: dict
) -> dict:
    """What a resumed run must share."""
    word = medium.word.split()[0]
    return recipe_of(
        config,
        **{REVISION: 2},
        encoder=encoder,
        inputs=inputs,
        **{f"{word}s": digest_of_names(config.train, train.paths)},
        labels=hashlib.sha256(train.targets.numpy().tobytes()).hexdigest()[:16],
        **{f"test_{word}s": digest_of_names(config.test, test.paths)},
        classes=train.names,
    )


def notes(config: FineTuning, medium: Medium) -> list[str]:
    """What a person should be told of the files."""
    return [note for data in (config.train, config.test) for note in file_notes(data, medium)]


def within_an_epoch(config: Settings, clips: NumberedClips) -> tuple[Settings, list[str]]:
    """The config with so few passes a step that a step sees no more clips than an epoch has, but at least one pass; and
    what a person should be told of it. A preset's many GPUs are accumulated passes: too many for few files."""
    together = config.clips_per_step // config.accumulate  # a pass of every process
    passes = max(1, min(config.accumulate, len(clips) // together))
    if passes == config.accumulate:
        return config, []
    return replace(config, accumulate=passes), [
        f"note: {config.accumulate} passes of {together} clips a step are more than the {len(clips)} clips of an "
        f"epoch: accumulate is {passes} here, and the learning rate, which is for 256 clips a step, is scaled to that"
    ]


def check_labels(config: FineTuning, loss: str, train: LabelledFiles, test: LabelledFiles) -> list[str]:
    """What a person should be told of the labels. Raises DataError where the loss cannot use them."""
    if loss == "softmax" and (train.several or test.several):
        raise DataError(f"{config.train} or {config.test} has files with several labels; use --loss binary")
    empty = [name for name, files in zip(train.names, train.targets.sum(dim=0), strict=True) if not files]
    if not empty:
        return []
    message = f"{len(empty)} of {len(train.names)} classes have no training file, for example {empty[0]}"
    if loss == "softmax":
        raise DataError(f"{config.train}: {message}; number the classes from 0 without a gap")
    return [message]


def check_finite(logits: Tensor, config: FineTuning) -> None:
    """Raise FloatingPointError where a model's answer, logits float [N, C], is no number."""
    if not torch.isfinite(logits).all():
        raise FloatingPointError(
            f"training diverged: the classifier answers with NaN or Inf; the checkpoints in {config.out} are from "
            "before. Lower base_lr, set clip_grad, or use dtype float32"
        )
