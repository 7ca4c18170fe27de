# SPDX-License-Identifier: Apache-2.0
"""What fine-tuning of every kind shares: the loop, which scores after each epoch and keeps the best checkpoint.

A Config has, besides what `run` asks for: train, test, loss, base_lr, min_lr, warmup_epochs, weight_decay, layer_decay,
betas, clip_grad, workers and seed.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import DataError
from ..models.classifier import Classifier
from . import checkpoint
from . import log as logs
from .draws import torch_seeded
from .file_messages import as_event, unheard
from .labels import LabelledFiles
from .ledger import Ledger
from .log import RunLog
from .media_files import Medium, file_notes
from .numbered import NumberedClips, loader
from .optim import adamw, cosine, layer_groups, peak_lr, warmup_note, warmup_steps
from .run import count_steps, digest_of_names, open_run, recipe


@dataclass(frozen=True)
class Job:
    """What one kind of fine-tuning gives to the loop."""

    medium: Medium
    model: Classifier
    """On the CPU."""
    clips: NumberedClips
    train: LabelledFiles
    test: LabelledFiles
    recipe: dict
    """What a resumed run must share, besides files and classes."""
    loss_of: Callable[[dict], Tensor]
    """The loss of a training batch, augmented; called with torch's generators at a state of the pass's own."""
    evaluate: Callable[[bool], tuple[dict[str, float], list[str]]]
    """Scores, among them "score", by which checkpoints are ranked, and what was wrong with files left out. Called with
    whether it is the run's last time."""


def fine_tune(config, job: Job, device: torch.device, stop: Callable[[], bool], notes: list[str]) -> None:
    """Train the job's model. notes: what a person should be told first. Errors are those of the trainers."""
    job.clips[0]  # a data set that cannot be read is found out here, not in a worker
    steps = count_steps(config, len(job.clips))
    model = job.model.to(device)
    optimizer = adamw(layer_groups(model, config.weight_decay, config.layer_decay), config)
    warmup = warmup_steps(config, len(job.clips), steps)
    schedule = cosine(optimizer, config, steps, warmup)

    word = job.medium.word.split()[0]
    wanted = recipe(
        config,
        (),
        **job.recipe,
        **{f"{word}s": digest_of_names(config.train, job.train.paths)},
        labels=hashlib.sha256(job.train.targets.numpy().tobytes()).hexdigest()[:16],
        **{f"test_{word}s": digest_of_names(config.test, job.test.paths)},
        classes=job.train.names,
    )
    opened = open_run(config, wanted, model, optimizer, steps)
    first_step = opened.first_step
    for data in (config.train, config.test):
        notes = [*notes, *file_notes(data, job.medium)]
    samples = range(first_step * config.clips_per_step, steps * config.clips_per_step)
    batches = iter(loader(job.clips, samples, config.batch_size, config.workers))

    with RunLog(config.out, first_step, steps) as log:
        log.event(
            first_step,
            f"classifier, {sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters, "
            f"grid {model.encoder.grid}, {len(job.train.names)} classes; {len(job.train.paths)} {job.medium.word}s, "
            f"{len(job.clips)} clips an epoch, {len(job.test.paths)} files to test; "
            f"{steps} steps of {config.clips_per_step} clips, "
            f"lr {peak_lr(config.base_lr, config.clips_per_step):.3g} after {warmup} steps; on {device}",
        )
        for note in opened.notes + warmup_note(config) + notes:
            log.event(first_step, note)
        best = max((r["score"] for r in logs.read(config.out) if "score" in r), default=-math.inf)
        ledger = Ledger(
            config, log, opened, steps, len(job.clips), len(job.train.paths), model, optimizer, device
        )
        told: set[tuple[str, bool]] = set()
        for step in range(first_step + 1, steps + 1):
            schedule.step_update(step - 1)
            model.train()
            for number in range((step - 1) * config.accumulate, step * config.accumulate):
                batch = next(batches)
                with torch_seeded(config.seed, 1 + number, device):
                    loss = job.loss_of(batch | {"pass": number})
                (loss / config.accumulate).backward()
                ledger.forward(step, loss, batch["broken"])
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip_grad or math.inf)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

            # Before the checkpoint, so that none is without the scores that were due.
            if step == steps or ends_epoch(step, config.clips_per_step, len(job.clips)):
                model.eval()
                scores, broken = job.evaluate(step == steps)
                log.scores({"step": step, **scores})
                for message in unheard(broken, told):
                    log.event(step, as_event(message, "(a test file)"))
                if scores["score"] > best:
                    best = scores["score"]
                    checkpoint.save(
                        config.out / "best", step, model, optimizer, {"recipe": opened.recipe}, keep=1
                    )
            stopping = step < steps and stop()
            ledger.end(step, norm, stopping)
            if stopping:
                break


def check_labels(config, train: LabelledFiles, test: LabelledFiles) -> list[str]:
    """What a person should be told of the labels. Raises DataError where the loss cannot use them."""
    if config.loss == "softmax" and (train.several or test.several):
        raise DataError(f"{config.train} or {config.test} has files with several labels; use --loss binary")
    empty = [name for name, files in zip(train.names, train.targets.sum(dim=0), strict=True) if not files]
    if not empty:
        return []
    message = f"{len(empty)} of {len(train.names)} classes have no training file, for example {empty[0]}"
    if config.loss == "softmax":
        raise DataError(f"{config.train}: {message}; number the classes from 0 without a gap")
    return [message]


def check_finite(logits: Tensor, config) -> None:
    """FloatingPointError where a model's answer is no number."""
    if not logits.isfinite().all():
        raise FloatingPointError(
            f"training diverged: the classifier answers with NaN or Inf; the checkpoints in {config.out} are from "
            "before. Lower base_lr, set clip_grad, or use dtype float32"
        )


def ends_epoch(step: int, clips_per_step: int, clips: int) -> bool:
    """Whether an epoch of so many clips ends in step `step`, counted from 1."""
    return step * clips_per_step // clips > (step - 1) * clips_per_step // clips
