# SPDX-License-Identifier: Apache-2.0
"""Threads take turns. All that are at the same basic block run it together; those with the lowest place in the program
go first, so that threads that part meet again where the program's order says so. A collective waits for the lanes that
it names, a barrier for its block.

Hostile: one warp at a time, picked by chance, its lanes not always the lowest first.
"""

from __future__ import annotations

import numpy as np

from .text import Block
from .threads import LANES, Threads


class Schedule:
    def __init__(self, threads: Threads):
        self.t, self.device, self.kernel = threads, threads.device, threads.kernel
        self.code, self.blocks = self.device.code(self.kernel), self.kernel.blocks
        self.done, self.waits = len(self.blocks), 1 << 20  # places: behind the end; added to a barrier's
        self.place = np.zeros(threads.n, np.int64)
        self.steps = 0
        zeros = {kind: np.zeros(threads.n, kind) for kind in set(self.kernel.registers.values())}
        self.registers = [zeros[kind] for kind in self.kernel.registers.values()]

    def run(self) -> None:
        everybody = np.ones(self.t.n, bool)
        with np.errstate(all="ignore"):
            while self.steps < self.device.budget:
                if (
                    self.device.rng is None
                    and (self.place == self.place[0]).all()
                    and self.place[0] < self.done
                ):
                    self._together(int(self.place[0]), everybody)
                elif not self._some():
                    return
        self._fault("endless", f"{self.device.budget} steps")

    def _together(self, b: int, everybody: np.ndarray) -> None:
        """From block b on, as long as no threads part."""
        while b < self.done and self.steps < self.device.budget:
            block = self.blocks[b]
            self._count(b, self.t.n // LANES, self.t.n)
            if block.end == "warp":
                self.code.function(f"m{b}")(self.t, self.registers, everybody)
                b += 1
                continue
            taken = self.code.function(f"b{b}")(self.t, self.registers, None)
            if block.end == "bar":
                self.t.epoch += 1
            if taken is None or taken.all():
                b = self._behind(b, block)
            elif not taken.any():
                b += 1
            else:
                self.place = np.where(taken, self._behind(b, block), b + 1)
                return
        self.place[:] = b

    def _behind(self, b: int, block: Block) -> int:
        return {"bra": block.target, "ret": self.done}.get(block.end, b + 1)

    def _some(self) -> bool:
        """One step of some threads; False at the end."""
        running = self.place < self.done
        if not running.any():
            return self._release()
        turn = self._turn(running)
        for b in self._order(turn):
            m = turn & (self.place == b)
            block = self.blocks[b]
            if block.end == "warp":
                m = self._complete(b, m)
                if not m.any():
                    continue  # others of these warps are behind
            self._run(b, block, m)
            return True
        waiting = self.kernel.instructions[self.blocks[int(self.place[turn].min())].start]
        self._fault("deadlock", f"lanes of a warp wait for others that never come to {waiting.text}")
        return False

    def _turn(self, running: np.ndarray) -> np.ndarray:
        """Threads of which some may run now: all, or one warp's."""
        rng = self.device.rng
        if rng is None:
            return running
        warps = np.unique(self.t.lanes[running] // LANES)
        # A warp whose lanes wait for each other is left only when no other can go on.
        for warp in rng.permutation(warps):
            turn = running & (self.t.lanes // LANES == warp)
            places = np.unique(self.place[turn])
            if any(
                self.blocks[b].end != "warp" or self._complete(b, turn & (self.place == b)).any()
                for b in places
            ):
                return turn
        return turn

    def _order(self, turn: np.ndarray) -> list[int]:
        places = [int(b) for b in np.unique(self.place[turn])]
        if self.device.rng is not None and self.device.rng.random() < 0.25:
            self.device.rng.shuffle(places)
        return places

    def _complete(self, b: int, here: np.ndarray) -> np.ndarray:
        """Of the threads at collective b those whose whole group has come; lanes that have ended are not waited for."""
        asked = self.code.function(f"w{b}")(self.t, self.registers, None)
        alive = self.place != self.done
        come, alive = self.t.ballot(here, here), self.t.ballot(alive, alive)
        named = asked >> (self.t.lanes % LANES).astype(np.uint32) & np.uint32(1) == 1
        return here & named & (asked & come == asked & alive)

    def _run(self, b: int, block: Block, m: np.ndarray) -> None:
        self._count(b, int(m.reshape(-1, LANES).any(1).sum()), int(m.sum()))
        taken = self.code.function(f"m{b}")(self.t, self.registers, m)
        after = b + self.waits if block.end == "bar" else self._behind(b, block)
        self.place = np.where(m, after if taken is None else np.where(taken, after, b + 1), self.place)

    def _release(self) -> bool:
        """Lets blocks go on whose threads all wait at their barrier."""
        waiting = self.place >= self.waits
        if not waiting.any():
            return False
        for block in range(self.t.n_blocks):
            mine = self.t.local_block == block
            places = np.unique(self.place[mine])
            if places[-1] < self.waits:
                continue
            if len(places) > 1:
                ended = places[0] == self.done
                self._fault(
                    "barrier missed", "threads have ended" if ended else "threads wait at different barriers"
                )
            self.place[mine & waiting] += 1 - self.waits
            self.t.epoch[mine] += 1
        return True

    def _count(self, b: int, warps: int, threads: int) -> None:
        self.steps += 1
        self.device.counts.warps[self.kernel.name, b] += warps
        self.device.counts.threads[self.kernel.name, b] += threads

    def _fault(self, kind: str, detail: str) -> None:
        self.device.fault(self.kernel, None, kind, detail, 1)
