# SPDX-License-Identifier: Apache-2.0
"""Rows of samplers that are called with more than sample indices: a bias, a table of sigmas, origins, points, lengths;
of sets; and of a bandit that is told the losses."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch

import smnoise

ROWS = 1024  # the largest batch that has its arguments made ahead


class Called:
    """A sampler that is called with the same further arguments each time, as a training step has them at hand."""

    def __init__(self, sampler, more: Callable[[int, torch.device], dict], run: Callable | None = None):
        self.sampler, self.more, self.run = sampler, cache(more), run or sampler
        self.num_tokens, self.visible_per_sample = sampler.num_tokens, sampler.visible_per_sample
        self.grid = sampler.grid

    def __call__(self, samples=None, *, batch_size: int | None = None, step=None, device=None, **call):
        rows = len(samples) if batch_size is None else batch_size
        where = step.device if isinstance(step, torch.Tensor) and device is None else device
        more = self.more(rows, torch.device("cpu" if where is None else where))
        if batch_size is not None:
            call |= {"batch_size": batch_size, "step": step}
        return self.run(samples, device=device, **call, **more)

    def prepare(self, device=None, **more) -> None:
        self.sampler.prepare(device, **more)


def bias_of(rows: int, device, tokens: int) -> dict:
    values = torch.rand(ROWS, tokens, generator=torch.Generator().manual_seed(0))[:rows]
    return {"bias": values.to(device), "bias_weight": 0.07}


def origins_of(rows: int, device) -> dict:
    """Windows side by side in time."""
    starts = torch.arange(rows) * 8
    return {"origin": torch.stack([starts, 0 * starts, 0 * starts], dim=1).to(device)}


def points_of(rows: int, device, points: int) -> dict:
    """A cloud for each row, of points that are drawn from a cube of 2."""
    drawn = torch.rand(ROWS, points, 3, generator=torch.Generator().manual_seed(0))[:rows]
    return {"points": (2 * drawn - 1).to(device)}


def lengths_of(rows: int, device, lengths: int, longest: int) -> dict:
    return {"lengths": torch.full((rows,), lengths, device=device), "longest": longest}


def taught(sampler, bandit: smnoise.SigmaBandit) -> Callable:
    """Masks, and what a step then tells the bandit."""

    def run(samples=None, *, batch_size=None, step=None, device=None, losses, backend="auto"):
        if samples is None:
            samples = smnoise.sample_indices(step, batch_size, device=device)
        made = sampler(samples, device=device, backend=backend, sigma_table=bandit.table.to(losses.device))
        if losses.device == bandit.table.device:
            bandit.observe(sampler.seed, torch.as_tensor(samples), losses)
        return made

    return run


def of_call(name: str, grid: tuple[int, int, int], visible: int) -> Called | None:
    """The row of that name; None for any other."""
    green = smnoise.Green3D(grid, num_visible=visible)
    if name == "green-3d, bias":
        return Called(green, lambda rows, device: bias_of(rows, device, green.num_tokens))
    if name == "green-3d, sigma table":
        table = smnoise.SigmaSchedule("easy-to-hard", 16)(8)
        return Called(green, lambda rows, device: {"sigma_table": table.to(device)})
    if name == "green-3d, origins":
        return Called(green, origins_of)
    if name == "green-3d, context and targets":
        tokens = green.num_tokens
        sets = smnoise.ContextTargets(grid, num_context=visible, num_target=tokens // 2, strategy="green-3d")
        return Called(sets, lambda rows, device: {}, lambda *args, **call: sets.sets(*args, **call).context)
    if name == "green-3d, bandit":
        run = taught(green, smnoise.SigmaBandit())
        return Called(green, lambda rows, device: {"losses": torch.linspace(0, 1, rows, device=device)}, run)
    tokens = green.num_tokens
    if name == "green, points":
        clouds = smnoise.PointMasks(tokens, num_visible=visible, color="green", step=0.25)

        def run(samples=None, *, device=None, **call):  # they are made where the points are
            return clouds(samples, **call)

        return Called(green, lambda rows, device: points_of(rows, device, tokens), run)
    if name == "green-2d, lengths":  # all of the longest, which costs most
        flat = smnoise.Green2D(grid[1:], num_visible=visible)
        ragged = smnoise.Ragged(grid[1:], round(1 - visible / tokens, 2), strategy="green-2d")
        whole = {"lengths": grid[1], "longest": grid[1]}
        return Called(flat, lambda rows, device: lengths_of(rows, device, **whole), ragged)
    return None
