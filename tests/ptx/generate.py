# SPDX-License-Identifier: Apache-2.0
"""Python of basic blocks: a function each, over arrays with one element a thread.

In it, T is the schedule's Threads, R the registers, m the threads that take part (of f(T, R, m); None: all). Registers
are never changed in place, so that two may be one array. A function returns which threads branch, None for all.
"""

from __future__ import annotations

import re

import numpy as np

from . import values
from .operations import Operation, lines_of
from .text import SIGNED, UNSIGNED, Block, Instruction, Kernel, PtxError

SHARED_WINDOW = 1 << 60  # where generic addresses of shared memory begin
AXES = [f"{what}.{axis}" for what in ("tid", "ntid", "ctaid", "nctaid") for axis in "xyz"]
SPECIAL = {"laneid", *AXES}
PRED = np.dtype(bool)


def unsigned(kind: np.dtype) -> np.dtype:
    return np.dtype(UNSIGNED[kind.itemsize]) if kind != PRED else kind


class Code:
    """Of one kernel. Every instruction is translated at once, so that an unknown one is an error even where it is not
    reached; Python compiles a block when it first runs."""

    def __init__(self, kernel: Kernel):
        self.kernel = kernel
        self.names: dict = {"np": np, "V": values, "where": np.where}
        self.loose: list[Instruction] = []  # floating point that an assembler might fuse
        self._constants: dict = {}
        self._sources: dict[str, str] = {}
        for b, block in enumerate(kernel.blocks):
            self._translate(b, block)

    def function(self, name: str):
        """b3: block 3 on all threads; m3: on some; w3: the threads that its collective asks for."""
        if name not in self.names:
            exec(compile(self._sources[name], f"<{self.kernel.name} {name}>", "exec"), self.names)
        return self.names[name]

    def _translate(self, b: int, block: Block) -> None:
        if block.end == "warp":
            ins = block.instructions[0]
            guard = [f"m = m & {self.guard(ins)}"] if ins.guard else []
            lines = [*guard, *lines_of(Operation(self, ins, "m", block.start))]
            self._define(f"m{b}", lines)
            asked = "-1" if ins.op[0] in ("ldmatrix", "stmatrix") else ins.args[-1]
            self._define(f"w{b}", [f"return T.each({self.read(asked, np.dtype(np.uint32))})"])
            return
        for prefix, some in (("b", None), ("m", "m")):
            lines = []
            for n, ins in enumerate(block.instructions):
                if ins.is_branch or ins.is_barrier:
                    continue
                mask = some
                if ins.guard:
                    lines.append(f"q = {self.guard(ins)}" + (" & m" if some else ""))
                    mask = "q"
                lines += lines_of(Operation(self, ins, mask, block.start + n))
            last = block.instructions[-1]
            branches = last.is_branch and last.guard
            self._define(f"{prefix}{b}", [*lines, f"return {self.guard(last) if branches else None}"])

    def _define(self, name: str, lines: list[str]) -> None:
        self._sources[name] = f"def {name}(T, R, m):\n" + "".join(f"    {line}\n" for line in lines)

    def guard(self, ins: Instruction) -> str:
        name, negated = ins.guard
        return ("~" if negated else "") + self.place(name)

    def place(self, register: str) -> str:
        i = self.kernel.index[register]
        return f"t{i}" if register in self.kernel.local_registers else f"R[{i}]"

    def constant(self, value) -> str:
        key = value.dtype.str, value.tobytes()
        if key not in self._constants:
            self._constants[key] = f"K{len(self._constants)}"
            self.names[self._constants[key]] = value
        return self._constants[key]

    def read(self, arg: str, kind: np.dtype) -> str:
        """An operand, as a kind of the same width, or the low bits of it."""
        kernel = self.kernel
        if arg.startswith("!"):
            return f"~{self.read(arg[1:], kind)}"
        if arg in kernel.registers:
            stored, name = kernel.registers[arg], self.place(arg)
            if stored == kind:
                return name
            if PRED in (stored, kind) or stored.itemsize < kind.itemsize:
                raise PtxError(f"{arg} of {stored} read as {kind}")
            if stored.itemsize == kind.itemsize:
                return f"{name}.view('{kind}')"
            low = f"{name}.view('{unsigned(stored)}').astype('{unsigned(kind)}')"
            return low if kind == unsigned(kind) else f"{low}.view('{kind}')"
        if arg.startswith("%"):
            if arg[1:] not in SPECIAL:
                raise PtxError(f"special register {arg}")
            return f"T.special['{arg[1:]}']" + (f".astype('{kind}')" if kind.itemsize != 4 else "")
        for table in (kernel.shared, kernel.parameters):
            if arg in table:
                return self.constant(np.array(table[arg]).astype(kind)[()])
        return self.constant(immediate(arg, kind))

    def each(self, arg: str, kind: np.dtype) -> str:
        """An operand, as an array whatever it is."""
        return self.read(arg, kind) if arg.startswith("%") else f"T.each({self.read(arg, kind)})"

    def write(self, register: str, kind: np.dtype, value: str, mask: str | None) -> str:
        stored = self.kernel.registers[register]
        if stored != kind:
            if PRED in (stored, kind) or stored.itemsize < kind.itemsize:
                raise PtxError(f"{kind} written to {register} of {stored}")
            if stored.itemsize == kind.itemsize:
                value = f"({value}).view('{stored}')"
            else:  # signed values spread their sign
                wide = np.dtype((SIGNED if kind.kind == "i" else UNSIGNED)[stored.itemsize])
                value = f"({value}).view('{kind if kind.kind == 'i' else unsigned(kind)}').astype('{wide}')"
                value += f".view('{stored}')" if wide != stored else ""
        name = self.place(register)
        if mask is None or (mask == "m" and register in self.kernel.local_registers):
            return f"{name} = {value}"
        return f"{name} = where({mask}, {value}, {name})"

    def address(self, arg: str) -> str:
        """[base + offset] as two arguments: an array or None, and a number."""
        base, offset = re.fullmatch(r"\[\s*([%\w$@]+)\s*(?:\+\s*(-?\w+))?\s*\]", arg).groups()
        at = int(offset or "0", 0)
        if base in self.kernel.registers:
            return f"{self.place(base)}, {at}"
        for table in (self.kernel.shared, self.kernel.parameters):
            if base in table:
                return f"None, {at + table[base]}"
        return f"None, {at + int(base, 0)}"


def immediate(text: str, kind: np.dtype):
    if m := re.fullmatch(r"0[fF]([0-9a-fA-F]{8})", text):
        raw = np.array([int(m[1], 16)], np.uint32)
        if kind.itemsize != 4:
            raise PtxError(f"{text} as {kind}")
        return raw.view(kind)[0]
    value = int(text.rstrip("U"), 0)
    if kind == PRED:
        return np.bool_(value)
    if kind.kind == "f":
        raise PtxError(f"{text} as {kind}")
    return np.array([value & (1 << 8 * kind.itemsize) - 1], unsigned(kind)).view(kind)[0]
