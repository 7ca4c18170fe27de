# SPDX-License-Identifier: Apache-2.0
"""Pretrain AudioMAE on your sounds, with masks made in the loop.

    smnoise pretrain audio --recipe audiomae-base-audioset-1gpu --data SOUNDS --out runs/audio
    smnoise pretrain audio --resume --out runs/audio                              # go on after a stop
    torchrun --nproc-per-node 8 -m smnoise.train.audio --recipe audiomae-base-audioset-8gpu --data SOUNDS \
        --out runs/audio
    smnoise pretrain audio --data SOUNDS --out runs/small --model tiny --frames 256 --statistics auto \
        --batch-size 16 --epochs 50 --warmup-epochs 5                             # a laptop

SOUNDS is a folder, or a list file with a path a line. The folder runs/audio then holds config.json, log.jsonl and
checkpoints/. The exit status is 0 for a run that is done, 143 or 130 for one that SIGTERM or
Ctrl-C stopped, after a checkpoint, and 1 for an error.

Defaults are AudioMAE's recipe for AudioSet (ViT-B, local decoder), but for three things. A step sees the batch of one
GPU. The mask is Optim Blue where AudioMAE hides patches at random. And all files are brought to one rate, where
AudioMAE reads each at its own: a mel bin is then the same frequency in every file. The reconstruction loss tells
whether training works; it does not rank masks.

Besides the initial weights all that is random is a function of (seed, global sample number): the order of clips,
their parts, gains and masks; or of (seed, step): the decoder's dropout. So a checkpoint needs to hold just the
number of steps. A step sees the same clips, masks and dropout for any batch_size, accumulate and
number of processes with the same product, and may be resumed with others.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from ..data.audio.clips import SOUND, AudioClips, EveryFile, find_sounds, loader
from ..data.audio.fbank import DATA_SETS, LogMel
from ..data.audio.inputs import Spectrograms, Statistics, measure
from ..data.draws import torch_seeded
from ..data.found import file_notes
from ..data.numbered import collate
from ..lock import one_at_a_time
from ..measures.signs import signs_of
from ..models.audiomae import AudioMAE
from ..models.common import MASK_OUTPUTS
from ..probes.knn import KnnProbe
from ..samplers import OptimBlue
from .job import Job
from .loop import run_job
from .optim import decay_groups
from .run.folder import REVISION, command, digest_of_names
from .run.pictures import of_audio
from .settings import How, Pretraining, at_least, recipe_of
from .world import World


@dataclass(frozen=True, kw_only=True)
class Config(Pretraining):
    """Pretrain AudioMAE with masks made on the fly."""

    MEDIUM: ClassVar[str] = "audio"

    model: Literal["tiny", "small", "base"] = "base"
    decoder: Literal["local", "global"] = "local"
    """local: attention in windows of 4 x 4 patches."""
    positions: Literal["right", "published"] = "right"
    """published: the transposed table that AudioMAE's released weights were trained with."""
    normalise_target: bool = True
    """Predict each patch less its mean, over its deviation."""
    rate: int = 16000
    """Hz that all files are brought to."""
    frames: int = 1024
    """Length of a spectrogram; a frame is 10 ms."""
    mels: int = 128
    """Height of a spectrogram."""
    patch: int = 16
    """Frames and mel bins of a token."""
    statistics: Literal["audioset", "esc50", "speechcommands", "auto"] | tuple[float, float] = "audioset"
    """Mean and deviation of the log-mel values: a data set's, two numbers, or auto: measured on the first
    `measured_clips` and kept in the checkpoint."""
    measured_clips: int = 256
    """For statistics auto."""
    gain: bool = True
    """Multiply each clip by 0.5 + Beta(10, 10)."""
    roll: bool = False
    """Rotate each clip in time by any amount. AudioMAE's roll does nothing to mono sound."""

    mask: How[str] = "optim-blue"
    epochs: int = 33
    warmup_epochs: float = 3
    batch_size: How[int] = 64
    base_lr: float = 2e-4
    weight_decay: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.95)
    clips_per_file: int = 1
    """Clips drawn from each file in an epoch."""
    view_masks: Literal["consecutive", "partition"] = "consecutive"
    """consecutive: of view v of clip n, mask n * views + v. partition, for optim-blue: complementary masks, the first
    ones of partition n."""

    def __post_init__(self):
        at_least(1, self, ("frames", "mels", "patch", "measured_clips", "clips_per_file"))
        if self.frames % self.patch or self.mels % self.patch:
            raise ValueError(
                f"frames {self.frames} and mels {self.mels} must be multiples of patch {self.patch}"
            )
        if isinstance(self.statistics, str):
            if self.statistics not in (*DATA_SETS, "auto"):
                raise ValueError(
                    f"statistics must be one of {', '.join(DATA_SETS)}, auto, or two numbers; "
                    f"got {self.statistics!r}"
                )
        elif not all(map(math.isfinite, self.statistics)) or not self.statistics[1] > 0:
            raise ValueError(f"statistics must be a mean and a positive deviation, got {self.statistics}")
        LogMel(self.rate, self.mels)  # raises for a rate too low
        self.check()
        if self.view_masks == "partition" and self.views > self._masks_of_a_partition():
            most = self._masks_of_a_partition() or "K"
            raise ValueError(
                f"view_masks partition is for mask optim-blue, whose partitions have {most} masks, and no more views "
                f"than that; got {self.mask} and {self.views} views; use consecutive"
            )

    @property
    def grid(self) -> tuple[int, int, int]:
        return 1, self.frames // self.patch, self.mels // self.patch

    def advice(self) -> str:
        """Where the loader is the limit."""
        return f"raise --workers ({self.workers} now) or --views, or store the sounds at {self.rate} Hz"

    def _masks_of_a_partition(self) -> int:
        """K of complementary Optim Blue; 0 of other masks."""
        sampler = self.sampler()
        return sampler.num_masks if isinstance(sampler, OptimBlue) and sampler.masks == "complementary" else 0

    def mask_numbers(self, samples: Tensor) -> Tensor:
        """Which masks the rows of a batch have: int64 [B], of their sample numbers [B]."""
        if self.view_masks == "consecutive":
            return samples
        return samples // self.views * self._masks_of_a_partition() + samples % self.views

    def known_statistics(self) -> Statistics | None:
        """None where they are to be measured."""
        return None if self.statistics == "auto" else Statistics.of(self.statistics)


@one_at_a_time
def pretrain(config: Config, stop: Callable[[], bool] = lambda: False) -> AudioMAE:
    """Train, and return the trained model. Files and errors are those of the module's head.

    stop: asked after each step; when it says so, a checkpoint is saved and training ends early.

    Raises DataError, CheckpointError, ValueError or OSError before the first step for what can be known then;
    FloatingPointError when the loss stops being finite.
    """
    return run_job(job, config, stop)


def job(config: Config, device: torch.device, bfloat16: bool, world: World) -> Job[AudioMAE]:
    """What the loop trains."""
    paths = find_sounds(config.data)
    inputs = Spectrograms(config.rate, config.frames, config.mels, Statistics(0.0, 1.0)).to(device)
    clips = AudioClips(
        paths,
        rate=config.rate,
        samples=inputs.samples,
        seed=config.seed,
        clips_per_file=config.clips_per_file,
        views=config.views,
        gain=config.gain,
        roll=config.roll,
    )
    clips[0]  # a data set that cannot be read is found out here, not in a worker
    probe = None
    if config.knn_every:
        files = partial(EveryFile, rate=config.rate, samples=inputs.samples)
        probe = KnnProbe(config, SOUND, files, inputs, lambda function: function, device)
    model, sampler = untrained(config).to(device), config.sampler()

    def begin(recipe: dict) -> list[str]:
        """The statistics are those of the run, which measures them as it begins."""
        if "mean" not in recipe:
            # Silence is found out even where the statistics are known.
            count = min(len(clips), config.measured_clips if config.statistics == "auto" else 16)
            first = range(0, count * config.views, config.views)  # a view of each
            batches = loader(clips, first, 1, config.workers, device)
            measured = world.first(lambda: measure(batches, inputs.log_mel, device))
            recipe.update((config.known_statistics() or measured)._asdict())
        inputs.statistics = Statistics(recipe["mean"], recipe["std"])
        return [f"log-mel mean {recipe['mean']:.4g} and deviation {recipe['std']:.4g}"]

    def loss(train: torch.nn.Module, batch: dict, step: int, number: int) -> Tensor:
        wave, length, sample = (
            batch[name].to(device, non_blocking=True) for name in ("wave", "length", "sample")
        )
        spectrograms, masks = inputs(wave, length), sampler(config.mask_numbers(sample), outputs=MASK_OUTPUTS)
        # The same dropout in all passes of a step, so that to accumulate, or to share the work among processes, is to
        # have a larger batch.
        with (
            torch_seeded(config.seed, step, device),
            torch.autocast(device.type, torch.bfloat16, enabled=bfloat16),
        ):
            return train(spectrograms, masks)[0]

    def pictures() -> dict[str, np.ndarray]:
        first = collate([clips[0]])
        masks = sampler(config.mask_numbers(first["sample"].to(device)))
        return of_audio(model, inputs(first["wave"].to(device), first["length"].to(device)), masks)

    def blank(train: torch.nn.Module) -> Tensor:
        rows = config.batch_size * config.views
        silence = torch.zeros(rows, config.frames, config.mels, device=device)
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            return train(silence, sampler(torch.arange(rows, device=device), outputs=MASK_OUTPUTS))[0]

    return Job(
        title=f"{config.model} AudioMAE, {sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters, "
        f"grid {config.grid}, {sampler.visible_per_sample} of {sampler.num_tokens} tokens visible; "
        f"{len(paths)} sound files at {config.rate} Hz",
        model=model,
        groups=partial(decay_groups, model, config.weight_decay),
        clips=clips,
        views=config.views,
        begin=begin,
        loss=loss,
        blank=blank,
        recipe=recipe_of(
            config,
            sounds=digest_of_names(config.data, paths),
            **{REVISION: 2},
            **config.samplers(),
        ),
        notes=file_notes(config.data, SOUND) + [sign.said for sign in signs_of(sampler)],
        advice=config.advice(),
        probe=probe,
        pictures=pictures,
    )


def untrained(config: Config) -> AudioMAE:
    """The model of a run with its first weights, on the CPU; the caller's generator stays as it is."""
    with torch_seeded(config.seed, 0, torch.device("cpu")):
        return AudioMAE(
            config.model,
            config.grid[1:],
            patch=config.patch,
            decoder=config.decoder,
            positions=config.positions,
            normalise_target=config.normalise_target,
            checkpoint_blocks=config.checkpoint_blocks,
        )


def main() -> None:
    command(Config, pretrain, __doc__)


if __name__ == "__main__":
    main()
