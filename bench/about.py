# SPDX-License-Identifier: Apache-2.0
"""What a result was measured on and with: every results file says so under "about"."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("torch", "numpy", "scipy", "triton", "cupy-cuda13x")
MEASURED = ("smnoise", "csrc", "kernels", "bench", "setup.py")  # what a number depends on
WRITTEN = ":!bench/results"


def about() -> dict:
    import torch

    from smnoise.backends import cpu

    return {
        "processor": processor(),
        "instruction set": cpu.isa(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory, GiB": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "busy before, processes": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        **{name: found for name in PACKAGES if (found := installed(name))},
        "commit": git("rev-parse", "HEAD"),
        "uncommitted changes": bool(git("status", "--porcelain", "--", *MEASURED, WRITTEN)),
        "date": time.strftime("%Y-%m-%d"),
    }


def processor() -> str:
    try:
        from cpuinfo import get_cpu_info  # comes with pytest-benchmark
    except ImportError:
        return platform.processor() or platform.machine()
    return get_cpu_info().get("brand_raw", platform.processor())


def installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def git(*arguments: str) -> str | None:
    """What git says, None where this is no checkout, or git is not installed."""
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
