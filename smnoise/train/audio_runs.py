# SPDX-License-Identifier: Apache-2.0
"""Models of runs of smnoise.train.audio."""

from __future__ import annotations

from pathlib import Path

from ..errors import CheckpointError
from ..models.audiomae import AudioMAE
from . import checkpoint
from .audio import RECIPE, Config, untrained
from .audio_inputs import Spectrograms, Statistics
from .run import check_settings, completed


def trained(run: Path) -> tuple[AudioMAE, Spectrograms]:
    """The model of a run's newest whole checkpoint, on the CPU, and what makes its inputs of waveforms.

    Raises CheckpointError where there is none, or it is not of this trainer.
    """
    tensors, _, state, _ = checkpoint.newest(run)
    before = completed(state["recipe"], RECIPE, Config)
    if missing := [name for name in (*RECIPE, *Statistics._fields) if name not in before]:
        raise CheckpointError(f"{run} is no run of smnoise.train.audio: its recipe has no {missing[0]}")
    check_settings(before, RECIPE, run)
    config = Config(data=run, out=run, **{name: before[name] for name in RECIPE})
    model = untrained(config)
    model.load_state_dict(tensors)
    statistics = Statistics(before["mean"], before["std"])
    return model, Spectrograms(config.rate, config.frames, config.mels, statistics)
