# SPDX-License-Identifier: Apache-2.0
"""What demos have in common: how they begin, and a folder that the next demo of its kind may replace, and nothing else
may."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from .. import lock
from ..errors import DataError
from ..files import make_folder, write_text
from ..programs import command_line

Settings = TypeVar("Settings")
MARKER = "demo.json"


def program(
    kind: type[Settings], run: Callable[[Settings], object], demo: str, description: str | None
) -> None:
    """A demo's main(): the command line as its settings, run(settings), and errors as one line. demo: a module's
    name."""
    try:
        run(command_line(kind, description=description, prog=f"python -m {demo}"))
    except (ValueError, OSError, RuntimeError) as error:
        raise SystemExit(f"smnoise: {error}") from error


def claim(out: Path, demo: str, own: Iterable[str]) -> None:
    """Make the folder, without the files and folders `own` that an earlier run of `demo` (a module's name) left.

    Raises DataError for a folder that holds something else.
    """
    if _written_by(out / MARKER) == demo:
        for name in own:
            if (out / name).is_dir():
                shutil.rmtree(out / name)
            else:
                (out / name).unlink(missing_ok=True)
    elif out.exists() and any(path.name != lock.NAME for path in out.iterdir()):
        raise DataError(f"{out} holds something else than an earlier demo; choose another --out")
    make_folder(out)
    write_summary(out, demo, {})


def write_summary(out: Path, demo: str, results: dict) -> None:
    """demo.json: what came out, and the mark by which the next demo knows that it may replace the folder."""
    write_text(out / MARKER, json.dumps({"written by": demo, **results}, indent=2) + "\n")


def _written_by(marker: Path) -> str | None:
    try:
        return json.loads(marker.read_text())["written by"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
