# SPDX-License-Identifier: Apache-2.0
"""Masks drawn from pools beside masks made on the fly: time, memory, and how much the masks of an epoch repeat.

python bench/pools.py            # about a minute
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from rich.console import Console
from rich.table import Table

import smnoise
from smnoise import pools
from smnoise.diversity import diversity

GRID, RATIO, BATCH, SIZE = (8, 14, 14), 0.9, 32, (12, 20, 20)
EPOCH = 10_000
KS = (1000, 3000, 10_000)


def builders(k: int) -> dict[str, Callable[[], pools.Pool]]:
    """Masks of the grid, masks of tori, which may be rolled, and volumes to cut windows from."""
    field, torus = (smnoise.Green3D(GRID, RATIO, boundary=b) for b in ("field", "wrap"))
    return {
        f"{k} masks": lambda: pools.build_masks(field, k),
        f"{k} masks of tori": lambda: pools.build_masks(torus, k),
        f"{k} volumes": lambda: pools.build_noise(field, k, SIZE),
    }


def sampler_of(pool: pools.Pool) -> smnoise.PoolSampler:
    return smnoise.PoolSampler(pool, GRID, RATIO)


def sample_batch(sampler: smnoise.samplers.Sampler, device="cpu") -> Callable[[], smnoise.MaskBatch]:
    """A function that makes the next batch each time it is called, as training does."""
    return smnoise.MaskStream(sampler, BATCH, device=device)


def times_of(makers: dict[str, Callable], rounds: int = 25, calls: int = 10) -> dict[str, float]:
    """Microseconds of CPU time a mask: median of rounds, which take turns, so that all suffer alike from what else
    the machine does."""
    times = {name: [] for name in makers}
    for _ in range(rounds):
        for name, make in makers.items():
            make()
            start = time.process_time()
            for _ in range(calls):
                make()
            times[name].append((time.process_time() - start) / calls / BATCH * 1e6)
    return {name: median(values) for name, values in times.items()}


def main() -> None:
    torch.set_num_threads(1)
    samplers = {
        f"Green3D on the fly, {b}": smnoise.Green3D(GRID, RATIO, boundary=b) for b in ("field", "wrap")
    }
    costs = {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "pool.safetensors")
        for name, build in (item for k in KS for item in builders(k).items()):
            start = time.process_time()
            pool = build()
            seconds = time.process_time() - start
            pools.save(pool, file)
            megabytes = (f"{n / 2**20:.1f}" for n in (pool.nbytes, file.stat().st_size))
            costs[name] = [*megabytes, f"{seconds:.1f}"]
            samplers[name] = sampler_of(pool)
    times = times_of({name: sample_batch(sampler) for name, sampler in samplers.items()})

    table = Table(title=f"grid {GRID}, ratio {RATIO}, batch {BATCH}, 1 thread; an epoch of {EPOCH} masks")
    for name in ("masks from", "us a mask", "MiB", "file MiB", "built in s", "distinct", "bias", "nearest"):
        table.add_column(name, justify="left" if name == "masks from" else "right")
    for name, sampler in samplers.items():
        found = diversity(sampler, EPOCH)
        numbers = str(found.distinct), f"{found.bias:.2f}", f"{found.nearest:.2f}"
        table.add_row(name, f"{times[name]:.1f}", *costs.get(name, [""] * 3), *numbers)
    Console().print(table)


if __name__ == "__main__":
    main()
