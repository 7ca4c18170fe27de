# SPDX-License-Identifier: Apache-2.0
"""What the assembler makes of PTX, and how often each of its instructions runs, from how often the lines of PTX run.

Needs the packages nvidia-cuda-nvcc (ptxas) and nvidia-cuda-nvdisasm of NVRTC's version; no GPU. The disassembly gives
each machine instruction its PTX line. A basic block of machine code runs as often as its lines do, divided by the
copies of a line that unrolling made.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections import Counter
from functools import lru_cache
from importlib import metadata
from pathlib import Path

from smnoise.backends import nvrtc

PACKAGES = {"ptxas": "nvidia-cuda-nvcc", "nvdisasm": "nvidia-cuda-nvdisasm"}
ENDS = ("BRA", "EXIT", "BRX", "RET", "CALL", "BSYNC", "WARPSYNC")
_ALU = ("LOP3", "SHF", "ISETP", "IADD3", "IADD", "LEA", "SEL", "FSEL", "IMNMX", "VIMNMX", "VIMNMX3", "FSETP", "FMNMX",
        "PRMT", "PLOP3", "MOV", "IABS", "SGXT", "BMSK", "P2R", "R2P", "CS2R", "FCHK", "VIADD", "VIADDMNMX", "I2FP",
        "ISCADD", "LOP", "FMNMX3", "MOV32I", "IADD32I", "I2I")  # fmt: skip
PIPES = {  # by the part before the first dot
    **dict.fromkeys(("FADD", "FMUL", "FFMA", "FADD2", "FMUL2", "FFMA2"), "fma"),
    **dict.fromkeys(("IMAD", "IMUL"), "imad"),
    **dict.fromkeys(("HFMA2", "HADD2"), "half"),
    **dict.fromkeys(_ALU, "alu"),
    **dict.fromkeys(("I2F", "F2I", "MUFU", "POPC", "FLO", "BREV", "F2F"), "xu"),
    **dict.fromkeys(("LDS", "STS", "ATOMS", "LDSM", "STSM", "SHFL"), "shared"),
    **dict.fromkeys(("LDG", "STG", "ATOMG", "RED", "REDG"), "global"),
    **dict.fromkeys(("LD", "ST", "ATOM"), "generic"),
    **dict.fromkeys(("LDC", "LDCU", "ULDC"), "constant"),
    **dict.fromkeys(
        (*ENDS, "ENDCOLLECTIVE", "BSSY", "NOP", "BREAK", "YIELD", "ACQBULK", "PREEXIT", "BMOV", "NANOSLEEP"),
        "branch",
    ),
    **dict.fromkeys(("BAR", "SYNCS", "MEMBAR", "ERRBAR"), "barrier"),
    **dict.fromkeys(("VOTE", "VOTEU", "REDUX", "CREDUX", "MATCH", "ELECT"), "vote, redux"),
    **dict.fromkeys(("S2R", "S2UR", "R2UR", "DEPBAR"), "special"),
}
# Classes of PTX whose instructions become just one of these: they tell how many copies of a line there are.
SINGLE = {
    "ld.shared": ("LDS",), "st.shared": ("STS",), "ld.global": ("LDG",), "st.global": ("STG",),
    "ld.generic": ("LD", "LDS", "LDG"), "st.generic": ("ST", "STS", "STG"), "add.f32": ("FADD",),
    "sub.f32": ("FADD",), "mul.f32": ("FMUL",), "bar": ("BAR", "WARPSYNC"), "redux": ("REDUX", "CREDUX"),
    "atom.shared": ("ATOMS",), "shfl": ("SHFL",),
}  # fmt: skip
# Warp instructions that an SM starts a cycle: of all kinds, of ALU, of float and integer products together, of integer
# products, of conversions and roots.
RATES = {80: (4, 2, 2, 2, 0.5), 90: (4, 2, 4, 2, 0.5), 100: (4, 2, 4, 2, 0.5)}

Blocks = list[list[tuple[str, int]]]


def why_not() -> str | None:
    """Why there is no machine code here; None where there is."""
    compiler = ".".join(map(str, nvrtc.version()))
    for tool, package in PACKAGES.items():
        try:
            found = metadata.version(package)
        except metadata.PackageNotFoundError:
            return f"needs {tool} of NVRTC's version: pip install '{package}=={compiler}.*'"
        if found.split(".")[:2] != compiler.split("."):
            return (
                f"{package} is of version {found}, NVRTC of {compiler}: pip install '{package}=={compiler}.*'"
            )
        if not _tool(tool).exists():
            return f"{package} {found} has no {tool}"
    return None


@lru_cache(maxsize=2)
def _tool(name: str) -> Path:
    files = metadata.files(PACKAGES[name]) or []
    return next((Path(f.locate()) for f in files if f.name == name), Path(name))


def disassembled(ptx: bytes, architecture: int) -> Blocks:
    """The basic blocks of a text of one kernel, each a list of (opcode, line of PTX)."""
    with tempfile.TemporaryDirectory() as folder:
        text, code = Path(folder) / "kernel.ptx", Path(folder) / "kernel.cubin"
        text.write_bytes(ptx.rstrip(b"\0"))
        command = [_tool("ptxas"), f"-arch=sm_{architecture}", "-lineinfo", "--fmad=false", text, "-o", code]
        subprocess.run(command, check=True)
        listing = subprocess.run(
            [_tool("nvdisasm"), "-gp", "-c", code], check=True, capture_output=True, text=True
        )
    return parsed(listing.stdout)


def parsed(listing: str) -> Blocks:
    blocks: Blocks = [[]]
    line = 0
    for text in listing.splitlines():
        if m := re.search(r'nv_debug_ptx_txt", line (\d+)', text):
            line = int(m[1])
        elif re.match(r"\.text\.|\.L_x_\d+:", text):
            blocks.append([])
        elif m := re.match(r"\s+/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+ )?([A-Z][\w.]*)", text):
            blocks[-1].append((m[1], line))
            if m[1].split(".")[0] in ENDS:
                blocks.append([])
    return [block for block in blocks if block]


def executed(blocks: Blocks, runs: dict[int, int], classes: dict[int, str]) -> Counter:
    """How often each opcode ran. runs, classes: of each line of PTX, warps that ran it, and its class."""

    def tells(op: str, line: int) -> bool:
        return op.split(".")[0] in SINGLE.get(classes.get(line, ""), ())

    copies = Counter(line for block in blocks for op, line in block if tells(op, line))
    in_blocks = Counter(line for block in blocks for line in {line for _, line in block})
    found: Counter = Counter()
    for block in blocks:
        known = sorted(runs[line] / copies[line] for op, line in block if tells(op, line))
        known = known or sorted(runs[line] / in_blocks[line] for _, line in block if line in runs)
        if known:
            for op, _ in block:
                found[op] += known[len(known) // 2]
    return found


def pipe(op: str) -> str:
    head = op.split(".")[0]
    return PIPES.get(head) or ("uniform" if head.startswith("U") else f"unknown: {head}")


def pipes(ops: Counter) -> Counter:
    found: Counter = Counter()
    for op, count in ops.items():
        found[pipe(op)] += count
    return found


def cycles(by_pipe: dict[str, float], architecture: int) -> dict[str, float]:
    """Of one SM, if each pipe were always full."""
    issue, alu, products, imad, xu = RATES[architecture]
    get = Counter(by_pipe).__getitem__
    return {
        "issue": sum(by_pipe.values()) / issue,
        "alu": get("alu") / alu,
        "fma": (get("fma") + get("imad")) / products,
        "multiply": get("imad") / imad,
        "xu": get("xu") / xu,
    }
