# SPDX-License-Identifier: Apache-2.0
"""The C++ backend: csrc/ through ctypes, on torch's own OpenMP threads."""

from __future__ import annotations

import ctypes
import json
import math
from ctypes import byref, c_uint32
from functools import lru_cache
from importlib.resources import files

import numpy as np
import torch

from ..spec import MASKS as SPECS
from ..spec import ColorSpec, OptimBlueSpec, StrategySpec, search_start, tables
from .layout import SHARED_BYTES, layout
from .library import load as _load
from .library import parallel as _parallel
from .library import threads
from .outputs import NAMES, Four, allocate, filtered_shape, four, maker, rows_of
from .plan import (
    Gaussian,
    Held,
    MasksCall,
    OptimBlue,
    Outputs,
    Patches,
    PatchLoss,
    Plan,
    Ranking,
    Slots,
    Strategy,
    blue_plan_of,
    packer,
    plan_of,
    slot_table,
    strategy_plan_of,
)

DEVICES = ("cpu",)
ISAS = {"avx512": 3, "avx2": 2, "portable": 1}  # best first
WORD = 2**64 - 1
_new, _packed = maker("cpu"), packer(MasksCall).pack
CODES = {**ISAS, "block": 4}  # block: the GPU's algorithm, a block of threads as a loop, for tests


@lru_cache(maxsize=1)
def why_not() -> str | None:
    """Why this backend cannot run: not built, or (a compiler fault) wrong on its known answers."""
    library, why = _load()
    if library is None:
        return why
    known = json.loads((files("smnoise") / "contract" / "kat.json").read_text())
    for entry in known["philox"]:
        if philox(entry["counter"], entry["seed"]) != entry["words"]:
            return "the compiled library gives wrong Philox words; rebuild it with another compiler"
    entry = known["green_noise"]
    sigma1, sigma2 = entry["sigmas"]
    spec = ColorSpec("green", entry["grid"], 1, sigma1=(sigma1, sigma1), sigma2=(sigma2, sigma2))
    seed, samples = (torch.tensor(entry[n], dtype=torch.int64, device="cpu") for n in ("seed", "sample"))
    got = color_noise(seed, samples[None], spec)
    if got.flatten().tolist() != entry["values"]:
        return f"the compiled library ({isa()}) gives wrong noise; rebuild it with another compiler"
    return None


@lru_cache(maxsize=1)
def isas() -> tuple[str, ...]:
    """Instruction sets that this machine runs, best first."""
    library, _ = _load()
    return () if library is None else tuple(n for n, code in ISAS.items() if library.smn_has_isa(code))


_forced_isa: str | None = None  # tests set it to run every instruction set of a machine, and "block"
_block_bytes = SHARED_BYTES  # tests lower it to make tiles


def isa() -> str:
    return _forced_isa or isas()[0]


# The plans hold the arrays that they point into, as those were when they were made: a spec's own may be computed anew
# by another thread, and every cache here may drop what a call still uses.
@lru_cache(maxsize=256)
def _plan(spec: ColorSpec, isa: str, shared_bytes: int) -> Plan:
    t = tables(spec)
    first = None if t.first is None else t.first.ctypes.data
    cut = layout(spec, t.taps.shape[-1], shared_bytes) if isa == "block" else None
    return plan_of(spec, t, t.taps.ctypes.data, t.radius.ctypes.data, first, cut).holding(t)


def _check(status: int) -> None:
    if status == 1:
        raise MemoryError("smnoise: the CPU backend could not allocate its workspace")
    if status:
        raise RuntimeError(f"smnoise: the CPU library does not have instruction set {isa()!r}")


class Masks:
    """The library's call for masks of one spec: what does not change from batch to batch is made once.

    op, spec: such as "color_mask" and a ColorSpec. wanted: names of outputs. times: show a mask of one frame in so many
    (extension 6), of colours.
    """

    def __init__(self, op: str, spec, wanted: tuple[str, ...], times: int = 1):
        self.op, self.spec, self.times = op, spec, times
        self.rows, tokens, visible = rows_of(op, spec)
        self.visible = times * visible
        self.function = getattr(_load()[0], FUNCTIONS[op])
        self.four = four(times * tokens, self.visible, wanted)
        self.ready: tuple = ()  # instruction set, block bytes, plan, its address

    def use(self, plan: Held) -> tuple:
        self.ready = isa(), _block_bytes, plan, ctypes.addressof(plan)
        return self.ready

    def _ready(self, isa: str) -> tuple:
        ready = self.ready
        if ready and ready[0] == isa and ready[1] == _block_bytes:
            return ready
        if self.op == "color_mask":
            return self.use(_plan(self.spec, isa, _block_bytes))
        return self.use((_blue_plan if self.op == "optim_blue" else _strategy_plan)(self.spec))

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
        """The outputs, in the order of NAMES.

        seed: a tensor holds an int64. samples: int64 [batch], or None for first, first + 1, ... as uint64. given: what
        to write into, contiguous, ids as int64; None for new tensors, where torch has no default device.
        """
        if given is None:
            rows = batch * self.rows
            given = [None if f is None else _new((rows, f[0]), f[1], f[2]) for f in self.four]
        mask, keep, hide, restore = [0 if v is None else v.data_ptr() for v in given]
        value, seed_at = (seed & WORD, 0) if isinstance(seed, int) else (0, seed.data_ptr())
        if samples is not None:
            samples = samples.contiguous()
        found, _, _kept, plan = self._ready(isa())
        status = self.function(
            _packed(
                plan, _parallel(), seed_at, value, 0 if samples is None else samples.data_ptr(), first & WORD, batch,
                0 if table is None else table.data_ptr(), 0 if origin is None else origin.data_ptr(),
                0, mask, keep, hide, restore, CODES[found], threads(), self.times,
            )
        )  # fmt: skip
        if status:
            _check(status)
        return given


FUNCTIONS = {
    "color_mask": "smn_color",
    "optim_blue": "smn_optim_blue_masks",
    "strategy_mask": "smn_strategy_mask",
}


@lru_cache(maxsize=512)
def masks(op: str, spec: str, wanted: tuple[str, ...], times: int, device: int | None) -> Masks:
    """See `backends.launcher`."""
    return Masks(op, SPECS[op].from_json(spec), wanted, times)


def _masks(op: str, spec, wanted, seed, samples, *tables: torch.Tensor | None) -> dict[str, torch.Tensor]:
    """What an op returns; its tensors are torch.empty's, whose modes may want to know of them."""
    table, origin = _tables(*tables)
    rows, tokens, visible = rows_of(op, spec)
    outputs = allocate(len(samples) * rows, tokens, visible, wanted)
    Masks(op, spec, wanted)(seed, samples, 0, len(samples), table, tuple(map(outputs.get, NAMES)), origin)
    return outputs


def color_noise(
    seed: torch.Tensor, samples: torch.Tensor, spec: ColorSpec, *tables: torch.Tensor | None
) -> torch.Tensor:
    """tables: of sigmas (extension 12), and of origins (13)."""
    samples, plan = samples.contiguous(), _plan(spec, isa(), _block_bytes)
    noise = torch.empty(len(samples), *spec.grid, dtype=torch.float32, device="cpu")
    table, origin = _tables(*tables)
    status = _load()[0].smn_color(
        _packed(
            ctypes.addressof(plan), _parallel(), seed.data_ptr(), 0, samples.data_ptr(), 0, len(samples),
            0 if table is None else table.data_ptr(), 0 if origin is None else origin.data_ptr(),
            noise.data_ptr(), 0, 0, 0, 0, CODES[isa()], threads(), 1,
        )
    )  # fmt: skip
    _check(status)
    return noise


def color_mask(
    seed: torch.Tensor, samples: torch.Tensor, spec: ColorSpec, wanted, *tables: torch.Tensor | None
) -> dict:
    return _masks("color_mask", spec, wanted, seed, samples, *tables)


def _tables(
    sigma_table: torch.Tensor | None = None, origin: torch.Tensor | None = None
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """What colours may be given besides, as the library reads it."""
    return (
        None if sigma_table is None else sigma_table.contiguous(),
        None if origin is None else origin.contiguous(),
    )


def threshold(scores: torch.Tensor, visible: int, groups: int, wanted) -> dict:
    scores = scores.contiguous()
    batch, tokens = scores.shape
    outputs = allocate(batch, tokens, groups * visible, wanted)
    ranking = Ranking(groups, tokens // groups, visible, *search_start(tokens // groups, visible))
    pointers = Outputs.of(outputs)
    status = _load()[0].smn_threshold(
        byref(ranking), CODES[isa()], threads(), _parallel(), scores.data_ptr(), batch, byref(pointers)
    )
    _check(status)
    return outputs


def add_bias(scores: torch.Tensor, bias: torch.Tensor, weight: float) -> torch.Tensor:
    scores, bias = scores.contiguous(), bias.contiguous()
    out = torch.empty_like(scores)
    status = _load()[0].smn_add_bias(
        CODES[isa()], threads(), _parallel(),
        scores.data_ptr(), bias.data_ptr(), weight, *scores.shape, out.data_ptr(),
    )  # fmt: skip
    _check(status)
    return out


def slot_threshold(scores: torch.Tensor, counts: tuple[int, ...], rank: torch.Tensor | None, wanted) -> dict:
    scores = scores.contiguous()
    (batch, tokens), slots = scores.shape, len(counts)
    outputs = allocate(batch, tokens, sum(counts), wanted)
    table = slot_table(counts, tokens // slots)
    struct = Slots(slots, tokens // slots, sum(counts), table.ctypes.data).holding(table)
    pointers = Outputs.of(outputs)
    status = _load()[0].smn_slot_threshold(
        byref(struct), CODES[isa()], threads(), _parallel(),
        None if rank is None else rank.data_ptr(), scores.data_ptr(), batch, byref(pointers),
    )  # fmt: skip
    _check(status)
    return outputs


def gaussian_filter(
    volume: torch.Tensor, taps: np.ndarray, radius: tuple[int, int, int], wrap: bool
) -> torch.Tensor:
    volume, size = volume.contiguous(), volume.shape[1:]
    out = torch.empty(filtered_shape(volume.shape, radius, wrap), dtype=torch.float32, device="cpu")
    struct = Gaussian(tuple(size), radius, wrap, taps.shape[1], taps.ctypes.data).holding(taps)
    status = _load()[0].smn_gaussian_filter(
        byref(struct), CODES[isa()], threads(), _parallel(), volume.data_ptr(), len(volume), out.data_ptr()
    )
    _check(status)
    return out


@lru_cache(maxsize=256)
def _blue_plan(spec: OptimBlueSpec) -> OptimBlue:
    arrays = spec.stamp, spec.ring, spec.table
    stamp, ring, table = (array.ctypes.data for array in arrays)
    return blue_plan_of(spec, stamp, ring, SHARED_BYTES, table).holding(*arrays)


def optim_blue(seed: torch.Tensor, samples: torch.Tensor, spec: OptimBlueSpec, wanted) -> dict:
    return _masks("optim_blue", spec, wanted, seed, samples)


@lru_cache(maxsize=256)
def _strategy_plan(spec: StrategySpec) -> Strategy:
    durations, sizes = spec.boxes
    plan = strategy_plan_of(spec, durations.ctypes.data, sizes.ctypes.data, SHARED_BYTES)
    return plan.holding(durations, sizes)


def strategy_mask(seed: torch.Tensor, samples: torch.Tensor, spec: StrategySpec, wanted) -> dict:
    return _masks("strategy_mask", spec, wanted, seed, samples)


def random_words(seed: torch.Tensor, samples: torch.Tensor, purpose: int, count: int) -> torch.Tensor:
    samples = samples.contiguous()
    out = torch.empty(len(samples), count, dtype=torch.int64, device="cpu")
    status = _load()[0].smn_random_words(
        CODES[isa()], threads(), _parallel(),
        seed.data_ptr(), samples.data_ptr(), len(samples), purpose, count, out.data_ptr(),
    )  # fmt: skip
    _check(status)
    return out


def gather_patches(pixels, ids, patch, scale, shift) -> torch.Tensor:
    pixels, ids, scale, shift = (v.contiguous() for v in (pixels, ids, scale, shift))
    out = torch.empty(*ids.shape, pixels.shape[1], math.prod(patch), dtype=torch.float32, device="cpu")
    status = _load()[0].smn_gather_patches(
        byref(Patches.of(pixels, ids, patch)), CODES[isa()], threads(), _parallel(), ids.numel(),
        scale.data_ptr(), shift.data_ptr(), out.data_ptr(),
    )  # fmt: skip
    _check(status)
    return out


def _patch_loss(prediction, pixels, ids, patch, eps, eps_inside, normalise, sums, scale, gradient) -> None:
    unit = 1 / 255 if pixels.dtype == torch.uint8 else 1.0
    pixels, ids = pixels.contiguous(), ids.contiguous()
    struct = PatchLoss(
        Patches.of(pixels, ids, patch), unit, eps, eps_inside, normalise, prediction.data_ptr()
    ).holding(pixels, ids, prediction)
    status = _load()[0].smn_patch_loss_rows(
        byref(struct), CODES[isa()], threads(), _parallel(), ids.numel(),
        None if sums is None else sums.data_ptr(), scale, None if gradient is None else gradient.data_ptr(),
    )  # fmt: skip
    _check(status)


def patch_loss(prediction, pixels, ids, patch, eps, eps_inside, normalise) -> torch.Tensor:
    prediction = prediction.float().contiguous()
    sums = torch.empty(ids.numel(), dtype=torch.float64, device="cpu")
    _patch_loss(prediction, pixels, ids, patch, eps, eps_inside, normalise, sums, 0.0, None)
    return (sums.sum() / prediction.numel()).float()


def patch_loss_backward(gradient, prediction, pixels, ids, patch, eps, eps_inside, normalise) -> torch.Tensor:
    values = prediction.float().contiguous()
    out, scale = torch.empty_like(values), 2 * float(gradient) / values.numel()
    _patch_loss(values, pixels, ids, patch, eps, eps_inside, normalise, None, scale, out)
    return out.to(prediction.dtype)


def decoder_tokens(visible, mask_token, positions, ids_keep, ids_mask, in_grid) -> torch.Tensor:
    given = visible.float(), mask_token.float(), positions, ids_keep, ids_mask
    tensors = [v.contiguous() for v in given]
    (b, v, d), hidden = visible.shape, ids_mask.shape[1]
    out = torch.empty(b, v + hidden, d, dtype=torch.float32, device="cpu")
    if in_grid:
        out.fill_(math.nan)  # what a token given twice leaves out
    status = _load()[0].smn_decoder_tokens(
        CODES[isa()],
        threads(),
        _parallel(),
        *(t.data_ptr() for t in tensors),
        b,
        v,
        hidden,
        d,
        in_grid,
        out.data_ptr(),
    )
    _check(status)
    return out


def philox(counter: list[int], seed: int) -> list[int]:
    """Contract section 1, for the conformance check."""
    out = (c_uint32 * 4)()
    _load()[0].smn_philox_words((c_uint32 * 4)(*counter), seed, out)
    return list(out)


def white(seed: int, sample: int, t, y, x) -> np.ndarray:
    """Contract section 2, for the conformance check: float32, the broadcast shape."""
    at = [np.ascontiguousarray(v, np.int64) for v in np.broadcast_arrays(t, y, x)]
    out = np.empty(at[0].shape, np.float32)
    pointers = (v.ctypes.data for v in at)
    _load()[0].smn_white_values(seed, sample & 2**64 - 1, *pointers, out.size, out.ctypes.data)
    return out


def draw_sigmas(
    seed: int, sample: int, first: list[int] | None, table: list[int] | None = None
) -> tuple[int, int]:
    """Contract section 3 and extension 12, for the conformance check."""
    firsts = None if first is None else np.array(first, np.int32)
    entries = None if table is None else np.array(table, np.int64)
    sample_row, out = np.array([sample], np.uint64), np.empty(2, np.int32)
    pointer = None if firsts is None else firsts.ctypes.data
    entry = None if entries is None else entries.ctypes.data
    _load()[0].smn_sigma_draws(pointer, entry, seed, sample_row.ctypes.data, 1, out.ctypes.data)
    return int(out[0]), int(out[1])
