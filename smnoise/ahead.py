# SPDX-License-Identifier: Apache-2.0
"""Something made while its caller does something else: by a thread, or on a stream of a GPU beside the current one."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from .backends.library import one_thread
from .errors import BackendError
from .masks import MaskBatch


class InThread:
    """One thread makes the masks, on one core, while the caller's threads train."""

    def __init__(self) -> None:
        self._anew()

    def _anew(self) -> None:
        self._process = os.getpid()
        self._executor: ThreadPoolExecutor | None = None
        self._future: Future[MaskBatch] | None = None

    def start(self, make: Callable[[], MaskBatch]) -> None:
        """Begin; what was begun before is not asked for any more."""
        if self._executor is None:
            self._executor = ThreadPoolExecutor(1, "smnoise-ahead", initializer=one_thread)
        self._future = self._executor.submit(make)

    def drop(self) -> None:
        """Forget what was begun."""
        self._future = None

    def take(self) -> MaskBatch | None:
        """What was begun, for which it waits, or None. Raises what `make` raised."""
        if self._process != os.getpid():  # in a forked child there is no such thread
            self._anew()
        future, self._future = self._future, None
        return None if future is None else future.result()

    def __getstate__(self) -> dict:
        return {}

    def __setstate__(self, state: dict) -> None:
        self._anew()


class OnStream:
    """A stream of low priority makes the masks. The current stream waits for them where they are taken, the host never;
    their memory is not given to others before the current stream is done with them."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._stream.wait_stream(torch.cuda.current_stream(device))  # for what the masks are made of
        self._made: tuple[MaskBatch, torch.cuda.Event] | None = None

    def start(self, make: Callable[[], MaskBatch]) -> None:
        """Begin; what was begun before is not asked for any more."""
        with torch.cuda.stream(self._stream):
            self._made = make(), self._stream.record_event()

    def drop(self) -> None:
        """Forget what was begun."""
        self._made = None

    def take(self) -> MaskBatch | None:
        """What was begun, or None."""
        current = torch.cuda.current_stream(self._device)
        with torch.cuda.device(self._device):
            if torch.cuda.is_current_stream_capturing():
                raise BackendError(
                    "a MaskStream with ahead=1 cannot be captured into a CUDA graph; make it with ahead=0, and capture "
                    "it on a stream beside the step's"
                )
        if self._made is None:
            return None
        (masks, event), self._made = self._made, None
        current.wait_event(event)
        for tensor in masks.tensors:
            tensor.record_stream(current)
        return masks
