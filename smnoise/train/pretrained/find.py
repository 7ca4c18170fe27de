# SPDX-License-Identifier: Apache-2.0
"""A pretrained model to use: of a run of any trainer, or of converted weights, whose training is not on record."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from ...convert.architecture import medium_of
from ...convert.files import holds_weights, load_model_and_notes
from ...data.medium import Medium
from ...data.numbered import EveryItem
from ...errors import CheckpointError
from ..media import MEDIA, runs_of
from ..run import checkpoint


class Pretrained(Protocol):
    """A model and what it was trained on; each medium has its own."""

    @property
    def model(self) -> Any:
        """The medium's MODEL, on the CPU."""

    @property
    def notes(self) -> list[str]:
        """What was assumed where no recipe tells."""

    @property
    def config(self) -> Any:
        """The trainer's Config of a run; None for converted weights."""

    @property
    def medium(self) -> Medium:
        """The files that it reads."""

    @property
    def inputs(self) -> Callable[..., Tensor]:
        """Makes of a batch of decoded files what the model reads."""

    def first(self) -> nn.Module:
        """The model with a run's first weights, or with the converted ones, on the CPU."""

    def sampler(self) -> Callable[[list[int]], Any]:
        """Makes of sample numbers the run's masks, as its model takes them; for converted weights the trainer's usual
        ones."""

    def every(self, paths: list[Path], *, segments: int, crops: int, stride: int | None) -> EveryItem:
        """One item of each file. A medium without views along time or space leaves out what it does not have."""

    def through(self, function: Callable) -> Callable:
        """Makes of a function of what the model reads one of a batch of `every`."""


def pretrained(run: Path, medium: str | None = None) -> Any:
    """The `Pretrained` of a run's newest whole checkpoint, or of a folder that `smnoise convert` wrote in any layout.

    Args:
        run: the folder.
        medium: one of `MEDIA`, where only that will do.

    Raises CheckpointError where there is none, or it is of another medium.
    """
    if holds_weights(run):
        model, notes = load_model_and_notes(run)
        if not all(parameter.isfinite().all() for parameter in model.parameters()):
            raise CheckpointError(f"{run} has weights that are NaN or Inf; its training had diverged")
        found = next(name for name in MEDIA if isinstance(model, runs_of(name).MODEL))
        if medium not in (None, found):
            raise CheckpointError(f"{run} holds {_named(found)}; {_named(medium)} is needed here")
        return runs_of(found).of_weights(run, model, notes)
    check_is_folder(run)
    if medium is None:
        medium = _medium_of_run(run)
    return runs_of(medium).of_run(run)


def _named(medium: str) -> str:
    return f"{runs_of(medium).MODEL.__name__}, a model of {medium}"


def _medium_of_run(run: Path) -> str:
    recipe = checkpoint.find(run)[1].get("recipe", {})
    if "classes" not in recipe and (medium := medium_of(recipe)) in MEDIA:
        return medium
    what = (
        "one of fine-tuning, whose encoder has learned classes" if "classes" in recipe else "something else"
    )
    raise CheckpointError(
        f"{run} is no run of {' or '.join(f'smnoise.train.{name}' for name in MEDIA)}, but {what}"
    )


def check_is_folder(run: Path) -> None:
    """Raises CheckpointError for a file of weights."""
    if run.is_file():
        raise CheckpointError(
            f"{run} is a file; make a folder of it with smnoise convert {run} FOLDER, and name that"
        )
