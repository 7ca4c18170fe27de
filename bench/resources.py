# SPDX-License-Identifier: Apache-2.0
"""Compile every GPU kernel for every architecture, without a GPU, and write bench/results/resources.md.

python bench/resources.py             # about a minute
python bench/resources.py --check     # fail if a kernel spills or the file is out of date in its kernels
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import triton
from smnoise.kernels import ahead

from smnoise.backends import nvrtc
from smnoise.files import write_text

PATH = Path(__file__).parent / "results" / "resources.md"
ARCHITECTURES = (75, 80, 86, 89, 90, 100, 120)


def rows() -> list[tuple]:
    """(language, kernel, target, registers, spilled bytes, static shared bytes) of every kernel."""
    found = []
    for architecture in ARCHITECTURES:
        for u in nvrtc.usage(nvrtc.compile_sources(architecture)[1]):
            spilled = u.stack + u.spill_stores + u.spill_loads
            found.append(("CUDA", u.kernel, f"sm_{architecture}", u.registers, spilled, u.shared))
    for target in ahead.TARGETS:
        for c in ahead.compile_all(target):
            if c.kernel not in ahead.TRAINING and re.search(r"\bfma\.|\bv_(pk_)?(fma|fmac|mad)_f", c.text):
                sys.exit(
                    f"{c.kernel} {c.constants} fuses a multiply and an add on {target}: masks would differ"
                )
            variant = ", ".join(f"{k}={v}" for k, v in c.constants.items() if k != "BLOCK")
            name = f"{c.kernel} ({variant})" if variant else c.kernel
            found.append(("Triton", name, target, c.registers, c.local, c.shared))
    return sorted(found, key=lambda r: (r[0], r[1], len(r[2]), r[2]))


def table(found: list[tuple]) -> str:
    from cupy.cuda import nvrtc as compiler

    lines = [
        "# Registers, spills and static shared memory of every GPU kernel",
        "",
        f"Written by bench/resources.py: NVRTC {'.'.join(map(str, compiler.getVersion()))}, Triton "
        f"{triton.__version__}. Compiled, not run. CUDA kernels get up to 99 KiB more shared memory at launch "
        "(smnoise/backends/layout.py). On gfx942 registers are vector registers.",
        "",
        "| | kernel | target | registers | spilled bytes | shared bytes |",
        "|---|---|---|---:|---:|---:|",
    ]
    return "\n".join([*lines, *("| " + " | ".join(map(str, row)) + " |" for row in found), ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--check", action="store_true", help="write nothing; fail on spills or on a missing kernel"
    )
    check = parser.parse_args().check
    found = rows()
    spilling = [row for row in found if row[4]]
    if check:
        written = PATH.read_text()
        missing = [row for row in found if f"| {row[0]} | {row[1]} | {row[2]} |" not in written]
        if missing:
            sys.exit(f"{PATH} lacks {missing}; run python bench/resources.py")
    else:
        write_text(PATH, table(found))
    if spilling:
        sys.exit(f"kernels that spill: {spilling}")
    print(f"{len(found)} kernels compiled, none spills")


if __name__ == "__main__":
    main()
