# SPDX-License-Identifier: Apache-2.0
"""What a run says while it trains: JSON lines in log.jsonl, a progress bar, or lines where there is no terminal, and
if asked for events for TensorBoard."""

from __future__ import annotations

import json
import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ...files import write_text

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

NAME = "log.jsonl"
EVENTS = "tensorboard"  # the folder that TensorBoard is pointed to


def read(run: Path) -> list[dict]:
    """The records of a run's log; lines that are none, such as one cut short by a kill, are left out."""
    path = run / NAME
    records = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(record, dict) and isinstance(record.get("step"), int):
            records.append(record)
    return records


class RunLog:
    """Context manager. `step` and `event` each add a line to log.jsonl and show it.

    writes: whether this process does; the others of a run write and show nothing.
    tensorboard: also write events, into the folder tensorboard/ of the run.

    Raises ValueError where events are asked for and the package tensorboard is not there.
    """

    def __init__(
        self, run: Path, first_step: int, steps: int, *, writes: bool = True, tensorboard: bool = False
    ):
        self.writes, self.run, self.first_step = writes, run, first_step
        self.tensorboard = tensorboard and writes
        if tensorboard:
            try:
                import torch.utils.tensorboard  # noqa: F401  before the first step
            except ImportError as error:
                raise ValueError(
                    "tensorboard was asked for, and the package is not installed: pip install 'smnoise[tensorboard]', "
                    "or leave out --tensorboard"
                ) from error
        self.path = run / NAME if writes else Path(os.devnull)
        if writes:
            kept = [r for r in read(run) if r["step"] <= first_step]  # later lines are about to be repeated
            write_text(self.path, "".join(json.dumps(r) + "\n" for r in kept))
        self.console = Console(highlight=False, soft_wrap=True, quiet=not writes)
        self.bar = Progress(
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self.task = self.bar.add_task("", total=steps, completed=first_step, numbers="")

    def __enter__(self) -> RunLog:
        self.stream = open(self.path, "a", buffering=1)
        self.bar.start()
        return self

    def __exit__(self, *_):
        self.bar.stop()
        self.stream.close()
        if self.tensorboard:
            self.events.close()

    @cached_property
    def events(self) -> SummaryWriter:
        """Made at the first number, when the processes that read files have been forked: it has a thread. What another
        start of the run wrote of later steps is about to be repeated, and TensorBoard leaves it out."""
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(self.run / EVENTS), purge_step=self.first_step + 1)

    def _scalars(self, record: dict) -> None:
        """The record's numbers by their names."""
        if self.tensorboard:
            for name, value in record.items():
                if name != "step":
                    self.events.add_scalar(name, value, record["step"])

    def pictures(self, step: int, pictures: dict[str, np.ndarray]) -> None:
        """Pictures by name, uint8 [height, width, 3], for TensorBoard."""
        for name, picture in pictures.items():
            self.events.add_image(name, picture, step, dataformats="HWC")

    def step(self, record: dict) -> None:
        """A training step's numbers; `record` needs step, loss, lr, step_seconds and clips_per_second, and may have
        loader_wait, the share of the time."""
        self.stream.write(json.dumps(record) + "\n")
        self._scalars(record)
        numbers = (
            f"loss {record['loss']:.4f}  lr {record['lr']:.2e}  {1000 * record['step_seconds']:.0f} ms/step  "
            f"{record['clips_per_second']:.1f} clips/s"
        )
        if "loader_wait" in record:
            numbers += f"  {record['loader_wait']:.0%} waiting for data"
        if self.bar.disable:
            self.console.print(f"step {record['step']}/{self.bar.tasks[0].total}  {numbers}")
        self.bar.update(self.task, completed=record["step"], numbers=numbers)

    def scores(self, record: dict) -> None:
        """The numbers of an evaluation, by name; `record` needs step."""
        self.stream.write(json.dumps(record) + "\n")
        self._scalars(record)
        numbers = "  ".join(f"{name} {value:.4f}" for name, value in record.items() if name != "step")
        self.console.print(f"after step {record['step']}: {numbers}")

    def shares(self, record: dict) -> None:
        """Lists of numbers by name, which are not shown; `record` needs step."""
        self.stream.write(json.dumps(record) + "\n")
        lists = {name: values for name, values in record.items() if name != "step"}
        numbers = {
            f"{name}/{at}": v for name, vs in lists.items() for at, v in enumerate(vs) if v is not None
        }
        self._scalars({"step": record["step"], **numbers})

    def sync(self) -> None:
        """What was written is on the disk when this returns: before a checkpoint, so that no power cut leaves a
        checkpoint without the lines that lead to it."""
        if self.writes:
            os.fsync(self.stream.fileno())
        if self.tensorboard:
            self.events.flush()

    def advance(self, step: int) -> None:
        """Move the bar without a record."""
        self.bar.update(self.task, completed=step)

    def event(self, step: int, message: str) -> None:
        """Something a person should know: a skipped file, a checkpoint."""
        self.stream.write(json.dumps({"step": step, "event": message}) + "\n")
        self.console.print(message, markup=False)
