# SPDX-License-Identifier: Apache-2.0
"""PTX text: modules, kernels, basic blocks, instructions."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field

import numpy as np

UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
SIGNED = {1: np.int8, 2: np.int16, 4: np.int32, 8: np.int64}
FLOATS = {2: np.float16, 4: np.float32, 8: np.float64}
SPACES = ("shared", "global", "param")
EXITS = ("ret", "exit")
COLLECTIVES = ("shfl", "vote", "redux", "ldmatrix", "stmatrix")
WITHOUT_RESULT = ("st", "red", "bra", "bar", "barrier", "stmatrix", *EXITS)


class PtxError(Exception):
    """The text holds what the interpreter does not know."""


def dtype(kind: str) -> np.dtype:
    """Of a PTX type's name. bf16 are bits here."""
    if kind == "pred":
        return np.dtype(bool)
    if not (m := re.fullmatch(r"([busf]|bf)(8|16|32|64)", kind)):
        raise PtxError(f"type {kind}")
    table = {"b": UNSIGNED, "u": UNSIGNED, "bf": UNSIGNED, "s": SIGNED, "f": FLOATS}[m[1]]
    return np.dtype(table[int(m[2]) // 8])


def split(text: str) -> list[str]:
    """At commas outside brackets."""
    parts, depth, part = [], 0, ""
    for c in text:
        depth += (c in "{[(") - (c in "}])")
        if c == "," and not depth:
            parts.append(part.strip())
            part = ""
        else:
            part += c
    return [*parts, part.strip()] if part.strip() else parts


def vector(text: str) -> list[str]:
    """The parts of {a, b}, or one."""
    return split(text[1:-1]) if text.startswith("{") else [text]


def names_in(text: str) -> list[str]:
    """Registers; those of an inner scope have their own number behind @."""
    return re.findall(r"%[\w$@]+", text)


@dataclass
class Instruction:
    guard: tuple[str, bool] | None  # predicate, negated
    op: list[str]
    args: list[str]
    line: int
    text: str

    @property
    def is_barrier(self) -> bool:
        return self.op[0] in ("bar", "barrier") and not self.is_warp_barrier

    @property
    def is_warp_barrier(self) -> bool:
        return self.op[:2] == ["bar", "warp"]

    @property
    def is_collective(self) -> bool:
        return self.op[0] in COLLECTIVES or self.is_warp_barrier

    @property
    def is_branch(self) -> bool:
        return self.op[0] in ("bra", *EXITS)

    @property
    def space(self) -> str:
        """Of memory, for an instruction that touches it."""
        return next((s.split("::")[0] for s in self.op if s.split("::")[0] in SPACES), "generic")

    @property
    def results(self) -> list[str]:
        return [] if not self.args or self.op[0] in WITHOUT_RESULT else names_in(self.args[0])

    @property
    def reads(self) -> set[str]:
        counts = Counter(names_in(" ".join(self.args)))
        read = {name for name, n in counts.items() if n > 1 or name not in self.results}
        # A guarded write keeps what was there.
        return read | ({self.guard[0], *self.results} if self.guard else set())


@dataclass
class Block:
    """Instructions that run in a row; a collective has a block of its own."""

    start: int  # number of its first instruction
    instructions: list[Instruction] = field(default_factory=list)
    end: str = "fall"  # or bra, ret, bar, warp
    target: int = -1


class Kernel:
    def __init__(self, name: str, parameters: str, body: str, line: int, module: Module):
        self.name, self.module = name, module
        self.registers: dict[str, np.dtype] = {}
        self.parameters: dict[str, int] = {}  # name: offset
        self.parameter_sizes: list[tuple[int, int]] = []  # offset, size
        self.parameter_bytes = 0
        for text in split(parameters):
            self._parameter(text)
        self.shared: dict[str, int] = {}
        self.static_shared = 0
        self.instructions: list[Instruction] = []
        self.labels: dict[str, int] = {}
        self._statements(body, line)
        self.dynamic_base = -(-self.static_shared // 16) * 16
        self.shared |= dict.fromkeys(module.extern_shared, self.dynamic_base)
        self.read = set[str]().union(*(ins.reads for ins in self.instructions))
        self.blocks = self._blocks()
        self.index = {r: i for i, r in enumerate(self.registers)}
        self.local_registers = self._local_registers()

    def _parameter(self, text: str) -> None:
        name, length = re.fullmatch(r".*?([\w$]+)(?:\[(\d+)\])?", text).groups()
        size = int(re.search(r"\.[busf](\d+)\b", text)[1]) // 8
        given = re.search(r"\.align (\d+)\s+\.b8", text)  # elsewhere it is that of what a pointer points to
        align = int(given[1]) if given else size
        at = -(-self.parameter_bytes // align) * align
        size *= int(length or 1)
        self.parameters[name] = at
        self.parameter_sizes.append((at, size))
        self.parameter_bytes = at + size

    def _statements(self, body: str, line: int) -> None:
        scopes: list[dict[str, str]] = [{}]
        at = 0
        while at < len(body):
            c = body[at]
            if c.isspace() or c in "{}":
                line += c == "\n"
                if c == "{":
                    scopes.append({})
                elif c == "}":
                    scopes.pop()
                at += 1
            elif m := re.compile(r"([\w$]+):(?!:)").match(body, at):
                self.labels[m[1]] = len(self.instructions)
                at = m.end()
            elif m := re.compile(r"\.loc\b[^\n]*").match(body, at):
                at = m.end()
            else:
                end = body.index(";", at)
                text = body[at:end]
                self._statement(" ".join(text.split()), line, scopes)
                line += text.count("\n")
                at = end + 1

    def _statement(self, text: str, line: int, scopes: list[dict[str, str]]) -> None:
        if text.startswith(".reg"):
            _, kind, names = text.split(None, 2)
            for name in split(names):
                self._register(name, dtype(kind[1:]), scopes)
        elif text.startswith(".shared"):
            m = re.fullmatch(r"\.shared (?:\.align (\d+) )?\.[busf](\d+) ([\w$]+)(?:\[(\d+)\])?", text)
            width = int(m[2]) // 8
            align = int(m[1] or width)
            self.shared[m[3]] = -(-self.static_shared // align) * align
            self.static_shared = self.shared[m[3]] + width * int(m[4] or 1)
        elif text.startswith("."):
            if not text.startswith(".pragma"):
                raise PtxError(f"line {line}: directive {text!r}")
        else:
            text = re.sub(r"%[\w$]+", lambda m: _visible(m[0], scopes), text)
            m = re.match(r"@(!?)(%[\w$@]+)\s+", text)
            op, _, rest = text[m.end() if m else 0 :].partition(" ")
            guard = (m[2], bool(m[1])) if m else None
            self.instructions.append(Instruction(guard, op.split("."), split(rest), line, text))

    def _register(self, name: str, kind: np.dtype, scopes: list[dict[str, str]]) -> None:
        if m := re.fullmatch(r"(%[\w$]+)<(\d+)>", name):
            self.registers |= {f"{m[1]}{i}": kind for i in range(int(m[2]))}
        else:
            if len(scopes) > 1:
                scopes[-1][name] = f"{name}@{len(self.registers)}"
            self.registers[_visible(name, scopes)] = kind

    def _blocks(self) -> list[Block]:
        starts = {0} | set(self.labels.values())
        for i, ins in enumerate(self.instructions):
            if ins.is_branch or ins.is_barrier:
                starts.add(i + 1)
            if ins.is_collective:
                starts |= {i, i + 1}
        ordered = sorted(s for s in starts if s < len(self.instructions))
        number = {s: b for b, s in enumerate(ordered)}
        blocks = []
        for s, stop in zip(ordered, [*ordered[1:], len(self.instructions)], strict=True):
            block = Block(s, self.instructions[s:stop])
            last = block.instructions[-1]
            if last.op[0] == "bra":
                block.end, block.target = "bra", number[self.labels[last.args[0]]]
            elif last.op[0] in EXITS:
                block.end = "ret"
            elif last.is_barrier:
                if last.guard or last.op not in (["bar", "sync"], ["barrier", "sync"]) or last.args != ["0"]:
                    raise PtxError(f"line {last.line}: {last.text}")
                block.end = "bar"
            elif last.is_collective:
                block.end = "warp"
            blocks.append(block)
        return blocks

    def _local_registers(self) -> set[str]:
        """Those that live in one block only, written there before they are read: they need no masking."""
        where, begins_written = defaultdict(set), {}
        for b, block in enumerate(self.blocks):
            for ins in block.instructions:
                for names, written in ((ins.reads, False), (ins.results, True)):
                    for name in self.registers.keys() & set(names):
                        where[name].add(b)
                        begins_written.setdefault((name, b), written)
        return {r for r, places in where.items() if len(places) == 1 and begins_written[r, min(places)]}


def _visible(name: str, scopes: list[dict[str, str]]) -> str:
    """The register that a name means in the innermost scope that has it."""
    return next((scope[name] for scope in reversed(scopes) if name in scope), name)


class Module:
    def __init__(self, text: str):
        clean = re.sub(r"/\*.*?\*/", lambda m: re.sub(r"[^\n]", " ", m[0]), text, flags=re.S)
        clean = re.sub(r"//[^\n]*", "", clean)
        self.target = re.search(r"\.target (\w+)", clean)[1]
        self.extern_shared = re.findall(r"^\s*\.extern\s+\.shared[^;]*?([\w$]+)\[\];", clean, re.M)
        self.kernels: dict[str, Kernel] = {}
        for m in re.finditer(r"\.entry\s+([\w$]+)\s*\(([^)]*)\)[^{]*\{", clean):
            depth, end = 1, m.end()
            while depth:
                depth += (clean[end] == "{") - (clean[end] == "}")
                end += 1
            line = clean.count("\n", 0, m.end()) + 1
            self.kernels[m[1]] = Kernel(m[1], m[2], clean[m.end() : end - 1], line, self)
