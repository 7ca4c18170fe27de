# SPDX-License-Identifier: Apache-2.0
"""What modules that run as programs (`python -m smnoise.ROOM.NAME`) have in common."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


def tell_of_interrupts() -> None:
    """Make Ctrl-C a line instead of a traceback, also while modules load, where Python is about to run a module.

    Rooms that have programs call it as they are imported. It does nothing in any other process.
    """
    if sys.argv[:1] != ["-m"]:  # what Python has there until the program itself begins
        return

    def told(kind, error, trace, shown=sys.excepthook):
        if not issubclass(kind, KeyboardInterrupt):
            shown(kind, error, trace)
            return
        print("smnoise: interrupted", file=sys.stderr)
        raise SystemExit(130)

    sys.excepthook = told


def command_line(kind: Callable[..., T], **options: Any) -> T:
    """Parse a program's command line as `tyro.cli` does, whose arguments these are.

    Where whoever reads the help has had enough of it (`... --help | head -1`), the program ends with status 0 and
    without a word.
    """
    import tyro

    try:
        return tyro.cli(kind, **options)
    except SystemExit:
        _flush()  # here, and not at exit, where a reader that has gone would be an error
        raise
    except BrokenPipeError:
        drop_output()
        raise SystemExit(0) from None


def _flush() -> None:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        drop_output()


def drop_output() -> None:
    """Send what is still to be written to stdout, whose reader has gone, to nowhere: it must not complain at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
