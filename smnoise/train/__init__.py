# SPDX-License-Identifier: Apache-2.0
"""Trainers, and what goes with them; each module that is a program runs as python -m smnoise.train.NAME."""

import sys

if sys.argv[:1] == ["-m"]:  # such a program, of which nothing is imported yet

    def _told(kind, error, trace, shown=sys.excepthook):
        """Ctrl-C while modules load, or in a program that does not catch it, is a line and not a traceback."""
        if not issubclass(kind, KeyboardInterrupt):
            shown(kind, error, trace)
            return
        print("smnoise: interrupted", file=sys.stderr)
        raise SystemExit(130)

    sys.excepthook = _told
