# SPDX-License-Identifier: Apache-2.0
"""The loop, of pretraining and of fine-tuning, of every medium. It is given a Job: a model, clips and a loss.

What is random in a step is a function of (seed, number of the sample, of the pass, or of the step), so a checkpoint
needs to hold just the number of steps; and a step sees the same clips for any batch_size, accumulate and number of
processes with the same product.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import torch

from ..data.numbered import Share, loader
from .job import Job, Model
from .optim import adamw, cosine, peak_lr, rate_note, warmup_note, warmup_steps
from .run.folder import choose_device, count_steps, open_run
from .run.ledger import Ledger
from .run.log import RunLog
from .run.throughput import LoaderWaits
from .settings import Run
from .world import Stopping, World, averaging, data_parallel, join, settle

Settings = TypeVar("Settings", bound=Run)


def run_job(
    make: Callable[[Settings, torch.device, bool, World], Job[Model]],
    config: Settings,
    stop: Callable[[], bool],
) -> Model:
    """Train what `make` makes of the settings, the device, whether it computes in bfloat16, and the processes; give its
    model. For stop and errors see `train`."""
    device, bfloat16 = choose_device(config.device, config.dtype)
    world = join(device)
    made = make(config, device, bfloat16, world)
    train(config, made, world, device, bfloat16, stop)
    return made.model


def train(
    config: Run, job: Job, world: World, device: torch.device, bfloat16: bool, stop: Callable[[], bool]
) -> None:
    """Train the job's model, from the newest checkpoint if the run is resumed.

    Raises CheckpointError, DataError or ValueError before the first step for what can be known then;
    FloatingPointError when the loss stops being finite.
    """
    steps = count_steps(config, len(job.clips))
    model = data_parallel(job.model, world, device, config, bfloat16)
    optimizer = adamw(job.groups(), config)  # now: sharding has put others in the places of the parameters
    warmup = warmup_steps(config, len(job.clips), steps)
    schedule = cosine(optimizer, config, steps, warmup)
    opened = open_run(config, job.recipe, job.model, optimizer, steps, world)
    found = job.begin(opened.recipe)
    if job.sigmas is not None and opened.first_step:
        job.sigmas.restore(opened.state, world, str(config.out))

    passes = config.accumulate * world.size  # of a step, over all processes
    rows = config.batch_size * job.views  # of a pass
    share = Share(range(opened.first_step * passes, steps * passes), rows, world.rank, world.size)
    waits = LoaderWaits()
    batches = waits.watch(loader(job.clips, share, rows, config.workers, device))

    with RunLog(
        config.out, opened.first_step, steps, writes=world.writes, tensorboard=config.tensorboard
    ) as log:
        peak = peak_lr(config.base_lr, config.clips_per_step)
        log.event(
            opened.first_step,
            f"{job.title}; {len(job.clips)} clips an epoch; {steps} steps of {config.clips_per_step} clips "
            f"({config.batch_size} x {config.accumulate} passes x {world.size} processes), "
            f"lr {peak:.3g} after {warmup} steps; on {device}",
        )
        for note in opened.notes + warmup_note(config) + rate_note(config) + job.notes + found:
            log.event(opened.first_step, note)
        job.model.train()
        settle(model, job.blank, device)
        ledger = Ledger(config, job, log, opened, steps, optimizer, device, world, waits)
        asked_to_stop = Stopping(world, stop, opened.first_step, config.log_every)
        for step in range(opened.first_step + 1, steps + 1):
            schedule.step_update(step - 1)
            for number in range((step - 1) * config.accumulate, step * config.accumulate):
                batch = next(batches)
                with averaging(model, last=number == step * config.accumulate - 1):
                    loss = job.loss(model, batch, step, number * world.size + world.rank)
                    (loss / config.accumulate).backward()
                ledger.forward(loss, batch)
            norm = torch.nn.utils.clip_grad_norm_(job.model.parameters(), config.clip_grad or math.inf)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

            # Before the checkpoint, so that none is without the scores that were due.
            if job.evaluate and (step == steps or ends_epoch(step, config.clips_per_step, len(job.clips))):
                ledger.evaluate(step, job.evaluate)
            stopping = step < steps and asked_to_stop(step)
            ledger.end(step, norm, stopping)
            if stopping:
                break


def ends_epoch(step: int, clips_per_step: int, clips: int) -> bool:
    """Whether an epoch of so many clips ends in step `step`, counted from 1."""
    return step * clips_per_step // clips > (step - 1) * clips_per_step // clips
