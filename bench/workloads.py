# SPDX-License-Identifier: Apache-2.0
"""What is timed, and the checks that come before: no number for a wrong answer."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch

import smnoise

from . import baselines
from .calls import of_call

POOL, VOLUME = 3000, (12, 20, 20)  # patterns of a pool, and the size of a volume that a window is cut from


class WrongAnswerError(RuntimeError):
    """Raised instead of a time."""


class Workload(NamedTuple):
    what: str
    grid: tuple[int, int, int]
    visible: int
    batch: int
    strategies: tuple[str, ...]
    baselines: dict[str, Callable]


VIDEO, SPECTROGRAM = (8, 14, 14), (1, 64, 8)
COLORS = ("white", "red", "blue", "green", "purple")


@cache
def volumes(device: str = "cpu") -> torch.Tensor:
    """Noise [POOL, T, H, W] for ColorMAE's way."""
    return smnoise.Green3D(VOLUME, 0.9).noise(range(POOL), device=device)


def colormae(batch: int, grid: tuple[int, int, int], visible: int):
    return baselines.colormae(volumes())(batch, grid, visible)


WORKLOADS = {
    "video": Workload(
        "grid (8, 14, 14), 160 of 1568 tokens visible, batches of 32",
        VIDEO,
        160,
        32,
        (
            *(
                "green-3d",
                "green-3d, wrap",
                "green-3d, counts",
                "green-3d, bias",
                "green-3d, sigma table",
                "green-3d, bandit",
                "green-3d, origins",
                "green-3d, context and targets",
                "pool of masks",
                "pool of noise",
                "random",
                "tube",
                "frame",
            ),
            *("block", "multiblock", "inverse-block", "grid", "running-cell"),
            *(f"{c}-3d" for c in COLORS if c != "green"),
            *(f"{c}-2d{tube}" for tube in ("", "-tube") for c in COLORS),
            "optim-blue",
        ),
        {
            "MAE random masking": baselines.mae_random,
            "random, top-k and scatter": baselines.topk_random,
            "VideoMAE tubes, NumPy": baselines.tubes,
            "ColorMAE's pool": colormae,
            "SciPy band-pass, field": baselines.scipy_field,
            "SciPy band-pass, wrap": baselines.scipy_wrap,
            "conv3d and top-k, field": baselines.conv3d_topk,
        },
    ),
    "spectrogram": Workload(
        "grid (64, 8), 102 of 512 tokens visible, batches of 160",
        SPECTROGRAM,
        102,
        160,
        (
            *(
                "optim-blue",
                "optim-blue, independent",
                "random",
                "block",
                "multiblock",
                "inverse-block",
                "grid",
            ),
            *("time-bars", "frequency-bars", "bars"),
            *(f"{c}-2d" for c in COLORS),
            *(f"{c}-1d" for c in COLORS),
            *("green-2d, lengths", "green, points"),
        ),
        {
            "MAE random masking": baselines.mae_random,
            "random, top-k and scatter": baselines.topk_random,
            "Optim Blue, NumPy": baselines.optim_blue_numpy,
            "void and cluster, NumPy": baselines.void_and_cluster,
        },
    ),
}
YARDSTICK = "MAE random masking"


def make_sampler(workload: str, name: str):
    """The sampler of a row."""
    return sampler_of(name, WORKLOADS[workload].grid, WORKLOADS[workload].visible)


@cache
def sampler_of(name: str, grid: tuple[int, int, int], visible: int):
    """A strategy by its short name; ", wrap" and ", independent" set a parameter, ", counts" is a count for each frame;
    pools are of Green3D; calls.py has those that are called with more."""
    green = smnoise.Green3D(grid, num_visible=visible)
    if name == "pool of masks":
        return smnoise.PoolSampler(smnoise.pools.build_masks(green, POOL))
    if name == "pool of noise":
        size = tuple(-(-3 * n // 2) if n > 1 else 1 for n in grid)
        return smnoise.PoolSampler(smnoise.pools.build_noise(green, POOL, size), grid, num_visible=visible)
    if (called := of_call(name, grid, visible)) is not None:
        return called
    if name == "green-3d, counts":
        counts = tuple(visible // grid[0] + (i < visible % grid[0]) for i in range(grid[0]))
        return smnoise.FrameCounts(grid, counts, strategy="green-3d", drawn=True)
    if name.endswith("-1d"):
        grid = (grid[0] * grid[1] * grid[2],)
    elif grid[0] == 1:
        grid = grid[1:]
    short, _, variant = name.partition(", ")
    parameters = {"": {}, "wrap": {"boundary": "wrap"}, "independent": {"masks": "independent"}}[variant]
    return smnoise.strategy(short, grid, num_visible=visible, **parameters)


def check_sampler(name: str, sampler, batch: int, against: int = 2, device="cpu", backend="auto") -> None:
    """Every output of `against` samples as the reference has them; in a whole batch exact counts, outputs that agree.

    Raises WrongAnswerError.
    """
    made = sampler(batch_size=batch, step=1, device=device, backend=backend)
    samples = range(batch, batch + min(against, batch))
    right = sampler(samples, backend="reference")
    for output in ("mask", "ids_keep", "ids_mask", "ids_restore"):
        got = getattr(made, output)[: len(samples)].cpu()
        if not torch.equal(got, getattr(right, output)):
            raise WrongAnswerError(f"{name}: {output} is not the reference's; it is not timed")
    check_masks(
        name,
        (made.mask, made.ids_restore, made.ids_keep),
        batch,
        sampler.num_tokens,
        sampler.visible_per_sample,
    )


def check_masks(name: str, made, batch: int, tokens: int, visible: int) -> None:
    """Exact counts, and ids that say the same as the mask.

    made: a mask [batch, tokens], bool or 0 and 1, alone or among other outputs: ids_keep [batch, visible] in any order,
    ids_restore [batch, tokens].

    Raises WrongAnswerError.
    """

    def need(right: bool, what: str) -> None:
        if not right:
            raise WrongAnswerError(f"{name}: {what}; it is not timed")

    outputs = [made] if isinstance(made, torch.Tensor) else list(made)
    masks = [o for o in outputs if o.dtype != torch.int64]
    need(len(masks) == 1 and masks[0].shape == (batch, tokens), f"no mask of shape ({batch}, {tokens})")
    hidden = masks[0] != 0
    need(bool((masks[0] == hidden).all()), "a mask of other values than 0 and 1")
    need(bool(((~hidden).sum(1) == visible).all()), f"masks that do not show {visible} tokens each")
    shown = (~hidden).nonzero()[:, 1].view(batch, visible)
    for ids in (o for o in outputs if o.dtype == torch.int64):
        if ids.shape == (batch, visible):
            need(torch.equal(ids.sort(1).values, shown), "ids_keep that are not what the mask shows")
        elif ids.shape == (batch, tokens):
            every = torch.arange(tokens, device=ids.device).expand(batch, tokens)
            need(torch.equal(ids.sort(1).values, every), "ids_restore that are no permutation")
            need(torch.equal(ids >= visible, hidden), "ids_restore that do not fit the mask")
