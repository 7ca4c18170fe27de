# SPDX-License-Identifier: Apache-2.0
"""Is the loader or the GPU the limit? The share of the time that training spends waiting for the next batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Batch = TypeVar("Batch")


class LoaderWaits:
    """Watches the batches of a loader.

        waits = LoaderWaits()
        for batch in waits.watch(loader(...)):
            ...                                # a step
            share = waits.take()               # whenever a line is logged

    A share near 0 means that the loader keeps up; one near 1 that training waits for it: give it more workers, a
    smaller --short-side, more views of each decoded clip, or decode once and for all (`cache_clips`). On a GPU the
    share is right if something between two calls of `take`, such as reading the loss, waits for the GPU.

    Args:
        clock: seconds from any beginning; for tests.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter):
        self.clock = clock
        self.waited, self.since = 0.0, clock()

    def watch(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The same batches; the time that each takes to come is counted."""
        source = iter(batches)
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
