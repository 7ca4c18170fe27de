# SPDX-License-Identifier: Apache-2.0
"""Models of runs of smnoise.train.video."""

from __future__ import annotations

from pathlib import Path

from ..errors import CheckpointError
from ..models.videomae import VideoMAE
from . import checkpoint
from .run import check_settings
from .video import RECIPE, Config, untrained

NEEDED = ("model", "frames", "stride", "size", "tubelet", "patch", "seed")


def config_of(run: Path, recipe: dict) -> Config:
    """The settings by which a checkpoint's recipe was trained; those that it does not tell are the usual ones.

    Raises CheckpointError where the recipe is not of this trainer.
    """
    if missing := [name for name in NEEDED if name not in recipe]:
        raise CheckpointError(f"{run} is no run of smnoise.train.video: its recipe has no {missing[0]}")
    check_settings(recipe, RECIPE, run)
    return Config(data=run, out=run, **{name: recipe[name] for name in RECIPE if name in recipe})


def trained(run: Path) -> tuple[VideoMAE, Config]:
    """The model of a run's newest whole checkpoint, on the CPU, and its settings. Raises CheckpointError."""
    tensors, _, state, _ = checkpoint.newest(run)
    config = config_of(run, state["recipe"])
    model = untrained(config)
    model.load_state_dict(tensors)
    return model, config
