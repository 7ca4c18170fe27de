# SPDX-License-Identifier: Apache-2.0
"""A GPU that launches kernels, keeps what it saw wrong, and counts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .counts import Counts
from .generate import Code
from .memory import Global
from .schedule import Schedule
from .text import Instruction, Kernel, PtxError
from .threads import LANES, Threads

SIDE_BY_SIDE = 1024  # threads: more make larger arrays and fewer Python calls


class Grid(NamedTuple):
    blocks: tuple[int, int, int]
    threads: int  # of a block


@dataclass
class Fault:
    kind: str
    kernel: str
    line: int
    text: str
    detail: str
    count: int = 0

    def __str__(self) -> str:
        return f"{self.kind} in {self.kernel}, PTX line {self.line}: {self.text} ({self.detail}; {self.count} times)"


class Device:
    """check: judge memory and races. count: bank conflicts and sectors. hostile: a seed for schedules by chance.

    faults: what is wrong. notes: what is not, by design, as equal values that several threads write at once.
    """

    def __init__(self, check=True, count=False, hostile: int | None = None, budget=20_000_000):
        self.check, self.count, self.budget = check, count, budget
        self.rng = None if hostile is None else np.random.default_rng(hostile)
        self.memory, self.counts = Global(), Counts()
        self.launches: Counter = Counter()
        self.kernels: dict[str, Kernel] = {}
        self._found: dict[tuple, Fault] = {}

    @property
    def faults(self) -> list[Fault]:
        return [f for f in self._found.values() if not f.kind.startswith("note")]

    @property
    def notes(self) -> list[Fault]:
        return [f for f in self._found.values() if f.kind.startswith("note")]

    def forget_faults(self) -> None:
        self._found.clear()

    def fault(self, kernel: Kernel, ins: Instruction | None, kind: str, detail: str, count: int) -> None:
        line, text = (ins.line, ins.text) if ins else (0, "")
        fault = self._found.setdefault(
            (kind, kernel.name, line), Fault(kind, kernel.name, line, text, detail)
        )
        fault.count += count

    def code(self, kernel: Kernel) -> Code:
        if self.kernels.setdefault(kernel.name, kernel) is not kernel:
            raise PtxError(f"two kernels of the name {kernel.name}")
        if not hasattr(kernel, "code"):
            kernel.code = Code(kernel)
        return kernel.code

    def launch(
        self, kernel: Kernel, blocks: tuple[int, ...], threads: int, shared_bytes: int, parameters: bytes
    ):
        """Some blocks after the other, each group side by side."""
        if len(parameters) != kernel.parameter_bytes:
            raise PtxError(f"{kernel.name} takes {kernel.parameter_bytes} bytes, not {len(parameters)}")
        x, y, z = (*blocks, 1, 1)[:3]
        limits = x < 2**31 and y < 65536 and z < 65536 and threads <= 1024 and min(x, y, z, threads) > 0
        if not limits or threads % LANES:
            raise PtxError(f"{kernel.name}: a grid of {blocks} blocks of {threads} threads")
        grid = Grid((x, y, z), threads)
        self.launches[kernel.name] += 1
        group = max(1, SIDE_BY_SIDE // threads)
        for first in range(0, x * y * z, group):
            some = range(first, min(x * y * z, first + group))
            Schedule(Threads(self, kernel, grid, some, shared_bytes, parameters)).run()
        self.memory.forget_threads()
