# SPDX-License-Identifier: Apache-2.0
"""The C++ backend: csrc/ through ctypes, on torch's own OpenMP threads."""

from __future__ import annotations

import ctypes
import json
import os
from ctypes import POINTER, Structure, byref, c_float, c_int, c_int32, c_int64, c_uint32, c_uint64, c_void_p
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch

from ..spec import ColorSpec, Tables, search_start, tables
from .outputs import allocate

DEVICES = ("cpu",)
ABI = 1
ISAS = {"avx512": 3, "avx2": 2, "portable": 1}  # best first
COLOR_CODES = {"white": 0, "red": 1, "blue": 2, "green": 3, "purple": 4}


class Ranking(Structure):
    _fields_ = [
        ("groups", c_int32),
        ("tokens", c_int32),
        ("visible", c_int32),
        ("quantile", c_float),
        ("slope", c_float),
    ]


class Plan(Structure):
    _fields_ = [
        ("grid", c_int32 * 3),
        ("origin", c_int32 * 3),
        ("color", c_int32),
        ("wrap", c_int32),
        ("max_radius", c_int32 * 3),
        ("taps_stride", c_int32),
        ("taps", c_void_p),
        ("radius", c_void_p),
        ("first", c_void_p),
        ("ranking", Ranking),
    ]


class Outputs(Structure):
    _fields_ = [(n, c_void_p) for n in ("noise", "mask", "ids_keep", "ids_mask", "ids_restore")]


@lru_cache(maxsize=1)
def _load() -> tuple[ctypes.CDLL | None, str | None]:
    """The library and None, or None and the reason why there is none."""
    path = Path(__file__).parent.parent / "libsmnoise_cpu.so"
    if not path.exists():
        return None, (
            "the compiled library is missing: no C++17 compiler was found when smnoise was installed; "
            "install g++ or clang++, then: pip install --force-reinstall --no-deps smnoise"
        )
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        return None, f"{path} does not load: {error}"
    if library.smn_abi() != ABI:
        return None, f"{path} has ABI {library.smn_abi()}, this package needs {ABI}; reinstall smnoise"
    library.smn_color.argtypes = [
        POINTER(Plan), c_int, c_int, c_void_p, c_void_p, c_void_p, c_int64, POINTER(Outputs),
    ]  # fmt: skip
    library.smn_threshold.argtypes = [
        POINTER(Ranking), c_int, c_int, c_void_p, c_void_p, c_int64, POINTER(Outputs),
    ]  # fmt: skip
    library.smn_philox_words.argtypes = [POINTER(c_uint32), c_uint64, POINTER(c_uint32)]
    library.smn_white_values.argtypes = [c_uint64, c_uint64, c_void_p, c_void_p, c_void_p, c_int64, c_void_p]
    library.smn_sigma_draws.argtypes = [c_void_p, c_uint64, c_void_p, c_int64, c_void_p]
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
    got = color_noise(torch.tensor(entry["seed"]), torch.tensor([entry["sample"]]), spec)
    if got.flatten().tolist() != entry["values"]:
        return f"the compiled library ({isa()}) gives wrong noise; rebuild it with another compiler"
    return None


@lru_cache(maxsize=1)
def isas() -> tuple[str, ...]:
    """Instruction sets that this machine runs, best first."""
    library, _ = _load()
    return () if library is None else tuple(n for n, code in ISAS.items() if library.smn_has_isa(code))


_forced_isa: str | None = None  # tests set it to run every instruction set of a machine


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


def threads() -> int:
    """How many threads the next call may use: torch's own number."""
    return torch.get_num_threads() if _parallel() else 1


class _Plan:
    """A Plan with the arrays that it points into."""

    def __init__(self, spec: ColorSpec):
        self.tables: Tables = tables(spec)
        t = self.tables
        self.struct = Plan(
            grid=spec.grid,
            origin=spec.origin,
            color=COLOR_CODES[spec.color],
            wrap=spec.boundary == "wrap",
            max_radius=tuple(int(r) for r in t.radius.max(axis=(0, 1))),
            taps_stride=t.taps.shape[-1],
            taps=t.taps.ctypes.data,
            radius=t.radius.ctypes.data,
            first=None if t.first is None else t.first.ctypes.data,
            ranking=Ranking(spec.groups, spec.tokens, spec.visible, t.quantile, t.slope),
        )


_plan = lru_cache(maxsize=256)(_Plan)


def _pointers(tensors: dict[str, torch.Tensor]) -> Outputs:
    return Outputs(**{name: tensor.data_ptr() for name, tensor in tensors.items()})


def _check(status: int) -> None:
    if status == 1:
        raise MemoryError("smnoise: the CPU backend could not allocate its workspace")
    if status:
        raise RuntimeError(f"smnoise: the CPU library does not have instruction set {isa()!r}")


def _color(seed: torch.Tensor, samples: torch.Tensor, spec: ColorSpec, outputs: dict) -> None:
    samples, pointers = samples.contiguous(), _pointers(outputs)
    status = _load()[0].smn_color(
        byref(_plan(spec).struct), ISAS[isa()], threads(), _parallel(),
        seed.data_ptr(), samples.data_ptr(), len(samples), byref(pointers),
    )  # fmt: skip
    _check(status)


def color_noise(seed: torch.Tensor, samples: torch.Tensor, spec: ColorSpec) -> torch.Tensor:
    noise = torch.empty(len(samples), *spec.grid)
    _color(seed, samples, spec, {"noise": noise})
    return noise


def color_mask(seed: torch.Tensor, samples: torch.Tensor, spec: ColorSpec, wanted) -> dict:
    outputs = allocate(len(samples), spec.groups * spec.tokens, spec.groups * spec.visible, wanted)
    _color(seed, samples, spec, outputs)
    return outputs


def threshold(scores: torch.Tensor, visible: int, groups: int, wanted) -> dict:
    scores = scores.contiguous()
    batch, tokens = scores.shape
    outputs = allocate(batch, tokens, groups * visible, wanted)
    ranking = Ranking(groups, tokens // groups, visible, *search_start(tokens // groups, visible))
    pointers = _pointers(outputs)
    status = _load()[0].smn_threshold(
        byref(ranking), ISAS[isa()], threads(), _parallel(), scores.data_ptr(), batch, byref(pointers)
    )
    _check(status)
    return outputs


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


def draw_sigmas(seed: int, sample: int, first: list[int] | None) -> tuple[int, int]:
    """Contract section 3, for the conformance check."""
    firsts = None if first is None else np.array(first, np.int32)
    sample_row, out = np.array([sample], np.uint64), np.empty(2, np.int32)
    pointer = None if firsts is None else firsts.ctypes.data
    _load()[0].smn_sigma_draws(pointer, seed, sample_row.ctypes.data, 1, out.ctypes.data)
    return int(out[0]), int(out[1])
