# SPDX-License-Identifier: Apache-2.0
"""The compiled library of csrc/: found, loaded, its functions' arguments; and the threads that it runs on."""

from __future__ import annotations

import ctypes
import os
import threading
from ctypes import POINTER, c_char_p, c_float, c_int, c_int64, c_uint32, c_uint64, c_void_p
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from .. import install
from .plan import Gaussian, Outputs, Patches, PatchLoss, Points, Ragged, Ranking, Slots

ABI = 14


@lru_cache(maxsize=1)
def load() -> tuple[Any, str | None]:
    """The library and None, or None and the reason why there is none."""
    path = Path(__file__).parent.parent / "libsmnoise_cpu.so"
    if not path.exists():
        return None, (
            "the compiled library is missing: no working C++17 compiler was found when smnoise was installed; "
            f"install g++ or clang++, then: {install.command(options='--force-reinstall --no-deps ')}"
        )
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        return None, f"{path} does not load: {error}"
    if library.smn_abi() != ABI:
        return None, f"{path} has ABI {library.smn_abi()}, this package needs {ABI}; reinstall smnoise"
    for name in ("smn_color", "smn_optim_blue_masks", "smn_strategy_mask"):
        getattr(library, name).argtypes = [c_char_p]  # a packed MasksCall
    library.smn_threshold.argtypes = [
        POINTER(Ranking), c_int, c_int, c_void_p, c_void_p, c_int64, POINTER(Outputs),
    ]  # fmt: skip
    library.smn_add_bias.argtypes = [
        c_int, c_int, c_void_p, c_void_p, c_void_p, c_float, c_int64, c_int64, c_void_p,
    ]  # fmt: skip
    library.smn_slot_threshold.argtypes = [
        POINTER(Slots), c_int, c_int, c_void_p, c_void_p, c_void_p, c_int64, POINTER(Outputs),
    ]  # fmt: skip
    library.smn_ragged_threshold.argtypes = [
        POINTER(Ragged), c_int, c_int, c_void_p, c_void_p, c_void_p, c_void_p, c_int64, POINTER(Outputs),
    ]  # fmt: skip
    library.smn_noise_at.argtypes = [
        POINTER(Points), c_int, c_int, *[c_void_p] * 4, c_int64, c_int64, c_void_p, c_void_p,
    ]  # fmt: skip
    library.smn_gaussian_filter.argtypes = [
        POINTER(Gaussian), c_int, c_int, c_void_p, c_void_p, c_int64, c_void_p,
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
def parallel() -> int:
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


class _Here(threading.local):
    alone = False


_here = _Here()


def one_thread() -> None:
    """Calls from this thread, from now on, use no other."""
    _here.alone = True


def threads() -> int:
    """How many threads the next call may use: torch's own number, but one in a forked process."""
    return torch.get_num_threads() if parallel() and not _forked and not _here.alone else 1
