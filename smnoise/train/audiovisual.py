# SPDX-License-Identifier: Apache-2.0
"""Pretrain a joint model of picture and sound (CAV-MAE) on films of your own, with masks made in the loop.

    smnoise pretrain audiovisual --data FILMS --out runs/av --rho -1                      # masks that avoid each other
    smnoise pretrain audiovisual --recipe cavmae-base-audioset-1gpu --data FILMS --out runs/av
    smnoise pretrain audiovisual --resume --out runs/av
    torchrun --nproc-per-node 8 -m smnoise.train.audiovisual --recipe cavmae-base-audioset-8gpu --data FILMS \
        --out runs/av

FILMS is a folder of videos with sound, or a list file with a path a line; files without sound are skipped, named and
counted. The folder runs/av then holds config.json, log.jsonl and checkpoints/.

A clip is `seconds` of a film: `frames` frames, and the sound of the same seconds by the time stamps of both. The loss
is the error of both reconstructions and a weight times the contrast of clips and sounds, over all processes. Masks of
the two are independent, or with --rho a coupled pair (docs/masks/coupled.md). With --test the errors of both, the
shuffle gap and retrieval on other films stand in the log after each epoch.

Besides the initial weights all that is random is a function of (seed, global sample number). The contrast is among
the clips of one pass of all processes, so that a run may be resumed with another number of processes only where
batch_size * processes stays the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from ..data.audio.clips import loader
from ..data.audio.inputs import Spectrograms, Statistics, measure
from ..data.audiovisual import EveryPair, PairClips
from ..data.draws import torch_seeded
from ..data.found import file_notes
from ..data.video.clips import VIDEO, find_videos
from ..data.video.store import FrameStore
from ..lock import one_at_a_time
from ..measures.signs import signs_of
from ..models.cavmae import CAVMAE
from ..probes.pairs import pair_scores
from ..reference_coupled import SOUND
from ..samplers import Coupled, MaskPair, Sampler
from .job import Job
from .loop import run_job
from .optim import decay_groups
from .run.folder import command, digest_of_names
from .settings import How, Pretraining, at_least, described, named_mask, positive, recipe_of
from .world import World, processes


@dataclass(frozen=True, kw_only=True)
class Config(Pretraining):
    """Pretrain a joint model of picture and sound with masks made on the fly."""

    MEDIUM: ClassVar[str] = "audiovisual"

    model: Literal["nano", "tiny", "small", "base"] = "base"
    layout: Literal["own", "cavmae"] = "own"
    """cavmae: positions, token order and target of the published model, which sees one frame."""
    frames: int = 16
    """Frames of a clip, equally spaced over its seconds."""
    size: int = 224
    """Height and width of a clip in pixels."""
    tubelet: int = 2
    """Frames of a token."""
    patch: int = 16
    """Height and width of a token in pixels; frames and mel bins of a token of the sound."""
    rate: int = 16000
    """Hz that all sounds are brought to."""
    audio_frames: int = 1024
    """Length of a spectrogram; a frame is 10 ms."""
    seconds: float | None = None
    """Of a clip; by default as long as the spectrogram, whose rest is silent."""
    mels: int = 128
    """Height of a spectrogram."""
    statistics: Literal["auto"] | tuple[float, float] = "auto"
    """Mean and deviation of the log-mel values: two numbers, or auto: measured on the first `measured_clips` and kept
    in the checkpoint. Spectrograms are divided by twice the deviation."""
    measured_clips: int = 64
    """For statistics auto."""
    contrast_weight: float = 0.01
    """Of the contrast in the loss."""
    both_directions: bool = False
    """Contrast also pictures for each sound."""
    contrast_ratio: float | None = None
    """Share of tokens that is hidden from the contrast, in masks of its own, which cost another pass; None: it sees
    what the reconstruction sees."""

    mask: How[str] = "green-3d"
    """Of the picture, named as everywhere."""
    audio_mask: How[str] = "optim-blue"
    """Of the sound."""
    audio_ratio: How[float | None] = None
    """Share of the sound's tokens that is hidden; by default that of the mask's recipe or JSON, else 0.8."""
    rho: float | None = None
    """Couple the masks with this correlation in time, -1 .. 1; None: independent."""
    share: float = 1.0
    """With rho: how unequal the counts of frames are, 0 .. 1."""

    epochs: int = 25
    warmup_epochs: float = 1
    batch_size: How[int] = 32
    base_lr: float = 2e-4
    weight_decay: float = 5e-7
    betas: tuple[float, float] = (0.95, 0.999)
    clips_per_video: int = 1
    """Clips drawn from each film in an epoch."""
    short_side: int | None = None
    """Reduce frames to this many pixels along the shorter side while decoding."""
    frames_cache: How[Path | None] = None
    """Folder that `smnoise.data.video.cache` made of these films with the same short_side: it is read instead of their
    pictures."""
    test: How[Path | None] = None
    """Other films, a folder or a list: scored after each epoch."""
    test_clips: How[int] = 8
    """Clips of each of them."""

    def __post_init__(self):
        names = (
            "frames",
            "size",
            "tubelet",
            "patch",
            "audio_frames",
            "mels",
            "measured_clips",
            "clips_per_video",
        )
        at_least(1, self, (*names, "test_clips"))
        at_least(0, self, ("contrast_weight",))
        positive(self, ("short_side",))
        for name, whole, part in (
            ("frames", self.frames, self.tubelet),
            *((n, getattr(self, n), self.patch) for n in ("size", "audio_frames", "mels")),
        ):
            if whole % part:
                raise ValueError(f"{name} {whole} must be a multiple of {part}, of a token")
        if self.layout == "cavmae" and self.frames != 1:
            raise ValueError(f"layout cavmae is of one frame, got frames {self.frames}; take layout own")
        if self.statistics != "auto" and not (
            all(map(math.isfinite, self.statistics)) and self.statistics[1] > 0
        ):
            raise ValueError(f"statistics must be a mean and a positive deviation, got {self.statistics}")
        positive(self, ("seconds",))
        if self.clip_seconds > self.audio_frames / 100:
            raise ValueError(
                f"seconds {self.seconds} must not be longer than the {self.audio_frames} frames of 10 ms"
            )
        if self.rho is not None and self.clip_seconds != self.audio_frames / 100:
            raise ValueError(
                f"with rho the clip must be as long as its spectrogram, {self.audio_frames / 100} s, so that frames "
                f"lie beside their sound; got seconds {self.seconds}"
            )
        if self.contrast_ratio is not None and not 0 < self.contrast_ratio < 1:
            raise ValueError(f"contrast_ratio must be in (0, 1), got {self.contrast_ratio}")
        if self.views != 1:
            raise ValueError(f"a clip with its sound has one view, got views {self.views}")
        if self.knn_every:
            raise ValueError("a joint model is scored on pairs: leave out knn_every, and give --test")
        self.check()
        self.masks()  # raises for masks that cannot be, or not be coupled

    @property
    def grid(self) -> tuple[int, int, int]:
        return self.frames // self.tubelet, self.size // self.patch, self.size // self.patch

    @property
    def audio_grid(self) -> tuple[int, int]:
        """Tokens of the sound along (time, frequency)."""
        return self.audio_frames // self.patch, self.mels // self.patch

    @property
    def clip_seconds(self) -> float:
        return self.audio_frames / 100 if self.seconds is None else self.seconds

    def sampler(self) -> Sampler:
        """What makes the picture's masks; its seed is given in each call."""
        names = ("sigma1", "sigma2", "boundary", "per")
        more = {name: getattr(self, name) for name in names}
        return named_mask(self.mask, self.grid, self.mask_ratio, num_visible=self.num_visible, **more)

    def audio_sampler(self) -> Sampler:
        """What makes the sound's masks."""
        order = self.audio_grid if self.layout == "own" else self.audio_grid[::-1]
        return named_mask(self.audio_mask, order, self.audio_ratio)

    def masks(self) -> Callable[[Tensor], MaskPair]:  # type: ignore[override]  # pairs
        """Makes of sample numbers, int64 [B] on the device, the masks of both."""
        return pair_of(self.sampler(), self.audio_sampler(), self)

    def samplers(self) -> dict[str, dict | None]:
        return {
            "sampler": described(self.sampler(), 0),
            "audio_sampler": described(self.audio_sampler(), 0),
        }


def pair_of(video: Sampler, audio: Sampler, config: Config) -> Callable[[Tensor], MaskPair]:
    """Masks of both for sample numbers: coupled by config.rho, or independent. Raises ValueError where they cannot be
    coupled."""
    if config.rho is not None:
        return Coupled(video, audio, rho=config.rho, share=config.share, seed=config.seed)
    return lambda samples: MaskPair(
        video(samples, seed=config.seed), audio(samples, seed=config.seed ^ SOUND)
    )


def for_contrast(config: Config) -> Callable[[Tensor], MaskPair] | None:
    """Masks that the contrast has for itself: random ones of its ratio, other ones than those of the reconstruction."""
    if config.contrast_ratio is None:
        return None
    order = config.audio_grid if config.layout == "own" else config.audio_grid[::-1]
    video, audio = (named_mask("random", grid, config.contrast_ratio) for grid in (config.grid, order))
    seed = config.seed ^ 0xD1B54A32D192ED03
    return lambda samples: MaskPair(video(samples, seed=seed), audio(samples, seed=seed ^ SOUND))


@one_at_a_time
def pretrain(config: Config, stop: Callable[[], bool] = lambda: False) -> CAVMAE:
    """Train, and return the trained model. Files and errors are those of the module's head.

    stop: asked after each step; when it says so, a checkpoint is saved and training ends early.

    Raises DataError, CheckpointError, ValueError or OSError before the first step for what can be known then;
    FloatingPointError when the loss stops being finite.
    """
    return run_job(job, config, stop)


def job(config: Config, device: torch.device, bfloat16: bool, world: World) -> Job[CAVMAE]:
    """What the loop trains."""
    paths = find_videos(config.data)
    inputs = Spectrograms(config.rate, config.audio_frames, config.mels, Statistics(0.0, 1.0)).to(device)
    shape: dict[str, Any] = {
        "frames": config.frames, "size": config.size, "seconds": config.clip_seconds, "rate": config.rate,
        "samples": inputs.samples, "short_side": config.short_side,
    }  # fmt: skip
    store = None if config.frames_cache is None else FrameStore(config.frames_cache)
    clips = PairClips(paths, seed=config.seed, clips_per_video=config.clips_per_video, store=store, **shape)
    clips[0]  # a data set that cannot be read is found out here, not in a worker
    model = untrained(config).to(device)
    masks, others = config.masks(), for_contrast(config)

    def begin(recipe: dict) -> list[str]:
        """The statistics are those of the run, which measures them as it begins."""
        if "mean" not in recipe:
            if config.statistics == "auto":
                first = range(min(len(clips), config.measured_clips))
                batches = loader(clips, first, 1, config.workers, device)
                found = world.first(lambda: measure(batches, inputs.log_mel, device))
            else:
                found = Statistics.of(config.statistics)
            recipe.update(found._asdict())
        inputs.statistics = Statistics(recipe["mean"], recipe["std"])
        return [f"log-mel mean {recipe['mean']:.4g} and deviation {recipe['std']:.4g}"]

    def passed(train: torch.nn.Module, pixels: Tensor, spectrograms: Tensor, sample: Tensor) -> Tensor:
        more = () if others is None else (others(sample),)
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            return train(pixels, spectrograms, masks(sample), *more)[0]

    def loss(train: torch.nn.Module, batch: dict, step: int, number: int) -> Tensor:
        names = ("clip", "wave", "length", "sample")
        pixels, wave, length, sample = (batch[name].to(device, non_blocking=True) for name in names)
        return passed(train, pixels, inputs(wave, length), sample)

    def blank(train: torch.nn.Module) -> Tensor:
        rows = config.batch_size
        black = torch.zeros(
            rows, 3, config.frames, config.size, config.size, dtype=torch.uint8, device=device
        )
        silence = torch.zeros(rows, config.audio_frames, config.mels, device=device)
        return passed(train, black, silence, torch.arange(rows, device=device))

    if config.shard and config.test is not None:
        raise ValueError("a sharded model is not scored while it trains; leave out --test or --shard")
    tests = [] if config.test is None else find_videos(config.test)  # raises where there is none

    def evaluate(last: bool) -> tuple[dict[str, float], list[str]]:
        every = EveryPair(tests, clips=config.test_clips, **shape)
        batches = loader(
            every, range(len(every)), min(32, len(every)), config.workers, device, drop_last=False
        )
        scores, broken = world.first(lambda: pair_scores(model, batches, inputs, masks, device))
        return scores, broken

    video, audio = config.sampler(), config.audio_sampler()
    coupled = "independent" if config.rho is None else f"rho {config.rho:g}"
    return Job(
        title=f"{config.model} CAV-MAE, {sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters, "
        f"{video.visible_per_sample} of {video.num_tokens} tokens of the picture visible, "
        f"{audio.visible_per_sample} of {audio.num_tokens} of the sound, masks {coupled}; {len(paths)} films",
        model=model,
        groups=partial(decay_groups, model, config.weight_decay),
        clips=clips,
        begin=begin,
        loss=loss,
        blank=blank,
        recipe=recipe_of(
            config,
            videos=digest_of_names(config.data, paths),
            contrast_clips=config.batch_size * processes(),
            **config.samplers(),
        ),
        notes=file_notes(config.data, VIDEO) + [sign.said for sign in (*signs_of(video), *signs_of(audio))],
        advice=f"raise --workers ({config.workers} now), or store the films smaller, or make a --frames-cache",
        evaluate=None if config.test is None else evaluate,
    )


def untrained(config: Config) -> CAVMAE:
    """The model of a run with its first weights, on the CPU; the caller's generator stays as it is."""
    with torch_seeded(config.seed, 0, torch.device("cpu")):
        return CAVMAE(
            config.model,
            config.grid,
            config.audio_grid,
            tubelet=config.tubelet,
            patch=config.patch,
            layout=config.layout,
            contrast_weight=config.contrast_weight,
            both_directions=config.both_directions,
            checkpoint_blocks=config.checkpoint_blocks,
        )


def main() -> None:
    command(Config, pretrain, __doc__)


if __name__ == "__main__":
    main()
