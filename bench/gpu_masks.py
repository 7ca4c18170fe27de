# SPDX-License-Identifier: Apache-2.0
"""Time to make a batch of masks on a GPU, for every strategy on both backends, beside what people run today.

Medians of CUDA graph replays, by CUDA events; what cannot be captured (CuPy, ColorMAE's draws on the host) is called
eagerly, by the clock. A kernel whose answer is not the reference's is not timed, but named under "not timed". Run by
bench/gpu; minutes.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

import smnoise

from . import baselines, floor, workloads

BATCHES = (64, 256, 1024)
Row = tuple[tuple[str, ...], Any]
SECONDS = 0.2  # of replays for a number
FIELD, WRAP = (workloads.make_sampler("video", name) for name in ("green-3d", "green-3d, wrap"))


def replay_microseconds(make: Callable[[], object]) -> float:
    """Median time of one call, from replays of a graph that holds several of them."""
    warm = torch.cuda.Stream()
    warm.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(warm):
        for _ in range(3):
            make()
        torch.cuda.synchronize()
        begin = time.perf_counter()
        make()
        torch.cuda.synchronize()
        about = time.perf_counter() - begin
    repeats = max(1, min(20, int(0.01 / about)))
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(repeats):
            make()
    times = []
    for _ in range(max(5, min(60, int(SECONDS / (repeats * about))))):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(1000 * begin.elapsed_time(end) / repeats)
    return statistics.median(times)


def eager_microseconds(make: Callable[[], object], rounds: int = 20) -> float:
    """Median time of one call with all that it launches, the launching counted."""
    for _ in range(3):
        make()
    times = []
    for _ in range(rounds):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        make()
        torch.cuda.synchronize()
        times.append(1e6 * (time.perf_counter() - begin))
    return statistics.median(times)


def pool_gather(batch: int, slices: int = 4096):
    """The four finished outputs of masks made beforehand, side by side as bytes, gathered by one kernel. The rows are
    drawn once, so small batches come from the cache."""
    pool = FIELD(torch.arange(slices, device="cuda")).tensors
    rows = torch.randint(slices, (batch,), device="cuda")
    packed = torch.cat([p.view(torch.uint8).reshape(slices, -1) for p in pool], dim=1)
    packed = torch.nn.functional.pad(packed, (0, -packed.shape[1] % 16)).view(torch.int64)
    return lambda: packed[rows]


def ours(workload: str, batch: int, backend: str) -> Iterator[tuple[str, Callable[[], float]]]:
    """Name, and a function that measures it, after a check in the first batch size."""
    for name in workloads.WORKLOADS[workload].strategies:

        def measured(name=name) -> float:
            sampler = workloads.make_sampler(workload, name)
            if batch == BATCHES[0]:
                workloads.check_sampler(name, sampler, batch, device="cuda", backend=backend)
            return replay_microseconds(smnoise.MaskStream(sampler, batch, device="cuda", backend=backend))

        yield name, measured


def others(workload: str) -> dict[str, Callable]:
    """What people run, by the name it has on the CPU; all that works on a GPU and inside a graph."""
    known = (baselines.mae_random, baselines.topk_random, baselines.conv3d_topk)
    return {n: make for n, make in workloads.WORKLOADS[workload].baselines.items() if make in known}


def eager_others() -> dict[str, Callable]:
    found = {"ColorMAE's pool, eager": baselines.colormae(workloads.volumes("cuda"))}
    try:
        import cupy
        from cupyx.scipy import ndimage
    except ImportError:
        return found
    return {**found, "cupyx.scipy.ndimage band-pass, wrap, eager": baselines.band_pass_batch(cupy, ndimage)}


def theirs(workload: str, batch: int) -> Iterator[tuple[str, Callable[[], float]]]:
    """Name of a rival, and a function that measures it, after a check."""
    chosen = workloads.WORKLOADS[workload]
    tokens = chosen.grid[0] * chosen.grid[1] * chosen.grid[2]
    captured, eager = others(workload), eager_others() if workload == "video" else {}
    for name, make in {**captured, **eager}.items():

        def measured(name=name, make=make) -> float:
            call = partial(make, batch, chosen.grid, chosen.visible)
            with torch.device("cuda"):
                workloads.check_masks(name, call(), batch, tokens, chosen.visible)
                return (eager_microseconds if name in eager else replay_microseconds)(call)

        yield name, measured
    if workload == "video":
        yield "gather from a finished pool", lambda: replay_microseconds(pool_gather(batch))
        for name, make in ops_alone(batch).items():
            yield name, partial(replay_microseconds, make)


def masks(workload: str, backend: str) -> Iterator[Row]:
    """Microseconds a batch of every strategy on a backend, and with cuda those of every rival."""
    at = "microseconds a batch", workload
    yield (*at, "what"), workloads.WORKLOADS[workload].what.rpartition(",")[0]
    wrong: set[tuple[str, ...]] = set()
    for batch in BATCHES:
        mine = (((*at, "ours", n, backend), m) for n, m in ours(workload, batch, backend))
        rivals = (((*at, "others", n), m) for n, m in theirs(workload, batch)) if backend == "cuda" else ()
        for path, measured in (*mine, *rivals):
            if path in wrong:
                continue
            try:
                yield (*path, str(batch)), round(measured(), 2)
            except Exception as error:  # of a compiler, a launch or a check: the others are still measured
                wrong.add(path)
                yield (
                    ("not timed", ", ".join((workload, *path[3:]))),
                    f"{type(error).__name__}: {str(error)[:200]}",
                )


def ops_alone(batch: int) -> dict[str, Callable]:
    """The op without the counter of a stream, and one that writes the visible ids alone."""
    seed, samples = torch.zeros((), dtype=torch.int64, device="cuda"), torch.arange(batch, device="cuda")
    alone = {
        f"{name}, cuda, op alone": partial(smnoise.ops.color_mask, seed, samples, s.spec.to_json(), "cuda")
        for name, s in (("green-3d", FIELD), ("green-3d, wrap", WRAP))
    }
    keep = smnoise.MaskStream(FIELD, batch, device="cuda", backend="cuda", outputs="ids_keep")
    return {**alone, "green-3d, cuda, ids_keep only": keep}


def floors() -> dict:
    device = torch.cuda.get_device_properties(0)
    clock = getattr(device, "clock_rate", floor.CLOCK / 1000) * 1000
    return {
        name: {
            str(b): round(1e6 * floor.floor_seconds(s.spec, b, device.multi_processor_count, clock), 2)
            for b in BATCHES
        }
        for name, s in (("green-3d", FIELD), ("green-3d, wrap", WRAP))
    }


def first_mask_seconds() -> dict[str, float]:
    """From the start of a fresh process that has torch and a context to its first masks: with an empty cache of
    compiled kernels, and with a full one."""
    program = (
        "import time, torch; torch.zeros(1, device='cuda'); torch.cuda.synchronize(); began = time.perf_counter(); "
        "import smnoise; smnoise.Green3D((8, 14, 14), 0.9)(batch_size=32, step=0, device='cuda', backend='cuda'); "
        "torch.cuda.synchronize(); print(time.perf_counter() - began)"
    )
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "SMNOISE_CACHE": folder}
        return {
            cache: round(float(subprocess.check_output([sys.executable, "-c", program], env=environment)), 3)
            for cache in ("empty cache", "full cache")
        }


def host_microseconds() -> dict:
    """What the CPU spends on one eager call, the GPU being left to catch up between rounds."""
    seed = torch.zeros((), dtype=torch.int64, device="cuda")
    samples = torch.arange(64, device="cuda")
    spec = FIELD.spec.to_json()
    stream = smnoise.MaskStream(FIELD, 64, device="cuda")
    results = {}
    for name, call in (("op", lambda: smnoise.ops.color_mask(seed, samples, spec)), ("MaskStream", stream)):
        times = []
        for _ in range(200):
            torch.cuda.synchronize()
            begin = time.perf_counter()
            for _ in range(20):
                call()
            times.append(1e6 * (time.perf_counter() - begin) / 20)
        results[name] = round(statistics.median(times), 2)
    return results


def rows(backend: str) -> Iterator[Row]:
    """All numbers of a backend, each as soon as it is known: where it stands in the results, and the value."""
    for workload in workloads.WORKLOADS:
        yield from masks(workload, backend)
    if backend == "cuda":
        yield ("arithmetic floor, microseconds a batch",), floors()
        yield ("host, microseconds a call",), host_microseconds()
        for cache, seconds in first_mask_seconds().items():
            yield ("seconds to the first mask", cache), seconds
