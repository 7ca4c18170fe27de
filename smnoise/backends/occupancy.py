# SPDX-License-Identifier: Apache-2.0
"""How many blocks of a sampler's CUDA kernel run on a multiprocessor at a time, reckoned from what the compiler says,
so that no GPU is needed: for `smnoise doctor` and for choosing layouts."""

from __future__ import annotations

from typing import NamedTuple

from ..spec import ColorSpec, OptimBlueSpec, StrategySpec, tables
from . import nvrtc
from .cuda import BLUE_THREADS, blue_kernel
from .layout import RESERVED_BYTES, SCRATCH_BYTES, SHARED_BYTES, THREADS, TURING_BYTES, layout
from .plan import blue_plan_of, strategy_plan_of

REGISTERS = 65536  # of a multiprocessor, given to a warp in pieces of 256
# Of each multiprocessor: shared memory in KiB, threads.
MULTIPROCESSORS = {
    **{75: (64, 1024), 80: (164, 2048), 86: (100, 1536), 89: (100, 1536)},
    **{90: (228, 2048), 100: (228, 2048), 103: (228, 2048), 120: (100, 1536)},
}


class Launch(NamedTuple):
    """How a kernel is launched for a spec."""

    kernel: str
    threads: int
    shared_bytes: int


class Occupancy(NamedTuple):
    launch: Launch
    registers: int
    """Of a thread."""
    blocks: int
    """That run on a multiprocessor at a time."""
    limit: str
    """What allows no more: registers, shared memory or threads."""


def launch_of(spec: ColorSpec | OptimBlueSpec | StrategySpec, architecture: int) -> Launch:
    """The kernel that does most of the work. Raises ValueError where none fits."""
    limit = SHARED_BYTES if architecture >= 80 else TURING_BYTES
    if isinstance(spec, ColorSpec):
        cut = layout(spec, tables(spec).taps.shape[-1], limit, architecture)
        return Launch(cut.kernel(spec), cut.threads, cut.bytes)
    if isinstance(spec, OptimBlueSpec):
        plan = blue_plan_of(spec, 0, 0, limit - SCRATCH_BYTES)
        return Launch(blue_kernel(plan), BLUE_THREADS, SCRATCH_BYTES + plan.bytes if plan.shared else 0)
    boxes = strategy_plan_of(spec, 0, 0, limit - SCRATCH_BYTES)
    scores = 4 * spec.tokens if boxes.shared else 0
    return Launch("strategy_mask", THREADS, SCRATCH_BYTES + boxes.bytes + scores)


def occupancy(spec, architecture: int) -> Occupancy:
    """Raises BackendError where nothing compiles, ValueError for an architecture whose multiprocessors are not known
    here."""
    if architecture not in MULTIPROCESSORS:
        raise ValueError(f"known are {', '.join(f'sm_{a}' for a in MULTIPROCESSORS)}; got sm_{architecture}")
    launch = launch_of(spec, architecture)
    (usage,) = nvrtc.usage(nvrtc.compile_sources(architecture, True, launch.kernel)[1])
    shared, threads = MULTIPROCESSORS[architecture]
    a_warp = -(-usage.registers * 32 // 256) * 256
    blocks = {
        "registers": REGISTERS // (a_warp * (launch.threads // 32)),
        "shared memory": 1024 * shared // (launch.shared_bytes + usage.shared + RESERVED_BYTES),
        "threads": threads // launch.threads,
    }
    limit = min(blocks, key=lambda name: blocks[name])
    return Occupancy(launch, usage.registers, blocks[limit], limit)
