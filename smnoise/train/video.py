# SPDX-License-Identifier: Apache-2.0
"""Pretrain VideoMAE on your videos, with masks made in the loop.

    torchrun --nproc-per-node 8 -m smnoise.train.video --recipe videomae-base-k400-8gpu --data VIDEOS --out runs/video
    torchrun ... --resume                                                         # go on after a stop
    python -m smnoise.train.video --recipe videomae-base-k400-1gpu --data VIDEOS --out runs/video
    python -m smnoise.train.video --data VIDEOS --out runs/small --model tiny --size 112 --patch 8 \
        --batch-size 8 --epochs 50 --warmup-epochs 5                              # a laptop

VIDEOS is a folder, or a list file with a path a line. The folder runs/video then holds config.json, log.jsonl and
checkpoints/. `recipes` has the published recipes for several numbers of GPUs, and --recipe @FILE takes settings of your
own, such as another run's config.json. The exit status is 0 for a run that is done, 143 or 130 for one that SIGTERM or
Ctrl-C stopped, after a checkpoint, and 1 for an error.

Defaults are VideoMAE's recipe for Kinetics-400 (ViT-B), but for the batch, which is one GPU's, and the mask: Green3D
where VideoMAE has tubes. The reconstruction loss tells whether training works; it does not rank masks.

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
from typing import Literal

import torch

from ..dual import DualMasks, dual
from ..errors import DataError
from ..masks import MaskBatch
from ..models.videomae import VideoMAE
from ..samplers import RunningCell, Sampler, strategy
from .cache_clips import FrameStore
from .knn import KnnProbe, check_knn
from .ledger import Ledger
from .log import RunLog
from .numbered import Share
from .optim import adamw, cosine, decay_groups, peak_lr, rate_note, warmup_note, warmup_steps
from .run import check_numbers, choose_device, command, count_steps, digest_of_names, open_run, recipe
from .throughput import LoaderWaits
from .video_data import VIDEO, VideoClips, find_videos, loader, missing_from_list
from .video_eval import EveryVideo, over_views
from .world import averaging, data_parallel, join, processes, settle


@dataclass(frozen=True)
class Config:
    """Pretrain VideoMAE with masks made on the fly."""

    data: Path
    """Folder of videos, or list file with one path a line."""
    out: Path
    """Folder of the run; made if it does not exist."""
    resume: bool = False
    """Go on from the newest whole checkpoint in `out`."""

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

    mask: Literal["green", "white", "red", "blue", "purple"] = "green"
    """Colour of the noise that masks are cut from; white is plain random masking."""
    mask_ratio: float = 0.9
    """Share of tokens that is hidden."""
    boundary: Literal["field", "wrap"] = "field"
    """field: a window of unbounded noise. wrap: a torus, three times faster."""
    decoder_mask: Literal["none", "running-cell", "green", "white", "red", "blue", "purple"] = "none"
    """Dual masking: decode, and learn from, only the hidden tokens that a second mask of this kind shows. running-cell
    is VideoMAEv2's. none: all."""
    decode_ratio: float = 0.5
    """With a decoder mask: share of the hidden tokens that is decoded, the same number in every clip."""

    epochs: int = 800
    warmup_epochs: float = 40
    """Linear warm-up of the learning rate from 0."""
    batch_size: int = 32
    """Clips in a forward pass of a process, each of which has `views` rows there."""
    accumulate: int = 1
    """Forward passes of a process in a step; a step sees batch_size * accumulate * processes clips."""
    base_lr: float = 1.5e-4
    """Peak learning rate for 256 clips a step; scaled by clips / 256."""
    min_lr: float = 1e-5
    """End of the cosine, scaled likewise."""
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.95)
    clip_grad: float | None = None
    """Largest gradient norm; None: no clipping."""
    clips_per_video: int = 1
    """Clips drawn from each video in an epoch."""
    views: int = 1
    """Crops and masks of each decoded clip. Epochs, batch_size and learning rate count clips, not views."""

    seed: int = 0
    """Of weights, order, crops and masks."""
    device: str = "auto"
    """auto: cuda where there is one, else cpu."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of autocast. auto: bfloat16 on GPUs of capability 8.0 and later, else float32."""
    compile: bool = False
    """torch.compile the model."""
    checkpoint_blocks: bool = False
    """Recompute activations in the backward pass, to save memory."""
    shard: bool = False
    """Spread weights and optimiser state over the processes (FSDP2), to save memory; checkpoints then have a file from
    each. Any run can be resumed with or without."""
    workers: int = 4
    """Processes that decode videos; 0: decode in the training process."""
    reader: Literal["pyav", "torchcodec"] = "pyav"
    """What decodes videos; both give the same frames. torchcodec must be installed with FFmpeg's libraries."""
    short_side: int | None = None
    """Reduce frames to this many pixels along the shorter side while decoding; torchcodec cannot."""
    cache_mib: int = 0
    """Decoded frames that each worker keeps in memory, for small data sets."""
    frames_cache: Path | None = None
    """Folder that `smnoise.train.cache_clips` made of these videos with the same short_side: it is read instead."""
    log_every: int = 10
    """Steps from one log line to the next."""
    save_every: int = 500
    """Steps from one checkpoint to the next; the last step is always saved."""
    keep_every: int | None = None
    """Steps, a multiple of save_every: checkpoints of a multiple of it are kept for good, besides the two newest."""
    knn_every: int = 0
    """Steps from one k-NN probe of the frozen features to the next, which changes nothing in training; 0: none."""
    knn_train: Path | None = None
    """For it: folder with a folder a class, or list file with `path label` a line."""
    knn_test: Path | None = None
    """Likewise; these files are told by those."""

    def __post_init__(self):
        check_numbers(
            self,
            at_least_one=("frames", "stride", "size", "tubelet", "patch", "epochs", "batch_size", "accumulate",
                          "clips_per_video", "views", "log_every", "save_every"),
            not_negative=("workers", "knn_every", "cache_mib", "warmup_epochs", "weight_decay", "min_lr"),
            positive_or_none=("short_side", "clip_grad"),
        )  # fmt: skip
        check_knn(self)
        if self.keep_every is not None and (self.keep_every < 1 or self.keep_every % self.save_every):
            raise ValueError(
                f"keep_every must be a multiple of save_every {self.save_every}, got {self.keep_every}"
            )
        if not self.base_lr > 0 or self.min_lr > self.base_lr:
            raise ValueError(f"need 0 < base_lr and min_lr <= base_lr, got {self.base_lr} and {self.min_lr}")
        if self.frames % self.tubelet or self.size % self.patch:
            raise ValueError(
                f"frames {self.frames} must be a multiple of tubelet {self.tubelet}, "
                f"and size {self.size} of patch {self.patch}"
            )
        self.sampler()  # raises for a ratio that leaves nothing visible, and the like
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

    @property
    def clips_per_step(self) -> int:
        """The global batch."""
        return self.batch_size * self.accumulate * processes()

    def advice(self) -> str:
        """Where the loader is the limit."""
        workers = f"raise --workers ({self.workers} now)"
        if self.frames_cache is not None:
            return f"{workers} or --views"
        short_side = f" --short-side {self.short_side}" if self.short_side else ""
        return (
            f"{workers} or --views, or decode once and for all: python -m smnoise.train.cache_clips --data {self.data} "
            f"--out CACHE{short_side}, then --frames-cache CACHE"
        )

    def sampler(self) -> Sampler:
        return self._color(self.mask, self.mask_ratio, self.seed)

    def decoder_sampler(self) -> Sampler | None:
        """What it shows is decoded. Its seed is another one, or it would be cut from the same noise."""
        if self.decoder_mask == "none":
            return None
        mask_ratio, seed = float(1 - self._decoded), self.seed ^ 1 << 63
        if self.decoder_mask == "running-cell":
            return RunningCell(self.grid, mask_ratio, seed=seed)
        return self._color(self.decoder_mask, mask_ratio, seed)

    @property
    def num_decoded(self) -> int:
        """Tokens of a clip that are decoded."""
        hidden = self.sampler().num_tokens - self.sampler().visible_per_sample
        return hidden if self.decoder_mask == "none" else math.floor(hidden * self._decoded)

    def masks(self) -> Callable[..., MaskBatch | DualMasks]:
        """Makes of sample numbers, and a device, what the model is given."""
        sampler, decoder, count = self.sampler(), self.decoder_sampler(), self.num_decoded
        if decoder is None:
            return sampler

        def both(samples, device=None) -> DualMasks:
            shown = decoder(samples, device=device, outputs="mask")
            return dual(sampler(samples, device=device), shown, count)

        return both

    @property
    def _decoded(self) -> Fraction:
        """decode_ratio as the decimal that it is written as."""
        return Fraction(repr(float(self.decode_ratio)))

    def _color(self, color: str, mask_ratio: float, seed: int) -> Sampler:
        return strategy(f"{color}-3d", self.grid, mask_ratio, boundary=self.boundary, seed=seed)


# What a resumed run must share with the run that it goes on with, besides clips_per_step.
RECIPE = ("model", "frames", "stride", "size", "tubelet", "patch", "mask", "mask_ratio", "boundary", "decoder_mask",
          "decode_ratio", "epochs", "warmup_epochs", "base_lr", "min_lr", "weight_decay", "betas", "clip_grad",
          "clips_per_video", "views", "seed", "short_side")  # fmt: skip


def pretrain(config: Config, stop: Callable[[], bool] = lambda: False) -> VideoMAE:
    """Train, and return the trained model. Files and errors are those of the module's head.

    stop: asked after each step; when it says so, a checkpoint is saved and training ends early.

    Raises DataError, CheckpointError, ValueError or OSError before the first step for what can be known then;
    FloatingPointError when the loss stops being finite.
    """
    device, bfloat16 = choose_device(config.device, config.dtype)
    world = join(device)
    paths = find_videos(config.data)
    store, notes = cached(config, paths)
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
    steps = count_steps(config, len(clips))

    probe = None
    if config.knn_every:
        views = partial(EveryVideo, frames=config.frames, stride=config.stride, size=config.size)
        probe = KnnProbe(config, VIDEO, views, lambda clips: clips, over_views, device)
    model = untrained(config).to(device)
    train = data_parallel(model, world, device, config)
    optimizer = adamw(decay_groups(model, config.weight_decay), config)
    warmup = warmup_steps(config, len(clips), steps)
    schedule = cosine(optimizer, config, steps, warmup)
    sampler, masks_of = config.sampler(), config.masks()

    wanted = recipe(
        config, RECIPE, clips_per_step=config.clips_per_step, videos=digest_of_names(config.data, paths)
    )
    opened = open_run(config, wanted, model, optimizer, steps, world)
    first_step = opened.first_step
    notes += [f"skipped: {line!r} of {config.data} names no file" for line in missing_from_list(config.data)]
    passes = config.accumulate * world.size  # of a step, over all processes
    rows = config.batch_size * config.views  # of a pass
    share = Share(range(first_step * passes, steps * passes), rows, world.rank, world.size)
    waits = LoaderWaits()
    batches = waits.watch(loader(clips, share, rows, config.workers))

    with RunLog(config.out, first_step, steps, writes=world.writes) as log:
        log.event(
            first_step,
            f"{config.model} VideoMAE, {sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters, "
            f"grid {config.grid}, {sampler.visible_per_sample} of {sampler.num_tokens} tokens visible, "
            f"{config.num_decoded} decoded; {len(paths)} videos, {len(clips)} clips an epoch; "
            f"{steps} steps of {config.clips_per_step} clips "
            f"({config.batch_size} x {config.accumulate} passes x {world.size} processes), "
            f"lr {peak_lr(config.base_lr, config.clips_per_step):.3g} after {warmup} steps; on {device}",
        )
        for note in opened.notes + warmup_note(config) + rate_note(config) + notes:
            log.event(first_step, note)
        model.train()
        black = torch.zeros(rows, 3, config.frames, config.size, config.size, device=device)
        masks = masks_of(range(rows), device=device)
        settle(train, lambda: train(black, masks)[0], device)
        ledger = Ledger(config, log, opened, steps, len(clips), len(paths), model, optimizer, device, world,
                        waits=waits, advice=config.advice(), probe=probe, keep_every=config.keep_every)  # fmt: skip
        for step in range(first_step + 1, steps + 1):
            schedule.step_update(step - 1)
            for number in range(1, config.accumulate + 1):
                batch = next(batches)
                pixels = batch["clip"].to(device, non_blocking=True)
                masks = masks_of(batch["sample"]).to(device, non_blocking=True)
                with averaging(train, last=number == config.accumulate):
                    with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
                        loss, _ = train(pixels, masks)
                    (loss / config.accumulate).backward()
                ledger.forward(step, loss, batch["broken"])
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip_grad or math.inf)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

            stopping = step < steps and world.any(stop())
            ledger.end(step, norm, stopping)
            if stopping:
                break
    return model


def cached(config: Config, paths: list[Path]) -> tuple[FrameStore | None, list[str]]:
    """The run's cache of frames, if it has one, and what a person should be told of it. Raises DataError where it is of
    other videos."""
    if config.frames_cache is None:
        return None, []
    store = FrameStore(config.frames_cache)
    held = sum(path in store for path in paths)
    if not held:
        raise DataError(
            f"{config.frames_cache} has none of the {len(paths)} videos of {config.data}; make a cache of them with "
            "python -m smnoise.train.cache_clips, or leave frames_cache out"
        )
    others = "" if held == len(paths) else f"; the other {len(paths) - held} are decoded for each clip"
    return store, [f"{held} of {len(paths)} videos are read from {config.frames_cache}{others}"]


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
    command(Config, pretrain, __doc__, many=True)


if __name__ == "__main__":
    main()
