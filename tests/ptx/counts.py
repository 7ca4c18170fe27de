# SPDX-License-Identifier: Apache-2.0
"""What a launch costs, exactly, at the level of PTX: executions of blocks, wavefronts of shared memory, sectors."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from .text import EXITS, Instruction, Kernel


@dataclass
class Counts:
    """Keys are (kernel, block) and (kernel, instruction), by number."""

    warps: Counter = field(default_factory=Counter)  # that ran a basic block
    threads: Counter = field(default_factory=Counter)  # the lanes of theirs that took part
    requests: Counter = field(default_factory=Counter)  # of shared memory, a warp each
    wavefronts: Counter = field(default_factory=Counter)  # that those took: more, where words lie in one bank
    accesses: Counter = field(default_factory=Counter)  # of global memory, a warp each
    sectors: Counter = field(default_factory=Counter)  # of 32 bytes that those touched
    lines: Counter = field(default_factory=Counter)  # of 128 bytes, likewise
    atomic_lanes: Counter = field(default_factory=Counter)

    def shared(self, key, at: np.ndarray, width: int, lanes: np.ndarray) -> None:
        """Of the words that lanes of one request want, most in one bank. Wide accesses go in halves and quarters."""
        if not len(lanes):
            return
        group = lanes // (32 if width <= 4 else 16 if width == 8 else 8)
        words = (at // 4)[:, None] + np.arange(max(1, width // 4))
        wanted = np.unique(group[:, None] << 32 | words)
        banks, sizes = np.unique(wanted >> 32 << 5 | wanted & 31, return_counts=True)
        first = np.flatnonzero(np.r_[True, np.diff(banks >> 5) != 0])
        self.requests[key] += len(first)
        self.wavefronts[key] += int(np.maximum.reduceat(sizes, first).sum())

    def globally(self, key, at: np.ndarray, width: int, lanes: np.ndarray) -> None:
        warp = lanes // 32
        self.accesses[key] += len(np.unique(warp))
        for counter, size in ((self.sectors, 32), (self.lines, 128)):
            touched = [np.stack([warp, (at + i) // size]) for i in (0, width - 1)]
            counter[key] += np.unique(np.concatenate(touched, axis=1), axis=1).shape[1]

    def instructions(self, kernel: Kernel) -> list[tuple[Instruction, int, int]]:
        """Each instruction with the warps and the threads that ran it."""
        rows = []
        for b, block in enumerate(kernel.blocks):
            key = kernel.name, b
            rows += [(ins, self.warps[key], self.threads[key]) for ins in block.instructions]
        return rows

    def classes(self, kernel: Kernel) -> Counter:
        """Warp-level executions of each class of instruction."""
        found: Counter = Counter()
        for ins, warps, _ in self.instructions(kernel):
            found[class_of(ins)] += warps
        return found

    def barriers(self, kernel: Kernel) -> int:
        """That warps came to."""
        return sum(warps for ins, warps, _ in self.instructions(kernel) if ins.is_barrier)

    def reached(self, kernel: Kernel) -> list[bool]:
        """Of each basic block."""
        return [self.warps[kernel.name, b] > 0 for b in range(len(kernel.blocks))]


def class_of(ins: Instruction) -> str:
    """ld.shared, mul.wide.u32, int64, branch and so on."""
    name, kind = ins.op[0], ins.op[-1]
    if name in ("ld", "st", "atom", "red"):
        return f"{name}.{ins.space}"
    if (ins.is_collective and not ins.is_warp_barrier) or name in ("mov", "cvt", "cvta", "setp", "selp"):
        return name
    if ins.is_barrier or ins.is_warp_barrier:
        return "bar"
    if name in ("bra", *EXITS):
        return "branch"
    if kind.startswith("f") or name in ("div", "rem"):
        return f"{name}.{kind}"
    if name in ("mul", "mad"):
        return f"{name}.{ins.op[1]}.{kind[1:]}"
    return f"int{kind[1:]}" if re.fullmatch(r"[bus](16|32|64)", kind) else kind
