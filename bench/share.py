# SPDX-License-Identifier: Apache-2.0
"""What masks take of a training step on the CPU: VideoMAE of bench/step.py, forward, backward and AdamW, not compiled.

Part of `python -m bench`: results/share.json.
"""

from __future__ import annotations

from functools import partial
from statistics import median

import torch

import smnoise
from smnoise.models.videomae import VideoMAE
from smnoise.train.run.memory import keep_freed_memory

from . import baselines, step
from .clock import in_turns
from .scaling import next_batches
from .workloads import check_masks, check_sampler

OTHERS = {
    "MAE random masking": baselines.mae_random,
    "VideoMAE tubes, NumPy": baselines.tubes,
    "SciPy band-pass, field": baselines.scipy_field,
}
STRATEGIES = {
    "Green3D, field": ("green-3d", {}),
    "Green3D, wrap": ("green-3d", {"boundary": "wrap"}),
    "tube": ("tube", {}),
}


def measure(seconds: float, rounds: int) -> dict:
    keep_freed_memory()
    return {size: of_size(size, seconds, rounds) for size in step.WORKLOADS}


def of_size(size: str, seconds: float, rounds: int) -> dict:
    """Milliseconds of a step, microseconds a batch of masks, on all threads."""
    grid, side, batch = step.WORKLOADS[size]
    visible = grid[0] * (grid[1] * grid[2] // 10)
    makers = {}
    for name, (short, parameters) in STRATEGIES.items():
        sampler = smnoise.strategy(short, grid, num_visible=visible, **parameters)
        check_sampler(name, sampler, batch)
        makers[name] = next_batches(sampler, batch)
    for name, make in OTHERS.items():
        check_masks(name, make(batch, grid, visible), batch, grid[0] * grid[1] * grid[2], visible)
        makers[name] = partial(make, batch, grid, visible)
    clips = torch.randint(0, 256, (batch, 3, 2 * grid[0], side, side), dtype=torch.uint8)
    green, model = makers["Green3D, field"], VideoMAE(size, grid)
    program = step.Program(model, lambda: model(clips, green())[0], compiled=False)
    program.step()
    milliseconds = 1000 * median(program.seconds() for _ in range(rounds))
    return {
        "grid": grid,
        "clips": batch,
        "visible": visible,
        "step, milliseconds": round(milliseconds, 2),
        "masks, microseconds a batch": {n: round(t, 2) for n, t in in_turns(makers, seconds).items()},
    }
