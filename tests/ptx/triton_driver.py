# SPDX-License-Identifier: Apache-2.0
"""Gives Triton a driver, so that what it compiles for a GPU is launched into a Device: arguments, specialisations and
grids are Triton's own. For a process of its own, in which Triton does not interpret; nothing is put back.
"""

from __future__ import annotations

import numpy as np
import torch
import triton
from smnoise.kernels import (
    color,
    decoder_tokens,
    gather_patches,
    optim_blue,
    patch_loss,
    random,
    strategy,
    threshold,
)
from triton.backends.compiler import GPUTarget
from triton.compiler.compiler import CompiledKernel

from smnoise.backends import outputs
from smnoise.backends import triton as backend

from .device import Device
from .stand_in import SHARED_LIMITS, FakeTorch, Owner
from .text import Kernel, Module, PtxError

MODULES = (
    backend,
    outputs,
    color,
    decoder_tokens,
    gather_patches,
    optim_blue,
    patch_loss,
    random,
    strategy,
    threshold,
)


class Driver:
    """What Triton's launches ask of a driver. Kernels of one name and different text are numbered."""

    def __init__(self, architecture: int):
        if triton.knobs.runtime.interpret:
            raise PtxError("Triton interprets here (TRITON_INTERPRET=1): nothing would be compiled")
        self.architecture = architecture
        self.kernels: dict[str, Kernel] = {}  # by text

    def use(self, device: Device) -> Owner:
        """Sends launches to a device, from now on."""
        self.device, self.owner = device, Owner(device)
        fake = FakeTorch(self.owner, self.architecture)
        for module in MODULES:
            module.torch = fake
        for cached in (backend._uploaded, backend._tables, backend._blue_tables, backend._boxes):
            cached.cache_clear()
        return self.owner

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int = 0) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.architecture, 32)

    def get_active_torch_device(self) -> torch.device:
        return torch.device("cpu")

    def load(self, compiled: CompiledKernel) -> None:
        """In the place of CompiledKernel._init_handles."""
        if compiled._run is None:
            compiled._run, compiled.function, compiled.module = self._launcher(compiled), 1, 1

    def _kernel(self, text: str) -> Kernel:
        if text not in self.kernels:
            (kernel,) = Module(text).kernels.values()
            kernel.name += f".{sum(k.name.split('.')[0] == kernel.name for k in self.kernels.values())}"
            self.kernels[text] = kernel
        return self.kernels[text]

    def _launcher(self, compiled: CompiledKernel):
        kernel, kinds = self._kernel(compiled.asm["ptx"]), list(compiled.src.signature.values())
        shared, threads = compiled.metadata.shared, compiled.metadata.num_warps * 32
        if shared > SHARED_LIMITS[self.architecture]:
            raise PtxError(f"{kernel.name}: {shared} bytes of shared memory")

        def run(x, y, z, stream, function, metadata, launch_metadata, enter, leave, *args):
            values = [
                self._packed(kind, v) for kind, v in zip(kinds, args, strict=True) if kind != "constexpr"
            ]
            packed = bytearray(
                kernel.parameter_bytes
            )  # behind ours there are pointers to scratch memory: null
            for (at, size), value in zip(kernel.parameter_sizes, values, strict=False):
                if len(value) != size:
                    raise PtxError(f"{kernel.name}: an argument of {len(value)} bytes for one of {size}")
                packed[at : at + size] = value
            if not 0 <= len(kernel.parameter_sizes) - len(values) <= 2:
                raise PtxError(
                    f"{kernel.name}: {len(values)} arguments, {len(kernel.parameter_sizes)} parameters"
                )
            self.device.launch(kernel, (x, y, z), threads, shared, bytes(packed))

        return run

    def _packed(self, kind: str, value) -> bytes:
        if kind.startswith("*"):
            address = value.data_ptr()
            if value.numel() and not self.device.memory.knows(address):
                self.owner.own(value)
            return np.uint64(address).tobytes()
        if kind == "fp32":
            return np.float32(value).tobytes()
        return int(value).to_bytes(int(kind[1:]) // 8, "little", signed=kind[0] == "i")


def install(architecture: int) -> Driver:
    driver = Driver(architecture)
    triton.runtime.driver.set_active(driver)
    CompiledKernel._init_handles = lambda compiled: driver.load(compiled)
    return driver
