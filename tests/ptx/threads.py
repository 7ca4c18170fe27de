# SPDX-License-Identifier: Apache-2.0
"""Blocks that run side by side: their threads' numbers and memory, and what generated code asks of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from .generate import AXES, SHARED_WINDOW
from .memory import Region
from .races import Who
from .text import Kernel, PtxError

if TYPE_CHECKING:
    from .device import Device, Grid

LANES = 32
REDUCTIONS = {"add": (np.add, lambda i: 0), "min": (np.minimum, lambda i: i.max), "max": (np.maximum, lambda i: i.min),
              "and": (np.bitwise_and, lambda i: i.max if i.min == 0 else -1), "or": (np.bitwise_or, lambda i: 0),
              "xor": (np.bitwise_xor, lambda i: 0)}  # fmt: skip


class Threads:
    def __init__(
        self, device: Device, kernel: Kernel, grid: Grid, blocks: range, shared_bytes: int, parameters: bytes
    ):
        self.device, self.kernel, self.per_block = device, kernel, grid.threads
        self.n_blocks, self.n = len(blocks), grid.threads * len(blocks)
        self.lanes = np.arange(self.n)
        self.local_block = self.lanes // grid.threads
        block, thread = np.array(blocks)[self.local_block], self.lanes % grid.threads
        x, y, _ = grid.blocks
        self.special = {
            "laneid": (thread % LANES).astype(np.uint32), "tid.x": thread.astype(np.uint32),
            "ctaid.x": (block % x).astype(np.uint32), "ctaid.y": (block // x % y).astype(np.uint32),
            "ctaid.z": (block // x // y).astype(np.uint32), "ntid.x": self.each(np.uint32(grid.threads)),
            **{f"nctaid.{a}": self.each(np.uint32(n)) for a, n in zip("xyz", grid.blocks, strict=True)},
        }  # fmt: skip
        self.special |= {a: self.each(np.uint32(a.startswith("n"))) for a in AXES if a not in self.special}
        self.parameters = np.frombuffer(parameters, np.uint8)
        self.shared_size = max(
            kernel.static_shared, (kernel.dynamic_base + shared_bytes) if shared_bytes else 0
        )
        self.pitch = -(-max(self.shared_size, 1) // 16) * 16
        # What was there before is noise.
        data = np.random.default_rng(1).integers(0, 256, self.pitch * self.n_blocks, np.uint8)
        self.shared = Region(data, False, "shared memory")
        self.epoch, self.warp_epoch = np.zeros(self.n, np.int64), np.zeros(self.n, np.int64)
        self.thread, self.block = block * grid.threads + thread, block
        self._everybody = Who(self.thread, self.block, self.epoch, self.warp_epoch, self.per_block)

    def each(self, value) -> np.ndarray:
        return value if isinstance(value, np.ndarray) and value.ndim else np.full(self.n, value)

    def _who(self, lanes: np.ndarray) -> Who | None:
        if not self.device.check:
            return None
        if len(lanes) == self.n and lanes is self.lanes:
            return self._everybody
        return Who(
            self.thread[lanes], self.block[lanes], self.epoch[lanes], self.warp_epoch[lanes], self.per_block
        )

    def _report(self, number: int):
        return partial(self.device.fault, self.kernel, self.kernel.instructions[number])

    # Memory.

    def load(
        self,
        space: str,
        base,
        offset: int,
        kind: str,
        count: int,
        mask,
        number: int,
        used: Sequence[int] = (0,),
    ) -> list[np.ndarray]:
        """`count` neighbouring elements of each thread, of those in the mask. Of those that are not `used`, by their
        place among them, only the bounds are judged, and 0 is given."""
        kind = np.dtype(kind)
        if space == "param":
            return self._load_parameters(base, offset, kind, count, mask)
        out = [np.zeros(self.n, kind) for _ in range(count)]
        for region, lanes, at in self._accesses(space, base, offset, kind.itemsize * count, mask, number):
            for i in used:
                out[i][lanes] = region.load(
                    at + i * kind.itemsize, kind, self._who(lanes), self._report(number)
                )
        return out

    def store(self, space: str, base, offset: int, kind: str, values: list, mask, number: int) -> None:
        kind = np.dtype(kind)
        for region, lanes, at in self._accesses(
            space, base, offset, kind.itemsize * len(values), mask, number
        ):
            for i, value in enumerate(values):
                place = at + i * kind.itemsize
                region.store(place, kind, value[lanes], self._who(lanes), self._report(number))

    def atomic(self, space: str, base, offset: int, kind: str, what: str, values: list, mask, number: int):
        """What each thread found. Lanes go in order, or in any order where the schedule is hostile."""
        kind = np.dtype(kind)
        out = np.zeros(self.n, kind)
        for region, lanes, at in self._accesses(space, base, offset, kind.itemsize, mask, number):
            if self.device.rng is not None:
                order = self.device.rng.permutation(len(lanes))
                lanes, at = lanes[order], at[order]
            given = [v[lanes] for v in values]
            out[lanes] = region.atomic(at, kind, what, given, self._who(lanes), self._report(number))
            self.device.counts.atomic_lanes[self.kernel.name, number] += len(lanes)
        return out

    def _load_parameters(self, base, offset: int, kind: np.dtype, count: int, mask) -> list[np.ndarray]:
        at = self._addresses(base, offset)
        at = at if mask is None else np.where(mask, at, 0)
        if (
            (at < 0).any()
            or (at + kind.itemsize * count > len(self.parameters)).any()
            or (at % kind.itemsize).any()
        ):
            raise PtxError(
                f"{self.kernel.name}: parameter read at {at.min()} to {at.max()} of {len(self.parameters)}"
            )
        view = self.parameters[: len(self.parameters) // kind.itemsize * kind.itemsize].view(kind)
        return [view[at // kind.itemsize + i] for i in range(count)]

    def _addresses(self, base, offset: int) -> np.ndarray:
        return np.full(self.n, offset, np.int64) if base is None else base.astype(np.int64) + offset

    def _accesses(
        self, space: str, base, offset: int, width: int, mask, number: int
    ) -> Iterator[tuple[Region, np.ndarray, np.ndarray]]:
        """Regions that threads touch, those threads, and the byte in the region. Wrong addresses are left out."""
        at = self._addresses(base, offset)
        lanes = self.lanes if mask is None else np.flatnonzero(mask)
        if space == "generic":
            in_shared = at[lanes] >= SHARED_WINDOW
            yield from self._in_shared(at - SHARED_WINDOW, width, lanes[in_shared], number)
            yield from self._in_global(at, width, lanes[~in_shared], number)
        elif space == "shared":
            yield from self._in_shared(at, width, lanes, number)
        else:
            yield from self._in_global(at, width, lanes, number)

    def _in_shared(self, at, width, lanes, number):
        a = at[lanes]
        lanes = self._right(
            lanes, a, width, (a >= 0) & (a + width <= self.shared_size), "shared memory", number
        )
        if len(lanes):
            if self.device.count:
                self.device.counts.shared((self.kernel.name, number), at[lanes], width, lanes)
            yield self.shared, lanes, at[lanes] + self.local_block[lanes] * self.pitch

    def _in_global(self, at, width, lanes, number):
        if not len(lanes):
            return
        memory = self.device.memory
        _, inside = memory.find(at[lanes], width)
        lanes = self._right(lanes, at[lanes], width, inside, "global memory", number)
        starts, _ = memory.table()
        which, _ = memory.find(at[lanes], width)
        if self.device.count and len(lanes):
            # As if each tensor began a line of its own, as it does on a GPU.
            places = at[lanes] - starts[which] + (which << 40)
            self.device.counts.globally((self.kernel.name, number), places, width, lanes)
        for region in np.unique(which):
            some = lanes[which == region]
            yield memory.regions[int(starts[region])], some, at[some] - starts[region]

    def _right(self, lanes, at, width, inside, where: str, number: int) -> np.ndarray:
        """Lanes that are in bounds and aligned; the others are faults."""
        aligned = at % width == 0
        for kind, good in (("out of bounds", inside), ("misaligned", aligned)):
            if not good.all():
                i = int(np.argmin(good))
                detail = f"{where}, {width} bytes at {int(at[i]):#x}, thread {int(self.thread[lanes[i]])}"
                self._report(number)(kind, detail, int((~good).sum()))
        good = inside & aligned
        return lanes if good.all() else lanes[good]

    def load_matrix(self, base, offset: int, i: int, mask, number: int) -> np.ndarray:
        """Matrix i of 8 rows of 16 bytes: lanes 8 i to 8 i + 7 say where rows lie, four lanes take a row."""
        return self.load("shared", self._rows(base, offset, i), 0, "uint32", 1, mask, number)[0]

    def store_matrix(self, base, offset: int, i: int, value, mask, number: int) -> None:
        self.store("shared", self._rows(base, offset, i), 0, "uint32", [value], mask, number)

    def _rows(self, base, offset: int, i: int) -> np.ndarray:
        lane, at = self.lanes % LANES, self._addresses(base, offset)
        return at[self.lanes - lane + 8 * i + lane // 4] + lane % 4 * 4

    # Collectives. m: the lanes that take part.

    def order_warps(self, m) -> None:
        self.warp_epoch[m] += 1

    def shuffle(self, mode: str, value, b, c, m, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Each lane's value from another one, and whether that one was in range."""
        lane, b = self.lanes % LANES, b.astype(np.int64) & 31
        segment, clamp = c.astype(np.int64) >> 8 & 31, c.astype(np.int64) & 31
        highest = lane & segment | clamp & ~segment
        source = {"bfly": lane ^ b, "up": lane - b, "down": lane + b, "idx": lane & segment | b & ~segment}[
            mode
        ]
        in_range = source >= highest if mode == "up" else source <= highest
        source = self.lanes - lane + np.where(in_range, source, lane)
        if (m & ~m[source]).any():
            self._report(number)("shuffle from a lane that takes no part", "", int((m & ~m[source]).sum()))
        return value[source], in_range

    def ballot(self, predicate, m) -> np.ndarray:
        bits = (predicate & m).reshape(-1, LANES).astype(np.uint64) << np.arange(LANES, dtype=np.uint64)
        return np.repeat(bits.sum(1).astype(np.uint32), LANES)

    def vote(self, mode: str, predicate, m) -> np.ndarray:
        p, out = predicate.reshape(-1, LANES), ~m.reshape(-1, LANES)
        every, some = (p | out).all(1), (p & ~out).any(1)
        return np.repeat({"all": every, "any": some, "uni": every | ~some}[mode], LANES)

    def reduce(self, what: str, value, m) -> np.ndarray:
        f, neutral = REDUCTIONS[what]
        filled = np.where(m, value, value.dtype.type(neutral(np.iinfo(value.dtype))))
        return np.repeat(f.reduce(filled.reshape(-1, LANES), axis=1, dtype=value.dtype), LANES)
