# SPDX-License-Identifier: Apache-2.0
"""Models of runs of smnoise.train.audio, and of converted weights in their place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ...data.audio.clips import SOUND, EveryFile
from ...data.audio.inputs import Spectrograms, Statistics
from ...data.medium import Medium
from ...models.audiomae import AudioMAE
from ...samplers import Sampler
from ..audio import Config, heard_by, untrained
from ..run import checkpoint
from ..run.folder import config_of_recipe, sampler_of_run
from ..teacher import latents_of

MODEL = AudioMAE
NEEDED = ("model", "rate", "frames", "mels", "patch", "seed")
RATE, STATISTICS = 16000, "audioset"  # AudioMAE's on AudioSet


class AudioPretrained(NamedTuple):
    """An AudioMAE and what makes its inputs of waveforms."""

    model: AudioMAE
    """On the CPU."""
    inputs: Spectrograms
    notes: list[str]
    """What was assumed where no recipe tells."""
    config: Config | None
    """Of a run; None for converted weights."""

    @property
    def medium(self) -> Medium:
        """The files that it reads."""
        return SOUND

    def first(self) -> AudioMAE:
        """The model with a run's first weights, or with the converted ones, on the CPU."""
        if self.config is None:
            return self.model
        return untrained(self.config, getattr(self.model, "latents", None))

    def every(self, paths: list[Path], *, segments: int, crops: int, stride: int | None) -> EveryFile:
        """The beginning of each file, as long as the model reads; sounds have no views."""
        return EveryFile(paths, self.inputs.log_mel.sample_rate, self.inputs.samples)

    def through(self, function: Callable) -> Callable:
        """The function itself: an item is one sound."""
        return function

    def sampler(self) -> Sampler:
        """The run's masks; for converted weights the trainer's usual ones."""
        if self.config is not None:
            return sampler_of_run(self.config)
        here, mels = Path(), self.inputs.log_mel.num_mels
        usual = Config(data=here, out=here, frames=self.inputs.frames, mels=mels, patch=self.model.patch)
        return usual.sampler()


def of_run(run: Path) -> AudioPretrained:
    """The model of a run's newest whole checkpoint.

    Raises CheckpointError where there is none, or it is not of this trainer.
    """
    tensors, _, state, _ = checkpoint.newest(run)
    before = state["recipe"]
    config = config_of_recipe(run, before, Config, (*NEEDED, *Statistics._fields))
    model = untrained(config, latents_of(before, run))
    model.load_state_dict(tensors)
    statistics = Statistics(before["mean"], before["std"])
    return AudioPretrained(model, heard_by(config, statistics), [], config)


def trained(run: Path) -> tuple[AudioMAE, Spectrograms]:
    """The model of a run's newest whole checkpoint, on the CPU, and what makes its inputs. See `of_run`."""
    found = of_run(run)
    return found.model, found.inputs


def of_weights(folder: Path, model: AudioMAE, notes: list[str]) -> AudioPretrained:
    """A model of converted weights, with the spectrograms of its config.json."""
    time, freq = model.grid
    frames, mels = time * model.patch, freq * model.patch
    statistics = Statistics.of(STATISTICS)
    told = f"converted weights: {frames} frames of {mels} mel bins, from their config; {RATE} Hz and the log-mel "
    told += f"statistics of {STATISTICS} assumed (mean {statistics.mean:.4g}, deviation {statistics.std:.4g})"
    return AudioPretrained(model, Spectrograms(RATE, frames, mels, statistics), [*notes, told], None)
