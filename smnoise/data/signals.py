# SPDX-License-Identifier: Apache-2.0
"""Stopping a run politely: the first Ctrl-C or SIGTERM ends it after the step with a checkpoint, a second at once."""

from __future__ import annotations

import os
import signal
import threading


class StopOnSignal:
    """Context manager, called to ask whether a signal came. For the main thread of a program.

    `number` is that of the first signal that came, or None; `told` whether someone asked after it came, and so stops.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self):
        self.number: int | None = None
        self.told = False

    def __enter__(self) -> StopOnSignal:
        self.before = {s: signal.signal(s, self._note) for s in self.SIGNALS}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def __call__(self) -> bool:
        self.told = self.number is not None
        return self.told

    def _note(self, number, frame) -> None:
        if self.number is not None:
            raise KeyboardInterrupt
        self.number = number


def ignore_interrupts(worker: int = 0) -> None:
    """Let a loader's worker outlive the signals that a terminal (Ctrl-C) and a cluster's scheduler (SIGTERM) send to it
    as well, since the main process decides. A SIGTERM sent to the worker alone ends it, or the main process would wait
    for it for ever after an error.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)
