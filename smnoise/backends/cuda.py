# SPDX-License-Identifier: Apache-2.0
"""The CUDA backend: csrc/kernels.cu on torch's current stream. One launch a batch, nothing waits.

The first call for a set of parameters on a device compiles the kernels that it needs (or reads the cache), loads them
and uploads tables; it must happen outside CUDA graph capture, as `sampler.prepare` does it. Later calls only launch, so
they can be captured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from ctypes import c_float, c_int32, c_int64, c_void_p
from functools import lru_cache

import numpy as np
import torch

from ..errors import BackendError
from ..spec import MASKS as SPECS
from ..spec import ColorSpec, OptimBlueSpec, StrategySpec, search_start, signed64, tables
from . import driver, nvrtc, once, outside_capture
from .layout import SCRATCH_BYTES, THREADS, layout
from .outputs import NAMES, Four, allocate, filtered_shape, four, maker, rows_of
from .plan import (
    Axis,
    BlueCall,
    Call,
    OptimBlue,
    Outputs,
    Ranking,
    Slots,
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
MAX_SEEDS = 64  # of a sampler, that stay on a device
_new = maker("cuda")


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
        driver.function(torch.cuda.current_device(), "philox")  # the smallest
    except (BackendError, ImportError) as error:
        return str(error).splitlines()[0]
    return None


class _Color:
    """A spec of a colour on a device: its tables there, the struct that points to them, and the launches."""

    def __init__(self, spec: ColorSpec, device: int):
        outside_capture("preparing a sampler")
        t = tables(spec)
        try:
            cut = layout(spec, t.taps.shape[-1], driver.shared_bytes(device), driver.architecture(device))
        except ValueError as error:
            raise BackendError(f"backend cuda cannot run these parameters: {error}") from None
        self.fused, self.tiles = cut.fused, 1 if cut.fused else cut.tiles(spec.grid)
        if self.tiles > MAX_GRID_Y:
            raise BackendError(
                f"backend cuda cannot run grid {spec.grid}: {self.tiles} tiles, at most {MAX_GRID_Y}"
            )
        first = None if t.first is None else driver.upload(t.first, device)
        taps, radius = (driver.upload(table, device) for table in (t.taps, t.radius))
        plan = plan_of(spec, t, taps, radius, first, cut)
        function, threads = driver.function(device, cut.kernel(spec)), cut.threads if cut.fused else THREADS
        self.launch, self.tokens = (
            driver.Launch(function, plan, Call, cut.bytes, threads),
            math.prod(spec.grid),
        )
        if not cut.fused:  # else the first launch does that too
            ranking = Ranking(*(getattr(plan.ranking, name) for name, *_ in Ranking._fields_))
            self.threshold = driver.Launch(driver.function(device, "threshold"), ranking, Call, 0, THREADS)

    def __call__(
        self, seed: int, samples: int, first: int, batch: int, out: Sequence[int], table: int, origin: int
    ) -> None:
        """Addresses, 0 for none; out: of noise, mask, ids_keep, ids_mask, ids_restore."""
        if self.fused:
            return self.launch(batch, 1, seed, samples, first, table, origin, 0, *out)
        scores = out[0]
        if not scores:
            held = torch.empty(batch, self.tokens, dtype=torch.float32, device=torch.cuda.current_device())
            scores = held.data_ptr()
        self.launch(batch, self.tiles, seed, samples, first, table, origin, scores, *out)
        if any(out[1:]):
            self.threshold(batch, 1, seed, samples, first, table, origin, scores, *out)


@once
def _color(spec: ColorSpec, device: int) -> _Color:
    return _Color(spec, device)


class Masks:
    """The launches for masks of one spec on one device: what does not change from batch to batch is made once.

    op, spec: such as "color_mask" and a ColorSpec. wanted: names of outputs.
    """

    def __init__(self, op: str, spec, wanted: tuple[str, ...], device: int | None):
        self.index = torch.cuda.current_device() if device is None else device
        self.device, self.wanted = torch.device("cuda", self.index), wanted
        self.rows, tokens, self.visible = rows_of(op, spec)
        self.four = four(tokens, self.visible, wanted)
        with torch.cuda.device(self.device):
            launches: dict[str, Callable] = {
                "color_mask": _color,
                "optim_blue": _blue,
                "strategy_mask": _strategy,
            }
            self.run = launches[op](spec, self.index)
        self.seeds: dict[int, int] = {}

    def __call__(
        self,
        seed: int | torch.Tensor,
        samples: torch.Tensor | None,
        first: int,
        batch: int,
        table: torch.Tensor | None = None,
        given: Four | None = None,
        origin: torch.Tensor | None = None,
    ) -> Four:
        """The outputs, in the order of NAMES. Arguments as of `cpu.Masks`, on the device."""
        if torch.cuda.current_device() != self.index:
            with torch.cuda.device(self.device):
                return self(seed, samples, first, batch, table, given, origin)
        if given is None:
            rows = batch * self.rows
            given = [None if f is None else _new((rows, f[0]), f[1], f[2]) for f in self.four]
        if batch and self.wanted:
            pointers = [0 if v is None else v.data_ptr() for v in given]
            # Held until the launch: what is brought into one piece.
            key = self._seed(seed) if isinstance(seed, int) else seed.contiguous()
            if samples is not None:
                samples = samples.contiguous()
            table, origin = _tables(table, origin)
            self.run(
                key if isinstance(key, int) else key.data_ptr(),
                0 if samples is None else samples.data_ptr(),
                first, batch, (0, *pointers),
                0 if table is None else table.data_ptr(), 0 if origin is None else origin.data_ptr(),
            )  # fmt: skip
        return given

    def _seed(self, seed: int) -> int | torch.Tensor:
        """The address of a seed that lies on the device for good, or, of more seeds than a run has, a tensor."""
        address = self.seeds.get(seed)
        if address is not None:
            return address
        if len(self.seeds) == MAX_SEEDS or torch.cuda.is_current_stream_capturing():
            return torch.full((), signed64(seed), dtype=torch.int64, device=self.device)
        return self.seeds.setdefault(seed, driver.upload(np.array([signed64(seed)], np.int64), self.index))


@lru_cache(maxsize=512)
def masks(op: str, spec: str, wanted: tuple[str, ...], times: int, device: int | None) -> Masks | None:
    """See `backends.launcher`. Frames are repeated by torch's own kernels."""
    return Masks(op, SPECS[op].from_json(spec), wanted, device) if times == 1 else None


def _masks(op: str, spec, wanted, seed, samples, table=None, origin=None) -> dict[str, torch.Tensor]:
    """What an op returns."""
    made = Masks(op, spec, wanted, samples.device.index)(seed, samples, 0, len(samples), table, None, origin)
    return {name: tensor for name, tensor in zip(NAMES, made, strict=True) if tensor is not None}


def _tables(
    sigma_table: torch.Tensor | None = None, origin: torch.Tensor | None = None
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """What colours may be given besides, as the kernels read it."""
    return (
        None if sigma_table is None else sigma_table.contiguous(),
        None if origin is None else origin.contiguous(),
    )


def color_noise(
    seed: torch.Tensor, samples: torch.Tensor, spec: ColorSpec, *tables: torch.Tensor | None
) -> torch.Tensor:
    """tables: of sigmas (extension 12), and of origins (13)."""
    noise = torch.empty(len(samples), *spec.grid, dtype=torch.float32, device=samples.device)
    table, origin = _tables(*tables)
    samples = samples.contiguous()
    with torch.cuda.device(samples.device):
        run = _color(spec, _index(samples))
        if len(samples):
            given = (0 if v is None else v.data_ptr() for v in (table, origin))
            run(seed.data_ptr(), samples.data_ptr(), 0, len(samples), (noise.data_ptr(), 0, 0, 0, 0), *given)
    return noise


def _index(tensor: torch.Tensor) -> int:
    found = tensor.device.index
    return torch.cuda.current_device() if found is None else found


def color_mask(
    seed: torch.Tensor, samples: torch.Tensor, spec: ColorSpec, wanted, *tables: torch.Tensor | None
) -> dict:
    return _masks("color_mask", spec, wanted, seed, samples, *tables)


def threshold(scores: torch.Tensor, visible: int, groups: int, wanted) -> dict:
    scores = scores.contiguous()
    batch, tokens = scores.shape
    outputs = allocate(batch, tokens, groups * visible, wanted, scores.device)
    if batch and outputs:
        ranking = Ranking(groups, tokens // groups, visible, *search_start(tokens // groups, visible))
        pointers = Outputs.of(outputs)
        call = Call(scores=scores.data_ptr(), out=pointers)
        with torch.cuda.device(scores.device):
            function = driver.function(scores.device.index, "threshold")
            driver.launch(function, (batch, 1), 0, ranking, call)
    return outputs


def add_bias(scores: torch.Tensor, bias: torch.Tensor, weight: float) -> torch.Tensor:
    scores, bias = scores.contiguous(), bias.contiguous()
    out = torch.empty_like(scores)
    if out.numel():
        with torch.cuda.device(scores.device):
            pointers = (c_void_p(v.data_ptr()) for v in (scores, bias, out))
            blocks = -(-out.numel() // THREADS)
            function = driver.function(scores.device.index, "add_bias")
            driver.launch(function, (blocks, 1), 0, *pointers, c_float(weight), c_int64(out.numel()))
    return out


@once
def _slots(counts: tuple[int, ...], tokens: int, device: int) -> tuple[Slots, int]:
    table = driver.upload(slot_table(counts, tokens), device)
    return Slots(len(counts), tokens, sum(counts), table), driver.function(device, "slot_threshold")


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
            driver.launch(function, (batch, 1), 0, struct, ranks, call)
    return outputs


def gaussian_filter(
    volume: torch.Tensor, taps: np.ndarray, radius: tuple[int, int, int], wrap: bool
) -> torch.Tensor:
    v = volume.contiguous()
    with torch.cuda.device(v.device):
        function = driver.function(v.device.index, "gaussian")
        weights = driver.upload(taps, v.device.index)
        for axis in (2, 1, 0):  # x, y, t
            only = tuple(r if a == axis else 0 for a, r in enumerate(radius))
            out = torch.empty(filtered_shape(v.shape, only, wrap), dtype=torch.float32, device=v.device)
            inner, n, n_out = math.prod(v.shape[axis + 2 :]), v.shape[axis + 1], out.shape[axis + 1]
            outer = math.prod(v.shape[: axis + 1])
            if out.numel():
                pointers = v.data_ptr(), out.data_ptr(), weights + 4 * axis * taps.shape[1]
                blocks = min(-(-out.numel() // THREADS), 1 << 16)
                driver.launch(
                    function, (blocks, 1), 0, Axis(*pointers, outer, n, n_out, inner, radius[axis], wrap)
                )
            v = out
    return v


def blue_kernel(plan: OptimBlue) -> str:
    """The kernel of a plan."""
    return "optim_blue_global" if not plan.shared else "optim_blue" if plan.narrow else "optim_blue_wide"


class _Blue:
    """Optim Blue on a device. Called as _Color is."""

    def __init__(self, spec: OptimBlueSpec, device: int):
        stamp, ring = (driver.upload(array, device) for array in (spec.stamp, spec.ring))
        plan = blue_plan_of(spec, stamp, ring, driver.shared_bytes(device) - SCRATCH_BYTES)
        function, shared = driver.function(device, blue_kernel(plan)), SCRATCH_BYTES + plan.bytes
        self.launch = driver.Launch(function, plan, BlueCall, shared if plan.shared else 0, BLUE_THREADS)
        self.workspace = 0 if plan.shared else plan.bytes  # of a block

    def __call__(self, seed: int, samples: int, first: int, batch: int, out: Sequence[int], *_: int) -> None:
        if not self.workspace:
            return self.launch(batch, 1, seed, samples, first, batch, 0, *out)
        # For as many blocks as can run at a time.
        device = torch.cuda.current_device()
        runnable = BLUE_BLOCKS * torch.cuda.get_device_properties(device).multi_processor_count
        blocks = min(batch, runnable, max(1, BLUE_WORKSPACE // self.workspace))
        held = torch.empty(blocks * self.workspace, dtype=torch.uint8, device=device)
        self.launch(blocks, 1, seed, samples, first, batch, held.data_ptr(), *out)


@once
def _blue(spec: OptimBlueSpec, device: int) -> _Blue:
    return _Blue(spec, device)


def optim_blue(seed: torch.Tensor, samples: torch.Tensor, spec: OptimBlueSpec, wanted) -> dict:
    return _masks("optim_blue", spec, wanted, seed, samples)


class _Strategy:
    """A strategy on a device. Called as _Color is."""

    def __init__(self, spec: StrategySpec, device: int):
        durations, sizes = (driver.upload(array, device) for array in spec.boxes)
        plan = strategy_plan_of(spec, durations, sizes, driver.shared_bytes(device) - SCRATCH_BYTES)
        self.tokens, self.fused = plan.ranking.tokens, bool(plan.shared)
        shared = SCRATCH_BYTES + plan.bytes + (4 * self.tokens if self.fused else 0)
        self.launch = driver.Launch(driver.function(device, "strategy_mask"), plan, Call, shared, THREADS)

    def __call__(self, seed: int, samples: int, first: int, batch: int, out: Sequence[int], *_: int) -> None:
        if self.fused:
            return self.launch(batch, 1, seed, samples, first, 0, 0, 0, *out)
        scores = torch.empty(batch, self.tokens, dtype=torch.float32, device=torch.cuda.current_device())
        self.launch(batch, 1, seed, samples, first, 0, 0, scores.data_ptr(), *out)


@once
def _strategy(spec: StrategySpec, device: int) -> _Strategy:
    return _Strategy(spec, device)


def strategy_mask(seed: torch.Tensor, samples: torch.Tensor, spec: StrategySpec, wanted) -> dict:
    return _masks("strategy_mask", spec, wanted, seed, samples)


def random_words(seed: torch.Tensor, samples: torch.Tensor, purpose: int, count: int) -> torch.Tensor:
    device, samples = samples.device, samples.contiguous()
    out = torch.empty(len(samples), count, dtype=torch.int64, device=device)
    if out.numel():
        with torch.cuda.device(device):
            blocks = min(-(-len(samples) * -(-count // 4) // THREADS), 1 << 16)
            pointers = (c_void_p(v.data_ptr()) for v in (seed, samples, out))
            sizes = c_int64(len(samples)), c_int64(count), c_int32(purpose)
            driver.launch(driver.function(device.index, "random_words"), (blocks, 1), 0, *pointers, *sizes)
    return out


def philox(counter: list[int], seed: int) -> list[int]:
    """Contract section 1, for the conformance check."""
    device = torch.cuda.current_device()
    words = torch.from_numpy(np.array(counter, np.uint32).view(np.int32)).to(f"cuda:{device}")
    key = torch.tensor(signed64(seed), device=words.device)
    pointers = c_void_p(words.data_ptr()), c_void_p(key.data_ptr())
    driver.launch(driver.function(device, "philox"), (1, 1), 0, *pointers)
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
    driver.launch(driver.function(device, "sigmas"), (1, 1), 0, *pointers)
    i, j = index.tolist()
    return i, j
