# SPDX-License-Identifier: Apache-2.0
"""A sampler from words: a strategy's short name, a published recipe's, JSON, or a file."""

from __future__ import annotations

import json
from dataclasses import MISSING, Field, fields, replace
from pathlib import Path
from typing import Any

from . import pools
from .nearest import hint
from .samplers.base import KINDS, Sampler
from .samplers.coupled import Coupled
from .samplers.custom import FUNCTIONS
from .samplers.named import STRATEGIES, imported, register, strategy
from .samplers.presets import presets
from .spec import with_ones

__all__ = ["STRATEGIES", "from_json", "pair_from_json", "register", "sampler_of", "strategy", "usual_ratio"]


COUNTS = ("mask_ratio", "num_visible", "kept")  # of which a sampler has one


def sampler_of(
    text: str,
    grid: tuple[int, ...] | None = None,
    mask_ratio: float | None = None,
    *,
    num_visible: int | None = None,
    usual_grid: tuple[int, ...] | None = None,
    seed: int = 0,
    **parameters,
) -> Sampler:
    """The sampler that a person names, the same way everywhere: on the command line, in trainers and in studies.

    >>> sampler_of("green-3d", (8, 14, 14), boundary="wrap").boundary
    'wrap'
    >>> sampler_of('{"sampler": "OptimBlue", "masks": "independent"}', (64, 8), 0.8).num_visible is None
    True

    Args:
        text: one of
            - a strategy's name (`smnoise.STRATEGIES`), a published recipe's (`smnoise.presets`), or that of a function
              of your own: registered (`smnoise.register`), or "package.module:function";
            - a sampler's JSON, as `to_json` writes it, or "@FILE" or a path that ends with .json, which hold it. What
              it leaves out (grid, ratio, seed) is what is given here; a function that it names is imported;
            - the path of a pool's .safetensors file.
        grid: tokens along (T, H, W), or as the strategy has it. None: a recipe, JSON and a pool have their own.
        mask_ratio, num_visible: the share that is masked, or the visible tokens of a sample; at most one of them. If
            neither is given, a recipe, JSON and a pool of masks have their own; others mask 0.9 of a clip, and 0.8
            where there is no time axis.
        usual_grid: the grid where there is no other.
        seed: 0 .. 2^64 - 1.
        parameters: others of the sampler's own, such as sigma1, sigma2, boundary or per; None is as if not given.

    Raises:
        ValueError, TypeError: for what names no sampler, for a grid, count or parameter that the named one cannot have.
        PoolError, OSError: for a file that cannot be read.
    """
    if not isinstance(text, str):
        raise TypeError(f"a mask is named by a text, such as 'green-3d', got {text!r}")
    parameters = {name: value for name, value in parameters.items() if value is not None}
    if text.lstrip().startswith("{") or text.startswith("@") or text.endswith(".json"):
        own = text if text.lstrip().startswith("{") else _text_of(Path(text.removeprefix("@")))
        given = {"mask_ratio": mask_ratio, "num_visible": num_visible, **parameters}
        return _of_json(own, grid, usual_grid, seed, {n: v for n, v in given.items() if v is not None})
    budget = mask_ratio is not None or num_visible is not None
    if text.endswith(".safetensors"):
        pool = pools.load(text)
        of_masks = isinstance(pool, pools.MaskPool)
        window = grid if of_masks else grid or usual_grid
        ratio = mask_ratio if budget or of_masks else usual_ratio(window or pool.size)
        window = None if window is None else with_ones(window)
        sampler: Sampler = pools.PoolSampler(pool, window, ratio, num_visible=num_visible, seed=seed)
    elif text in presets:
        if num_visible is not None:
            raise ValueError(
                f"{text} has the count of its recipe; give mask_ratio or nothing, not num_visible"
            )
        own_values = {"grid": grid or usual_grid, "mask_ratio": mask_ratio, "seed": seed}
        sampler = presets[text](**{n: v for n, v in own_values.items() if v is not None})
    elif text in STRATEGIES or text in FUNCTIONS or ":" in text:
        if text not in STRATEGIES:
            imported(text)
        if (grid := grid or usual_grid) is None:
            raise ValueError(f"{text} needs a grid, such as (8, 14, 14)")
        ratio = mask_ratio if budget else usual_ratio(grid)
        sampler = strategy(text, tuple(grid), ratio, num_visible=num_visible, seed=seed)
    else:
        raise ValueError(
            f"a mask is a strategy, one of {', '.join([*STRATEGIES, *FUNCTIONS])}; a published recipe's, one of "
            f"{', '.join(presets)}; a function of yours, module:function; a sampler's JSON, or a file of it, @FILE; or "
            f"a pool's .safetensors; got {text!r}{hint(text, [*STRATEGIES, *presets, *FUNCTIONS])}"
        )
    return replace(sampler, **_known(type(sampler), parameters)) if parameters else sampler  # type: ignore[type-var]


def _text_of(path: Path) -> str:
    try:
        return path.read_text()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} does not hold the JSON of a sampler: {error}") from None


def usual_ratio(grid: tuple[int, ...]) -> float:
    """What is masked unless it is said: 0.9 of a clip, 0.8 where there is no time axis."""
    return 0.9 if len(grid) == 3 and grid[0] > 1 else 0.8


def _known(kind: type[Sampler], parameters: dict) -> dict:
    """The parameters. Raises ValueError for one that this kind of sampler does not have."""
    names = [f.name for f in _fields(kind)]
    for name in parameters:
        if name not in names:
            raise ValueError(f"{kind.__name__} has no {name}; its parameters are {', '.join(names)}")
    return parameters


def _of_json(text: str, grid, usual_grid, seed: int, given: dict) -> Sampler:
    """The sampler of a JSON, which may leave out what is given besides; what is in both must be equal."""
    values, kind = _values(text)
    if isinstance(name := values.get("name"), str) and ":" in name:
        imported(name)
    names = {f.name for f in _fields(kind)}
    counts = [name for name in COUNTS if values.get(name) is not None]
    for name, value in _known(kind, given).items():
        if name in COUNTS and counts and name not in counts:
            raise ValueError(f"the JSON of the mask has its {counts[0]}; leave out {name}, here or there")
        if values.setdefault(name, value) not in (value, list(value) if isinstance(value, tuple) else value):
            raise ValueError(f"the JSON of the mask says {name} {values[name]}, but {value} is asked for")
    if (own_grid := values.get("grid")) is None:
        values.pop("grid", None)
    elif not isinstance(own_grid, list):
        raise ValueError(
            f"the grid in the JSON of a mask must be a list such as [8, 14, 14], got {own_grid!r}"
        )
    elif grid is not None and tuple(with_ones(own_grid)) != tuple(with_ones(grid)):
        raise ValueError(
            f"the JSON of the mask is for grid {tuple(own_grid)}, but {tuple(grid)} is asked for"
        )
    if (usual := grid or usual_grid) is not None:
        values.setdefault("grid", usual)
    values.setdefault("seed", seed)
    if "grid" in values and "mask_ratio" in names and not any(values.get(n) is not None for n in COUNTS):
        values["mask_ratio"] = usual_ratio(tuple(values["grid"]))
    return _made(kind, values, None)


def from_json(text: str, *, pool=None) -> Sampler:
    """The sampler that `to_json` wrote. Raises ValueError for anything else.

    pool: for a `PoolSampler`, whose JSON names its pool by hash: that pool.

    >>> from_json(strategy("tube", (2, 4, 4), 0.5).to_json()) == strategy("tube", (2, 4, 4), 0.5)
    True
    """
    values, kind = _values(text)
    return _made(kind, values, pool)


def _fields(kind: type[Sampler]) -> tuple[Field, ...]:
    return fields(kind)  # type: ignore[arg-type]  # a dataclass


def _once(pairs: list[tuple[str, Any]]) -> dict:
    """An object of JSON. Raises ValueError where it says something twice."""
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"it has {next(name for name in names if names.count(name) > 1)!r} twice")
    return values


def _values(text: str) -> tuple[dict, type[Sampler]]:
    """What a sampler's JSON says, and of which kind it is. Raises ValueError for anything else."""
    try:
        values = json.loads(text, object_pairs_hook=_once)
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"not the JSON of a sampler: {error}") from None
    name = values.pop("sampler", None) if isinstance(values, dict) else None
    if not isinstance(name, str) or name not in KINDS:
        raise ValueError(f"expected an object whose 'sampler' is one of {', '.join(KINDS)}; got {text[:80]}")
    kind = KINDS[name]
    if values.pop("contract", 1) != 1:
        raise ValueError("this version of smnoise implements contract 1 only")
    unknown = set(values) - {f.name for f in _fields(kind)}
    if unknown:
        raise ValueError(f"unknown parameters of {kind.__name__}: {sorted(unknown)}")
    return values, kind


def _made(kind: type[Sampler], values: dict, pool) -> Sampler:
    """The sampler of these parameters. Raises ValueError where one is missing or cannot be."""
    required = {f.name for f in _fields(kind) if f.init and f.default is f.default_factory is MISSING}
    if missing := required - set(values):
        raise ValueError(f"the JSON of a {kind.__name__} needs {', '.join(sorted(missing))}")
    try:
        return kind._of_parameters(values, pool)
    except TypeError as error:
        raise ValueError(f"not the JSON of a {kind.__name__}: {error}") from None


def pair_from_json(text: str) -> Coupled:
    """The pair that `Coupled.to_json` wrote. Raises ValueError for anything else."""
    try:
        values = json.loads(text)
    except (TypeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"the JSON of a Coupled was expected, got {text!r}: {error}") from None
    if not isinstance(values, dict) or values.get("sampler") != "Coupled" or values.get("contract") != 1:
        raise ValueError(f"the JSON of a Coupled, contract 1, was expected; got {text!r}")
    given = {name: value for name, value in values.items() if name not in ("sampler", "contract")}
    names = [f.name for f in fields(Coupled)]
    if absent := {"video", "audio"} - set(given):
        raise ValueError(f"the JSON of a Coupled lacks {', '.join(sorted(absent))}")
    if unknown := set(given) - set(names):
        raise ValueError(f"a Coupled has no {', '.join(sorted(unknown))}; it has {', '.join(names)}")
    samplers = {name: from_json(json.dumps(given[name])) for name in ("video", "audio")}
    try:
        return Coupled(**(given | samplers))
    except TypeError as error:
        raise ValueError(f"the JSON of a Coupled has a value of a wrong type: {error}") from None
