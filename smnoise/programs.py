# SPDX-License-Identifier: Apache-2.0
"""What modules that run as programs (`python -m smnoise.ROOM.NAME`) have in common."""

from __future__ import annotations

import sys


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
