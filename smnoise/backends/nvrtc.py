# SPDX-License-Identifier: Apache-2.0
"""Compiles csrc/kernels.cu with NVRTC, through CuPy's low level: no GPU, driver or header is needed.

Compiled code is kept in SMNOISE_CACHE, else $XDG_CACHE_HOME/smnoise, else ~/.cache/smnoise, in files named by a hash
of the sources, the options, the architecture and the compiler's version.
"""

from __future__ import annotations

import hashlib
import os
import re
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from ..errors import BackendError
from ..files import replace_file

SOURCE = "kernels.cu"
HEADERS = (
    *("contract.h", "plan.h", "block.h", "threshold_block.h", "color_block.h", "gaussian_block.h"),
    *("optim_blue.h", "optim_blue_block.h", "strategy.h", "strategy_block.h", "words_block.h"),
)
OPTIONS = ("-std=c++17", "-fmad=false", "--ptxas-options=-v")  # contraction off: it would change masks
KERNELS = (
    *("color_window_one", "color_window_two", "color_torus_one", "color_torus_two", "threshold"),
    *(
        "add_bias",
        "gaussian",
        "optim_blue",
        "philox",
        "random_words",
        "sigmas",
        "slot_threshold",
        "strategy_mask",
    ),
)


class Usage(NamedTuple):
    """What one kernel takes of a GPU, from the compiler's log."""

    kernel: str
    registers: int
    stack: int
    spill_stores: int
    spill_loads: int
    shared: int


@lru_cache(maxsize=1)
def why_not() -> str | None:
    """Why nothing can be compiled here; None where it can."""
    try:
        from cupy.cuda import nvrtc

        nvrtc.getVersion()
    except Exception as error:  # CuPy without its libraries raises many types
        return f"needs CuPy with NVRTC: pip install 'smnoise[cuda]' ({type(error).__name__}: {error})"
    return None


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


def cubin(architecture: int) -> bytes:
    """Machine code for an architecture, 90 for sm_90: from the wheel or the cache, else compiled (seconds) and cached.

    A cache that cannot be written is no error; a damaged entry is compiled anew.
    """
    if (code := precompiled(architecture)) is not None:
        return code
    from cupy.cuda import nvrtc

    key = hashlib.sha256(repr((sources(), OPTIONS, architecture, nvrtc.getVersion())).encode()).hexdigest()
    path = cache_folder() / f"{key}.cubin"
    try:
        digest, code = path.read_bytes().split(b"\n", 1)
        if digest == hashlib.sha256(code).hexdigest().encode():
            return code
    except (OSError, ValueError):
        pass
    code, _ = compile_sources(architecture)
    try:
        with replace_file(path) as temporary:
            temporary.write_bytes(hashlib.sha256(code).hexdigest().encode() + b"\n" + code)
    except OSError:
        pass
    return code


def compile_sources(architecture: int) -> tuple[bytes, str]:
    """Machine code and the compiler's log. Raises BackendError with the log where compiling fails."""
    from cupy.cuda import nvrtc

    texts = sources()
    program = nvrtc.createProgram(
        texts[SOURCE].decode(), SOURCE, [texts[h] for h in HEADERS], [h.encode() for h in HEADERS]
    )
    try:
        nvrtc.compileProgram(program, [*OPTIONS, f"-arch=sm_{architecture}"])
        return nvrtc.getCUBIN(program), nvrtc.getProgramLog(program)
    except nvrtc.NVRTCError as error:
        log = nvrtc.getProgramLog(program)
        raise BackendError(f"NVRTC cannot compile {SOURCE} for sm_{architecture}: {error}\n{log}") from None
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
