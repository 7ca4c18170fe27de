# SPDX-License-Identifier: Apache-2.0
"""Models of runs of smnoise.train.video, and of converted weights in their place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from ...data.medium import Medium
from ...data.video.clips import VIDEO
from ...data.video.views import EveryVideo, over_views
from ...errors import CheckpointError
from ...models.videomae import SIZES, VideoMAE
from ...samplers import Sampler
from ..run import checkpoint
from ..run.folder import config_of_recipe, sampler_of_run
from ..teacher import latents_of
from ..video import Config, untrained

MODEL = VideoMAE
NEEDED = ("model", "frames", "stride", "size", "tubelet", "patch", "seed")
STRIDE = 4  # VideoMAE's on Kinetics-400


class VideoPretrained(NamedTuple):
    """A VideoMAE and the clips that it was trained on."""

    model: VideoMAE
    """On the CPU."""
    frames: int
    stride: int
    size: int
    """Height and width in pixels."""
    notes: list[str]
    """What was assumed where no recipe tells."""
    config: Config | None
    """Of a run; None for converted weights."""

    @property
    def medium(self) -> Medium:
        """The files that it reads."""
        return VIDEO

    @property
    def inputs(self) -> Callable[[Tensor], Tensor]:
        """The model reads clips as they are decoded."""
        return _as_it_is

    def first(self) -> VideoMAE:
        """The model with a run's first weights, or with the converted ones, on the CPU."""
        if self.config is None:
            return self.model
        return untrained(self.config, getattr(self.model, "latents", None))

    def every(self, paths: list[Path], *, segments: int, crops: int, stride: int | None) -> EveryVideo:
        """The views of each video; by default with the stride that it was trained with."""
        return EveryVideo(paths, self.frames, stride or self.stride, self.size, segments, crops)

    def through(self, function: Callable) -> Callable:
        """The mean of the function over a video's views."""
        return over_views(function)

    @property
    def architecture(self) -> str | None:
        """The name of its size, if that has one."""
        return next((name for name, size in SIZES.items() if size == self.model.size), None)

    def sampler(self) -> Sampler:
        """The run's masks; for converted weights the trainer's usual ones."""
        if self.config is not None:
            return sampler_of_run(self.config)
        here, model = Path(), self.model
        usual = Config(data=here, out=here, frames=self.frames, size=self.size, tubelet=model.tubelet,
                       patch=model.patch)  # fmt: skip
        return usual.sampler()


def _as_it_is(clips: Tensor) -> Tensor:
    return clips


def of_run(run: Path) -> VideoPretrained:
    """Load the model of a run's newest whole checkpoint, with what `trained` gives."""
    model, config = trained(run)
    return VideoPretrained(model, config.frames, config.stride, config.size, [], config)


def of_weights(folder: Path, model: VideoMAE, notes: list[str]) -> VideoPretrained:
    """A model of converted weights, with the clips of its config.json. Raises CheckpointError where videos do not give
    such clips."""
    t, h, w = model.grid
    if h != w or model.channels != 3:
        raise CheckpointError(
            f"{folder} is of clips with {model.channels} channels and a grid of {h} x {w} cubes; videos are read as "
            "squares of 3 colours"
        )
    frames, size = t * model.tubelet, h * model.patch
    told = f"converted weights: clips of {frames} frames of {size} x {size}, from their config; stride {STRIDE} assumed"
    return VideoPretrained(
        model, frames, STRIDE, size, [*notes, f"{told}, as on Kinetics-400 (Something-Something: 2)"], None
    )


def config_of(run: Path, recipe: dict) -> Config:
    """The settings by which a checkpoint's recipe was trained; those that it does not tell are the usual ones.

    Raises CheckpointError where the recipe is not of this trainer.
    """
    return config_of_recipe(run, recipe, Config, NEEDED)


def trained(run: Path) -> tuple[VideoMAE, Config]:
    """The model of a run's newest whole checkpoint, on the CPU, and its settings. Raises CheckpointError."""
    tensors, _, state, _ = checkpoint.newest(run)
    config = config_of(run, state["recipe"])
    model = untrained(config, latents_of(state["recipe"], run))
    model.load_state_dict(tensors)
    return model, config
