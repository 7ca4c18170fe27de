# SPDX-License-Identifier: Apache-2.0
"""What a person is told who makes a sampler with arguments that it does not have: Python's own message names only the
class's base and a count."""

from __future__ import annotations

import inspect
from itertools import takewhile
from numbers import Integral
from typing import Any

from ..nearest import hint

OF_A_CALL = (
    "device",
    "backend",
    "outputs",
    "step",
    "batch_size",
    "rank",
    "world_size",
    "bias",
    "sigma_table",
    "origin",
    "out",
    "ids_dtype",
)


class Checked(type):
    """The type of samplers."""

    def __call__(cls, *arguments: Any, **named: Any) -> Any:
        try:
            cls.__signature__.bind(*arguments, **named)
        except TypeError as error:
            raise TypeError(_said(cls, str(error), arguments, named)) from None
        return super().__call__(*arguments, **named)

    @property
    def __signature__(cls) -> inspect.Signature:
        """That of the class: it would be hidden behind that of __call__."""
        whole = inspect.signature(cls.__init__)  # type: ignore[misc]  # of just this class
        return whole.replace(parameters=list(whole.parameters.values())[1:])


def _said(cls: Checked, error: str, arguments: tuple, named: dict) -> str:
    known = list(cls.__signature__.parameters)
    numbers = list(takewhile(lambda a: isinstance(a, Integral) and not isinstance(a, bool), arguments))
    if len(numbers) > 1:
        rest = [repr(a) for a in arguments[len(numbers) :]] or ["mask_ratio=0.9"]
        grid = f"({', '.join(map(str, numbers))})"
        return f"a grid is one argument; did you mean {cls.__name__}({', '.join([grid, *rest])})?"
    for name in named:
        if name in known:
            continue
        if name in OF_A_CALL:
            return f"{cls.__name__} has no {name}: give it when masks are made, sampler(samples, {name}=...)"
        return f"{cls.__name__} has no {name}{hint(name, known) or ';'} its parameters are {', '.join(known)}"
    return f"{cls.__name__}: {error}; its parameters are {', '.join(known)}"
