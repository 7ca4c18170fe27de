# SPDX-License-Identifier: Apache-2.0
"""Which implementation of an op runs: chosen by name, or by the device of the tensors. Never silently slow.

A backend is a module here with `DEVICES`, `why_not()` and one function per op it has, of the op's name, which
may be in a module `BACKEND_OP` beside it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, lru_cache, wraps
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any, TypeVar

import torch

from ..errors import BackendError
from .outputs import wanted_outputs

T = TypeVar("T")
NAMES = ("cuda", "triton", "cpu", "reference")
AUTO = {"cpu": ("cpu",), "cuda": ("cuda", "triton")}  # device type: fast backends in order of preference
VARIABLE = "SMNOISE_BACKEND"


@cache
def _module(name: str) -> ModuleType:
    return import_module(f"{__name__}.{name}")


@cache
def implementation(name: str, op: str) -> Callable | None:
    """The function of backend `name` for `op`; None where it has none."""
    beside = f"{__name__}.{name}_{op}"
    return getattr(_module(name), op, None) or (
        getattr(import_module(beside), op) if find_spec(beside) is not None else None
    )


def device_of(name: str) -> str:
    """The device type that backend `name` runs on."""
    return _module(name).DEVICES[0]


def reason(name: str, op: str, device: str) -> str | None:
    """Why backend `name` cannot run `op` on `device`; None where it can."""
    module = _module(name)
    if device not in module.DEVICES:
        return f"runs on {' and '.join(module.DEVICES)} tensors, not on {device}"
    return module.why_not() or (None if implementation(name, op) else f"does not implement {op}")


def choose(op: str, backend: str, device: str) -> Callable:
    """The function that runs `op` on tensors of `device`. Raises BackendError with every reason."""
    name = chosen(op, backend, device).__name__.rpartition(".")[2]
    return implementation(name, op)  # type: ignore[return-value]  # there is one, or it was not chosen


def chosen(op: str, backend: str, device: str) -> ModuleType:
    """The backend that runs `op` on tensors of `device`. Raises BackendError with every reason."""
    asked = backend
    if backend == "auto":
        backend = os.environ.get(VARIABLE) or "auto"
        if backend != "auto":
            asked = f"{backend} (from {VARIABLE})"
    if backend not in ("auto", *NAMES):
        raise ValueError(f"backend must be one of auto, {', '.join(NAMES)}; got {asked}")
    for name in AUTO.get(device, ()) if backend == "auto" else (backend,):
        if reason(name, op, device) is None:
            return _module(name)
    reasons = "\n".join(f"  {n}: {reason(n, op, device) or 'can run, if named'}" for n in NAMES)
    what = f"no fast backend can run {op}" if backend == "auto" else f"backend {asked} cannot run {op}"
    if device != "cpu":
        reasons += "\nOr make the masks on the CPU: sampler(samples.cpu()).to(device, non_blocking=True)"
    raise BackendError(f"{what} on {device} tensors. Backends:\n{reasons}")


def launcher(op: str, spec: str, outputs: str, times: int, backend: str, device: torch.device) -> Any:
    """A backend's Masks, which makes the masks of one spec on a device, kept between calls; None where the chosen
    backend has no such thing and its op is the way. Raises as `choose` does.

    spec: JSON. outputs: names with commas between. times: of frames that one frame's mask is repeated in, else 1.
    """
    return kept(op, spec, outputs, times, backend, _variable(), device.type, device.index)


@lru_cache(maxsize=512)
def kept(
    op: str, spec: str, outputs: str, times: int, backend: str, variable, device: str, index: int | None
):
    """`launcher`'s memory. variable: the environment's, which says what "auto" is."""
    if device not in AUTO:
        return None
    wanted = wanted_outputs(outputs)
    prepare = getattr(chosen(op, backend, device), "masks", None)
    return None if prepare is None else prepare(op, spec, wanted, times, index)


def _variable() -> bytes | None:
    """os.environ.get(VARIABLE), less its code, which raises and catches an error where a variable is not set, and takes
    as long as all else that is asked for a batch of masks."""
    return _environment.get(_key)


_environment = os.environ._data  # type: ignore[attr-defined]  # os.environ itself writes into it
_key = os.environ.encodekey(VARIABLE)


_preparing = threading.RLock()


def once(function: Callable) -> Callable:
    """functools.cache for what is prepared on a GPU: of several threads that ask at once one does it and the others
    wait, so that all get the same, which is never dropped. Captured graphs hold its addresses."""
    cached = cache(function)

    @wraps(function)
    def prepared(*key):
        with _preparing:
            return cached(*key)

    prepared.cache_parameters = cached.cache_parameters  # type: ignore[attr-defined]
    prepared.cache_clear = cached.cache_clear  # type: ignore[attr-defined]
    prepared.cache_info = cached.cache_info  # type: ignore[attr-defined]
    return prepared


def outside_capture(what: str) -> None:
    """Raise BackendError while a CUDA graph is being captured, of which `what` cannot be part."""
    if torch.cuda.is_current_stream_capturing():
        raise BackendError(
            f"{what} cannot be captured into a CUDA graph: make one batch of masks before capture"
        )


def outside_pools(make: Callable[[], T]) -> T:
    """What `make` returns, from a thread of its own. Where a compiled function warms up for CUDA graphs, or within
    torch.cuda.use_mem_pool, torch takes what the calling thread allocates from that pool, whose memory is taken back;
    the allocations of other threads it does not."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(make).result()
