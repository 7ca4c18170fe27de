# SPDX-License-Identifier: Apache-2.0
"""Strategies by their names, the same arguments for all; and functions of scores that are given a name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

from ..nearest import Named
from ..spec import COLORS, as_choice, with_ones
from .bars import Frame, FrequencyBars, TimeBars, TimeFrequencyBars
from .base import Sampler
from .blocks import Block, InverseBlock
from .cells import Grid, RunningCell
from .color import COLOR_KINDS
from .custom import FUNCTIONS, Custom, Scores
from .flat import FLAT_KINDS
from .optim_blue import OptimBlue
from .presets import presets
from .random import Random, Tube


def _color_3d(kind, grid, *arguments, **parameters):
    return kind(with_ones(grid), *arguments, **parameters)


STRATEGIES: Named[Callable[..., Sampler]] = Named(
    "strategy",
    {
        "random": Random,
        "tube": Tube,
        "frame": Frame,
        "block": Block,
        "multiblock": partial(Block, scale=(0.15, 0.2), aspect=(0.75, 1.5)),
        "inverse-block": InverseBlock,
        "grid": Grid,
        "running-cell": RunningCell,
        "time-bars": TimeBars,
        "frequency-bars": FrequencyBars,
        "bars": TimeFrequencyBars,
        **{f"{c}-3d": partial(_color_3d, COLOR_KINDS[f"{c.title()}3D"]) for c in COLORS},
        **{f"{c}-2d": FLAT_KINDS[f"{c.title()}2D"] for c in COLORS},
        **{f"{c}-2d-tube": partial(FLAT_KINDS[f"{c.title()}2D"], tube=True) for c in COLORS},  # type: ignore[call-arg]
        **{f"{c}-1d": FLAT_KINDS[f"{c.title()}1D"] for c in COLORS},
        "optim-blue": OptimBlue,
    },
)


def strategy(
    name: str,
    grid: tuple[int, ...],
    mask_ratio: float | None = None,
    *,
    num_visible: int | None = None,
    seed: int = 0,
    **parameters,
) -> Sampler:
    """The sampler of a name, all of which take the same arguments.

    >>> strategy("tube", (8, 14, 14), num_visible=160)
    Tube(grid=(8, 14, 14), mask_ratio=None, num_visible=160, seed=0)

    Args:
        name: one of `smnoise.STRATEGIES`, or of a function of yours: see `smnoise.register`.
        grid: tokens along (T, H, W); where it makes sense (H, W); for the 1D colours (L,).
        mask_ratio, num_visible: one of them. num_visible counts tokens per sample, whatever the strategy. A ratio is of
            the tokens of a sample; for tubes and 2D colours of each frame, since each shows equally many.
        seed: 0 .. 2^64 - 1.
        parameters: others of the sampler's own.

    Raises:
        ValueError, TypeError: for an unknown name, and whatever the sampler itself refuses.
    """
    if name in FUNCTIONS or (isinstance(name, str) and ":" in name):
        imported(name)
        return Custom(
            with_ones(grid), mask_ratio, num_visible=num_visible, name=name, seed=seed, **parameters
        )
    kind = STRATEGIES[as_choice("strategy", name, STRATEGIES)]
    return kind(grid, mask_ratio, num_visible=num_visible, seed=seed, **parameters)


def register(name: str, function: Scores | None = None) -> Any:
    """Make a function of scores a strategy: `smnoise.strategy(name, ...)` then gives a `Custom` sampler of it.

    Args:
        name: what it is called from now on; no name that smnoise itself has.
        function: called as function(seed, samples, grid, **parameters) with seed int64 [], samples int64 [B] and grid
            (T, H, W); gives float or integer scores [B, L] or [B, T, H, W] on the device of samples, of any width: none
            is rounded before it is compared. Its result must depend on nothing else, or masks are no longer a function
            of (seed, sample index, parameters): take random numbers from `smnoise.ops.random_words` (purposes 12 to 15
            are yours), not from torch's generators.

    Returns the function, so that it can be used as a decorator: @register("name").

    Raises ValueError for a name that is taken by another function, TypeError for what cannot be called.
    """
    if function is None:
        return lambda function: register(name, function)
    if not isinstance(name, str) or not callable(function):
        raise TypeError(
            f"register needs a name and a function of (seed, samples, grid), got {name!r}, {function!r}"
        )
    if name in STRATEGIES or name in presets:
        raise ValueError(f"{name!r} is one of smnoise's own strategies; choose another name")
    known = FUNCTIONS.get(name, function)
    # One that is defined anew under its own name, as in a notebook, takes the place of the old one.
    if known is not function and _place(known) != _place(function):
        raise ValueError(
            f"a strategy {name!r} is registered already, by another function; choose another name"
        )
    FUNCTIONS[name] = function
    return function


def _place(function) -> tuple[str | None, str | None]:
    """Where a function was defined."""
    return getattr(function, "__module__", None), getattr(function, "__qualname__", None)


def imported(name: str) -> Scores:
    """The function that "package.module:function" names, registered by that name.

    Raises ValueError where there is none.
    """
    if name not in FUNCTIONS:
        module, _, attribute = name.partition(":")
        try:
            function = getattr(import_module(module), attribute)
        except (ImportError, AttributeError, ValueError) as error:
            hint = "; is its folder in PYTHONPATH?" if isinstance(error, ModuleNotFoundError) else ""
            raise ValueError(
                f"strategy {name!r} names a function module:function, but: {error}{hint}"
            ) from error
        if not callable(function):
            raise ValueError(
                f"strategy {name!r} names no function: {type(function).__name__} cannot be called"
            )
        register(name, function)
    return FUNCTIONS[name]
