# SPDX-License-Identifier: Apache-2.0
"""A training step of our VideoMAE beside Hugging Face's, with the same sizes, weights, clips and masks, in one run.

Part of `python -m bench`: results/step.json.

A step is forward, backward and AdamW, float32 on the CPU. Time: medians, the programs taking turns; freed memory stays
with the process, as in our trainers, which spares them all the same page faults. Memory: the peak of
what torch's allocator holds during forward and backward beyond what it held before, weights and gradients not counted.
Dual masking, which Hugging Face's has not, decodes half of the hidden tokens: another loss, of its own line.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable

import torch
from torch.profiler import ProfilerActivity, profile

import smnoise
from smnoise import convert
from smnoise.compat import import_timm
from smnoise.convert import huggingface
from smnoise.dual import dual
from smnoise.models.videomae import IMAGENET_MEAN, IMAGENET_STD, SIZES, VideoMAE
from smnoise.train.run.memory import keep_freed_memory

DUAL = " with dual masking"
WORKLOADS = {  # model size: grid, pixels, clips
    "tiny": ((8, 5, 5), 80, 16),
    "small": ((8, 14, 14), 224, 4),
}


def hugging_face(model: VideoMAE):
    """VideoMAEForPreTraining with the same weights."""
    import_timm()  # which mends torchvision, that transformers imports too
    from transformers import VideoMAEConfig, VideoMAEForPreTraining

    config = convert.VideoConfig(model.size, model.grid, model.tubelet, model.patch)
    theirs = VideoMAEForPreTraining(VideoMAEConfig(**huggingface.config(config)))
    theirs.load_state_dict(convert.convert_state(model.state_dict(), "huggingface", config=config).state)
    return theirs


class Program:
    """One of the programs that are compared: `step` trains, `loss` is what came out."""

    def __init__(self, model, call, compiled: bool):
        self.model, self.call = model, torch.compile(call) if compiled else call
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)

    def step(self) -> float:
        loss = self.call()
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.item()

    def seconds(self) -> float:
        begin = time.perf_counter()
        self.step()
        return time.perf_counter() - begin

    def peak_bytes(self) -> int:
        """Of activations: gradients of the weights exist already, so that only what comes and goes is counted."""
        self.call().backward()
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
            self.call().backward()
        self.optimizer.zero_grad(set_to_none=True)
        held = peak = 0
        changes = (e for e in recorded.profiler.kineto_results.events() if e.name() == "[memory]")
        for event in sorted(changes, key=lambda e: e.start_ns()):
            held += event.nbytes()
            peak = max(peak, held)
        return peak


def programs(size: str) -> dict[str, Program]:
    grid, side, batch = WORKLOADS[size]
    torch.manual_seed(0)
    clips = torch.randint(0, 256, (batch, 3, 2 * grid[0], side, side), dtype=torch.uint8)
    masks = smnoise.Green3D(grid, num_visible=grid[0] * (grid[1] * grid[2] // 10))(range(batch))
    halves = dual(masks, smnoise.White3D(grid, 0.5, seed=1)(range(batch)), masks.num_masked // 2)
    ours = VideoMAE(size, grid)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))

    def theirs_on(model):
        def call():
            pixels = ((clips.float() / 255 - mean) / std).transpose(1, 2).contiguous()
            return model(pixels, bool_masked_pos=masks.bool_masked_pos()).loss

        return call

    def ours_on(model, masks=masks):
        return lambda: model(clips, masks)[0]

    found = {}
    for compiled in (False, True):
        how = "compiled" if compiled else "eager"
        copy, dually = VideoMAE(size, grid), VideoMAE(size, grid)
        for model in (copy, dually):
            model.load_state_dict(ours.state_dict())
        theirs = hugging_face(ours)
        found[f"smnoise, {how}"] = Program(copy, ours_on(copy), compiled)
        found[f"smnoise{DUAL}, {how}"] = Program(dually, ours_on(dually, halves), compiled)
        found[f"Hugging Face, {how}"] = Program(theirs, theirs_on(theirs), compiled)
    return found


def measure(rounds: int, sizes: Iterable[str] = WORKLOADS) -> dict:
    import transformers

    keep_freed_memory()
    return {
        "transformers": transformers.__version__,
        "sizes": {size: of_size(size, rounds) for size in sizes},
    }


def of_size(size: str, rounds: int) -> dict:
    chosen = programs(size)
    losses = {name: program.step() for name, program in chosen.items()}
    for part in (False, True):  # dual masking has another loss
        alike = {name: loss for name, loss in losses.items() if (DUAL in name) == part}
        first = next(iter(alike.values()))
        for name, loss in alike.items():
            if abs(loss - first) > 1e-5 * first:
                raise SystemExit(
                    f"{name} has loss {loss}, the first program {first}: no number for a wrong answer"
                )
    for program in chosen.values():
        program.step()
    times: dict[str, list[float]] = {name: [] for name in chosen}
    for _ in range(rounds):
        for name, program in chosen.items():
            times[name].append(program.seconds())
    grid, side, batch = WORKLOADS[size]
    rows = {
        name: {
            "milliseconds": round(1000 * statistics.median(times[name]), 1),
            "peak MiB": round(p.peak_bytes() / 2**20, 1),
        }
        for name, p in chosen.items()
    }
    theirs = [row for name, row in rows.items() if name.startswith("Hugging Face")]
    best = {key: min(row[key] for row in theirs) for key in ("milliseconds", "peak MiB")}
    for row in rows.values():
        row["time of their best"] = round(row["milliseconds"] / best["milliseconds"], 3)
        row["memory of their best"] = round(row["peak MiB"] / best["peak MiB"], 3)
    return {
        "model": SIZES[size].__dict__,
        "grid": grid,
        "pixels": side,
        "clips": batch,
        "loss": losses,
        "programs": rows,
    }
