# SPDX-License-Identifier: Apache-2.0
"""What a trainer writes down after each step: log lines, scores and checkpoints when they are due, and broken files."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch

from . import checkpoint
from .curves import Watch
from .file_messages import as_event, is_served, unheard
from .knn import KnnProbe
from .log import RunLog, read
from .run import Opened
from .shards import local, whole
from .throughput import LoaderWaits, Verdict
from .world import ALONE, World


class Ledger:
    """Sums the loss on the device, so that only a log line waits for it.

    Args:
        config: of the run; see `run`.
        log: the run's open log.
        opened: where the run starts.
        steps: of the whole run.
        clips: of an epoch.
        files: of the data set.
        model, optimizer: what a checkpoint holds.
        device: of the losses.
        world: the processes that train together; all call `forward` and `end`, one writes.
        waits: for the loader.
        advice: where the loader is the limit.
        probe: of the model, after each `probe.every` steps and the last.
        keep_every: checkpoints of a multiple of so many steps are kept for good.
    """

    def __init__(
        self,
        config,
        log: RunLog,
        opened: Opened,
        steps: int,
        clips: int,
        files: int,
        model,
        optimizer,
        device,
        world: World = ALONE,
        *,
        waits: LoaderWaits | None = None,
        advice: str = "",
        probe: KnnProbe | None = None,
        keep_every: int | None = None,
    ):
        self.world = world
        self.config, self.log, self.recipe = config, log, opened.recipe
        self.steps, self.clips, self.files = steps, clips, files
        self.model, self.optimizer = model, optimizer
        self.broken: set[str] = set()
        self.heard: set[str] = set()
        self.told: set[tuple[str, bool]] = set()
        self.told_by_probe: set[tuple[str, bool]] = set()
        self.watch = Watch(self.recipe, config.log_every, type(config), read(config.out))
        self.waits, self.verdict, self.probe, self.keep_every = waits, Verdict(advice), probe, keep_every
        self.loss_sum = torch.zeros((), device=device)
        self.logged, self.since = opened.first_step, time.perf_counter()
        if probe is not None and not opened.first_step:
            self._score(0, probe)  # of the first weights; a set that cannot be read is found out here

    def forward(self, step: int, loss: torch.Tensor, broken: Iterable[str]) -> None:
        """After each forward pass: its loss, and the messages of files, each of which is logged once."""
        self.loss_sum += loss.detach() / self.config.accumulate
        self.broken.update(broken)

    def end(self, step: int, grad_norm: torch.Tensor, stopping: bool) -> None:
        """After each step: a log line and a checkpoint, if they are due; both when stopping.

        Raises FloatingPointError, before anything is saved, where the loss or a weight is no number.
        """
        config = self.config
        saving = step % config.save_every == 0 or step == self.steps or stopping
        if step % config.log_every == 0 or saving:
            self._name_broken_files(step)
            loss = self.world.mean(self.loss_sum) / (step - self.logged)
            if not math.isfinite(loss):
                raise self._diverged(step, f"loss {loss}")
            seconds = (time.perf_counter() - self.since) / (step - self.logged)
            record = {
                "step": step,
                "epoch": step * config.clips_per_step / self.clips,
                "loss": loss,
                "lr": max(group["lr"] for group in self.optimizer.param_groups),
                "grad_norm": whole(grad_norm).item(),
                "step_seconds": seconds,
                "clips_per_second": config.clips_per_step / seconds,
            }
            if self.waits is not None:
                record["loader_wait"] = self.world.largest(self.waits.take())
            self.log.step(record)
            if self.waits is not None and (said := self.verdict(record["loader_wait"])):
                self.log.event(step, said)
            if warning := self.watch(record):
                self.log.event(step, warning)
            self.logged, self.since = step, time.perf_counter()
            self.loss_sum.zero_()
        else:
            self.log.advance(step)
        probe = self.probe
        if probe is not None and step % probe.every and step != self.steps:
            probe = None  # not due
        if (saving or probe is not None) and self.world.any(not all_finite(self.model)):
            raise self._diverged(step, "a weight is no number")
        if probe is not None:  # before the checkpoint, so that none is without the scores that were due
            self._score(step, probe)
        if saving:
            with self._pause():
                checkpoint.save(
                    config.out,
                    step,
                    self.model,
                    self.optimizer,
                    {"recipe": self.recipe},
                    world=self.world,
                    for_good=bool(self.keep_every and step % self.keep_every == 0),
                )
        if stopping:
            self.log.event(step, f"stopped after step {step}; go on with --resume")

    def _score(self, step: int, probe: KnnProbe) -> None:
        with self._pause():
            scores, broken = self.world.first(lambda: probe(self.model))
        self.log.scores({"step": step, **scores})
        for message in unheard(broken, self.told_by_probe):
            self.log.event(step, as_event(message, "(a file of the k-NN probe)"))

    @contextmanager
    def _pause(self) -> Iterator[None]:
        """What is done within counts as no time of training."""
        paused = time.perf_counter()
        yield
        seconds = time.perf_counter() - paused
        self.since += seconds
        if self.waits is not None:
            self.waits.pause(seconds)

    def _diverged(self, step: int, what: str) -> FloatingPointError:
        return FloatingPointError(
            f"training diverged by step {step} ({what}); the checkpoints in {self.config.out} are from before. "
            "Lower base_lr, set clip_grad, or use dtype float32"
        )

    def _name_broken_files(self, step: int) -> None:
        new = self.world.union(self.broken - self.heard)
        self.heard.update(self.broken)
        for message in unheard(new, self.told):
            count = sum(served == is_served(message) for _, served in self.told)
            self.log.event(step, as_event(message, f"({count} of {self.files} files)"))


def all_finite(model: torch.nn.Module) -> bool:
    """Whether every weight of this process is a number: a loss can be finite although its gradient was not."""
    return bool(torch.stack([local(p).isfinite().all() for p in model.parameters()]).all())
