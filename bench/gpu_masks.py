# SPDX-License-Identifier: Apache-2.0
"""Time to make a batch of masks on a GPU, for every strategy on both backends, beside what people run today.

Medians of CUDA graph replays, by CUDA events; what cannot be captured (CuPy, ColorMAE's draws on the host) is called
eagerly, by the clock. A kernel whose answer is not the reference's is not timed, but named under "not timed". Run by
bench/gpu; minutes.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial

import baselines
import floor
import torch
import workloads

import smnoise
from smnoise.models.videomae import VideoMAE

BATCHES = (64, 256, 1024)
BACKENDS = ("cuda", "triton")
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


def ours(workload: str, batch: int) -> Iterator[tuple[str, str, Callable[[], float]]]:
    """Name, backend, and a function that measures it, after a check in the first batch size."""
    for name in workloads.WORKLOADS[workload].strategies:
        for backend in BACKENDS:

            def measured(name=name, backend=backend) -> float:
                sampler = workloads.make_sampler(workload, name)
                if batch == BATCHES[0]:
                    workloads.check_sampler(name, sampler, batch, device="cuda", backend=backend)
                return replay_microseconds(smnoise.MaskStream(sampler, batch, device="cuda", backend=backend))

            yield name, backend, measured


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


def masks(workload: str, wrong: dict[str, str]) -> dict:
    """Microseconds a batch of every strategy, backend and rival; `wrong` gets what is not timed, and why."""
    found: dict[str, dict] = {"ours": {}, "others": {}}

    def keep(rows: dict[str, float], title: str, batch: int, measured: Callable[[], float]) -> None:
        if title in wrong:
            return
        try:
            rows[str(batch)] = round(measured(), 2)
        except Exception as error:  # of a compiler, a launch or a check: the others are still measured
            wrong[title] = f"{type(error).__name__}: {str(error)[:200]}"

    for batch in BATCHES:
        for name, backend, measured in ours(workload, batch):
            rows = found["ours"].setdefault(name, {}).setdefault(backend, {})
            keep(rows, f"{workload}, {name}, {backend}", batch, measured)
        for name, measured in theirs(workload, batch):
            keep(found["others"].setdefault(name, {}), f"{workload}, {name}", batch, measured)
    return {"what": workloads.WORKLOADS[workload].what.rpartition(",")[0], **found}


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


def training_step_microseconds() -> float:
    """Forward, backward and AdamW of VideoMAE ViT-B, batch 32, bf16 autocast."""
    model = VideoMAE("base").cuda()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    clips = torch.randint(0, 256, (32, 3, 16, 224, 224), dtype=torch.uint8, device="cuda")
    chosen = FIELD(torch.arange(32, device="cuda"))
    times = []
    for _ in range(25):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        with torch.autocast("cuda", torch.bfloat16):
            loss, _ = model(clips, chosen)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        end.record()
        end.synchronize()
        times.append(1000 * begin.elapsed_time(end))
    return round(statistics.median(times[5:]), 1)


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


def measure() -> dict:
    wrong: dict[str, str] = {}
    return {
        "device": torch.cuda.get_device_name(),
        "microseconds a batch": {workload: masks(workload, wrong) for workload in workloads.WORKLOADS},
        "not timed": wrong,
        "arithmetic floor, microseconds a batch": floors(),
        "VideoMAE ViT-B step, batch 32, bf16, microseconds": training_step_microseconds(),
        "host, microseconds a call": host_microseconds(),
    }
