# SPDX-License-Identifier: Apache-2.0
"""Masks drawn from pools beside masks made on the fly: time, memory, and how much the masks of an epoch repeat.

python bench/pools.py            # about two minutes, one thread
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


def time_of(make: Callable, rounds: int = 15, calls: int = 20) -> float:
    """Microseconds a mask: median of rounds, each the mean of so many batches."""
    make()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(calls):
            make()
        times.append((time.perf_counter() - start) / calls / BATCH * 1e6)
    return median(times)


def main() -> None:
    torch.set_num_threads(1)
    table = Table(title=f"grid {GRID}, ratio {RATIO}, batch {BATCH}, 1 thread; an epoch of {EPOCH} masks")
    for name in ("masks from", "us a mask", "MiB", "file MiB", "built in s", "distinct", "bias", "nearest"):
        table.add_column(name, justify="left" if name == "masks from" else "right")

    def row(name: str, sampler, memory: str = "", size: str = "", seconds: str = "") -> None:
        found = diversity(sampler, EPOCH)
        numbers = str(found.distinct), f"{found.bias:.2f}", f"{found.nearest:.2f}"
        table.add_row(name, f"{time_of(sample_batch(sampler)):.1f}", memory, size, seconds, *numbers)

    for boundary in ("field", "wrap"):
        row(f"Green3D on the fly, {boundary}", smnoise.Green3D(GRID, RATIO, boundary=boundary))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "pool.safetensors")
        for k in KS:
            for name, build in builders(k).items():
                start = time.perf_counter()
                pool = build()
                seconds = time.perf_counter() - start
                pools.save(pool, file)
                megabytes = [f"{n / 2**20:.1f}" for n in (pool.nbytes, file.stat().st_size)]
                row(name, sampler_of(pool), *megabytes, f"{seconds:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
