# SPDX-License-Identifier: Apache-2.0
"""Compiles csrc/kernels.cu with NVRTC, a kernel at a time, through CuPy's low level: no GPU, driver or header needed.

Compiled code is kept in SMNOISE_CACHE, else $XDG_CACHE_HOME/smnoise, else ~/.cache/smnoise, in files named by a hash
of the sources, the options, the target, the kernel and the compiler's version. Of several processes that want the same
code one compiles, and the others wait for its file.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from ..errors import BackendError
from ..files import make_folder, replace_file

try:
    import fcntl
except ImportError:  # not on Windows: there each process compiles for itself
    fcntl = None  # type: ignore[assignment]

SOURCE = "kernels.cu"
HEADERS = (
    *("contract.h", "plan.h", "block.h", "threshold_block.h", "color_block.h", "gaussian_block.h"),
    *("optim_blue.h", "optim_blue_block.h", "strategy.h", "strategy_block.h", "words_block.h"),
    *("points.h", "points_block.h", "ragged.h", "ragged_block.h"),
)
OPTIONS = ("-std=c++17", "-fmad=false", "--ptxas-options=-v")  # contraction off: it would change masks
KERNELS = (
    *("color_window_one", "color_window_two", "color_torus_one", "color_torus_two", "threshold"),
    *("add_bias", "gaussian", "optim_blue", "optim_blue_global", "optim_blue_wide", "philox", "random_words"),
    *("noise_at", "ragged_threshold", "sigmas", "slot_threshold", "strategy_mask"),
)


class Usage(NamedTuple):
    """What one kernel takes of a GPU, from the compiler's log."""

    kernel: str
    registers: int
    stack: int
    spill_stores: int
    spill_loads: int
    shared: int


class Target(NamedTuple):
    """What is compiled: machine code of an architecture, or, where the compiler does not know it, text that the driver
    compiles on."""

    architecture: int
    machine_code: bool


def version() -> tuple[int, int]:
    """NVRTC's. Raises what CuPy raises where it is not there."""
    from cupy.cuda import nvrtc

    return nvrtc.getVersion()


def supported() -> tuple[int, ...]:
    """Architectures that this NVRTC makes machine code for, ascending, 90 for sm_90."""
    from cupy.cuda import nvrtc

    return tuple(sorted(nvrtc.getSupportedArchs()))


@lru_cache(maxsize=1)
def driver_version() -> tuple[int, int] | None:
    """The CUDA version of the GPU's driver; None where there is none."""
    number = ctypes.c_int()
    with suppress(OSError, AttributeError):
        if ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(number)) == 0:
            return number.value // 1000, number.value % 1000 // 10
    return None


def target_of(architecture: int) -> Target:
    """What is compiled for a card. Raises BackendError where this NVRTC has nothing that such a card runs."""
    known = supported()
    if architecture in known:
        return Target(architecture, True)
    older = [a for a in known if a < architecture]
    if not older:
        raise BackendError(
            f"NVRTC {_dotted(version())} makes code for sm_{known[0]} and later, this GPU is sm_{architecture}"
        )
    return Target(older[-1], False)


def why_not(architecture: int | None = None) -> str | None:
    """Why nothing can be compiled here, or nothing that runs on a card of that architecture; None where it can."""
    try:
        made_by = version()
    except Exception as error:  # CuPy without its libraries raises many types
        return (
            "needs CuPy with NVRTC: pip install 'smnoise[cuda]', or for a driver of CUDA 12 'smnoise[cuda12]' "
            f"({type(error).__name__}: {error})"
        )
    if architecture is None:
        return None
    driver = driver_version()
    if driver is not None and made_by[0] > driver[0]:
        older = "install 'smnoise[cuda12]' in the place of 'smnoise[cuda]', or " if driver[0] == 12 else ""
        return (
            f"NVRTC {_dotted(made_by)} makes code that the driver, of CUDA {_dotted(driver)}, does not load: "
            f"{older}update the driver"
        )
    try:
        target = target_of(architecture)
    except BackendError as error:
        return str(error)
    if not target.machine_code and driver is not None and made_by > driver:
        return (
            f"NVRTC {_dotted(made_by)} does not know sm_{architecture}, and the driver, of CUDA {_dotted(driver)}, is "
            "too old to compile its text: update the driver"
        )
    return None


def versions() -> str:
    """Of the compiler and the driver, for messages."""
    driver, compiler = driver_version(), "no NVRTC"
    with suppress(Exception):  # CuPy without its libraries raises many types
        compiler = f"NVRTC {_dotted(version())}"
    return f"{compiler}, {'no driver' if driver is None else f'driver of CUDA {_dotted(driver)}'}"


def _dotted(number: tuple[int, int]) -> str:
    return ".".join(map(str, number))


@lru_cache(maxsize=1)
def sources() -> dict[str, bytes]:
    folder = files("smnoise.csrc")
    return {name: (folder / name).read_bytes() for name in (SOURCE, *HEADERS)}


def cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("SMNOISE_CACHE") or Path(base) / "smnoise")


def precompiled(architecture: int) -> bytes | None:
    """Machine code that setup.py had nvcc make, if it is of these sources."""
    path = Path(__file__).parent.parent / f"kernels_sm_{architecture}.cubin"
    if not path.exists():
        return None
    digest, code = path.read_bytes().split(b"\n", 1)
    return code if digest == hashlib.sha256(b"".join(sources().values())).hexdigest().encode() else None


def codes(architecture: int, kernel: str) -> Iterator[bytes]:
    """What a driver may load for a kernel, best first: machine code from the wheel, then what NVRTC makes of it."""
    if (code := precompiled(architecture)) is not None:
        yield code
        if why_not(architecture) is not None:
            return
    target = target_of(architecture)
    yield (cubin if target.machine_code else ptx)(target.architecture, kernel)


def cubin(architecture: int, kernel: str | None = None) -> bytes:
    """Machine code of one kernel, or of all, for an architecture, 90 for sm_90: from the cache, else compiled (seconds)
    and cached.

    A cache that cannot be written is no error; a damaged entry is compiled anew.
    """
    return _cached(Target(architecture, True), kernel)


def ptx(architecture: int, kernel: str | None = None) -> bytes:
    """The text that machine code is made of, for the architecture and later ones; cached as that is."""
    return _cached(Target(architecture, False), kernel)


def _cached(target: Target, kernel: str | None) -> bytes:
    described = sources(), OPTIONS, tuple(target), kernel, version()
    name = hashlib.sha256(repr(described).encode()).hexdigest()
    path = cache_folder() / f"{name}.{'cubin' if target.machine_code else 'ptx'}"
    if (code := _read(path)) is not None:
        return code
    with _alone(path.with_suffix(".lock")):
        if (code := _read(path)) is not None:  # made by another process meanwhile
            return code
        code, _ = compile_sources(*target, kernel)
        with suppress(OSError), replace_file(path) as temporary:
            temporary.write_bytes(hashlib.sha256(code).hexdigest().encode() + b"\n" + code)
    return code


def _read(path: Path) -> bytes | None:
    """A whole entry of the cache."""
    try:
        digest, code = path.read_bytes().split(b"\n", 1)
    except (OSError, ValueError):
        return None
    return code if digest == hashlib.sha256(code).hexdigest().encode() else None


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Until the end no other process is here for the same file, where files can be locked at all. A process that dies
    unlocks it."""
    try:
        make_folder(path.parent)
        file = path.open("wb")
    except OSError:  # a cache that cannot be written has nothing to wait for
        yield
        return
    with file:
        with suppress(OSError):  # some network drives cannot lock
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            # To close is not enough: a process that another thread forked meanwhile has the file open too.
            with suppress(OSError):
                if fcntl is not None:
                    fcntl.flock(file, fcntl.LOCK_UN)


def compile_sources(
    architecture: int, machine_code: bool = True, kernel: str | None = None
) -> tuple[bytes, str]:
    """Machine code, or the text before it, of one kernel or of all, and the compiler's log. Raises BackendError with
    the log where compiling fails."""
    from cupy.cuda import nvrtc

    texts = sources()
    program = nvrtc.createProgram(
        texts[SOURCE].decode(), SOURCE, [texts[h] for h in HEADERS], [h.encode() for h in HEADERS]
    )
    target = f"{'sm' if machine_code else 'compute'}_{architecture}"
    one = [] if kernel is None else ["-DSMN_ONE", f"-DSMN_ONE_{kernel}"]
    try:
        nvrtc.compileProgram(program, [*OPTIONS, *one, f"-arch={target}"])
        code = nvrtc.getCUBIN(program) if machine_code else nvrtc.getPTX(program)
        return code, nvrtc.getProgramLog(program)
    except nvrtc.NVRTCError as error:
        log = nvrtc.getProgramLog(program)
        raise BackendError(f"NVRTC cannot compile {SOURCE} for {target}: {error}\n{log}") from None
    finally:
        nvrtc.destroyProgram(program)


def usage(log: str) -> list[Usage]:
    """The kernels' resources, from the log of compile_sources."""
    found = []
    for part in log.split("Compiling entry function '")[1:]:
        spilled = r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads"
        stack, stores, loads = re.findall(spilled, part)[0]
        shared = re.search(r"(\d+) bytes smem", part)
        registers = re.findall(r"Used (\d+) registers", part)[0]
        name = part.split("'", 1)[0]
        found.append(
            Usage(name, int(registers), int(stack), int(stores), int(loads), int(shared[1]) if shared else 0)
        )
    return sorted(found)
