# SPDX-License-Identifier: Apache-2.0
"""A cell of a study on sounds: the task of `make demo-audio`, speech or music, with any masks.

Pieces are cut as there (smnoise.data.installed.sounds), and so is the split: the probe is scored on a voice (and
language) and an artist that neither pretraining nor the probe has heard.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from smnoise.data.audio.clips import AudioClips, EveryFile
from smnoise.data.audio.inputs import Spectrograms, Statistics, measure
from smnoise.data.installed.sounds import Sound, corpus, split
from smnoise.data.installed.sounds import prepare as cut
from smnoise.data.numbered import loader
from smnoise.demos.audio import SECONDS
from smnoise.files import write_text
from smnoise.probes.features import outputs_of
from smnoise.probes.linear import FEW, few_shot, linear_probe
from smnoise.train import audio
from smnoise.train.run import checkpoint, log
from smnoise.train.run.folder import choose_device

from .plan import INPUTS, UNTRAINED, Audio, Cell

RATE = 8000  # of the sounds
LIST = "pretraining.txt"


class Sounds(NamedTuple):
    """What the cells share."""

    folder: Path
    train: list[Sound]
    test: list[Sound]
    statistics: Statistics
    """Of the training pieces, so that a model that is not trained reads what the others read."""


def prepare(task: Audio, sounds: Path, folder: Path) -> Sounds:
    """Cut the pieces, and measure them."""
    train, test = split(cut(corpus(sounds), folder / "pieces", SECONDS))
    write_text(folder / LIST, "".join(f"{sound.path.relative_to(folder)}\n" for sound in train))
    inputs = Spectrograms(RATE, task.frames, task.mels, Statistics(0.0, 1.0))
    clips = AudioClips([sound.path for sound in train], rate=RATE, samples=inputs.samples, seed=0)
    first = range(min(len(clips), audio.Config.measured_clips))
    found = measure(loader(clips, first, 1, 0), inputs.log_mel, torch.device("cpu"))
    return Sounds(folder, train, test, found)


def config_of(task: Audio, cell: Cell, sounds: Sounds, out: Path, workers: int, device: str) -> audio.Config:
    """The run of a cell; a baseline's has the first weights of its seed."""
    return audio.Config(
        data=sounds.folder / LIST,
        out=out,
        resume=bool(checkpoint.steps(out)),
        model=task.model,
        rate=RATE,
        frames=task.frames,
        mels=task.mels,
        patch=task.patch,
        statistics=(sounds.statistics.mean, sounds.statistics.std),
        mask="random" if cell.visible is None else cell.strategy,
        num_visible=cell.visible or 1,
        epochs=task.epochs,
        warmup_epochs=task.epochs / 10,
        batch_size=task.batch_size,
        accumulate=1,
        base_lr=task.base_lr,
        seed=cell.seed,
        workers=workers,
        device=device,
    )


def run(
    task: Audio, cell: Cell, sounds: Sounds, out: Path, workers: int, device: str, stop: Callable[[], bool]
) -> tuple[dict[str, float], dict] | None:
    """Scores of a cell, and what else is known of it. None after a stop: training may have ended early, with a
    checkpoint to go on from."""
    config = config_of(task, cell, sounds, out, workers, device)
    more = {}
    function: Callable[[Tensor], Tensor] | torch.nn.Module
    if cell.strategy == INPUTS:
        function = partial(means, patch=task.patch)
    elif cell.strategy == UNTRAINED:
        function = audio.untrained(config)
    else:
        function = audio.pretrain(config, stop)
        if stop():
            return None
        losses = [record["loss"] for record in log.read(out) if "loss" in record]
        more = {"first loss": losses[0], "last loss": losses[-1]}
    return scores(task, function, sounds, workers, choose_device(device, "float32")[0]), more


def means(spectrograms: Tensor, patch: int) -> Tensor:
    """The mean of each patch of spectrograms [B, frames, mels]: float32 [B, L]."""
    return avg_pool2d(spectrograms[:, None], patch).flatten(1)


def scores(task: Audio, function, sounds: Sounds, workers: int, device: torch.device) -> dict[str, float]:
    """Probes of what a model, or a function of spectrograms, makes of the two sets."""
    if isinstance(function, torch.nn.Module):
        function = function.to(device).eval().features
    inputs = Spectrograms(RATE, task.frames, task.mels, sounds.statistics).to(device)
    features = []
    for side in (sounds.train, sounds.test):
        clips = EveryFile([sound.path for sound in side], RATE, inputs.samples)
        found, _, broken = outputs_of(function, clips, inputs, device, 32, workers)
        if broken:
            raise OSError(f"{broken[0]}; delete the folder of pieces, and it is made anew")
        features.append(found)
    labels = [torch.tensor([sound.label for sound in side]) for side in (sounds.train, sounds.test)]
    sets = features[0], labels[0], features[1], labels[1]
    few = few_shot(*sets, per_class=task.few)
    full = linear_probe(*sets, strengths=[FEW])
    return {"few-label accuracy": few.accuracy, "linear accuracy": full.accuracy}
