# SPDX-License-Identifier: Apache-2.0
"""Stands in for the CUDA driver and for torch's GPU side, so that the package's own launch code runs on CPU tensors.

cuda_backend: smnoise.backends.cuda, with what it compiles, loads, uploads and launches sent to a Device. Everything is
put back by the test's monkeypatch. The other one, triton_driver.py, is for a process of its own.
"""

from __future__ import annotations

import ctypes
import inspect
import threading
import types
from contextlib import nullcontext
from functools import lru_cache, wraps

import torch

from .device import Device
from .text import Kernel, Module, PtxError
from .unreachable import FACTS

CREATE = ("empty", "empty_like", "zeros", "ones", "full", "arange", "tensor", "cat")
KIB = 1024
SHARED_LIMITS = {80: 163 * KIB, 89: 99 * KIB, 90: 227 * KIB, 100: 227 * KIB}  # bytes that a block may have
DEFAULT_SHARED = 48 * KIB  # without funcSetAttribute
MULTIPROCESSORS = 132


class Owner:
    """Makes tensors known to a device's memory, and keeps them alive."""

    def __init__(self, device: Device):
        self.device, self.kept = device, {}

    def own(self, tensor: torch.Tensor, written: bool = True) -> torch.Tensor:
        storage = tensor.untyped_storage()
        address = storage.data_ptr()
        if storage.nbytes() and address not in self.kept:
            self.kept[address] = storage
            name = f"{'' if written else 'torch.empty '}{tuple(tensor.shape)} {tensor.dtype}"
            self.device.memory.add(address, storage.nbytes(), name, written)
        return tensor

    def forget(self) -> None:
        """All tensors so far."""
        for address in self.kept:
            self.device.memory.remove(address)
        self.kept.clear()


class FakeTorch(types.ModuleType):
    """torch, but what is made on a GPU is made on the CPU and registered."""

    def __init__(self, owner: Owner, architecture: int):
        super().__init__("torch")
        self._owner = owner
        self.version = types.SimpleNamespace(cuda="13.0", hip=None)
        self._C = types.SimpleNamespace(_cuda_getCurrentRawStream=lambda device: 0)
        self.cuda = types.SimpleNamespace(
            device=lambda device: nullcontext(),
            is_available=lambda: True,
            current_device=lambda: 0,
            get_device_capability=lambda *device: divmod(architecture, 10),
            get_device_properties=lambda *device: types.SimpleNamespace(
                multi_processor_count=MULTIPROCESSORS
            ),
            is_current_stream_capturing=lambda: False,
        )

    def __getattr__(self, name: str):
        real = getattr(torch, name)
        if name not in CREATE:
            return real

        def create(*args, device=None, **more):
            made = real(*args, **more)
            if name.startswith("empty"):
                made.view(torch.uint8).fill_(1 if made.dtype == torch.bool else 0xA5)  # no right answer
            return self._owner.own(made, written=not name.startswith("empty"))

        return create


@lru_cache(maxsize=64)
def module_of(text: bytes) -> Module:
    """Parsed once a process; its kernels keep what was made of them."""
    return Module(text.decode().rstrip("\0"))


class Driver:
    """What the package uses of cupy.cuda.driver."""

    def __init__(self, device: Device, architecture: int):
        self.device, self.most_shared = device, SHARED_LIMITS[architecture]
        self.modules: list[Module] = []
        self.functions: list[Kernel] = []
        self.limits: dict[int, int] = {}

    def moduleLoadData(self, text: bytes) -> int:
        self.modules.append(module_of(text))
        return len(self.modules)

    def moduleGetFunction(self, module: int, name: str) -> int:
        self.functions.append(self.modules[module - 1].kernels[name])
        return len(self.functions)

    def funcSetAttribute(self, function: int, attribute: int, value: int) -> None:
        if attribute != 8:
            raise PtxError(f"funcSetAttribute: attribute {attribute}")
        self.limits[function] = value

    def launchKernel(
        self, function, x, y, z, threads, threads_y, threads_z, shared, stream, parameters, extra
    ):
        kernel = self.functions[function - 1]
        limit = min(self.limits.get(function, DEFAULT_SHARED), self.most_shared - kernel.static_shared)
        if shared > limit or (threads_y, threads_z, extra) != (1, 1, 0):
            raise PtxError(f"{kernel.name}: {shared} bytes of shared memory, {limit} allowed")
        pointers = (ctypes.c_void_p * len(kernel.parameter_sizes)).from_address(parameters)
        packed = bytearray(kernel.parameter_bytes)
        for pointer, (at, size) in zip(pointers, kernel.parameter_sizes, strict=True):
            packed[at : at + size] = ctypes.string_at(pointer, size)
        if facts := FACTS.get(kernel.name):
            facts.check(kernel, bytes(packed), threads)
        self.device.launch(kernel, (x, y, z), threads, shared, bytes(packed))


class Runtime:
    """What the package uses of cupy.cuda.runtime: memory that is never freed, filled once."""

    memcpyHostToDevice = 1

    def __init__(self, owner: Owner):
        self.owner, self.made = owner, {}

    def setDevice(self, number: int) -> None:
        pass

    def malloc(self, size: int) -> int:
        tensor = torch.empty(size, dtype=torch.uint8)
        self.made[tensor.data_ptr()] = tensor
        return tensor.data_ptr()

    def memcpy(self, target: int, source: int, size: int, kind: int) -> None:
        if kind != self.memcpyHostToDevice or size > self.made[target].nbytes:
            raise PtxError(f"memcpy of {size} bytes, kind {kind}")
        ctypes.memmove(target, source, size)
        self.owner.own(self.made[target])

    def streamSynchronize(self, stream: int) -> None:
        pass


def cuda_backend(monkeypatch, device: Device, architecture: int) -> Owner:
    """Makes smnoise.backends.cuda launch into `device`. Returns who owns its memory."""
    import cupy.cuda

    from smnoise import backends
    from smnoise.backends import cuda, cuda_noise_at, cuda_ragged_threshold, driver, nvrtc, outputs

    owner = Owner(device)
    fake = FakeTorch(owner, architecture)
    beside = cuda_noise_at, cuda_ragged_threshold
    for module in (cuda, *beside, driver, outputs):
        monkeypatch.setattr(module, "torch", fake)
    monkeypatch.setattr(cuda, "_new", lambda shape, strides, dtype: fake.empty(shape, dtype=dtype))
    monkeypatch.setattr(cuda, "DEVICES", ("cpu",))
    monkeypatch.setattr(driver, "_thread", threading.local())
    for module in (cuda, driver):
        monkeypatch.setattr(module, "outside_capture", lambda what: None)
    monkeypatch.setattr(nvrtc, "cubin", nvrtc.ptx)
    monkeypatch.setattr(cupy.cuda, "driver", Driver(device, architecture))
    monkeypatch.setattr(cupy.cuda, "runtime", Runtime(owner))
    refresh(monkeypatch, driver)
    refresh(monkeypatch, backends)  # which keep functions of a stand-in that is gone
    for module in (cuda, *beside):
        refresh(monkeypatch, module)
        for name, function in list(vars(module).items()):
            own = inspect.isfunction(function) and function.__module__ == module.__name__
            if own and not name.startswith("_"):
                monkeypatch.setattr(module, name, _registering(function, owner))
    _register_copies(monkeypatch, owner)
    return owner


def refresh(monkeypatch, module) -> None:
    """Gives a module empty caches in the place of its own."""
    for name, cached in list(vars(module).items()):
        if hasattr(cached, "cache_parameters"):
            size = cached.cache_parameters()["maxsize"]
            monkeypatch.setattr(module, name, lru_cache(maxsize=size)(cached.__wrapped__))


def _registering(function, owner: Owner):
    """A backend's function; tensors that come to it are on the device."""

    @wraps(function)
    def registering(*args, **more):
        for value in (*args, *more.values()):
            if isinstance(value, torch.Tensor):
                owner.own(value)
        return function(*args, **more)

    return registering


def _register_copies(monkeypatch, owner: Owner) -> None:
    """Of tensors that are uploaded, or brought into one piece."""
    contiguous, to = torch.Tensor.contiguous, torch.Tensor.to

    def upload(tensor, target, *args, **more):
        if str(target).startswith("cuda"):
            return owner.own(tensor.clone())
        return to(tensor, target, *args, **more)

    monkeypatch.setattr(
        torch.Tensor, "contiguous", lambda tensor, **more: owner.own(contiguous(tensor, **more))
    )
    monkeypatch.setattr(torch.Tensor, "to", upload)


def restrict(monkeypatch, shared_bytes: int, workspace: int | None, threads: int) -> None:
    """Less memory than there is, and fewer threads a block, lead to paths that otherwise only large masks take."""
    from smnoise import backends
    from smnoise.backends import cuda, driver
    from smnoise.backends.layout import THREADS, layout

    monkeypatch.setattr(driver, "SHARED_BYTES", shared_bytes)
    for module in (cuda, driver):
        monkeypatch.setattr(module, "THREADS", threads)
    monkeypatch.setitem(driver.launch.__kwdefaults__, "threads", threads)

    def smaller(spec, stride: int, _: int, *architecture: int):
        found = layout(spec, stride, shared_bytes, *architecture)
        return found._replace(threads=found.threads * threads // THREADS)

    monkeypatch.setattr(cuda, "layout", smaller)
    if workspace is not None:
        monkeypatch.setattr(cuda, "BLUE_WORKSPACE", workspace)
    refresh(monkeypatch, cuda)
    backends.kept.cache_clear()
