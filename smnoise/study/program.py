# SPDX-License-Identifier: Apache-2.0
"""What the programs of the study have in common: how they begin and end, and files of results."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..data.signals import StopOnSignal
from ..errors import DataError
from ..programs import command_line


def program(
    kind: type,
    run: Callable[[Any, Callable[[], bool]], object],
    name: str,
    description: str | None,
    *,
    prog: str | None = None,
    arguments: list[str] | None = None,
) -> None:
    """The command line as settings, run(settings, stop), and errors as one line that begins with the program's name.

    prog: how it was called, by default smnoise NAME. arguments: by default those of the process. The exit status after
    a signal is 128 and its number.
    """
    try:
        settings = command_line(kind, prog=prog or f"smnoise {name}", description=description, args=arguments)
        with StopOnSignal() as stop:
            run(settings, stop)
    except (ValueError, OSError, RuntimeError, FloatingPointError) as error:
        raise SystemExit(f"{name}: {error}") from error
    if stop.told and stop.number is not None:
        raise SystemExit(128 + stop.number)


def read_result(path: Path, score: str) -> dict | None:
    """A cell's file, which must hold a score that is a number; None where there is none. Raises DataError for one that
    is damaged."""
    try:
        result = json.loads(path.read_text())
        whole = math.isfinite(result[score])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged ({error!r}); delete it, and its cell is run anew") from None
    if not whole:
        raise DataError(f"{path} is damaged ({score} {result[score]}); delete it, and its cell is run anew")
    return result
