# SPDX-License-Identifier: Apache-2.0
"""How the cost of masks grows with the batch, the grid, sigma and the steps of Optim Blue, above the arithmetic floor.

Part of `python -m bench`: results/scaling.json, results/scaling.png.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

import smnoise

from . import baselines, floor
from .clock import in_turns, threads
from .workloads import check_masks, check_sampler

GRID, RATIO = (8, 14, 14), 0.9
BATCHES = (1, 4, 16, 64, 256, 1024)
GRIDS = (GRID, (16, 14, 14), (16, 28, 28), (32, 28, 28), (64, 28, 28))
SIGMAS = (0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
STEPS = (0, 64, 128, 256, 512, 1024)
FLOOR = "arithmetic floor, "


def samplers(grid, **parameters) -> dict[str, smnoise.samplers.Sampler]:
    field = smnoise.Green3D(grid, RATIO, **parameters)
    return {"Green3D, field": field, "Green3D, wrap": replace(field, boundary="wrap")}


def next_batches(sampler, batch: int):
    step = torch.zeros((), dtype=torch.int64)

    def make():
        step.add_(1)
        return sampler(batch_size=batch, step=step)

    return make


def measure(seconds: float, few: bool = False) -> dict:
    """few: fewer and smaller points, to try things."""
    every = slice(None, 3) if few else slice(None)
    parts = {
        "batch": (by_batch, BATCHES[every]),
        "grid": (by_grid, GRIDS[every]),
        "sigma": (by_sigma, SIGMAS[every]),
        "steps": (by_steps, STEPS[every]),
    }
    results = {
        "peak of a core, operations a second": {n: round(v) for n, v in floor.peak()._asdict().items()}
    }
    for name, (points, values) in parts.items():
        lines: dict[str, list[float]] = {}
        for value in values:
            for line, microseconds in points(value, seconds).items():
                lines.setdefault(line, []).append(microseconds)
        results[name] = {"values": values, **lines}
    return results


def timed(
    makers: dict, floors: dict[str, smnoise.samplers.Sampler], batch: int, seconds: float, cores: int = 1
):
    """Microseconds a mask of each maker, and the floors of samplers."""
    with threads(cores):
        found = {name: t / batch for name, t in in_turns(makers, seconds).items()}
    found |= {FLOOR + name: floor.core_microseconds(sampler) / cores for name, sampler in floors.items()}
    return {name: round(value, 4) for name, value in found.items()}


def with_others(batch: int, grid, others: dict, sampled: dict, against: int) -> dict:
    """Makers of a batch, checked."""
    visible = sampled["Green3D, field"].visible_per_sample
    for name, sampler in sampled.items():
        check_sampler(name, sampler, batch, against)
    for name, make in others.items():
        check_masks(name, make(batch, grid, visible), batch, grid[0] * grid[1] * grid[2], visible)
    makers = {name: next_batches(sampler, batch) for name, sampler in sampled.items()}
    return makers | {name: partial(make, batch, grid, visible) for name, make in others.items()}


def by_batch(batch: int, seconds: float) -> dict:
    """On all threads, the floor too."""
    sampled = samplers(GRID) | {"White3D": smnoise.White3D(GRID, RATIO)}
    makers = with_others(batch, GRID, {"MAE random masking": baselines.mae_random}, sampled, against=1)
    return timed(makers, samplers(GRID), batch, seconds, torch.get_num_threads())


def by_grid(grid, seconds: float, batch: int = 16) -> dict:
    others = {"MAE random masking": baselines.mae_random, "SciPy band-pass, field": baselines.scipy_field}
    makers = with_others(batch, grid, others, samplers(grid), against=1)
    return timed(makers, samplers(grid), batch, seconds)


def by_sigma(sigma: float, seconds: float, batch: int = 16) -> dict:
    """One sigma2 for all samples, and half of it for sigma1."""
    sampled = samplers(GRID, sigma1=(sigma / 2, sigma / 2), sigma2=(sigma, sigma))
    return timed(with_others(batch, GRID, {}, sampled, against=1), sampled, batch, seconds)


def by_steps(steps: int, seconds: float, batch: int = 60) -> dict:
    blue = smnoise.OptimBlue((64, 8), 0.8, steps=steps)
    sampled = {"complementary": blue, "independent": replace(blue, masks="independent")}
    for name, sampler in sampled.items():
        check_sampler(f"Optim Blue, {name}", sampler, batch, against=1)
    makers = {name: next_batches(sampler, batch) for name, sampler in sampled.items()}
    return timed(makers, sampled, batch, seconds)


def draw(results: dict, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    about = results["about"]
    panels = {
        "batch": ("batch", f"grid {GRID}, {about['threads']} threads, the floor too"),
        "grid": ("tokens of the grid", "batch 16, 1 thread"),
        "sigma": ("sigma2, tokens; sigma1 is half of it", f"grid {GRID}, 1 thread"),
        "steps": ("swap steps of Optim Blue", "grid (64, 8), 1 thread"),
    }
    figure, axes = plt.subplots(2, 2, figsize=(12, 9))
    for axis, (name, (label, title)) in zip(axes.flat, panels.items(), strict=True):
        values = results[name]["values"]
        lines = {n: line for n, line in results[name].items() if n != "values"}
        if name == "grid":
            values = [t * h * w for t, h, w in values]
        colors = {}
        for line, microseconds in lines.items():
            of = line.removeprefix(FLOOR)
            dashed = line != of
            (drawn,) = axis.plot(
                values, microseconds, label=None if dashed else line, color=colors.get(of),
                **({"linestyle": "--"} if dashed else {"marker": "."}),
            )  # fmt: skip
            colors.setdefault(of, drawn.get_color())
        axis.set(xlabel=label, ylabel="µs a mask", title=title, yscale="log")
        if name in ("batch", "grid"):
            axis.set_xscale("log", base=2)
        if name == "batch":
            axis.set_xticks(values, [str(v) for v in values])
        if name == "grid":
            axis.set_xticks(values, ["x".join(map(str, g)) for g in results[name]["values"]], fontsize=8)
            axis.set_xlabel("grid")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    figure.suptitle(
        f"Cost of a mask (dashed: the floor of its arithmetic), ratio {RATIO}, Optim Blue 0.8; "
        f"{about['processor']}, {about['instruction set']}"
    )
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
