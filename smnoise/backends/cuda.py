# SPDX-License-Identifier: Apache-2.0
"""The CUDA backend: csrc/kernels.cu on torch's current stream. One launch a batch, nothing waits.

The first call for a set of parameters on a device compiles the kernels that it needs (or reads the cache), loads them
and uploads tables; it must happen outside CUDA graph capture, as `sampler.prepare` does it. Later calls only launch, so
they can be captured.
"""

from __future__ import annotations

import ctypes
import math
import threading
from ctypes import c_float, c_int32, c_int64, c_void_p
from functools import lru_cache

import numpy as np
import torch

from ..errors import BackendError
from ..spec import ColorSpec, OptimBlueSpec, StrategySpec, search_start, signed64, tables
from . import nvrtc, once, outside_capture
from .layout import SCRATCH_BYTES, SHARED_BYTES, THREADS, TURING_BYTES, Layout, layout
from .outputs import allocate, filtered_shape
from .plan import (
    Axis,
    BlueCall,
    Call,
    OptimBlue,
    Outputs,
    Plan,
    Ranking,
    Slots,
    Strategy,
    blue_plan_of,
    plan_of,
    slot_table,
    strategy_plan_of,
)

DEVICES = ("cuda",)
LEAST_CAPABILITY = (7, 5)
MAX_GRID_Y = 65535
BLUE_THREADS = 128  # of csrc/optim_blue_block.h
BLUE_BLOCKS = 8  # on a multiprocessor, where their arrays are in global memory,
BLUE_WORKSPACE = 256 << 20  # and bytes of all those arrays together
MAX_DYNAMIC_SHARED = 8  # CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES


@lru_cache(maxsize=1)
def why_not() -> str | None:
    """Why this backend cannot run: no such GPU, nothing compiles for it, or its driver does not load what does."""
    if not torch.cuda.is_available():
        return "torch sees no GPU"
    if torch.version.cuda is None:
        return f"needs an NVIDIA GPU; this torch is built for {(torch.version.hip and 'ROCm') or 'another device'}"
    capability = torch.cuda.get_device_capability()
    if capability < LEAST_CAPABILITY:
        least = ".".join(map(str, LEAST_CAPABILITY))
        return f"needs compute capability {least} or higher; this GPU has {capability[0]}.{capability[1]}"
    architecture = 10 * capability[0] + capability[1]
    if nvrtc.precompiled(architecture) is None and (reason := nvrtc.why_not(architecture)) is not None:
        return reason
    outside_capture("trying the kernels")
    try:
        _function(torch.cuda.current_device(), "philox")  # the smallest
    except (BackendError, ImportError) as error:
        return str(error).splitlines()[0]
    return None


@once
def _module(device: int, kernel: str) -> int:
    """The loaded code of a kernel, for the lifetime of the process. Raises BackendError where the driver takes none."""
    from cupy.cuda import driver

    outside_capture("compiling and loading the kernels")
    major, minor = torch.cuda.get_device_capability(device)
    refused = ""
    with torch.cuda.device(device):
        _bind_thread()
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
def _function(device: int, name: str) -> int:
    from cupy.cuda import driver

    with torch.cuda.device(device):
        _bind_thread()
        function = driver.moduleGetFunction(_module(device, name), name)
        # The limit of the kernel, not of a launch: once, at its highest.
        if name.startswith(("color_", "clip_")) or name in ("optim_blue", "optim_blue_wide", "strategy_mask"):
            driver.funcSetAttribute(function, MAX_DYNAMIC_SHARED, _shared_bytes(device))
    return function


def _architecture(device: int) -> int:
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor


def _shared_bytes(device: int) -> int:
    """Shared memory that a block may have."""
    return SHARED_BYTES if torch.cuda.get_device_capability(device) >= (8, 0) else TURING_BYTES


def _upload(array: np.ndarray, device: int) -> int:
    """The address of a copy on a device; the same one for the same bytes."""
    return _uploaded(array.tobytes(), device)


@once
def _uploaded(data: bytes, device: int) -> int:
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


def _bind_thread() -> None:
    """Make torch's context current in a thread that has not used the CUDA runtime yet: the driver's launch needs one,
    and torch leaves it to the first runtime call that happens to need it."""
    if not getattr(_thread, "bound", False):
        from cupy.cuda import runtime

        runtime.setDevice(torch.cuda.current_device())
        _thread.bound = True


class _Prepared:
    """A spec on a device: its tables there, the struct that points to them, and the kernel."""

    def __init__(self, spec: ColorSpec, device: int):
        outside_capture("preparing a sampler")
        t = tables(spec)
        try:
            self.layout: Layout = layout(spec, t.taps.shape[-1], _shared_bytes(device), _architecture(device))
        except ValueError as error:
            raise BackendError(f"backend cuda cannot run these parameters: {error}") from None
        self.function = _function(device, self.layout.kernel(spec))
        self.threshold = None if self.layout.fused else _function(device, "threshold")  # fused: in the first
        self.tiles = self.layout.tiles(spec.grid)
        if not self.layout.fused and self.tiles > MAX_GRID_Y:
            raise BackendError(
                f"backend cuda cannot run grid {spec.grid}: {self.tiles} tiles, at most {MAX_GRID_Y}"
            )
        first = None if t.first is None else _upload(t.first, device)
        self.plan: Plan = plan_of(
            spec, t, _upload(t.taps, device), _upload(t.radius, device), first, self.layout
        )


@once
def _prepared(spec: ColorSpec, device: int) -> _Prepared:
    return _Prepared(spec, device)


def _launch(
    function: int, grid: tuple[int, int], shared_bytes: int, *arguments, threads: int = THREADS
) -> None:
    """arguments: ctypes structs or pointers, in the kernel's order."""
    from cupy.cuda import driver

    _bind_thread()
    parameters = (c_void_p * len(arguments))(*(ctypes.addressof(a) for a in arguments))
    stream = torch.cuda.current_stream().cuda_stream
    driver.launchKernel(
        function, *grid, 1, threads, 1, 1, shared_bytes, stream, ctypes.addressof(parameters), 0
    )


def _color(
    seed: torch.Tensor,
    samples: torch.Tensor,
    spec: ColorSpec,
    outputs: dict,
    sigma_table: torch.Tensor | None,
) -> None:
    device, batch = samples.device, len(samples)
    with torch.cuda.device(device):
        prepared = _prepared(spec, device.index)
        if not batch or not outputs:
            return
        samples = samples.contiguous()
        pointers = Outputs.of(outputs)
        call = Call(seed.data_ptr(), samples.data_ptr(), out=pointers)
        if sigma_table is not None:
            sigma_table = sigma_table.contiguous()
            call.sigma_table = sigma_table.data_ptr()
        if prepared.threshold is None:
            shared, threads = prepared.layout.bytes, prepared.layout.threads
            _launch(prepared.function, (batch, 1), shared, prepared.plan, call, threads=threads)
            return
        scores = outputs.get("noise")
        if scores is None:
            scores = torch.empty(batch, spec.groups * spec.tokens, dtype=torch.float32, device=device)
        call.scores = scores.data_ptr()
        _launch(prepared.function, (batch, prepared.tiles), prepared.layout.bytes, prepared.plan, call)
        if outputs.keys() != {"noise"}:
            _launch(prepared.threshold, (batch, 1), 0, prepared.plan.ranking, call)


def color_noise(
    seed: torch.Tensor, samples: torch.Tensor, spec: ColorSpec, sigma_table: torch.Tensor | None = None
) -> torch.Tensor:
    noise = torch.empty(len(samples), *spec.grid, dtype=torch.float32, device=samples.device)
    _color(seed, samples, spec, {"noise": noise}, sigma_table)
    return noise


def color_mask(
    seed: torch.Tensor,
    samples: torch.Tensor,
    spec: ColorSpec,
    wanted,
    sigma_table: torch.Tensor | None = None,
) -> dict:
    tokens, visible = spec.groups * spec.tokens, spec.groups * spec.visible
    outputs = allocate(len(samples), tokens, visible, wanted, samples.device)
    _color(seed, samples, spec, outputs, sigma_table)
    return outputs


def threshold(scores: torch.Tensor, visible: int, groups: int, wanted) -> dict:
    scores = scores.contiguous()
    batch, tokens = scores.shape
    outputs = allocate(batch, tokens, groups * visible, wanted, scores.device)
    if batch and outputs:
        ranking = Ranking(groups, tokens // groups, visible, *search_start(tokens // groups, visible))
        pointers = Outputs.of(outputs)
        call = Call(scores=scores.data_ptr(), out=pointers)
        with torch.cuda.device(scores.device):
            function = _function(scores.device.index, "threshold")
            _launch(function, (batch, 1), 0, ranking, call)
    return outputs


def add_bias(scores: torch.Tensor, bias: torch.Tensor, weight: float) -> torch.Tensor:
    scores, bias = scores.contiguous(), bias.contiguous()
    out = torch.empty_like(scores)
    if out.numel():
        with torch.cuda.device(scores.device):
            pointers = (c_void_p(v.data_ptr()) for v in (scores, bias, out))
            blocks = -(-out.numel() // THREADS)
            function = _function(scores.device.index, "add_bias")
            _launch(function, (blocks, 1), 0, *pointers, c_float(weight), c_int64(out.numel()))
    return out


@once
def _slots(counts: tuple[int, ...], tokens: int, device: int) -> tuple[Slots, int]:
    table = _upload(slot_table(counts, tokens), device)
    return Slots(len(counts), tokens, sum(counts), table), _function(device, "slot_threshold")


def slot_threshold(scores: torch.Tensor, counts: tuple[int, ...], rank: torch.Tensor | None, wanted) -> dict:
    scores = scores.contiguous()
    batch, tokens = scores.shape
    outputs = allocate(batch, tokens, sum(counts), wanted, scores.device)
    with torch.cuda.device(scores.device):
        struct, function = _slots(counts, tokens // len(counts), scores.device.index)
        if batch and outputs:
            pointers = Outputs.of(outputs)
            call = Call(scores=scores.data_ptr(), out=pointers)
            ranks = c_void_p(None if rank is None else rank.data_ptr())
            _launch(function, (batch, 1), 0, struct, ranks, call)
    return outputs


def gaussian_filter(
    volume: torch.Tensor, taps: np.ndarray, radius: tuple[int, int, int], wrap: bool
) -> torch.Tensor:
    v = volume.contiguous()
    with torch.cuda.device(v.device):
        function = _function(v.device.index, "gaussian")
        weights = _upload(taps, v.device.index)
        for axis in (2, 1, 0):  # x, y, t
            only = tuple(r if a == axis else 0 for a, r in enumerate(radius))
            out = torch.empty(filtered_shape(v.shape, only, wrap), dtype=torch.float32, device=v.device)
            inner, n, n_out = math.prod(v.shape[axis + 2 :]), v.shape[axis + 1], out.shape[axis + 1]
            outer = math.prod(v.shape[: axis + 1])
            if out.numel():
                pointers = v.data_ptr(), out.data_ptr(), weights + 4 * axis * taps.shape[1]
                blocks = min(-(-out.numel() // THREADS), 1 << 16)
                _launch(function, (blocks, 1), 0, Axis(*pointers, outer, n, n_out, inner, radius[axis], wrap))
            v = out
    return v


def blue_kernel(plan: OptimBlue) -> str:
    """The kernel of a plan."""
    return "optim_blue_global" if not plan.shared else "optim_blue" if plan.narrow else "optim_blue_wide"


@once
def _blue(spec: OptimBlueSpec, device: int) -> tuple[OptimBlue, int]:
    stamp, ring = (_upload(array, device) for array in (spec.stamp, spec.ring))
    plan = blue_plan_of(spec, stamp, ring, _shared_bytes(device) - SCRATCH_BYTES)
    return plan, _function(device, blue_kernel(plan))


def optim_blue(seed: torch.Tensor, samples: torch.Tensor, spec: OptimBlueSpec, wanted) -> dict:
    device, batch = samples.device, len(samples)
    outputs = allocate(batch * spec.rows_per_sample, spec.tokens, spec.visible, wanted, device)
    with torch.cuda.device(device):
        plan, function = _blue(spec, device.index)
        if not batch or not outputs:
            return outputs
        samples, blocks, workspace = samples.contiguous(), batch, None
        if not plan.shared:  # a workspace for as many blocks as can run at a time
            runnable = BLUE_BLOCKS * torch.cuda.get_device_properties(device).multi_processor_count
            blocks = min(batch, runnable, max(1, BLUE_WORKSPACE // plan.bytes))
            workspace = torch.empty(blocks * plan.bytes, dtype=torch.uint8, device=device)
        pointers = Outputs.of(outputs)
        address = None if workspace is None else workspace.data_ptr()
        call = BlueCall(seed.data_ptr(), samples.data_ptr(), batch, address, pointers)
        shared = SCRATCH_BYTES + plan.bytes if plan.shared else 0
        _launch(function, (blocks, 1), shared, plan, call, threads=BLUE_THREADS)
    return outputs


@once
def _strategy(spec: StrategySpec, device: int) -> tuple[Strategy, int]:
    function = _function(device, "strategy_mask")
    durations, sizes = (_upload(array, device) for array in spec.boxes)
    return strategy_plan_of(spec, durations, sizes, _shared_bytes(device) - SCRATCH_BYTES), function


def strategy_mask(seed: torch.Tensor, samples: torch.Tensor, spec: StrategySpec, wanted) -> dict:
    device, batch = samples.device, len(samples)
    outputs = allocate(batch, spec.tokens, spec.visible, wanted, device)
    with torch.cuda.device(device):
        plan, function = _strategy(spec, device.index)
        if not batch or not outputs:
            return outputs
        samples, pointers = samples.contiguous(), Outputs.of(outputs)
        call, shared = Call(seed.data_ptr(), samples.data_ptr(), out=pointers), SCRATCH_BYTES + plan.bytes
        if plan.shared:
            shared += 4 * spec.tokens
        else:
            scores = torch.empty(batch, spec.tokens, dtype=torch.float32, device=device)
            call.scores = scores.data_ptr()
        _launch(function, (batch, 1), shared, plan, call)
    return outputs


def random_words(seed: torch.Tensor, samples: torch.Tensor, purpose: int, count: int) -> torch.Tensor:
    device, samples = samples.device, samples.contiguous()
    out = torch.empty(len(samples), count, dtype=torch.int64, device=device)
    if out.numel():
        with torch.cuda.device(device):
            blocks = min(-(-len(samples) * -(-count // 4) // THREADS), 1 << 16)
            pointers = (c_void_p(v.data_ptr()) for v in (seed, samples, out))
            sizes = c_int64(len(samples)), c_int64(count), c_int32(purpose)
            _launch(_function(device.index, "random_words"), (blocks, 1), 0, *pointers, *sizes)
    return out


def philox(counter: list[int], seed: int) -> list[int]:
    """Contract section 1, for the conformance check."""
    device = torch.cuda.current_device()
    words = torch.from_numpy(np.array(counter, np.uint32).view(np.int32)).to(f"cuda:{device}")
    key = torch.tensor(signed64(seed), device=words.device)
    pointers = c_void_p(words.data_ptr()), c_void_p(key.data_ptr())
    _launch(_function(device, "philox"), (1, 1), 0, *pointers)
    return words.cpu().numpy().view(np.uint32).tolist()


def draw_sigmas(
    seed: int, sample: int, first: list[int] | None, table: list[int] | None = None
) -> tuple[int, int]:
    """Contract section 3 and extension 12, for the conformance check."""
    device = torch.cuda.current_device()
    values = torch.tensor([signed64(seed), signed64(sample)], device=f"cuda:{device}")
    firsts = None if first is None else torch.tensor(first, dtype=torch.int32, device=values.device)
    entries = None if table is None else torch.tensor(table, device=values.device)
    index = torch.empty(2, dtype=torch.int32, device=values.device)
    tensors = values[:1], values[1:], firsts, entries, index
    pointers = (c_void_p(None if v is None else v.data_ptr()) for v in tensors)
    _launch(_function(device, "sigmas"), (1, 1), 0, *pointers)
    i, j = index.tolist()
    return i, j
