# SPDX-License-Identifier: Apache-2.0
"""Time to make a batch of masks on a GPU, beside what people run today: CUDA graph replays, CUDA events, medians.

Run by bench/gpu; writes the "masks", "step" and "host" parts of its results.
"""

from __future__ import annotations

import statistics
import time

import baselines
import floor
import torch

import smnoise
from smnoise.models.videomae import VideoMAE

GRID, RATIO = (8, 14, 14), 0.9
BATCHES = (64, 256, 1024)
FIELD = smnoise.Green3D(GRID, RATIO)
WRAP = smnoise.Green3D(GRID, RATIO, boundary="wrap")
WHITE = smnoise.White3D(GRID, RATIO)
SPECTROGRAM = ((1, 64, 8), 0.8)


def replay_microseconds(make, repeats: int = 20, rounds: int = 60) -> float:
    """Median time of one call, from replays of a graph that holds `repeats` of them."""
    warm = torch.cuda.Stream()
    warm.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(warm):
        for _ in range(3):
            make()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(repeats):
            make()
    times = []
    for _ in range(rounds):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(1000 * begin.elapsed_time(end) / repeats)
    return statistics.median(times)


def pool_gather(batch: int, slices: int = 4096):
    """The four finished outputs of masks made beforehand, side by side as bytes, gathered by one kernel. The rows are
    drawn once, so small batches come from the cache."""
    pool = FIELD(torch.arange(slices, device="cuda")).tensors
    rows = torch.randint(slices, (batch,), device="cuda")
    # One kernel: the four outputs of a mask side by side as bytes.
    packed = torch.cat([p.view(torch.uint8).reshape(slices, -1) for p in pool], dim=1)
    packed = torch.nn.functional.pad(packed, (0, -packed.shape[1] % 16)).view(torch.int64)
    return lambda: packed[rows]


def masks() -> dict:
    results: dict[str, dict[str, float]] = {}
    visible = FIELD.visible_per_sample
    for batch in BATCHES:
        cases = {}
        for name, sampler in (("field", FIELD), ("wrap", WRAP), ("white", WHITE)):
            for backend in ("cuda", "triton"):
                stream = smnoise.MaskStream(sampler, batch, device="cuda", backend=backend)
                cases[f"{name}, {backend}"] = stream
        seed, samples = torch.zeros((), dtype=torch.int64, device="cuda"), torch.arange(batch, device="cuda")
        for name, sampler in (("field", FIELD), ("wrap", WRAP)):
            json = sampler.spec.to_json()
            cases[f"{name}, cuda, op alone"] = lambda a=seed, b=samples, c=json: smnoise.ops.color_mask(
                a, b, c, "cuda"
            )
        keep = smnoise.MaskStream(FIELD, batch, device="cuda", backend="cuda", outputs="ids_keep")
        cases["field, cuda, ids_keep only"] = keep
        with torch.device("cuda"):
            cases["MAE random masking"] = lambda b=batch: baselines.mae_random(b, GRID, visible)
            cases["random, top-k and scatter"] = lambda b=batch: baselines.topk_random(b, GRID, visible)
            cases["gather from a finished pool"] = pool_gather(batch)
            for name, make in cases.items():
                results.setdefault(name, {})[str(batch)] = round(replay_microseconds(make), 2)
    return results


def spectrogram_masks() -> dict:
    results: dict[str, dict[str, float]] = {}
    blue = {
        "Optim Blue, complementary": smnoise.OptimBlue(*SPECTROGRAM),
        "Optim Blue, independent": smnoise.OptimBlue(*SPECTROGRAM, masks="independent"),
    }
    for batch in BATCHES:
        cases = {
            f"{name}, {backend}": smnoise.MaskStream(sampler, batch, device="cuda", backend=backend)
            for name, sampler in blue.items()
            for backend in ("cuda", "triton")
        }
        with torch.device("cuda"):
            cases["MAE random masking"] = lambda b=batch: baselines.mae_random(b, SPECTROGRAM[0], 102)
            for name, make in cases.items():
                results.setdefault(name, {})[str(batch)] = round(replay_microseconds(make), 2)
    return results


def floors() -> dict:
    device = torch.cuda.get_device_properties(0)
    clock = getattr(device, "clock_rate", floor.CLOCK / 1000) * 1000
    return {
        name: {
            str(b): round(1e6 * floor.floor_seconds(s.spec, b, device.multi_processor_count, clock), 2)
            for b in BATCHES
        }
        for name, s in (("field", FIELD), ("wrap", WRAP))
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
    return {
        "device": torch.cuda.get_device_name(),
        "masks, microseconds a batch": masks(),
        "spectrogram masks, microseconds a batch": spectrogram_masks(),
        "arithmetic floor, microseconds a batch": floors(),
        "VideoMAE ViT-B step, batch 32, bf16, microseconds": training_step_microseconds(),
        "host, microseconds a call": host_microseconds(),
    }
