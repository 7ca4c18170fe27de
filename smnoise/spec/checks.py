# SPDX-License-Identifier: Apache-2.0
"""What specs share: how they become JSON, and checks of parameters, each of which returns the value as a plain Python
one, or raises TypeError or ValueError with what was expected and what came."""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from dataclasses import MISSING, asdict, fields
from fractions import Fraction
from functools import lru_cache
from numbers import Integral, Real
from typing import TYPE_CHECKING

import numpy as np

from ..nearest import hint

if TYPE_CHECKING:
    from typing_extensions import Self

MAX_TOKENS = 1 << 24


def visible_of_ratio(tokens: int, mask_ratio: float) -> int:
    """Contract section 6: floor(tokens * (1 - ratio)), the ratio read as the decimal it is written as.

    >>> visible_of_ratio(1568, 0.9), visible_of_ratio(512, 0.8), visible_of_ratio(1000, 0.9)
    (156, 102, 100)
    """
    return math.floor(tokens * (1 - Fraction(repr(float(mask_ratio)))))


def as_int(name: str, value, low: int, high: int) -> int:
    """Return an integer from low to high as an int. Raises TypeError for what is none, ValueError for others."""
    if type(value) is not int:  # asking an abstract class takes as long as making a tensor
        if isinstance(value, bool) or not isinstance(value, Integral):
            raise TypeError(f"{name} must be an integer, got {value!r}")
        value = int(value)
    if not low <= value <= high:
        raise ValueError(f"{name} must be in {low}..{high}, got {value}")
    return value


def signed64(value: int) -> int:
    """A uint64 as the int64 of the same bits, which is how torch holds it; an int64 as it is."""
    return (value + 2**63) % 2**64 - 2**63


def as_float(name: str, value, largest: float = 1e6) -> float:
    """Return a number as a float. Raises TypeError for what is none, ValueError for one that is not finite or too
    large.
    """
    value = _as_real(name, value)
    if not abs(value) <= largest:
        raise ValueError(f"{name} must be a number of magnitude at most {largest:g}, got {value}")
    return value


def as_ratio(value) -> float:
    """Return a mask ratio as a float. Raises TypeError for no number, ValueError for one not in (0, 1)."""
    ratio = _as_real("mask_ratio", value)
    if not 0 < ratio < 1:
        percent = f", did you mean {ratio / 100:g}?" if 1 < ratio < 100 else ""
        raise ValueError(f"mask_ratio must be in (0, 1), the share that is masked; got {ratio}{percent}")
    return ratio


def _as_real(name: str, value) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a real number, got {value!r}")
    try:
        return float(str(value)) if isinstance(value, np.floating) else float(value)
    except OverflowError:  # of an int
        return math.inf


def with_ones(grid):
    """Return (L,) as (1, 1, L) and (H, W) as (1, H, W); anything else as it is."""
    if isinstance(grid, (tuple, list)) and len(grid) < 3:
        return (1,) * (3 - len(grid)) + tuple(grid)
    return grid


def as_axes(value, what: str) -> tuple:
    """A grid's three values; ValueError or TypeError for anything else, with the grid that may have been meant."""
    if isinstance(value, Integral) and not isinstance(value, bool):
        raise TypeError(f"grid must be {what}, got {value!r}; write it in brackets: (8, 14, 14)")
    if (
        isinstance(value, (tuple, list))
        and len(value) in (1, 2)
        and all(isinstance(n, Integral) for n in value)
    ):
        plane = ", ".join(map(str, value)) if len(value) == 2 else f"1, {value[0]}"
        raise ValueError(
            f"grid must be {what}, got {tuple(value)}; did you mean (1, {plane}), one picture, or (8, {plane}), a clip "
            "of 16 frames in tubelets of two?"
        )
    return as_tuple("grid", value, 3, what)


def as_tuple(name: str, value, length: int, what: str) -> tuple:
    """Return `length` values as a tuple; `what` says in errors what was expected. Raises TypeError for what has no
    values, ValueError for another number of them.
    """
    if isinstance(value, str) or not np.iterable(value):  # an array of no dimensions is not
        raise TypeError(f"{name} must be {what}, got {value!r}")
    value = tuple(value)
    if len(value) != length:
        raise ValueError(f"{name} must be {what}, got {len(value)} values: {value!r}")
    return value


def as_choice(name: str, value, choices: Collection[str]) -> str:
    """Return one of the choices. Raises ValueError, with the one that may have been meant, for another."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}; got {value!r}{hint(value, choices)}")
    return value


def as_visible(value, tokens: int, where: str) -> int:
    """Return a count of visible tokens that leaves at least one masked; `where` names what the tokens are of. Raises
    TypeError or ValueError for any other.
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"num_visible must be an integer, got {value!r}")
    value = int(value)
    if tokens < 2:
        raise ValueError(f"a {where} of one token cannot be masked in part; use a larger grid")
    if not 0 < value < tokens:
        raise ValueError(
            f"between 1 and {tokens - 1} of the {tokens} tokens of a {where} must be visible, got {value}; "
            f"change mask_ratio or num_visible (counted per {where}), or use a larger grid"
        )
    return value


class Spec:
    """A frozen dataclass that an op is given as JSON."""

    def to_json(self) -> str:
        """Return the fields as JSON, which `from_json` reads."""
        return json.dumps(asdict(self), separators=(",", ":"))  # type: ignore[call-overload]  # a dataclass

    @classmethod
    @lru_cache(maxsize=1024)
    def from_json(cls, text: str) -> Self:
        """What `to_json` wrote. Raises ValueError for anything else."""
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"spec must be the JSON of a {cls.__name__}: {error}") from None
        known = fields(cls)  # type: ignore[arg-type]  # a dataclass
        names = {f.name for f in known}
        if not isinstance(values, dict) or not set(values) <= names:
            unknown = sorted(set(values) - names) if isinstance(values, dict) else type(values).__name__
            raise ValueError(f"spec must be an object with fields {sorted(names)}; got {unknown}")
        missing = {f.name for f in known if f.default is MISSING} - set(values)
        if missing:
            raise ValueError(f"spec lacks {sorted(missing)}")
        return cls(**values)
