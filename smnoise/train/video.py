# SPDX-License-Identifier: Apache-2.0
"""Pretrain VideoMAE on your videos, with masks made in the loop.

    smnoise pretrain video --recipe videomae-base-k400-1gpu --data VIDEOS --out runs/video
    smnoise pretrain video --resume --out runs/video                              # go on after a stop
    torchrun --nproc-per-node 8 -m smnoise.train.video --recipe videomae-base-k400-8gpu --data VIDEOS --out runs/video
    smnoise pretrain video --data VIDEOS --out runs/small --model tiny --size 112 --patch 8 --batch-size 8 \
        --epochs 50 --warmup-epochs 5 --base-lr 0.01                              # a laptop

VIDEOS is a folder, or a list file with a path a line. The folder runs/video then holds config.json, log.jsonl and
checkpoints/. The exit status is 0 for a run that is done, 143 or 130 for one that SIGTERM or Ctrl-C stopped, after a
checkpoint, and 1 for an error.

Defaults are VideoMAE's recipe for Kinetics-400 (ViT-B), but for the batch, which is one GPU's, and the mask: Green3D
where VideoMAE has tubes (--mask videomae-tube). The reconstruction loss tells whether training works; it does not rank
masks.

Nothing here is random besides the initial weights: the order of clips, their frames, crops and masks are
functions of (seed, global sample number), so a checkpoint needs to hold just the number of steps. A step sees the same
clips and masks for any batch_size, accumulate and number of processes with the same product, and may be resumed with
others.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from ..data.found import file_notes
from ..data.video.clips import VIDEO, VideoClips, find_videos
from ..data.video.store import FrameStore
from ..data.video.views import EveryVideo, over_views
from ..dual import DualMasks, dual
from ..errors import DataError
from ..lock import one_at_a_time
from ..masks import MaskBatch
from ..measures.signs import signs_of
from ..models.common import MASK_OUTPUTS
from ..models.videomae import VideoMAE
from ..probes.knn import KnnProbe
from ..samplers import Sampler
from .job import Job
from .loop import run_job
from .optim import decay_groups
from .run.folder import command, digest_of_names
from .run.pictures import of_video
from .settings import How, Pretraining, at_least, described, named_mask, positive, recipe_of
from .world import World


@dataclass(frozen=True, kw_only=True)
class Config(Pretraining):
    """Pretrain VideoMAE with masks made on the fly."""

    MEDIUM: ClassVar[str] = "video"

    model: Literal["nano", "tiny", "small", "base", "large", "huge"] = "base"
    frames: int = 16
    """Frames of a clip."""
    stride: int = 4
    """Frames of the video from one frame of the clip to the next."""
    size: int = 224
    """Height and width of a clip in pixels."""
    tubelet: int = 2
    """Frames of a token."""
    patch: int = 16
    """Height and width of a token in pixels."""

    mask: How[str] = "green-3d"
    decoder_mask: How[str] = "none"
    """Dual masking: decode, and learn from, only the hidden tokens that a second mask of this name shows. running-cell
    is VideoMAEv2's. none: all."""
    decode_ratio: float = 0.5
    """With a decoder mask: share of the hidden tokens that is decoded, the same number in every clip."""

    epochs: int = 800
    warmup_epochs: float = 40
    batch_size: How[int] = 32
    base_lr: float = 1.5e-4
    min_lr: float = 1e-5
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.95)
    clips_per_video: int = 1
    """Clips drawn from each video in an epoch."""

    reader: How[Literal["pyav", "torchcodec"]] = "pyav"
    """What decodes videos. torchcodec must be installed with FFmpeg's libraries."""
    short_side: int | None = None
    """Reduce frames to this many pixels along the shorter side while decoding; torchcodec cannot."""
    cache_mib: How[int] = 0
    """Decoded frames that each worker keeps in memory, for small data sets."""
    frames_cache: How[Path | None] = None
    """Folder that `smnoise.data.video.cache` made of these videos with the same short_side: it is read instead."""

    def __post_init__(self):
        at_least(1, self, ("frames", "stride", "size", "tubelet", "patch", "clips_per_video"))
        at_least(0, self, ("cache_mib",))
        positive(self, ("short_side",))
        if self.frames % self.tubelet or self.size % self.patch:
            raise ValueError(
                f"frames {self.frames} must be a multiple of tubelet {self.tubelet}, "
                f"and size {self.size} of patch {self.patch}"
            )
        self.check()
        if not 0 < self.decode_ratio < 1:
            raise ValueError(
                f"decode_ratio must be in (0, 1), the share of hidden tokens that is decoded, got {self.decode_ratio}; "
                "to decode all, leave decoder_mask at none"
            )
        self.decoder_sampler()
        if not self.num_decoded:
            raise ValueError(f"decode_ratio {self.decode_ratio} leaves no token to decode; raise it")

    @property
    def grid(self) -> tuple[int, int, int]:
        side = self.size // self.patch
        return self.frames // self.tubelet, side, side

    def advice(self) -> str:
        """Where the loader is the limit."""
        workers = f"raise --workers ({self.workers} now)"
        if self.frames_cache is not None:
            return f"{workers} or --views"
        short_side = f" --short-side {self.short_side}" if self.short_side else ""
        return (
            f"{workers} or --views, or decode once and for all: python -m smnoise.data.video.cache --data {self.data} "
            f"--out CACHE{short_side}, then --frames-cache CACHE"
        )

    def decoder_sampler(self) -> Sampler | None:
        """What it shows is decoded. Its seed is another one, or it would be cut from the same noise."""
        if self.decoder_mask == "none":
            return None
        mask_ratio = float(1 - self._decoded)
        return named_mask(self.decoder_mask, self.grid, mask_ratio, seed=self.seed ^ 1 << 63)

    def samplers(self) -> dict[str, dict | None]:
        decoder = self.decoder_sampler()
        of_decoder = None if decoder is None else described(decoder, self.seed ^ 1 << 63)
        return super().samplers() | {"decoder_sampler": of_decoder}

    @property
    def num_decoded(self) -> int:
        """Tokens of a clip that are decoded."""
        hidden = self.sampler().num_tokens - self.sampler().visible_per_sample
        return hidden if self.decoder_mask == "none" else math.floor(hidden * self._decoded)

    def masks(self) -> Callable[..., MaskBatch | DualMasks]:
        sampler, decoder, count = self.sampler(), self.decoder_sampler(), self.num_decoded
        if decoder is None:
            return partial(sampler, outputs=MASK_OUTPUTS)

        def both(samples: Tensor) -> DualMasks:
            return dual(sampler(samples, outputs="mask,ids_keep"), decoder(samples, outputs="mask"), count)

        return both

    @property
    def _decoded(self) -> Fraction:
        """decode_ratio as the decimal that it is written as."""
        return Fraction(repr(float(self.decode_ratio)))


@one_at_a_time
def pretrain(config: Config, stop: Callable[[], bool] = lambda: False) -> VideoMAE:
    """Train, and return the trained model. Files and errors are those of the module's head.

    stop: asked after each step; when it says so, a checkpoint is saved and training ends early.

    Raises DataError, CheckpointError, ValueError or OSError before the first step for what can be known then;
    FloatingPointError when the loss stops being finite.
    """
    return run_job(job, config, stop)


def job(config: Config, device: torch.device, bfloat16: bool, world: World) -> Job[VideoMAE]:
    """What the loop trains."""
    paths = find_videos(config.data)
    store, notes = cached(config.frames_cache, config.data, paths)
    clips = VideoClips(
        paths,
        frames=config.frames,
        stride=config.stride,
        size=config.size,
        seed=config.seed,
        clips_per_video=config.clips_per_video,
        views=config.views,
        reader=config.reader,
        short_side=config.short_side,
        cache_mib=config.cache_mib,
        store=store,
    )
    clips[0]  # a data set that cannot be read is found out here, not in a worker
    probe = None
    if config.knn_every:
        views = partial(EveryVideo, frames=config.frames, stride=config.stride, size=config.size)
        probe = KnnProbe(config, VIDEO, views, lambda clips: clips, over_views, device)
    model, sampler, masks_of = untrained(config).to(device), config.sampler(), config.masks()

    def loss(train: torch.nn.Module, batch: dict, step: int, number: int) -> Tensor:
        pixels = batch["clip"].to(device, non_blocking=True)
        masks = masks_of(batch["sample"].to(device, non_blocking=True))
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            return train(pixels, masks)[0]

    def pictures() -> dict[str, np.ndarray]:
        first = clips[0]
        return of_video(model, first["clip"][None].to(device), sampler([first["sample"]], device=device))

    def blank(train: torch.nn.Module) -> Tensor:
        rows = config.batch_size * config.views
        shape = rows, 3, config.frames, config.size, config.size
        black = torch.zeros(shape, dtype=torch.uint8, device=device)
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            return train(black, masks_of(torch.arange(rows, device=device)))[0]

    return Job(
        title=f"{config.model} VideoMAE, {sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters, "
        f"grid {config.grid}, {sampler.visible_per_sample} of {sampler.num_tokens} tokens visible, "
        f"{config.num_decoded} decoded; {len(paths)} videos",
        model=model,
        groups=partial(decay_groups, model, config.weight_decay),
        clips=clips,
        views=config.views,
        loss=loss,
        blank=blank,
        recipe=recipe_of(
            config,
            videos=digest_of_names(config.data, paths),
            **config.samplers(),
        ),
        notes=notes + file_notes(config.data, VIDEO) + [sign.said for sign in signs_of(sampler)],
        normalised=True,
        advice=config.advice(),
        probe=probe,
        pictures=pictures,
    )


def cached(folder: Path | None, data: Path, paths: list[Path]) -> tuple[FrameStore | None, list[str]]:
    """The cache of frames in a folder, if one is given, and what a person should be told of it. Raises DataError where
    it is of other videos than those of `data`."""
    if folder is None:
        return None, []
    store = FrameStore(folder)
    held = sum(path in store for path in paths)
    if not held:
        raise DataError(
            f"{folder} has none of the {len(paths)} videos of {data}; make a cache of them with "
            "python -m smnoise.data.video.cache, or leave frames_cache out"
        )
    others = "" if held == len(paths) else f"; the other {len(paths) - held} are decoded for each clip"
    return store, [f"{held} of {len(paths)} videos are read from {folder}{others}"]


def untrained(config: Config) -> VideoMAE:
    """The model of a run with its first weights, on the CPU; the caller's generator stays as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.seed)
        return VideoMAE(
            config.model,
            config.grid,
            tubelet=config.tubelet,
            patch=config.patch,
            checkpoint_blocks=config.checkpoint_blocks,
        )


def main() -> None:
    command(Config, pretrain, __doc__)


if __name__ == "__main__":
    main()
