# SPDX-License-Identifier: Apache-2.0
"""What the CUDA backend asks of the driver, through CuPy's low level: kernels loaded, tables uploaded, launches."""

from __future__ import annotations

import ctypes
import threading
from ctypes import Structure, c_void_p
from functools import lru_cache

import numpy as np
import torch

from ..errors import BackendError
from . import nvrtc, once, outside_capture
from .layout import SHARED_BYTES, THREADS, TURING_BYTES
from .plan import packer

MAX_DYNAMIC_SHARED = 8  # CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES


@once
def module(device: int, kernel: str) -> int:
    """The loaded code of a kernel, for the lifetime of the process. Raises BackendError where the driver takes none."""
    from cupy.cuda import driver

    outside_capture("compiling and loading the kernels")
    major, minor = torch.cuda.get_device_capability(device)
    refused = ""
    with torch.cuda.device(device):
        bind_thread()
        for code in nvrtc.codes(10 * major + minor, kernel):
            try:
                return driver.moduleLoadData(code)
            except RuntimeError as error:  # of the driver; and CuPy's own, where it finds none
                refused = str(error)
    raise BackendError(
        f"the driver does not load kernel {kernel} for sm_{major}{minor} ({refused}); {nvrtc.versions()}: update the "
        "driver, or use backend triton"
    )


@once
def function(device: int, name: str) -> int:
    from cupy.cuda import driver

    with torch.cuda.device(device):
        bind_thread()
        found = driver.moduleGetFunction(module(device, name), name)
        # The limit of the kernel, not of a launch: once, at its highest.
        if name.startswith(("color_", "clip_")) or name in ("optim_blue", "optim_blue_wide", "strategy_mask"):
            driver.funcSetAttribute(found, MAX_DYNAMIC_SHARED, shared_bytes(device))
    return found


def architecture(device: int) -> int:
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor


def shared_bytes(device: int) -> int:
    """Shared memory that a block may have."""
    return SHARED_BYTES if torch.cuda.get_device_capability(device) >= (8, 0) else TURING_BYTES


def upload(array: np.ndarray, device: int) -> int:
    """The address of a copy on a device; the same one for the same bytes."""
    return uploaded(array.tobytes(), device)


@once
def uploaded(data: bytes, device: int) -> int:
    """An address that is never freed: captured graphs hold it. It is no tensor of torch's, whose memory may belong to
    the pool of a graph or of a compiled function, and be taken back with that."""
    from cupy.cuda import runtime

    outside_capture("uploading the tables of a sampler")
    source = np.frombuffer(data, np.uint8).ctypes.data
    with torch.cuda.device(device):
        address = runtime.malloc(max(len(data), 1))
        runtime.memcpy(address, source, len(data), runtime.memcpyHostToDevice)
        # The copy may still be on its way, and torch's streams do not wait for it.
        runtime.streamSynchronize(0)
    return address


_thread = threading.local()


def bind_thread() -> None:
    """Make torch's context current in a thread that has not used the CUDA runtime yet: the driver's launch needs one,
    and torch leaves it to the first runtime call that happens to need it."""
    if not getattr(_thread, "bound", False):
        from cupy.cuda import runtime

        runtime.setDevice(torch.cuda.current_device())
        _thread.bound = True


@lru_cache(maxsize=1)
def cupy_driver():
    from cupy.cuda import driver

    return driver


def launch(
    function: int, grid: tuple[int, int], shared_bytes: int, *arguments, threads: int = THREADS
) -> None:
    """On the current device. arguments: ctypes structs or pointers, in the kernel's order."""
    bind_thread()
    parameters = (c_void_p * len(arguments))(*map(ctypes.addressof, arguments))
    stream = torch._C._cuda_getCurrentRawStream(torch.cuda.current_device())
    cupy_driver().launchKernel(
        function, *grid, 1, threads, 1, 1, shared_bytes, stream, ctypes.addressof(parameters), 0
    )


class _Arguments(threading.local):
    """Where the driver finds those of this thread's launch, which it reads before it returns."""

    def __init__(self, plan: Structure, kind: type[Structure]):
        self.call = ctypes.create_string_buffer(ctypes.sizeof(kind))
        self.pointers = (c_void_p * 2)(*map(ctypes.addressof, (plan, self.call)))
        self.address = ctypes.addressof(self.pointers)


class Launch:
    """Launches of a kernel that is handed a plan, and a struct of what changes from call to call.

    kind: of that struct.
    """

    def __init__(self, function: int, plan: Structure, kind: type[Structure], shared: int, threads: int):
        self.plan = plan  # to which the arguments point
        self.pack, self.arguments = packer(kind).pack_into, _Arguments(plan, kind)
        self.before, self.after = function, (1, threads, 1, 1, shared)

    def __call__(self, x: int, y: int, *values: int) -> None:
        """On the current device. x, y: blocks. values: of the struct, in order."""
        arguments = self.arguments
        self.pack(arguments.call, 0, *values)
        bind_thread()
        stream = torch._C._cuda_getCurrentRawStream(torch.cuda.current_device())
        cupy_driver().launchKernel(self.before, x, y, *self.after, stream, arguments.address, 0)
