# SPDX-License-Identifier: Apache-2.0
"""Hand-written PTX kernels of one block, over arrays of one element a thread: for tests of the interpreter itself."""

from __future__ import annotations

import numpy as np

from .device import Device
from .text import Module, dtype

HEADER = ".version 8.0\n.target sm_90\n.address_size 64\n.extern .shared .align 16 .b8 memory[];\n"


def module(body: str, arrays: int) -> Module:
    """A kernel `k` whose parameters are addresses, in %a0, %a1 and so on; %t is the thread, %o8 eight times it."""
    parameters = ", ".join(f".param .u64 k_param_{i}" for i in range(arrays))
    loads = "\n".join(f"ld.param.u64 %a{i}, [k_param_{i}];" for i in range(arrays))
    registers = """.reg .pred %p<9>; .reg .b16 %h<9>; .reg .b32 %r<30>; .reg .b64 %d<20>; .reg .f32 %f<20>;
        .reg .b64 %a<9>; .reg .b32 %t; .reg .b64 %o8, %at;"""
    text = f"""{HEADER}.visible .entry k({parameters}) {{ {registers}
        mov.u32 %t, %tid.x; mul.wide.u32 %o8, %t, 8;
        {loads}
        {body}
        ret; }}"""
    return Module(text)


def run(body: str, *arrays: np.ndarray, threads: int = 32, shared: int = 0, blocks: int = 1, **how) -> Device:
    """Runs it on arrays that are its memory."""
    device = Device(**how)
    for i, array in enumerate(arrays):
        device.memory.add(array.ctypes.data, array.nbytes, f"array {i}", True)
    addresses = np.array([a.ctypes.data for a in arrays], np.uint64).tobytes()
    device.launch(module(body, len(arrays)).kernels["k"], (blocks,), threads, shared, addresses)
    return device


def apply(instruction: str, result: str, *operands: np.ndarray) -> np.ndarray:
    """An instruction on operands, an element of each a thread. result: its PTX type. In the text, {d} is the result and
    {0}, {1} are the operands."""
    n = -(-len(operands[0]) // 32) * 32
    lines, names = [], []
    slots = [np.zeros(n, np.uint64) for _ in operands]
    for i, (slot, operand) in enumerate(zip(slots, operands, strict=True)):
        slot.view(operand.dtype)[:: 8 // operand.dtype.itemsize][: len(operand)] = operand
        name = _register(operand.dtype, i)
        lines.append(f"add.u64 %at, %a{i + 1}, %o8; ld.global.{_kind(operand.dtype)} {name}, [%at];")
        names.append(name)
    kind = dtype(result)
    target = "%p8" if result == "pred" else _register(kind, 8)
    lines.append(instruction.format(*names, d=target) + ";")
    if result == "pred":
        lines.append("selp.u32 %r8, 1, 0, %p8;")
        kind, target = np.dtype(np.uint32), "%r8"
    lines.append(f"add.u64 %at, %a0, %o8; st.global.{_kind(kind)} [%at], {target};")
    out = np.zeros(n, np.uint64)
    device = run("\n".join(lines), out, *slots, threads=n)
    assert not device.faults, device.faults
    found = out.view(kind)[:: 8 // kind.itemsize][: len(operands[0])]
    return found.astype(bool) if result == "pred" else found


def _register(kind: np.dtype, i: int) -> str:
    letter = "f" if kind == np.float32 else {2: "h", 4: "r", 8: "d"}[kind.itemsize]
    return f"%{letter}{i}"


def _kind(kind: np.dtype) -> str:
    return f"{ {'u': 'u', 'i': 's', 'f': 'f'}[kind.kind] }{8 * kind.itemsize}".replace(" ", "")
