# SPDX-License-Identifier: Apache-2.0
"""What a trainer writes down after each step: log lines, scores and checkpoints when they are due, and broken files."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from ...data.messages import as_event, is_served, unheard
from ..job import Job
from ..settings import Run
from ..world import World
from . import checkpoint
from .curves import Watch
from .folder import Opened
from .log import RunLog, read
from .scale import Scale
from .shards import local, whole
from .throughput import LoaderWaits, Verdict


class Ledger:
    """Sums the loss on the device, so that only a log line waits for it. All processes call `forward`, `evaluate` and
    `end`; one writes.

    Args:
        config: of the run.
        job: what is trained.
        log: the run's open log.
        opened: where the run starts.
        steps: of the whole run.
        optimizer: what a checkpoint holds beside the model.
        device: of the losses.
        world: the processes that train together.
        waits: for the loader.
    """

    def __init__(
        self,
        config: Run,
        job: Job,
        log: RunLog,
        opened: Opened,
        steps: int,
        optimizer: torch.optim.Optimizer,
        device: torch.device,
        world: World,
        waits: LoaderWaits,
    ):
        self.config, self.job, self.log, self.recipe = config, job, log, opened.recipe
        self.steps, self.optimizer, self.world, self.waits = steps, optimizer, world, waits
        self.broken: set[str] = set()
        self.heard: set[str] = set()
        self.told: dict[str, set[tuple[str, bool]]] = {}
        records = read(config.out)
        self.best = max((r["score"] for r in records if "score" in r), default=-math.inf)
        self.watch = Watch(self.recipe, config.log_every, type(config), records)
        self.scale = Scale(records, steps) if job.normalised else None
        self.verdict = Verdict(job.advice)
        self.loss_sum = torch.zeros((), device=device)
        self.logged, self.since = opened.first_step, time.perf_counter()
        if job.sigmas is not None and not opened.first_step and (shares := job.sigmas.begin()):
            log.shares(shares)
        if job.probe is not None and not opened.first_step:
            self._probe(0)  # of the first weights; a set that cannot be read is found out here

    def forward(self, loss: torch.Tensor, batch: dict) -> None:
        """Take in a forward pass: its loss, a float32 scalar, and the messages of its batch's files, each of which is
        logged once.
        """
        self.loss_sum += loss.detach() / self.config.accumulate
        self.broken.update(batch["broken"])

    def evaluate(self, step: int, scored: Callable[[bool], tuple[dict[str, float], list[str]]]) -> None:
        """Scores, and where they are the best so far, a checkpoint of their own. See `Job.evaluate`."""
        model = self.job.model
        with self._pause():
            model.eval()
            scores, broken = scored(step == self.steps)
            model.train()
            self.log.scores({"step": step, **scores})
            self._tell(step, broken, "(a test file)")
            if scores["score"] > self.best:
                self.best = scores["score"]
                self._save(self.config.out / "best", step, keep=1)

    def end(self, step: int, grad_norm: torch.Tensor, stopping: bool) -> None:
        """Write a log line and a checkpoint after a step, if they are due; both when stopping. grad_norm is a float32
        scalar.

        Raises FloatingPointError, before anything is saved, where the loss or a weight is no number.
        """
        config, probe = self.config, self.job.probe
        saving = step % config.save_every == 0 or step == self.steps or stopping
        probing = probe is not None and (step % probe.every == 0 or step == self.steps)
        if step % config.log_every == 0 or saving:
            self._name_broken_files(step)
            self._log_line(step, grad_norm)
        else:
            self.log.advance(step)
        if (saving or probing) and self.world.any(not all_finite(self.job.model)):
            raise self._diverged(step, "a weight is no number")
        if self.job.sigmas is not None and (shares := self.job.sigmas.end(step, self.world)):
            self.log.shares(shares)
        if probing:  # before the checkpoint, so that none is without the scores that were due
            self._probe(step)
        if saving:
            with self._pause():
                for_good = bool(config.keep_every and step % config.keep_every == 0)
                self._save(config.out, step, for_good=for_good)
        if step == self.steps and self.log.tensorboard and self.job.pictures and not config.shard:
            self.log.pictures(step, self.job.pictures())
        if stopping:
            self.log.event(step, f"stopped after step {step}; go on with --resume")

    def _log_line(self, step: int, grad_norm: torch.Tensor) -> None:
        config = self.config
        loss = self.world.mean(self.loss_sum) / (step - self.logged)
        if not math.isfinite(loss):
            raise self._diverged(step, f"loss {loss}")
        seconds = (time.perf_counter() - self.since) / (step - self.logged)
        record = {
            "step": step,
            "epoch": step * config.clips_per_step / len(self.job.clips),
            "loss": loss,
            "lr": max(group["lr"] for group in self.optimizer.param_groups),
            "grad_norm": whole(grad_norm).item(),
            "step_seconds": seconds,
            "clips_per_second": config.clips_per_step / seconds,
            "loader_wait": self.world.largest(self.waits.take()),
        }
        self.log.step(record)
        of_scale = self.scale and self.scale(record)
        for said in (self.verdict(record["loader_wait"]), self.watch(record), of_scale):
            if said:
                self.log.event(step, said)
        self.logged, self.since = step, time.perf_counter()
        self.loss_sum.zero_()

    def _save(self, folder, step: int, **options) -> None:
        self.log.sync()
        state = {"recipe": self.recipe}
        if self.job.sigmas is not None:
            state |= self.job.sigmas.state(self.world)
        checkpoint.save(folder, step, self.job.model, self.optimizer, state, world=self.world, **options)

    def _probe(self, step: int) -> None:
        probe = self.job.probe
        assert probe is not None  # or it is not called
        with self._pause():
            scores, broken = self.world.first(lambda: probe(self.job.model))
        self.log.scores({"step": step, **scores})
        self._tell(step, broken, "(a file of the k-NN probe)")

    @contextmanager
    def _pause(self) -> Iterator[None]:
        """What is done within counts as no time of training."""
        paused = time.perf_counter()
        yield
        seconds = time.perf_counter() - paused
        self.since += seconds
        self.waits.pause(seconds)

    def _diverged(self, step: int, what: str) -> FloatingPointError:
        return FloatingPointError(
            f"training diverged by step {step} ({what}); the checkpoints in {self.config.out} are from before. "
            "Lower base_lr, set clip_grad, or use dtype float32"
        )

    def _tell(self, step: int, broken: list[str], which: str) -> None:
        """Log what was wrong with files, each message once."""
        for message in unheard(broken, self.told.setdefault(which, set())):
            self.log.event(step, as_event(message, which))

    def _name_broken_files(self, step: int) -> None:
        new = self.world.union(self.broken - self.heard)
        self.heard.update(self.broken)
        told = self.told.setdefault("", set())
        for message in unheard(new, told):
            count = sum(served == is_served(message) for _, served in told)
            self.log.event(step, as_event(message, f"({count} of {len(self.job.clips.paths)} files)"))


def all_finite(model: torch.nn.Module) -> bool:
    """Whether every weight of this process is a number: a loss can be finite although its gradient was not."""
    return bool(torch.stack([local(p).isfinite().all() for p in model.parameters()]).all())
