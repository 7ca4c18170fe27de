# SPDX-License-Identifier: Apache-2.0
"""What is compared with what, and at which sizes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, NamedTuple

from smnoise.spec import visible_of_ratio

UNTRAINED, INPUTS = "untrained", "inputs"
BASELINES = (UNTRAINED, INPUTS)


class Experiment(NamedTuple):
    """Strategies (`smnoise.strategy`) that share everything but the mask: data, order, first weights, and the exact
    number of visible tokens."""

    medium: Literal["video", "audio"]
    strategies: tuple[str, ...]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """What is compared: the first of each pair less the second."""
        return list(combinations(self.strategies, 2))


Name = Literal["green-vs-tube", "colors-video", "blue-vs-random-audio"]
EXPERIMENTS: dict[Name, Experiment] = {
    "green-vs-tube": Experiment("video", ("green-3d", "tube")),
    "colors-video": Experiment("video", ("green-3d", "red-3d", "blue-3d")),
    "blue-vs-random-audio": Experiment("audio", ("optim-blue", "random")),
}


@dataclass(frozen=True)
class Video:
    """Pretraining on the training clips of the motion task; then a linear probe on their frozen features, and
    fine-tuning on them, both scored on clips of other videos."""

    model: Literal["nano", "tiny", "small", "base", "large", "huge"]
    frames: int
    size: int
    kept: int
    """Height and width of the clips as they are cut: a crop, two thirds of it or more, is then reduced to `size`."""
    patch: int
    clips: int
    """Of the task to pretrain and to fit the probe on."""
    test_clips: int
    epochs: int
    batch_size: int
    base_lr: float
    ratios: tuple[float, ...]
    tubelet: int = 2
    tune_epochs: int = 0
    """Of fine-tuning, without augmentations but crops; 0: none, and the linear probe is the score."""

    @property
    def score(self) -> str:
        """The name of the score that is compared."""
        return "fine-tuned accuracy" if self.tune_epochs else "linear accuracy"

    @property
    def grid(self) -> tuple[int, int, int]:
        """Tokens of a clip along (T, H, W)."""
        return self.frames // self.tubelet, self.size // self.patch, self.size // self.patch

    def visible(self, ratio: float) -> int:
        """Return how many tokens of a clip are visible at a ratio: equally many in each frame, so that a tube can have
        just as many.
        """
        frames, height, width = self.grid
        return frames * visible_of_ratio(height * width, ratio)


@dataclass(frozen=True)
class Audio:
    """Pretraining on pieces of speech and music, a linear probe that has a few labels, scored on a voice (and language)
    and an artist that neither has heard. The spectrogram is that of `make demo-audio`."""

    model: Literal["tiny", "small", "base"]
    epochs: int
    batch_size: int
    base_lr: float
    ratios: tuple[float, ...]
    frames: int = 128
    mels: int = 64
    patch: int = 8
    few: int = 4
    """Labelled pieces a class; the mean of 20 choices."""
    score: str = "few-label accuracy"

    @property
    def grid(self) -> tuple[int, int, int]:
        """Tokens of a spectrogram as (1, time, frequency)."""
        return 1, self.frames // self.patch, self.mels // self.patch

    def visible(self, ratio: float) -> int:
        """Return how many tokens of a spectrogram are visible at a ratio."""
        _, height, width = self.grid
        return visible_of_ratio(height * width, ratio)


class Size(NamedTuple):
    """How long it takes."""

    seeds: int
    workers: int
    """Processes that read clips."""
    video: Video
    audio: Audio


SIZES = {
    # Some 20 minutes of one core. Chosen by pretrained against untrained models, not by what sets masks apart.
    "laptop": Size(
        3,
        0,
        Video("nano", 8, 32, 48, 4, 800, 800, epochs=6, batch_size=8, base_lr=0.064, ratios=(0.75,)),
        Audio("tiny", epochs=5, batch_size=32, base_lr=0.004, ratios=(0.8,)),
    ),
    # Not run yet; meant for a night on a laptop, or an hour on a GPU.
    "small": Size(
        6,
        2,
        Video("nano", 8, 32, 48, 4, 4000, 2000, epochs=40, batch_size=8, base_lr=0.064, ratios=(0.75, 0.9),
              tune_epochs=6),
        Audio("tiny", epochs=60, batch_size=64, base_lr=0.002, ratios=(0.7, 0.8)),
    ),
    # Not run yet; meant for hours on a GPU.
    "gpu": Size(
        10,
        12,
        Video("tiny", 16, 64, 96, 4, 16000, 4000, epochs=100, batch_size=64, base_lr=0.004, ratios=(0.75, 0.9),
              tune_epochs=6),
        Audio("small", epochs=200, batch_size=128, base_lr=0.001, ratios=(0.7, 0.8, 0.9)),
    ),
}  # fmt: skip


class Cell(NamedTuple):
    """One model: `visible` is None for a baseline."""

    medium: Literal["video", "audio"]
    strategy: str
    visible: int | None
    seed: int

    @property
    def name(self) -> str:
        """The name of its file."""
        budget = "" if self.visible is None else f"-{self.visible}"
        return f"{self.medium}-{self.strategy}{budget}-{self.seed}"


class Plan(NamedTuple):
    """A study: which experiments, at which size, over which ratios and seeds."""

    size: str
    experiments: tuple[Name, ...]
    seeds: int
    video: Video
    audio: Audio

    def task(self, medium: str) -> Video | Audio:
        """Return the settings of a medium, video or audio."""
        return self.video if medium == "video" else self.audio

    def budgets(self, medium: str) -> list[int]:
        """Visible tokens for each ratio."""
        task = self.task(medium)
        return [task.visible(ratio) for ratio in task.ratios]

    def cells(self) -> list[Cell]:
        """All of them, each once, seed by seed, so that a study that was stopped has whole comparisons."""
        found = dict.fromkeys(cell for seed in range(self.seeds) for cell in self._cells(seed))
        return list(found)

    def _cells(self, seed: int) -> Iterator[Cell]:
        for name in self.experiments:
            medium, strategies = EXPERIMENTS[name]
            yield Cell(medium, INPUTS, None, 0)
            yield Cell(medium, UNTRAINED, None, seed)
            for visible in self.budgets(medium):
                for strategy in strategies:
                    yield Cell(medium, strategy, visible, seed)
