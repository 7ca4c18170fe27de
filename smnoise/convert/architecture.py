# SPDX-License-Identifier: Apache-2.0
"""What a model is built from, as config.json says it beside the weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from math import isfinite, prod
from typing import Any, ClassVar, Literal

import torch

from ..errors import CheckpointError
from ..models import audiomae, cavmae, videomae
from ..models.common import Size, find_size

VERSION = 1  # of config.json
# A config.json may come from anywhere: these keep it from asking for endless work or memory.
MOST = {"depth": 1024, "decoder_depth": 1024, "tokens": 1 << 20}
MOST_OTHER = 1 << 16
MOST_RATIO = 64


@dataclass(frozen=True)
class VideoConfig:
    """A `VideoMAE`; for the fields see there."""

    model: ClassVar[Literal["videomae"]] = "videomae"
    size: Size
    grid: tuple[int, int, int]
    tubelet: int
    patch: int
    channels: int = 3
    mean: tuple[float, ...] = videomae.IMAGENET_MEAN
    std: tuple[float, ...] = videomae.IMAGENET_STD

    def __post_init__(self):
        _check_counts(self, 3, tubelet=self.tubelet, patch=self.patch, channels=self.channels)
        for name in ("mean", "std"):
            values = getattr(self, name)
            numbers = isinstance(values, (tuple, list)) and all(type(v) in (int, float) for v in values)
            if not numbers or len(values) != self.channels or not all(map(isfinite, values)):
                raise ValueError(f"{name} must be {self.channels} numbers, got {values!r}")
        if min(self.std) <= 0:
            raise ValueError(f"std must be positive, got {self.std!r}")

    def build(self) -> videomae.VideoMAE:
        """The model, with random weights."""
        options = {f.name: getattr(self, f.name) for f in fields(self)}
        return videomae.VideoMAE(options.pop("size"), options.pop("grid"), **options)

    @property
    def convolution(self) -> tuple[str, tuple[int, ...]]:
        """Our name of the patch embedding, and its shape as the convolution that the others have."""
        return "embed.weight", (self.size.width, self.channels, self.tubelet, self.patch, self.patch)


@dataclass(frozen=True)
class AudioConfig:
    """An `AudioMAE`; for the fields see there."""

    model: ClassVar[Literal["audiomae"]] = "audiomae"
    size: Size
    grid: tuple[int, int]
    patch: int
    decoder: str
    positions: str
    normalise_target: bool = True

    def __post_init__(self):
        _check_counts(self, 2, patch=self.patch)
        if self.decoder not in ("local", "global") or self.positions not in ("right", "published"):
            raise ValueError(
                "decoder must be local or global, and positions right or published; got "
                f"{self.decoder!r} and {self.positions!r}"
            )
        if self.size.mlp_ratio != 4:
            raise ValueError(f"AudioMAE has MLPs of 4 times the width, got mlp_ratio {self.size.mlp_ratio}")
        if not isinstance(self.normalise_target, bool):
            raise ValueError(f"normalise_target must be true or false, got {self.normalise_target!r}")

    def build(self) -> audiomae.AudioMAE:
        """The model, with random weights."""
        options = {f.name: getattr(self, f.name) for f in fields(self)}
        return audiomae.AudioMAE(options.pop("size"), options.pop("grid"), **options)

    @property
    def convolution(self) -> tuple[str, tuple[int, ...]]:
        """Our name of the patch embedding, and its shape as the convolution that the others have."""
        return "encoder.embed.weight", (self.size.width, 1, self.patch, self.patch)


@dataclass(frozen=True)
class JointConfig:
    """A `CAVMAE`; for the fields see there."""

    model: ClassVar[Literal["cavmae"]] = "cavmae"
    size: Size
    grid: tuple[int, int, int]
    audio_grid: tuple[int, int]
    tubelet: int
    patch: int
    layout: str
    joint_depth: int = 1
    normalise_target: bool = True

    def __post_init__(self):
        _check_counts(self, 3, tubelet=self.tubelet, patch=self.patch, joint_depth=self.joint_depth)
        if not isinstance(self.audio_grid, (tuple, list)) or len(self.audio_grid) != 2:
            raise ValueError(f"audio_grid has 2 axes, got {self.audio_grid!r}")
        for i, n in enumerate(self.audio_grid):
            _check_count(f"audio_grid[{i}]", n)
        _check_count("tokens", prod(self.audio_grid))
        if not isinstance(self.normalise_target, bool):
            raise ValueError(f"normalise_target must be true or false, got {self.normalise_target!r}")
        with torch.device("meta"):
            self.build()  # raises ValueError for layouts and depths that do not go together

    def build(self) -> cavmae.CAVMAE:
        """The model, with random weights."""
        options = {f.name: getattr(self, f.name) for f in fields(self)}
        return cavmae.CAVMAE(options.pop("size"), options.pop("grid"), options.pop("audio_grid"), **options)


AnyConfig = VideoConfig | AudioConfig | JointConfig
AnyModel = videomae.VideoMAE | audiomae.AudioMAE | cavmae.CAVMAE
CONFIGS: dict[str, type[AnyConfig]] = {
    config.model: config for config in (VideoConfig, AudioConfig, JointConfig)
}


def shapes(config: AnyConfig) -> dict[str, torch.Size]:
    """Names and shapes of the model's weights, by building it without memory."""
    with torch.device("meta"):
        return {name: tensor.shape for name, tensor in config.build().state_dict().items()}


def to_json(config: AnyConfig) -> dict:
    """config.json as a dict."""
    return {"smnoise": VERSION, "model": config.model, **asdict(config), "size": config.size.numbers()}


def from_json(text: Mapping) -> AnyConfig:
    """The way back. Raises CheckpointError where it is not such a config, or asks for the absurd."""
    try:
        rest = dict(text)
        if rest.pop("smnoise") != VERSION:
            raise ValueError(f"version {text['smnoise']!r} is not {VERSION}; a newer smnoise wrote it")
        kind = CONFIGS[rest.pop("model")]
        rest["size"] = Size(**rest["size"])
        options: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in rest.items()}
        return kind(**options)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"config.json is not one that smnoise can read: {error!r}") from error


def medium_of(recipe: Mapping) -> str | None:
    """The medium of the run that has this recipe; None where it is of no trainer. Recipes name it since version 0.2;
    older ones have a setting that only one trainer had."""
    usual = "video" if "tubelet" in recipe else "audio" if "rate" in recipe else None
    return recipe.get("medium", usual)


def from_recipe(recipe: Mapping) -> AnyConfig:
    """The model of a training run, from the recipe in its checkpoints. Raises CheckpointError if it has none."""
    if "classes" in recipe:
        raise CheckpointError(
            "this is a run of fine-tuning, whose model has no decoder; name the pretraining run that it began with"
        )
    if "teacher" in recipe:
        raise CheckpointError(
            "this run predicts a teacher's latents, for which other layouts have no decoder; fine-tune or probe it as "
            "it is, or convert its teacher"
        )
    try:
        size, patch = recipe["model"], recipe["patch"]
        if medium_of(recipe) == "video":
            side = recipe["size"] // patch
            clip = recipe["frames"] // recipe["tubelet"], side, side
            return VideoConfig(find_size(size, videomae.SIZES), clip, recipe["tubelet"], patch)
        if medium_of(recipe) == "audiovisual":
            side = recipe["size"] // patch
            grids = (
                (recipe["frames"] // recipe["tubelet"], side, side),
                (recipe["audio_frames"] // patch, recipe["mels"] // patch),
            )
            return JointConfig(
                find_size(size, cavmae.SIZES), *grids, recipe["tubelet"], patch, recipe["layout"]
            )
        options = {name: recipe[name] for name in ("decoder", "positions", "normalise_target")}
        grid = recipe["frames"] // patch, recipe["mels"] // patch
        with torch.device("meta"):  # the model knows how deep a decoder of that kind is
            size = audiomae.AudioMAE(size, grid, patch=patch, **options).size
        return AudioConfig(size, grid, patch, **options)
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise CheckpointError(
            f"this is no checkpoint of VideoMAE, AudioMAE or CAV-MAE pretraining: {error!r}"
        ) from error


def _check_counts(config, axes: int, **counts: int) -> None:
    if not isinstance(config.grid, (tuple, list)) or len(config.grid) != axes:
        raise ValueError(f"the grid of {config.model} has {axes} axes, got {config.grid!r}")
    sizes = asdict(config.size)
    ratio = sizes.pop("mlp_ratio")
    counts |= sizes | {f"grid[{i}]": n for i, n in enumerate(config.grid)}
    for name, value in counts.items():
        _check_count(name, value)
    _check_count("tokens", prod(config.grid))
    for part in ("", "decoder_"):
        width, heads = sizes[f"{part}width"], sizes[f"{part}heads"]
        if width % heads:
            raise ValueError(f"{part}heads must divide {part}width {width}, got {heads}")
        if type(ratio) not in (int, float) or not 1 / width <= ratio <= MOST_RATIO:
            raise ValueError(f"mlp_ratio must give 1 to {MOST_RATIO} units for each of width, got {ratio!r}")


def _check_count(name: str, value: object) -> None:
    most = MOST.get(name, MOST_OTHER)
    if type(value) is not int or not 1 <= value <= most:
        raise ValueError(f"{name} must be a whole number from 1 to {most}, got {value!r}")
