# SPDX-License-Identifier: Apache-2.0
"""Counts the arithmetic that the contract asks of one mask, and what it would take at the peak of a CPU core or a GPU.

python -m bench.floor

Counted: float operations of the filters (sections 4 and 5), each product and each sum; Philox calls, of ten rounds with
two products each; integer operations of Optim Blue's swaps. Sums that two filters share are counted once. Not
counted, as if free: the rest of Philox, conversions, the threshold, writing the outputs, every load and store. Kinds of
operations may overlap, so that the floor is the time of the slowest kind, not their sum. The peak of a CPU core is
measured: plain loops over registers at the width of the instruction set in use (bench/peak.cpp), the best of several
runs. A floor is what no program of this arithmetic can beat, not what one can reach.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
import tempfile
import time
from bisect import bisect_left
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import numpy as np

from smnoise import Green3D, OptimBlue, reference
from smnoise.backends import cpu
from smnoise.spec import ColorSpec, tables

HERE = Path(__file__).parent
PRODUCTS_OF_CALL = 20

# Per SM and clock, H100 and H200: 128 float operations (no fused ones, by contract), 64 integer products; both kinds
# share issue slots. A product of 32 bits with 64 bits of result is two there.
FLOATS, PRODUCTS, PHILOX = 128, 64, 2 * PRODUCTS_OF_CALL
SMS, CLOCK = 132, 1.98e9


def counts(spec: ColorSpec) -> tuple[float, float]:
    """Mean (Philox calls, float operations) of a mask, over all draws of its sigmas."""
    t = tables(spec)
    two = spec.color in ("green", "purple")
    means = []
    for i in range(reference.BANK if spec.color != "white" else 1):
        draws = []
        for j in range(int(t.first[i]), reference.BANK) if two else (None,):
            radii = [t.radius[0, i]] if spec.color != "white" else []
            draws.append(_of_radii(spec, radii + ([t.radius[1, j]] if two else [])))
        means.append(np.mean(draws, 0))
    calls, floats = np.mean(means, 0)
    return float(calls), float(floats)


def _of_radii(spec: ColorSpec, radii: list) -> tuple[int, int]:
    """Counts with the filters' radii (t, y, x), narrow before wide."""
    grid, wrap = spec.grid, spec.boundary == "wrap"
    tokens = grid[0] * grid[1] * grid[2]
    reach = [0, 0, 0] if wrap or not radii else [int(r) for r in radii[-1]]
    first = spec.origin[2] - reach[2]
    blocks = (first + grid[2] + 2 * reach[2] - 1 >> 3) - (first >> 3) + 1
    calls = (grid[0] + 2 * reach[0]) * (grid[1] + 2 * reach[1]) * blocks
    floats = 0
    for number, (rt, ry, rx) in enumerate([[int(v) for v in r] for r in reversed(radii)]):
        depth, rows = (grid[0], grid[1]) if wrap else (grid[0] + 2 * rt, grid[1] + 2 * ry)
        outputs = depth * rows * grid[2], depth * grid[1] * grid[2], tokens  # along x, y, t
        for axis, (places, r, n) in enumerate(zip(outputs, (rx, ry, rt), grid[::-1], strict=True)):
            # A tap is a sum of two values, a product and a sum. On a torus of n places no more than n / 4 taps have a
            # sum of their own; along x the narrow filter's sums are the wide one's.
            sums = 0 if axis == 0 and number else min(r, n // 4) if wrap else r
            floats += places * (1 + 2 * r + sums) if r else 0
    mixed = {"white": 0, "red": 0, "blue": 1, "green": 1, "purple": 2}[spec.color]
    return calls, floats + mixed * tokens


def swap_operations(sampler: OptimBlue, partitions: int = 16) -> float:
    """Mean integer operations of a partition's swaps (section 7, step 3).

    Seven a token and step: is it to be tried, is it the worst; its change, of three terms; has it another label, is it
    the best. Counted up to the last swap that changed something in a partition."""
    whole = sampler.views(range(partitions), outputs="mask").mask.view(partitions, -1)

    def same(number: int, steps: int) -> bool:
        fewer = replace(sampler, steps=steps).views([number], outputs="mask").mask
        return bool((fewer.view(-1) == whole[number]).all())

    # bisect: whether so many steps are enough is False, then True
    needed = [
        bisect_left(range(sampler.steps), True, key=partial(same, number)) for number in range(partitions)
    ]
    return 7.0 * sampler.num_tokens * mean(needed)


class Peak(NamedTuple):
    """Of one core, a second."""

    floats: float
    products: float
    integers: float


FLAGS = {
    "avx512": ("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mprefer-vector-width=512"),
    "avx2": ("-mavx2",),
    "portable": (),
}


@lru_cache(maxsize=1)
def peak() -> Peak:
    """Measured: plain loops over registers, in the width of the instruction set that the masks are made with."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        sys.exit("the peak of a core is measured by a compiled loop, and neither g++ nor clang++ is here")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "peak.so"
        options = ["-std=c++17", "-O2", "-ffp-contract=off", "-w", "-shared", "-fPIC", *FLAGS[cpu.isa()]]
        command = [compiler, *options, f"-I{HERE.parent / 'csrc'}", str(HERE / "peak.cpp"), "-o", str(path)]
        subprocess.run(command, check=True)
        library = ctypes.CDLL(str(path))
    rounds, lanes = 1_000_000, library.peak_lanes()
    library.peak_floats.restype = ctypes.c_float
    library.peak_products.restype = ctypes.c_uint64
    count = ctypes.c_int64(rounds)
    calls = (
        (12 * lanes, lambda: library.peak_floats(count, ctypes.c_float(0.9999), ctypes.c_float(0.001))),
        (6 * lanes, lambda: library.peak_products(count, ctypes.c_uint32(0xD2511F53))),
        (12 * lanes, lambda: library.peak_integers(count, ctypes.c_int32(3))),
    )
    return Peak(*(max(_rate(call, rounds * operations) for _ in range(9)) for operations, call in calls))


def _rate(call, operations: int) -> float:
    begin = time.perf_counter()
    call()
    return operations / (time.perf_counter() - begin)


def core_microseconds(sampler) -> float:
    """Floor of one mask on one core; of colours, white noise and Optim Blue."""
    top = peak()
    if isinstance(sampler, OptimBlue):
        shared = sampler.num_masks if sampler.masks == "complementary" else 1
        calls = -(-sampler.num_tokens // 4)
        slowest = max(swap_operations(sampler) / top.integers, PRODUCTS_OF_CALL * calls / top.products)
        return 1e6 * slowest / shared
    calls, floats = counts(sampler.spec)
    return 1e6 * max(floats / top.floats, PRODUCTS_OF_CALL * calls / top.products)


def floor_cycles(spec: ColorSpec) -> float:
    """SM-cycles of a mask if every pipe were always full."""
    calls, floats = counts(spec)
    return max((floats + PHILOX * calls) / FLOATS, PHILOX * calls / PRODUCTS)


def floor_seconds(spec: ColorSpec, batch: int, sms: int = SMS, clock: float = CLOCK) -> float:
    return batch * floor_cycles(spec) / (sms * clock)


def main() -> None:
    print(
        "a core does", ", ".join(f"{v / 1e9:.1f} billion {n} a second" for n, v in peak()._asdict().items())
    )
    for boundary in ("field", "wrap"):
        sampler = Green3D((8, 14, 14), 0.9, boundary=boundary)
        calls, floats = counts(sampler.spec)
        print(
            f"{boundary}: {calls:.0f} Philox calls, {floats:.0f} float operations; {core_microseconds(sampler):.2f} us "
            f"on a core; {floor_cycles(sampler.spec):.0f} SM-cycles, batch 1024 on {SMS} SMs at {CLOCK / 1e9} GHz: "
            f"{1e6 * floor_seconds(sampler.spec, 1024):.1f} us"
        )


if __name__ == "__main__":
    main()
