# SPDX-License-Identifier: Apache-2.0
"""Is the loader or the GPU the limit? The share of the time that training spends waiting for the next batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Batch = TypeVar("Batch")
LIMITED = 0.2  # of the time spent waiting, from which on the loader is the limit
IN_A_ROW = 3  # log lines, until it is no accident; the first one has the start of the workers in it


class LoaderWaits:
    """Watches the batches of a loader.

        waits = LoaderWaits()
        for batch in waits.watch(loader(...)):
            ...                                # a step
            share = waits.take()               # whenever a line is logged

    A share near 0 means that the loader keeps up; one near 1 that training waits for it: give it more workers, a
    smaller --short-side, more views of each decoded clip, or decode once and for all (`smnoise.data.video.cache`). On a
    GPU the share is right if something between two calls of `take`, such as reading the loss, waits for the GPU.

    Args:
        clock: seconds from any beginning; for tests.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter):
        self.clock = clock
        self.waited, self.since = 0.0, clock()

    def watch(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Yield the same batches, begun at once; the time that each takes to come is counted."""
        return self._counted(iter(batches))

    def _counted(self, source: Iterator[Batch]) -> Iterator[Batch]:
        while True:
            asked = self.clock()
            try:
                batch = next(source)
            except StopIteration:
                return
            finally:
                self.waited += self.clock() - asked
            yield batch

    def take(self) -> float:
        """The share, in [0, 1], of the time since the last call (or the beginning); 0 where no time went by."""
        now = self.clock()
        waited, passed = self.waited, now - self.since
        self.waited, self.since = 0.0, now
        return min(1.0, waited / passed) if passed > 0 else 0.0

    def pause(self, seconds: float) -> None:
        """Leave out time that was not training, such as writing a checkpoint."""
        self.since += seconds


class Verdict:
    """Says once that the loader is the limit, when it was that for some log lines in a row.

    Args:
        advice: what to do about it.
    """

    def __init__(self, advice: str):
        self.advice, self.row = advice, 0

    def __call__(self, share: float) -> str | None:
        """What to say after a log line with that share of waiting, if anything."""
        self.row = self.row + 1 if share >= LIMITED or self.row >= IN_A_ROW else 0
        if self.row != IN_A_ROW:
            return None
        return f"the loader is the limit: {share:.0%} of the time is spent waiting for data; {self.advice}"
