# SPDX-License-Identifier: Apache-2.0
"""Memory that is judged: bounds, alignment, bytes that nobody wrote, races.

A Region is one tensor, or the shared memory of blocks that run side by side. Threads that take part come as arrays.
"""

from __future__ import annotations

import ctypes

import numpy as np

from .races import Shadow, Who
from .text import UNSIGNED

ONES = {1: np.uint8(1), 2: np.uint16(0x0101), 4: np.uint32(0x01010101), 8: np.uint64(0x0101010101010101)}
ATOMICS = {"add": np.add, "min": np.minimum, "max": np.maximum, "and": np.bitwise_and, "or": np.bitwise_or,
           "xor": np.bitwise_xor, "exch": lambda old, new: new}  # fmt: skip


class Region:
    """data: bytes, a multiple of 8 where they are not a tensor's. report(kind, detail, count) takes faults."""

    def __init__(self, data: np.ndarray, written: bool, name: str):
        self.data, self.name = data, name
        self.written = None if written else np.zeros(-(-len(data) // 8) * 8, bool)
        self.shadow: Shadow | None = None
        self._views: dict = {}

    def view(self, kind: np.dtype) -> np.ndarray:
        """As elements of that kind, as many as are whole."""
        if kind not in self._views:
            self._views[kind] = self.data[: len(self.data) // kind.itemsize * kind.itemsize].view(kind)
        return self._views[kind]

    def _shadow(self, size: int) -> Shadow:
        if self.shadow is None:
            self.shadow = Shadow(len(self.data), min(size, 4))
        self.shadow.refine(size)
        return self.shadow

    def _units(self, at: np.ndarray, size: int):
        unit = self._shadow(size).unit
        return (at // unit + part for part in range(size // unit))

    def load(self, at: np.ndarray, kind: np.dtype, who: Who | None, report) -> np.ndarray:
        """Of byte places `at`, in bounds and aligned. who: None asks for no judgement."""
        index = at // kind.itemsize
        if who is not None:
            self._must_be_written(index, kind.itemsize, report)
            for u in self._units(at, kind.itemsize):
                self._report_race(self.shadow.read(u, who), at, who, report)
        return self.view(kind)[index]

    def store(self, at: np.ndarray, kind: np.dtype, values: np.ndarray, who: Who | None, report) -> None:
        index, size = at // kind.itemsize, kind.itemsize
        if who is not None:
            held = self.view(kind)[index]
            unit = self._shadow(size).unit
            pieces = [
                np.ascontiguousarray(v).view(UNSIGNED[unit]).reshape(-1, size // unit) for v in (values, held)
            ]
            for part, u in enumerate(self._units(at, size)):
                new, old = (piece[:, part] for piece in pieces)
                found, equal = self.shadow.write(u, who, new, old)
                self._report_race(found, at, who, report)
                if equal:
                    report("note: equal values written at once", self.name, equal)
        self.view(kind)[index] = values
        if self.written is not None:
            self.written.view(UNSIGNED[size])[index] = ONES[size]

    def atomic(
        self, at: np.ndarray, kind: np.dtype, what: str, values: list, who: Who | None, report
    ) -> np.ndarray:
        """One thread after the other, in the order given. Returns what each found."""
        data, index = self.view(kind), at // kind.itemsize
        if who is not None:
            self._must_be_written(index, kind.itemsize, report)
            for u in self._units(at, kind.itemsize):
                self._report_race(self.shadow.write(u, who, None, None)[0], at, who, report)
        found = np.empty(len(at), kind)
        for n, i in enumerate(index):
            found[n] = data[i]
            if what == "cas":
                if data[i] == values[0][n]:
                    data[i] = values[1][n]
            else:
                data[i] = ATOMICS[what](data[i], values[0][n])
        return found

    def _must_be_written(self, index: np.ndarray, size: int, report) -> None:
        if self.written is not None:
            missing = self.written.view(UNSIGNED[size])[index] != ONES[size]
            if missing.any():
                at = int(index[np.argmax(missing)]) * size
                report("read of memory that nobody wrote", f"byte {at} of {self.name}", int(missing.sum()))

    def _report_race(self, found, at: np.ndarray, who: Who, report) -> None:
        if found is not None:
            kind, i, count = found
            report(f"race: {kind}", f"byte {int(at[i])} of {self.name}, thread {int(who.thread[i])}", count)


class Global:
    """The tensors that a device knows, by address."""

    def __init__(self):
        self.regions: dict[int, Region] = {}
        self._table: tuple[np.ndarray, np.ndarray] | None = None

    def add(self, address: int, size: int, name: str, written: bool) -> None:
        """What was there before is gone: its owner freed it."""
        data = np.frombuffer((ctypes.c_uint8 * size).from_address(address), np.uint8)
        for start in [s for s, r in self.regions.items() if s < address + size and address < s + len(r.data)]:
            del self.regions[start]
        self.regions[address] = Region(data, written, name)
        self._table = None

    def remove(self, address: int) -> None:
        if self.regions.pop(address, None):
            self._table = None

    def knows(self, address: int) -> bool:
        starts, ends = self.table()
        return bool(((starts <= address) & (address < ends)).any())

    def table(self) -> tuple[np.ndarray, np.ndarray]:
        """Where regions begin and end."""
        if self._table is None:
            starts = sorted(self.regions) or [0]
            ends = [s + len(self.regions[s].data) if self.regions else 0 for s in starts]
            self._table = np.array(starts, np.int64), np.array(ends, np.int64)
        return self._table

    def find(self, at: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
        """The region that each address is in, by number, and whether `width` bytes fit there."""
        starts, ends = self.table()
        which = np.maximum(np.searchsorted(starts, at, "right") - 1, 0)
        return which, (at >= starts[which]) & (at + width <= ends[which])

    def forget_threads(self) -> None:
        """A launch has ended: what it touched is settled."""
        for region in self.regions.values():
            region.shadow = None
