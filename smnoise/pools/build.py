# SPDX-License-Identifier: Apache-2.0
"""Pools made from samplers: pattern k is what the sampler gives for sample k."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch

from ..samplers import Color3D, Sampler
from ..samplers.base import check_sampler
from ..samplers.indices import check_device
from ..spec import as_grid, as_int
from .pool import MaskPool, NoisePool, packed

CHUNK = 1 << 22  # tokens made at a time

Report = bool | Callable[[int, int], None]


def build_masks(
    sampler: Sampler, k: int, *, device="cpu", backend: str = "auto", progress: Report = False
) -> MaskPool:
    """Make a pool of the masks of samples 0 .. k - 1.

    Args:
        sampler: any sampler; its seed is used.
        k: how many masks, 1 .. 2^31 - 1. A pool takes ceil(L / 8) bytes a mask.
        device, backend: where masks are made, and how, as in `color_mask`; the pool is the same.
        progress: True for a bar on standard error (needs rich), or a function called with (made, k).
    """
    k = _checked(sampler, k, device)
    bits = torch.empty(k, -(-sampler.num_tokens // 8), dtype=torch.uint8, device="cpu")
    for samples in _chunks(k, sampler.num_tokens, progress):
        masks = sampler(samples.to(device), backend=backend, outputs="mask")
        bits[samples[0] : samples[-1] + 1] = packed(masks.need("mask"))
    return MaskPool(bits, sampler.grid, sampler.visible_per_sample, **_origin(sampler))


def build_noise(
    sampler: Color3D, k: int, size=None, *, device="cpu", backend: str = "auto", progress: Report = False
) -> NoisePool:
    """Make a pool of the noise of samples 0 .. k - 1, larger than the grid, so that masks can be cut from it in many
    places.

    Args:
        sampler: a colour sampler (`Green3D`, ...); its grid and count are not used.
        k: how many volumes, each with sigmas of its own. They take 4 * T * H * W bytes each.
        size: (T, H, W) of a volume, in tokens; by default half as much again as the sampler's grid along each axis
            longer than 1.
        device, backend, progress: as in `build_masks`.
    """
    if not isinstance(sampler, Color3D):
        raise TypeError(
            f"noise is made by colour samplers such as Green3D, not by {type(sampler).__name__}; use build_masks"
        )
    k = _checked(sampler, k, device)
    size = as_grid([n if n == 1 else -(-3 * n // 2) for n in sampler.grid] if size is None else size)
    if math.prod(size) < 2:
        raise ValueError(f"a volume has at least two tokens, got size {size}")
    sampler = replace(sampler, grid=size, mask_ratio=None, num_visible=1, per="clip")  # noise knows no count
    noise = torch.empty(k, *size, dtype=torch.float32, device="cpu")
    for samples in _chunks(k, math.prod(size), progress):
        noise[samples[0] : samples[-1] + 1] = sampler.noise(samples.to(device), backend=backend)
    return NoisePool(noise, **_origin(sampler))


def _checked(sampler, k, device) -> int:
    check_sampler(sampler)
    check_device(device)
    return as_int("k, the number of patterns,", k, 1, 2**31 - 1)


def _origin(sampler: Sampler) -> dict:
    return {
        "periodic": getattr(sampler, "boundary", None) == "wrap",
        "source": {"sampler": json.loads(sampler.to_json())},
    }


def _chunks(k: int, tokens: int, progress: Report) -> Iterator[torch.Tensor]:
    """Sample numbers 0 .. k - 1, as many at a time as memory is fine with."""
    at_once = max(1, CHUNK // tokens)
    with _reporter(progress) as report:
        for begin in range(0, k, at_once):
            end = min(begin + at_once, k)
            yield torch.arange(begin, end, device="cpu")
            report(end, k)


@contextmanager
def _reporter(progress: Report) -> Iterator[Callable[[int, int], None]]:
    if progress is not True:
        yield progress or (lambda made, k: None)
        return
    try:
        from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn
    except ImportError:
        raise ImportError("a progress bar needs rich: pip install rich, or leave out progress") from None
    with Progress(*Progress.get_default_columns()[:-1], MofNCompleteColumn(), TimeRemainingColumn()) as bar:
        task = bar.add_task("building the pool")
        yield lambda made, k: bar.update(task, completed=made, total=k)
