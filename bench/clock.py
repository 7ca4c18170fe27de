# SPDX-License-Identifier: Apache-2.0
"""Time of calls that take turns, so that all suffer alike from what else the machine does."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import contextmanager
from statistics import median

import torch


def in_turns(makers: dict[str, Callable[[], object]], seconds: float, rounds: int = 7) -> dict[str, float]:
    """Microseconds of one call of each: the median of `rounds`, over which `seconds` for each are spread."""
    calls, times = {}, {name: [] for name in makers}
    for name, make in makers.items():
        make()
        calls[name] = max(1, round(seconds / rounds / elapsed(make, 1)))
    for _ in range(rounds):
        for name, make in makers.items():
            times[name].append(elapsed(make, calls[name]) / calls[name])
    return {name: round(1e6 * median(values), 3) for name, values in times.items()}


def elapsed(make: Callable[[], object], calls: int) -> float:
    begin = time.perf_counter()
    for _ in range(calls):
        make()
    return time.perf_counter() - begin


@contextmanager
def threads(count: int):
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
