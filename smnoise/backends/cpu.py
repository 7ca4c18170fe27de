# SPDX-License-Identifier: Apache-2.0
"""The C++ backend: csrc/ through ctypes, on torch's own OpenMP threads."""

from __future__ import annotations

import ctypes
import json
import math
import os
from ctypes import POINTER, byref, c_float, c_int, c_int64, c_uint32, c_uint64, c_void_p
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..spec import ColorSpec, OptimBlueSpec, StrategySpec, search_start, tables
from .layout import SHARED_BYTES, layout
from .outputs import allocate, filtered_shape
from .plan import (
    Gaussian,
    Held,
    OptimBlue,
    Outputs,
    Patches,
    PatchLoss,
    Plan,
    Ranking,
    Slots,
    Strategy,
    blue_plan_of,
    plan_of,
    slot_table,
    strategy_plan_of,
)

DEVICES = ("cpu",)
ABI = 11
ISAS = {"avx512": 3, "avx2": 2, "portable": 1}  # best first
CODES = {**ISAS, "block": 4}  # block: the GPU's algorithm, a block of threads as a loop, for tests


@lru_cache(maxsize=1)
def _load() -> tuple[Any, str | None]:
    """The library and None, or None and the reason why there is none."""
    path = Path(__file__).parent.parent / "libsmnoise_cpu.so"
    if not path.exists():
        return None, (
            "the compiled library is missing: no working C++17 compiler was found when smnoise was installed; "
            "install g++ or clang++, then: pip install --force-reinstall --no-deps smnoise"
        )
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        return None, f"{path} does not load: {error}"
    if library.smn_abi() != ABI:
        return None, f"{path} has ABI {library.smn_abi()}, this package needs {ABI}; reinstall smnoise"
    library.smn_color.argtypes = [
        POINTER(Plan), c_int, c_int, c_void_p, c_void_p, c_void_p, c_int64, c_void_p, POINTER(Outputs),
    ]  # fmt: skip
    library.smn_threshold.argtypes = [
        POINTER(Ranking), c_int, c_int, c_void_p, c_void_p, c_int64, POINTER(Outputs),
    ]  # fmt: skip
    library.smn_add_bias.argtypes = [
        c_int, c_int, c_void_p, c_void_p, c_void_p, c_float, c_int64, c_int64, c_void_p,
    ]  # fmt: skip
    library.smn_slot_threshold.argtypes = [
        POINTER(Slots), c_int, c_int, c_void_p, c_void_p, c_void_p, c_int64, POINTER(Outputs),
    ]  # fmt: skip
    library.smn_gaussian_filter.argtypes = [
        POINTER(Gaussian), c_int, c_int, c_void_p, c_void_p, c_int64, c_void_p,
    ]  # fmt: skip
    library.smn_optim_blue_masks.argtypes = [
        POINTER(OptimBlue), c_int, c_int, c_void_p, c_void_p, c_void_p, c_int64, POINTER(Outputs),
    ]  # fmt: skip
    library.smn_strategy_mask.argtypes = [
        POINTER(Strategy), c_int, c_int, c_void_p, c_void_p, c_void_p, c_int64, POINTER(Outputs),
    ]  # fmt: skip
    library.smn_random_words.argtypes = [
        c_int, c_int, c_void_p, c_void_p, c_void_p, c_int64, c_int, c_int64, c_void_p,
    ]  # fmt: skip
    library.smn_gather_patches.argtypes = [
        POINTER(Patches), c_int, c_int, c_void_p, c_int64, c_void_p, c_void_p, c_void_p,
    ]  # fmt: skip
    library.smn_patch_loss_rows.argtypes = [
        POINTER(PatchLoss), c_int, c_int, c_void_p, c_int64, c_void_p, c_float, c_void_p,
    ]  # fmt: skip
    library.smn_decoder_tokens.argtypes = [
        c_int, c_int, c_void_p, *[c_void_p] * 5, *[c_int64] * 4, c_int, c_void_p,
    ]  # fmt: skip
    library.smn_philox_words.argtypes = [POINTER(c_uint32), c_uint64, POINTER(c_uint32)]
    library.smn_white_values.argtypes = [c_uint64, c_uint64, c_void_p, c_void_p, c_void_p, c_int64, c_void_p]
    library.smn_sigma_draws.argtypes = [c_void_p, c_void_p, c_uint64, c_void_p, c_int64, c_void_p]
    return library, None


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


@lru_cache(maxsize=1)
def _parallel() -> int:
    """Address of GOMP_parallel in the OpenMP runtime that torch itself loaded; 0 where it has none."""
    for name in ("libtorch_cpu.so", "libtorch_cpu.dylib"):
        path = Path(torch.__file__).parent / "lib" / name
        try:
            runtime = ctypes.CDLL(str(path), mode=os.RTLD_NOLOAD)
            return ctypes.cast(runtime.GOMP_parallel, c_void_p).value or 0
        except (OSError, AttributeError):
            continue
    return 0


_forked = False  # OpenMP's workers do not live on in a forked child: a parallel region there would hang


def _in_forked_child() -> None:
    global _forked
    _forked = True


os.register_at_fork(after_in_child=_in_forked_child)


def threads() -> int:
    """How many threads the next call may use: torch's own number, but one in a forked process."""
    return torch.get_num_threads() if _parallel() and not _forked else 1


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


def _masks(
    function: str, plan: Held, seed: torch.Tensor, samples: torch.Tensor, outputs: dict, *others
) -> dict:
    """Have the library's `function` write the outputs, and return them. others: arguments before the outputs."""
    samples, pointers = samples.contiguous(), Outputs.of(outputs)
    status = getattr(_load()[0], function)(
        byref(plan), CODES[isa()], threads(), _parallel(),
        seed.data_ptr(), samples.data_ptr(), len(samples), *others, byref(pointers),
    )  # fmt: skip
    _check(status)
    return outputs


def _color(
    seed: torch.Tensor,
    samples: torch.Tensor,
    spec: ColorSpec,
    outputs: dict,
    sigma_table: torch.Tensor | None,
) -> dict:
    table = None if sigma_table is None else sigma_table.contiguous()
    address = None if table is None else table.data_ptr()
    return _masks("smn_color", _plan(spec, isa(), _block_bytes), seed, samples, outputs, address)


def color_noise(
    seed: torch.Tensor, samples: torch.Tensor, spec: ColorSpec, sigma_table: torch.Tensor | None = None
) -> torch.Tensor:
    noise = torch.empty(len(samples), *spec.grid, dtype=torch.float32, device="cpu")
    _color(seed, samples, spec, {"noise": noise}, sigma_table)
    return noise


def color_mask(
    seed: torch.Tensor,
    samples: torch.Tensor,
    spec: ColorSpec,
    wanted,
    sigma_table: torch.Tensor | None = None,
) -> dict:
    outputs = allocate(len(samples), spec.groups * spec.tokens, spec.groups * spec.visible, wanted)
    return _color(seed, samples, spec, outputs, sigma_table)


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
    outputs = allocate(len(samples) * spec.rows_per_sample, spec.tokens, spec.visible, wanted)
    return _masks("smn_optim_blue_masks", _blue_plan(spec), seed, samples, outputs)


@lru_cache(maxsize=256)
def _strategy_plan(spec: StrategySpec) -> Strategy:
    durations, sizes = spec.boxes
    plan = strategy_plan_of(spec, durations.ctypes.data, sizes.ctypes.data, SHARED_BYTES)
    return plan.holding(durations, sizes)


def strategy_mask(seed: torch.Tensor, samples: torch.Tensor, spec: StrategySpec, wanted) -> dict:
    outputs = allocate(len(samples), spec.tokens, spec.visible, wanted)
    return _masks("smn_strategy_mask", _strategy_plan(spec), seed, samples, outputs)


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
