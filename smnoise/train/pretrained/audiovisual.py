# SPDX-License-Identifier: Apache-2.0
"""Models of runs of smnoise.train.audiovisual, and of converted weights in their place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from ...data.audio.inputs import Spectrograms, Statistics
from ...data.audiovisual import EveryPair
from ...data.medium import Medium
from ...data.video.clips import VIDEO
from ...errors import CheckpointError
from ...models.cavmae import CAVMAE
from ...samplers.coupled import MaskPair
from ..audiovisual import Config, untrained
from ..run import checkpoint
from ..run.folder import config_of_recipe

MODEL = CAVMAE
NEEDED = ("model", "rate", "frames", "audio_frames", "mels", "patch", "layout", "seed")
RATE, STATISTICS = (
    16000,
    (-5.081, 4.4849 / 2),
)  # CAV-MAE's on AudioSet; it divides by the deviation, not by twice that
FILM = replace(VIDEO, word="film with sound")
Modality = Literal["both", "sound", "picture"]


class PairInputs(nn.Module):
    """Makes of clips, waves and lengths what the model reads: clips as they are, and spectrograms."""

    def __init__(self, spectrograms: Spectrograms):
        super().__init__()
        self.spectrograms = spectrograms

    def forward(self, clip: Tensor, wave: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Return clips, uint8 [B, C, T, H, W], as they are, and the spectrograms, float32 [B, frames, mels], of waves,
        float32 [B, N] in [-1, 1], of which `length`, int64 [B], samples are valid.
        """
        return clip, self.spectrograms(wave, length)


class JointPretrained(NamedTuple):
    """A CAVMAE and what makes its inputs of films."""

    model: CAVMAE
    """On the CPU."""
    inputs: PairInputs
    seconds: float
    """Of a clip."""
    notes: list[str]
    """What was assumed where no recipe tells."""
    config: Config | None
    """Of a run; None for converted weights."""
    modality: Modality = "both"
    """What features are of."""

    @property
    def medium(self) -> Medium:
        """Return what names the medium's files and tasks."""
        return FILM

    def first(self) -> CAVMAE:
        """The model with a run's first weights, or with the converted ones, on the CPU."""
        return self.model if self.config is None else untrained(self.config)

    def every(self, paths: list[Path], *, segments: int, crops: int, stride: int | None) -> EveryPair:
        """The middle of each film; a clip with its sound has no views."""
        model, made = self.model, self.inputs.spectrograms
        frames, size = model.grid[0] * model.tubelet, model.grid[1] * model.patch
        return EveryPair(paths, frames, size, self.seconds, made.log_mel.sample_rate, made.samples)

    def through(self, function: Callable) -> Callable:
        """The function of clips and spectrograms, or of the one modality and None, as one of both in a tuple."""
        of = self.modality

        def called(pair: tuple[Tensor, Tensor]) -> Tensor:
            clips, spectrograms = pair
            return function(None if of == "sound" else clips, None if of == "picture" else spectrograms)

        return called

    def masks(self) -> Callable[[Tensor], MaskPair]:
        """The run's masks of both; for converted weights the trainer's usual ones, independent."""
        if self.config is not None:
            return self.config.masks()
        here, model = Path(), self.model
        t, h, _ = model.grid
        time, mels = (n * model.patch for n in model.audio_grid)
        usual = Config(data=here, out=here, frames=t * model.tubelet, size=h * model.patch, tubelet=model.tubelet,
                       patch=model.patch, audio_frames=time, mels=mels, layout=model.layout)  # type: ignore[arg-type] # fmt: skip
        return usual.masks()

    def sampler(self) -> Callable[[list[int]], MaskPair]:
        """Makes the masks of both of sample numbers."""
        return lambda samples: self.masks()(torch.tensor(samples, device="cpu"))


def of_run(run: Path) -> JointPretrained:
    """The model of a run's newest whole checkpoint.

    Raises CheckpointError where there is none, or it is not of this trainer.
    """
    tensors, _, state, _ = checkpoint.newest(run)
    before = state["recipe"]
    config = config_of_recipe(run, before, Config, (*NEEDED, *Statistics._fields))
    model = untrained(config)
    model.load_state_dict(tensors)
    statistics = Statistics(before["mean"], before["std"])
    inputs = Spectrograms(config.rate, config.audio_frames, config.mels, statistics)
    return JointPretrained(model, PairInputs(inputs), config.clip_seconds, [], config)


def of_weights(folder: Path, model: CAVMAE, notes: list[str]) -> JointPretrained:
    """A model of converted weights, with the clips and spectrograms of its config.json."""
    _, h, w = model.grid
    if h != w:
        raise CheckpointError(f"{folder} is of pictures of {h} x {w} cubes; films are read as squares")
    time, mels = (n * model.patch for n in model.audio_grid)
    statistics = Statistics(*STATISTICS)
    told = (
        f"converted weights: {model.grid[0] * model.tubelet} frames of {h * model.patch} x {w * model.patch} beside "
        f"{time} frames of {mels} mel bins, from their config; {RATE} Hz and CAV-MAE's log-mel statistics assumed"
    )
    inputs = PairInputs(Spectrograms(RATE, time, mels, statistics))
    return JointPretrained(model, inputs, time / 100, [*notes, told], None)
