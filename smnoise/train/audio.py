# SPDX-License-Identifier: Apache-2.0
"""Pretrain AudioMAE on your sounds, with masks made in the loop.

    torchrun --nproc-per-node 8 -m smnoise.train.audio --recipe audiomae-base-audioset-8gpu --data SOUNDS \
        --out runs/audio
    torchrun ... --resume                                                         # go on after a stop
    python -m smnoise.train.audio --data SOUNDS --out runs/audio                  # the published recipe on one GPU
    python -m smnoise.train.audio --data SOUNDS --out runs/small --model tiny --frames 256 --statistics auto \
        --batch-size 16 --accumulate 1 --epochs 50 --warmup-epochs 5              # a laptop

SOUNDS is a folder, or a list file with a path a line. The folder runs/audio then holds config.json, log.jsonl and
checkpoints/. `recipes` has the published recipe for several numbers of GPUs, and --recipe @FILE takes settings of your
own, such as another run's config.json. The exit status is 0 for a run that is done, 143 or 130 for one that SIGTERM or
Ctrl-C stopped, after a checkpoint, and 1 for an error.

Defaults are AudioMAE's recipe for AudioSet (ViT-B, local decoder), but for two things. The mask is Optim Blue where
AudioMAE hides patches at random. And all files are brought to one rate, where AudioMAE reads each at its own: a mel
bin is then the same frequency in every file. The reconstruction loss tells whether training works; it does not rank
masks.

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
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from ..errors import CheckpointError
from ..fbank import DATA_SETS, LogMel
from ..models.audiomae import AudioMAE
from ..samplers import OptimBlue, Sampler, strategy
from . import checkpoint
from .audio_data import SOUND, AudioClips, EveryFile, find_sounds, loader, missing_from_list
from .audio_inputs import Spectrograms, Statistics, measure
from .draws import torch_seeded
from .knn import KnnProbe, check_knn
from .ledger import Ledger
from .log import RunLog
from .numbered import Share
from .optim import adamw, cosine, decay_groups, peak_lr, rate_note, warmup_note, warmup_steps
from .run import (
    check_numbers,
    choose_device,
    command,
    completed,
    count_steps,
    digest_of_names,
    open_run,
    recipe,
)
from .throughput import LoaderWaits
from .world import averaging, data_parallel, join, processes, settle

Mask = Literal["optim-blue", "optim-blue-independent", "random", "green", "red", "blue", "purple"]
COLORS = {"random": "white"}  # the name that AudioMAE's masks go by


@dataclass(frozen=True)
class Config:
    """Pretrain AudioMAE with masks made on the fly."""

    data: Path
    """Folder of sound files, or list file with one path a line."""
    out: Path
    """Folder of the run; made if it does not exist."""
    resume: bool = False
    """Go on from the newest whole checkpoint in `out`."""

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

    mask: Mask = "optim-blue"
    """optim-blue: evenly spread, and clips that follow each other share a partition of the grid. independent: each
    clip has one of its own. random: as AudioMAE. Others: cut from noise of that colour."""
    mask_ratio: float = 0.8
    """Share of tokens that is hidden."""
    blue_delta: int = OptimBlue.delta
    """Of Optim Blue: how far a visible token crowds others."""
    blue_weights: tuple[float, ...] = OptimBlue.weights
    """Of Optim Blue: how much it matters along frequency, along time, and along the two diagonals; more numbers are of
    grids with three axes."""
    blue_decay: float = OptimBlue.decay
    """Of Optim Blue: crowding falls with distance to this power."""
    blue_steps: int = OptimBlue.steps
    """Of Optim Blue: swaps tried after the greedy start."""

    epochs: int = 33
    warmup_epochs: float = 3
    """Linear warm-up of the learning rate from 0."""
    batch_size: int = 64
    """Clips in a forward pass of a process, each of which has `views` rows there."""
    accumulate: int = 8
    """Forward passes of a process in a step; a step sees batch_size * accumulate * processes clips."""
    base_lr: float = 2e-4
    """Peak learning rate for 256 clips a step; scaled by clips / 256."""
    min_lr: float = 0.0
    """End of the cosine, scaled likewise."""
    weight_decay: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.95)
    clip_grad: float | None = None
    """Largest gradient norm; None: no clipping."""
    clips_per_file: int = 1
    """Clips drawn from each file in an epoch."""
    views: int = 1
    """Gains, rolls and masks of each clip that is read. Epochs, batch_size and learning rate count clips, not views."""
    view_masks: Literal["consecutive", "partition"] = "consecutive"
    """consecutive: of view v of clip n, mask n * views + v. partition, for optim-blue: complementary masks, the first
    ones of partition n."""

    seed: int = 0
    """Of weights, order, clips, masks and dropout."""
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
    """Processes that read files; 0: read in the training process."""
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
            at_least_one=("frames", "mels", "patch", "measured_clips", "epochs", "batch_size", "accumulate",
                          "clips_per_file", "views", "log_every", "save_every"),
            not_negative=("workers", "knn_every", "warmup_epochs", "weight_decay", "min_lr"),
            positive_or_none=("clip_grad",),
        )  # fmt: skip
        check_knn(self)
        if self.keep_every is not None and (self.keep_every < 1 or self.keep_every % self.save_every):
            raise ValueError(
                f"keep_every must be a multiple of save_every {self.save_every}, got {self.keep_every}"
            )
        if not self.base_lr > 0 or self.min_lr > self.base_lr:
            raise ValueError(f"need 0 < base_lr and min_lr <= base_lr, got {self.base_lr} and {self.min_lr}")
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
        self.sampler()  # raises for a ratio that leaves nothing visible, and the like
        if self.view_masks == "partition":
            most = self._optim_blue().num_masks if self.mask == "optim-blue" else 0
            if self.views > most:
                raise ValueError(
                    f"view_masks partition is for mask optim-blue, whose partitions have {most or 'K'} masks, and no "
                    f"more views than that; got {self.mask} and {self.views} views; use consecutive"
                )

    @property
    def grid(self) -> tuple[int, int, int]:
        return 1, self.frames // self.patch, self.mels // self.patch

    @property
    def clips_per_step(self) -> int:
        """The global batch."""
        return self.batch_size * self.accumulate * processes()

    def advice(self) -> str:
        """Where the loader is the limit."""
        return f"raise --workers ({self.workers} now) or --views, or store the sounds at {self.rate} Hz"

    def sampler(self) -> Sampler:
        if self.mask.startswith("optim-blue"):
            return self._optim_blue()
        return strategy(f"{COLORS.get(self.mask, self.mask)}-3d", self.grid, self.mask_ratio, seed=self.seed)

    def _optim_blue(self) -> OptimBlue:
        return OptimBlue(
            self.grid,
            self.mask_ratio,
            masks="independent" if self.mask.endswith("independent") else "complementary",
            delta=self.blue_delta,
            weights=self.blue_weights,
            decay=self.blue_decay,
            steps=self.blue_steps,
            seed=self.seed,
        )

    def mask_numbers(self, samples: Tensor) -> Tensor:
        """Which masks the rows of a batch have: int64 [B], of their sample numbers [B]."""
        if self.view_masks == "consecutive":
            return samples
        return samples // self.views * self._optim_blue().num_masks + samples % self.views

    def known_statistics(self) -> Statistics | None:
        """None where they are to be measured."""
        return None if self.statistics == "auto" else Statistics.of(self.statistics)


# What a resumed run must share with the run that it goes on with, besides clips_per_step, the files and the statistics
# in use.
RECIPE = ("model", "decoder", "positions", "normalise_target", "rate", "frames", "mels", "patch", "statistics",
          "measured_clips", "gain", "roll", "mask", "mask_ratio", "blue_delta", "blue_weights", "blue_decay",
          "blue_steps", "epochs", "warmup_epochs", "base_lr", "min_lr", "weight_decay", "betas", "clip_grad",
          "clips_per_file", "views", "view_masks", "seed")  # fmt: skip


def pretrain(config: Config, stop: Callable[[], bool] = lambda: False) -> AudioMAE:
    """Train, and return the trained model. Files and errors are those of the module's head.

    stop: asked after each step; when it says so, a checkpoint is saved and training ends early.

    Raises DataError, CheckpointError, ValueError or OSError before the first step for what can be known then;
    FloatingPointError when the loss stops being finite.
    """
    device, bfloat16 = choose_device(config.device, config.dtype)
    world = join(device)
    paths = find_sounds(config.data)
    log_mel = LogMel(config.rate, config.mels).to(device)
    clips = AudioClips(
        paths,
        rate=config.rate,
        samples=log_mel.num_samples(config.frames),
        seed=config.seed,
        clips_per_file=config.clips_per_file,
        views=config.views,
        gain=config.gain,
        roll=config.roll,
    )
    clips[0]  # a data set that cannot be read is found out here, not in a worker
    steps = count_steps(config, len(clips))

    model = untrained(config).to(device)
    train = data_parallel(model, world, device, config)
    optimizer = adamw(decay_groups(model, config.weight_decay), config)
    warmup = warmup_steps(config, len(clips), steps)
    schedule = cosine(optimizer, config, steps, warmup)
    sampler = config.sampler()

    wanted = recipe(
        config, RECIPE, clips_per_step=config.clips_per_step, sounds=digest_of_names(config.data, paths)
    )
    opened = open_run(config, wanted, model, optimizer, steps, world)
    first_step = opened.first_step
    if "mean" not in opened.recipe:
        # Silence is found out even where the statistics are known.
        count = min(len(clips), config.measured_clips if config.statistics == "auto" else 16)
        first = range(0, count * config.views, config.views)  # a view of each
        measured = world.first(lambda: measure(loader(clips, first, 1, config.workers), log_mel, device))
        opened.recipe.update((config.known_statistics() or measured)._asdict())
    statistics = Statistics(opened.recipe["mean"], opened.recipe["std"])
    inputs = Spectrograms(config.rate, config.frames, config.mels, statistics).to(device)
    probe = None
    if config.knn_every:
        files = partial(EveryFile, rate=config.rate, samples=inputs.samples)
        probe = KnnProbe(config, SOUND, files, inputs, lambda function: function, device)

    notes = [f"skipped: {line!r} of {config.data} names no file" for line in missing_from_list(config.data)]
    if isinstance(sampler, OptimBlue) and sampler.rest > 0.05 * sampler.num_tokens:
        notes.append(
            f"Optim Blue leaves {sampler.rest} of {sampler.num_tokens} tokens out of each partition, mostly from the "
            "middle: those at the border will be visible more often (help(smnoise.OptimBlue))"
        )
    passes = config.accumulate * world.size  # of a step, over all processes
    rows = config.batch_size * config.views  # of a pass
    share = Share(range(first_step * passes, steps * passes), rows, world.rank, world.size)
    waits = LoaderWaits()
    batches = waits.watch(loader(clips, share, rows, config.workers))

    with RunLog(config.out, first_step, steps, writes=world.writes) as log:
        log.event(
            first_step,
            f"{config.model} AudioMAE, {sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters, "
            f"grid {config.grid}, {sampler.visible_per_sample} of {sampler.num_tokens} tokens visible; "
            f"{len(paths)} sound files at {config.rate} Hz, log-mel mean {statistics.mean:.4g} and deviation "
            f"{statistics.std:.4g}, {len(clips)} clips an epoch; {steps} steps of {config.clips_per_step} clips "
            f"({config.batch_size} x {config.accumulate} passes x {world.size} processes), "
            f"lr {peak_lr(config.base_lr, config.clips_per_step):.3g} after {warmup} steps; on {device}",
        )
        for note in opened.notes + warmup_note(config) + rate_note(config) + notes:
            log.event(first_step, note)
        model.train()
        silence = torch.zeros(rows, config.frames, config.mels, device=device)
        masks = sampler(range(rows), device=device)
        settle(train, lambda: train(silence, masks)[0], device)
        ledger = Ledger(config, log, opened, steps, len(clips), len(paths), model, optimizer, device, world,
                        waits=waits, advice=config.advice(), probe=probe, keep_every=config.keep_every)  # fmt: skip
        for step in range(first_step + 1, steps + 1):
            schedule.step_update(step - 1)
            for number in range(1, config.accumulate + 1):
                batch = next(batches)
                wave, length, sample = (
                    batch[name].to(device, non_blocking=True) for name in ("wave", "length", "sample")
                )
                spectrograms, masks = inputs(wave, length), sampler(config.mask_numbers(sample))
                with averaging(train, last=number == config.accumulate):
                    # The same dropout in all passes of a step, so that to accumulate, or to share the work among
                    # processes, is to have a larger batch.
                    with (
                        torch_seeded(config.seed, step, device),
                        torch.autocast(device.type, torch.bfloat16, enabled=bfloat16),
                    ):
                        loss, _ = train(spectrograms, masks)
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


def trained(run: Path) -> tuple[AudioMAE, Spectrograms]:
    """The model of a run's newest whole checkpoint, on the CPU, and what makes its inputs of waveforms.

    Raises CheckpointError where there is none, or it is not of this trainer.
    """
    tensors, _, state, _ = checkpoint.newest(run)
    before = completed(state["recipe"], RECIPE, Config)
    if missing := [name for name in (*RECIPE, *Statistics._fields) if name not in before]:
        raise CheckpointError(f"{run} is no run of smnoise.train.audio: its recipe has no {missing[0]}")
    config = Config(data=run, out=run, **{name: before[name] for name in RECIPE})
    model = untrained(config)
    model.load_state_dict(tensors)
    statistics = Statistics(before["mean"], before["std"])
    return model, Spectrograms(config.rate, config.frames, config.mels, statistics)


def main() -> None:
    command(Config, pretrain, __doc__, many=True)


if __name__ == "__main__":
    main()
