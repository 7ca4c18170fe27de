# SPDX-License-Identifier: Apache-2.0
"""Pretrain VideoMAE on your videos, with masks made in the loop.

    python -m smnoise.train.video --data VIDEOS --out runs/video                  # the published recipe
    python -m smnoise.train.video --data VIDEOS --out runs/video --resume         # go on after a stop
    python -m smnoise.train.video --data VIDEOS --out runs/small --model tiny --size 112 --patch 8 \
        --batch-size 8 --epochs 50 --warmup-epochs 5                              # a laptop

VIDEOS is a folder, or a list file with a path a line. The folder runs/video then holds config.json,
log.jsonl and checkpoints/. Defaults are VideoMAE's recipe for Kinetics-400 (ViT-B), but for the mask: Green3D
where VideoMAE has tubes. The reconstruction loss tells whether training works; it does not rank masks.

Nothing here is random besides the initial weights: the order of clips, their frames, crops and masks are
functions of (seed, global sample number), so a checkpoint needs to hold just the number of steps.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch
import tyro

from ..compat import import_timm
from ..errors import CheckpointError, DataError
from ..files import write_text
from ..models.videomae import VideoMAE
from ..samplers import COLOR_KINDS, Color3D
from . import checkpoint
from .log import RunLog
from .signals import StopOnSignal
from .video_data import VideoClips, find_videos, loader, missing_from_list


@dataclass(frozen=True)
class Config:
    """Pretrain VideoMAE with masks made on the fly."""

    data: Path
    """Folder of videos, or list file with one path a line."""
    out: Path
    """Folder of the run; made if it does not exist."""
    resume: bool = False
    """Go on from the newest whole checkpoint in `out`."""

    model: Literal["tiny", "small", "base", "large", "huge"] = "base"
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

    epochs: int = 800
    warmup_epochs: float = 40
    """Linear warm-up of the learning rate from 0."""
    batch_size: int = 32
    """Clips in a forward pass."""
    accumulate: int = 1
    """Forward passes in a step; a step sees batch_size * accumulate clips."""
    base_lr: float = 1.5e-4
    """Peak learning rate for 256 clips a step; scaled by clips / 256."""
    min_lr: float = 1e-5
    """End of the cosine, scaled likewise."""
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.95)
    clip_grad: float | None = None
    """Largest gradient norm; none: no clipping."""
    clips_per_video: int = 1
    """Clips drawn from each video in an epoch."""

    seed: int = 0
    """Of weights, order, crops and masks."""
    device: str = "auto"
    """auto: cuda where there is one, else cpu."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of autocast. auto: bfloat16 on cuda, float32 on the CPU."""
    compile: bool = False
    """torch.compile the model."""
    checkpoint_blocks: bool = False
    """Recompute activations in the backward pass, to save memory."""
    workers: int = 4
    """Processes that decode videos; 0: decode in the training process."""
    short_side: int | None = None
    """Reduce frames to this many pixels along the shorter side while decoding."""
    cache_mib: int = 0
    """Decoded frames that each worker keeps in memory, for small data sets."""
    log_every: int = 10
    """Steps from one log line to the next."""
    save_every: int = 500
    """Steps from one checkpoint to the next; the last step is always saved."""

    def __post_init__(self):
        for name in ("frames", "stride", "size", "tubelet", "patch", "epochs", "batch_size", "accumulate",
                     "clips_per_video", "log_every", "save_every"):  # fmt: skip
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("workers", "cache_mib", "warmup_epochs", "weight_decay", "min_lr"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a number and not negative, got {getattr(self, name)}")
        for name in ("short_side", "clip_grad"):
            if (value := getattr(self, name)) is not None and not value > 0:
                raise ValueError(f"{name} must be positive, or left out; got {value}")
        if not self.base_lr > 0 or self.min_lr > self.base_lr:
            raise ValueError(f"need 0 < base_lr and min_lr <= base_lr, got {self.base_lr} and {self.min_lr}")
        if self.frames % self.tubelet or self.size % self.patch:
            raise ValueError(
                f"frames {self.frames} must be a multiple of tubelet {self.tubelet}, "
                f"and size {self.size} of patch {self.patch}"
            )
        self.sampler()  # raises for a ratio that leaves nothing visible, and the like

    @property
    def grid(self) -> tuple[int, int, int]:
        side = self.size // self.patch
        return self.frames // self.tubelet, side, side

    @property
    def clips_per_step(self) -> int:
        return self.batch_size * self.accumulate

    def sampler(self) -> Color3D:
        kind = COLOR_KINDS[f"{self.mask.capitalize()}3D"]
        return kind(self.grid, self.mask_ratio, boundary=self.boundary, seed=self.seed)


# What a resumed run must share with the run that it goes on with.
RECIPE = ("model", "frames", "stride", "size", "tubelet", "patch", "mask", "mask_ratio", "boundary", "epochs",
          "warmup_epochs", "batch_size", "accumulate", "base_lr", "min_lr", "weight_decay", "betas", "clip_grad",
          "clips_per_video", "seed", "short_side")  # fmt: skip


def pretrain(config: Config, stop: Callable[[], bool] = lambda: False) -> VideoMAE:
    """Train, and return the trained model. Files and errors are those of the module's head.

    stop: asked after each step; when it says so, a checkpoint is saved and training ends early.

    Raises DataError, CheckpointError, ValueError or OSError before the first step for what can be known then;
    FloatingPointError when the loss stops being finite.
    """
    import_timm()
    from timm.optim import param_groups_weight_decay
    from timm.scheduler import CosineLRScheduler

    device = config.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if torch.device(device).type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device {device} was asked for, but torch sees no GPU; use --device cpu")
    bfloat16 = config.dtype == "bfloat16" or (config.dtype == "auto" and device != "cpu")

    paths = find_videos(config.data)
    clips = VideoClips(
        paths,
        frames=config.frames,
        stride=config.stride,
        size=config.size,
        seed=config.seed,
        clips_per_video=config.clips_per_video,
        short_side=config.short_side,
        cache_mib=config.cache_mib,
    )
    clips[0]  # a data set that cannot be read is found out here, not in a worker
    steps = config.epochs * len(clips) // config.clips_per_step
    if not steps:
        raise DataError(
            f"{config.epochs} epochs of {len(clips)} clips are less than one step of {config.clips_per_step}; "
            "lower batch_size, or raise epochs or clips_per_video"
        )

    with torch.random.fork_rng(devices=[]):  # the caller's generator stays as it is
        torch.manual_seed(config.seed)
        model = VideoMAE(
            config.model,
            config.grid,
            tubelet=config.tubelet,
            patch=config.patch,
            checkpoint_blocks=config.checkpoint_blocks,
        )
    model.to(device)
    scale = config.clips_per_step / 256
    groups = param_groups_weight_decay(
        model, config.weight_decay, no_weight_decay_list=model.no_weight_decay()
    )
    optimizer = torch.optim.AdamW(groups, lr=config.base_lr * scale, betas=config.betas, eps=1e-8)
    warmup = min(round(config.warmup_epochs * len(clips) / config.clips_per_step), steps - 1)
    schedule = CosineLRScheduler(
        optimizer,
        t_initial=steps - warmup,
        lr_min=config.min_lr * scale,
        warmup_t=warmup,
        warmup_prefix=True,
        t_in_epochs=False,
    )
    sampler = config.sampler()

    first_step, notes = open_run(config, recipe(config, paths), model, optimizer)
    if first_step > steps:
        raise CheckpointError(
            f"{config.out} has trained {first_step} steps already, more than the {steps} asked for"
        )
    notes += [f"skipped: {line!r} of {config.data} names no file" for line in missing_from_list(config.data)]
    samples = range(first_step * config.clips_per_step, steps * config.clips_per_step)
    batches = iter(loader(clips, samples, config.batch_size, config.workers))
    train = torch.compile(model) if config.compile else model
    skipped: set[str] = set()

    with RunLog(config.out, first_step, steps) as log:
        log.event(
            first_step,
            f"{config.model} VideoMAE, {sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters, "
            f"grid {config.grid}, {sampler.visible_per_sample} of {sampler.num_tokens} tokens visible; "
            f"{len(paths)} videos, {len(clips)} clips an epoch; {steps} steps of {config.clips_per_step} clips, "
            f"lr {config.base_lr * scale:.3g} after {warmup} steps; on {device}",
        )
        for note in notes:
            log.event(first_step, note)
        model.train()
        logged, since, loss_sum = first_step, time.perf_counter(), torch.zeros((), device=device)
        for step in range(first_step + 1, steps + 1):
            schedule.step_update(step - 1)
            for _ in range(config.accumulate):
                batch = next(batches)
                pixels = batch["clip"].to(device, non_blocking=True)
                masks = sampler(batch["sample"]).to(device, non_blocking=True)
                with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=bfloat16):
                    loss, _ = train(pixels, masks)
                (loss / config.accumulate).backward()
                loss_sum += loss.detach() / config.accumulate
                for message in set(batch["broken"]) - skipped:
                    skipped.add(message)
                    log.event(step, f"skipped: {message} ({len(skipped)} of {len(paths)} files)")
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip_grad or math.inf)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

            stopping = step < steps and stop()
            saving = step % config.save_every == 0 or step == steps or stopping
            if step % config.log_every == 0 or saving:
                mean_loss = loss_sum.item() / (step - logged)  # the only wait for the device
                if not math.isfinite(mean_loss) or (saving and not all_finite(model)):
                    raise FloatingPointError(
                        f"training diverged by step {step} (loss {mean_loss}); the checkpoints in {config.out} "
                        "are from before. "
                        "Lower base_lr, set clip_grad, or use dtype float32"
                    )
                seconds = (time.perf_counter() - since) / (step - logged)
                log.step(
                    {
                        "step": step,
                        "epoch": step * config.clips_per_step / len(clips),
                        "loss": mean_loss,
                        "lr": optimizer.param_groups[0]["lr"],
                        "grad_norm": norm.item(),
                        "step_seconds": seconds,
                        "clips_per_second": config.clips_per_step / seconds,
                    }
                )
                logged, since = step, time.perf_counter()
                loss_sum.zero_()
            else:
                log.advance(step)
            if saving:
                paused = time.perf_counter()
                checkpoint.save(config.out, step, model, optimizer, {"recipe": recipe(config, paths)})
                since += time.perf_counter() - paused
            if stopping:
                log.event(step, f"stopped after step {step}; go on with --resume")
                break
    return model


def all_finite(model: torch.nn.Module) -> bool:
    """Whether every weight is a number: a loss can be finite although its gradient was not."""
    return bool(torch.stack([p.isfinite().all() for p in model.parameters()]).all())


def open_run(config: Config, wanted: dict, model, optimizer) -> tuple[int, list[str]]:
    """Make the run's folder, or with `resume` load its newest checkpoint. Returns the steps already done, and
    what a person should be told."""
    config.out.mkdir(parents=True, exist_ok=True)
    notes: list[str] = []
    first_step = 0
    if config.resume:
        model_tensors, optimizer_tensors, state, wrong = checkpoint.newest(config.out)
        before = state["recipe"]
        changed = [
            f"{n}: {before.get(n)} then, {now} now" for n, now in wanted.items() if before.get(n) != now
        ]
        if changed:
            raise CheckpointError(
                f"{config.out} was trained with another recipe; resume with the same one, or start a new run:\n  "
                + "\n  ".join(changed)
            )
        checkpoint.restore(model, optimizer, model_tensors, optimizer_tensors)
        first_step = state["step"]
        notes = [f"unusable checkpoint, going back to an older one: {w}" for w in wrong]
        notes.append(f"resumed after step {first_step}")
    elif checkpoint.steps(config.out):
        raise CheckpointError(
            f"{config.out} already holds a run; go on with --resume, or choose another --out"
        )
    write_text(config.out / "config.json", json.dumps(asdict(config), indent=2, default=str))
    return first_step, notes


def recipe(config: Config, paths: list[Path]) -> dict:
    """What a checkpoint says of its run, as JSON gives it back: the settings, and which videos, by their names
    relative to the folder of `data` (which may move)."""
    folder = config.data if config.data.is_dir() else config.data.parent
    names = "\n".join(os.path.relpath(path, folder) for path in paths)
    videos = (
        f"{len(paths)} files, sha256 of their names {hashlib.sha256(os.fsencode(names)).hexdigest()[:16]}"
    )
    return json.loads(json.dumps({name: getattr(config, name) for name in RECIPE} | {"videos": videos}))


def main() -> None:
    try:
        config = tyro.cli(Config, description=__doc__)
        with StopOnSignal() as stop:
            pretrain(config, stop)
    except (ValueError, OSError, RuntimeError, FloatingPointError) as error:
        raise SystemExit(f"smnoise: {error}") from error
    except KeyboardInterrupt:
        raise SystemExit(
            "smnoise: stopped at once; --resume goes on from the last checkpoint, if there is one"
        ) from None


if __name__ == "__main__":
    main()
