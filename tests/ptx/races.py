# SPDX-License-Identifier: Apache-2.0
"""Two threads touch the same bytes, one of them writing, and nothing orders them: a race.

Ordered are: what one thread does; what threads of a block do before and behind a barrier of the block; what lanes of a
warp do before and behind a bar.warp.sync. Shuffles, votes and reductions order nothing. Atomics do not race with
atomics.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NOBODY, SEVERAL = -1, -2


@dataclass
class Who:
    """The threads of an access, by number in the launch; barriers that block and warp have passed."""

    thread: np.ndarray
    block: np.ndarray
    epoch: np.ndarray
    warp_epoch: np.ndarray
    threads: int  # of a block


class Shadow:
    """Who last wrote and read each unit of some bytes."""

    def __init__(self, size: int, unit: int):
        self.unit = unit
        n = -(-size // unit)
        self.writer, self.reader = (np.full(n, NOBODY, np.int64) for _ in range(2))
        self.write_epoch, self.write_warp_epoch = (np.zeros(n, np.int64) for _ in range(2))
        self.read_epoch, self.read_warp_epoch = (np.zeros(n, np.int64) for _ in range(2))
        self.read_block, self.read_warp = (np.full(n, NOBODY, np.int64) for _ in range(2))
        self.atomic = np.zeros(n, bool)

    def refine(self, unit: int) -> None:
        """Units of a narrower access than any before."""
        if unit < self.unit:
            for name, value in vars(self).items():
                if name != "unit":
                    setattr(self, name, np.repeat(value, self.unit // unit))
            self.unit = unit

    def read(self, u: np.ndarray, who: Who):
        """Of units u, an element a thread. Returns the race, if any, as (kind, element, how many)."""
        found = self._first("read after write", self._unordered_writes(u, who))
        old, same_block = self.reader[u], self.read_block[u] == who.block
        warp = who.thread // 32
        # Earlier readers are forgotten where a barrier, the block's or their warp's, lies behind them.
        behind = (self.read_warp[u] == warp) & (self.read_warp_epoch[u] != who.warp_epoch)
        fresh = (old == NOBODY) | ((self.read_epoch[u] != who.epoch) | behind) & same_block
        self.reader[u] = np.where(~fresh & (old != who.thread), SEVERAL, who.thread)
        lost = self.reader[u] != who.thread  # to another lane of this access, that reads the same unit
        self.reader[u[lost]] = SEVERAL
        self.read_epoch[u], self.read_warp_epoch[u] = who.epoch, who.warp_epoch
        self.read_block[u] = np.where(~fresh & ~same_block, SEVERAL, who.block)
        self.read_warp[u] = np.where(~fresh & (self.read_warp[u] != warp), SEVERAL, warp)
        self.read_warp[u[self.read_warp[u] != warp]] = SEVERAL
        return found

    def write(self, u: np.ndarray, who: Who, new: np.ndarray | None, held: np.ndarray | None):
        """The same for writing. new, held: what the threads write and what is there, for equal values are no harm.
        new None: an atomic. Returns (race or None, how many equal values met)."""
        after_write = self._unordered_writes(u, who)
        notes = 0
        if new is None:
            after_write &= ~self.atomic[u]
            after_read = np.zeros(len(u), bool)
        else:
            equal = after_write & (new == held)
            notes += int(equal.sum())
            after_write &= ~equal
            after_read = self._unordered_reads(u, who)
            twice, differ = self._at_once(u, new)
            notes += int((twice & ~differ).sum())
            after_write |= differ
        found = self._first("write after write", after_write) or self._first("write after read", after_read)
        self.writer[u], self.write_epoch[u], self.write_warp_epoch[u] = who.thread, who.epoch, who.warp_epoch
        self.atomic[u] = new is None
        self.reader[u] = NOBODY
        return found, notes

    def _at_once(self, u: np.ndarray, new: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Elements whose unit an earlier element of the same access writes too; those of them with another value."""
        twice, differ = np.zeros(len(u), bool), np.zeros(len(u), bool)
        if (u[1:] > u[:-1]).all():
            return twice, differ
        order = np.argsort(u, kind="stable")
        same = u[order][1:] == u[order][:-1]
        twice[order[1:]] = same
        differ[order[1:]] = same & (new[order][1:] != new[order][:-1])
        return twice, differ

    def _unordered(self, thread, epoch, warp_epoch, who: Who) -> np.ndarray:
        same_block = thread // who.threads == who.block
        same_warp = same_block & (thread % who.threads // 32 == who.thread % who.threads // 32)
        within = (epoch == who.epoch) & (~same_warp | (warp_epoch == who.warp_epoch))
        return (thread >= 0) & (thread != who.thread) & (~same_block | within)

    def _unordered_writes(self, u, who):
        return self._unordered(self.writer[u], self.write_epoch[u], self.write_warp_epoch[u], who)

    def _unordered_reads(self, u, who):
        one = self._unordered(self.reader[u], self.read_epoch[u], self.read_warp_epoch[u], who)
        elsewhere = self.read_block[u] != who.block
        ordered = (self.read_warp[u] == who.thread // 32) & (self.read_warp_epoch[u] != who.warp_epoch)
        within = (self.read_epoch[u] == who.epoch) & ~ordered
        return one | (self.reader[u] == SEVERAL) & (elsewhere | within)

    def _first(self, kind: str, races: np.ndarray):
        return (kind, int(np.argmax(races)), int(races.sum())) if races.any() else None
