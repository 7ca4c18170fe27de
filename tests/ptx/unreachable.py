# SPDX-License-Identifier: Apache-2.0
"""Basic blocks of the CUDA kernels that no launch can reach, and why: proved, not listed.

What is known of every launch of a kernel, its facts, is checked at every launch (stand_in.py). Every combination of the
values that they allow is a world. Constants are followed through the kernel in all worlds side by side, by the Python
that runs it: a branch whose predicate is known is followed only where it leads. What no world comes to is dead.

Beside those there are divisions of 64 bits: compilers divide with 32 bits where a test finds that these are enough.
Which numbers would need more is said in WIDE; that the block is just such a division is checked.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np

from smnoise.backends.cuda import BLUE_THREADS
from smnoise.backends.plan import COLOR_CODES, OptimBlue, Plan, Strategy
from smnoise.spec.strategy import STRATEGIES

from .generate import Code
from .operations import Operation, lines_of
from .text import Block, Instruction, Kernel, PtxError, vector


@dataclass(frozen=True)
class Facts:
    """Of every launch: fields of the first parameter, name to the values they may have; threads a block, if always the
    same."""

    why: str  # what is not reached, in words
    struct: type = Plan
    fields: dict[str, tuple[int, ...]] = field(default_factory=dict)
    threads: int | None = None

    def check(self, kernel: Kernel, parameters: bytes, threads: int) -> None:
        """Raises PtxError where a launch is not as they say."""
        for name, (at, kind) in self.places().items():
            (value,) = np.frombuffer(parameters, kind, 1, at)
            if value not in self.fields[name]:
                raise PtxError(f"{kernel.name}: {name} is {value}, where {self.fields[name]} are known")
        if self.threads not in (None, threads):
            raise PtxError(f"{kernel.name}: {threads} threads, where {self.threads} are known")

    def places(self) -> dict[str, tuple[int, np.dtype]]:
        """Where the fields lie, and their types."""
        found = {name: getattr(self.struct, name) for name in self.fields}
        return {name: (f.offset, np.dtype(f"u{f.size}")) for name, f in found.items()}

    def worlds(self) -> dict:
        """An array for each field, by its place and size, and for "tid.x"."""
        names: list = [(at, kind.itemsize) for at, kind in self.places().values()]
        choices = list(self.fields.values())
        if self.threads is not None:
            names, choices = [*names, "tid.x"], [*choices, tuple(range(self.threads))]
        columns = zip(*itertools.product(*choices), strict=True)
        return {name: np.array(column, np.uint64) for name, column in zip(names, columns, strict=True)}


ONE = tuple(COLOR_CODES[c] for c in ("white", "red", "blue"))
TWO = tuple(COLOR_CODES[c] for c in ("green", "purple"))
ONE_BANK = Facts("draws and copies of a second bank of sigmas", Plan, {"first": (0,), "color": ONE})
TWO_BANKS = Facts("ways of colours with one bank of sigmas", Plan, {"color": TWO})
BLUE = Facts(
    "a loop, unrolled by four, over the warps before a thread's own", OptimBlue, threads=BLUE_THREADS
)
FACTS = {
    "color_window_one": ONE_BANK, "color_torus_one": ONE_BANK,
    "color_window_two": TWO_BANKS, "color_torus_two": TWO_BANKS,
    "optim_blue": BLUE, "optim_blue_wide": BLUE, "optim_blue_global": BLUE,
    "strategy_mask": Facts("other kinds than there are", Strategy, {"kind": tuple(range(len(STRATEGIES)))}),
}  # fmt: skip
WIDE = {
    "gaussian": "a filter of more than 2^32 values, 16 GiB",
    "random_words": "more than 2^32 calls of Philox, 128 GiB of words",
    "strategy_mask": "products of a bar's rank and a pace, each at most 4096",
}


def unreachable(kernel: Kernel) -> dict[int, str]:
    """Blocks that no launch reaches, by number, and why."""
    found = {}
    name = kernel.name.split(".")[0]
    if facts := FACTS.get(name):
        alive = Worlds(kernel, facts.worlds()).alive()
        found = {b: facts.why for b in range(len(kernel.blocks)) if b not in alive}
    if why := WIDE.get(name):
        found |= {b: why for b in range(len(kernel.blocks)) if _is_wide_division(kernel, b)}
    return found


def _is_wide_division(kernel: Kernel, b: int) -> bool:
    """A division of 64 bits that is passed by where the upper halves of its operands are 0."""
    division = kernel.blocks[b].instructions[0]
    if division.op[0] not in ("div", "rem") or b == 0:
        return False
    comes = [p for p, block in enumerate(kernel.blocks) if block.end == "bra" and block.target == b]
    if kernel.blocks[b - 1].end != "bra" or kernel.blocks[b - 1].instructions[-1].guard:
        comes.append(b - 1)
    if len(comes) != 1 or len(before := kernel.blocks[comes[0]].instructions) < 4:
        return False
    either, high, test, branch = before[-4:]
    zero_goes_on = test.op[1] == "eq" if kernel.blocks[comes[0]].target != b else test.op[1] == "ne"
    return (
        either.op == ["or", "b64"]
        and set(either.args[1:]) == set(division.args[1:])
        and high.op == ["and", "b64"]
        and high.args[1:] == [either.args[0], str(-(1 << 32))]
        and test.op[0] == "setp"
        and test.args == [branch.guard[0], high.args[0], "0"]
        and zero_goes_on
        and not branch.guard[1]
    )


class Worlds:
    """Constants in a kernel, an element for each world. Absent registers are not known."""

    def __init__(self, kernel: Kernel, given: dict):
        self.kernel, self.given = kernel, given
        self.code = Code(kernel)
        self.n = len(next(iter(given.values())))
        self._compiled: dict = {}
        self._known: dict[str, np.ndarray] = {}

    # What generated code asks of its threads.

    @property
    def special(self) -> dict:
        return {"tid.x": self.given["tid.x"].astype(np.uint32)}

    def each(self, value) -> np.ndarray:
        return value if isinstance(value, np.ndarray) and value.ndim else np.full(self.n, value)

    def alive(self) -> set[int]:
        """Blocks that some world comes to."""
        start = np.ones(self.n, bool)
        states: dict[int, tuple[np.ndarray, dict]] = {0: (start, {})}
        waiting = [0]
        while waiting:
            b = waiting.pop()
            for target, some, known in self._run(b, *states[b]):
                if some.any() and self._join(states, target, some, known):
                    waiting.append(target)
        return set(states)

    def _join(self, states: dict, b: int, some: np.ndarray, known: dict) -> bool:
        """Adds worlds that come to a block. What differs from what was known there is not known; whether any of it is
        news."""
        if b not in states:
            states[b] = some, known
            return True
        old, before = states[b]
        both, kept = old & some, {}
        for name, value in before.items():
            if name in known and (value[both] == known[name][both]).all():
                kept[name] = np.where(old, value, known[name])
        if not (some & ~old).any() and len(kept) == len(before):
            return False
        states[b] = old | some, kept
        return True

    def _run(self, b: int, some: np.ndarray, known: dict):
        """Where worlds go from a block: (target, which, what is known there)."""
        block, self._known = self.kernel.blocks[b], dict(known)
        for n, ins in enumerate(block.instructions):
            self._step(ins, block.start + n, some)
        yield from self._ways(b, block, some)

    def _ways(self, b: int, block: Block, some: np.ndarray):
        last, known = block.instructions[-1], self._known
        ends = {"bra": block.target, "ret": len(self.kernel.blocks)}
        after = ends.get(block.end, b + 1)
        taken = stays = some
        if not (last.is_branch and last.guard):
            stays = np.zeros(self.n, bool)
        elif last.guard[0] in known:
            goes = known[last.guard[0]] ^ last.guard[1]
            taken, stays = some & goes, some & ~goes
        for target, which in ((after, taken), (b + 1, stays)):
            if target < len(self.kernel.blocks):
                yield target, which, known

    def _step(self, ins: Instruction, number: int, some: np.ndarray) -> None:
        if ins.is_branch or ins.is_barrier or not ins.results:
            return
        made = self._load(ins) if ins.op[0] == "ld" else self._made(ins, number, some)
        for name in ins.results:
            self._known.pop(name, None)
        self._known |= made

    def _made(self, ins: Instruction, number: int, some: np.ndarray) -> dict:
        """What is known of an instruction's results."""
        asked = {r for r in ins.reads if r in self.kernel.registers}
        specials = {a[1:] for a in ins.args if a.startswith("%") and a not in self.kernel.registers}
        if ins.is_collective or ins.op[0] == "atom" or specials - {*self.given}:
            return {}
        if missing := asked - self._known.keys():
            return self._absorbed(ins, missing, some)
        registers, names = [None] * len(self.kernel.registers), dict(self.code.names)
        for name in asked:
            i = self.kernel.index[name]
            registers[i] = names[f"t{i}"] = self._known[name]
        with np.errstate(all="ignore"):
            exec(self._lines(ins, number), names | {"T": self, "R": registers, "m": some}, names)
        results = {}
        for name in ins.results:
            i = self.kernel.index[name]
            value = names[f"t{i}"] if name in self.kernel.local_registers else registers[i]
            results[name] = self.each(value)
        return results

    def _absorbed(self, ins: Instruction, missing: set[str], some: np.ndarray) -> dict:
        """x and false, x or true: known whatever x is."""
        if ins.guard or ins.op[0] not in ("and", "or") or len(missing) != 1 or len(ins.args) != 3:
            return {}
        given = [a for a in ins.args[1:] if a in self._known]
        if len(given) != 1 or self._known[given[0]].dtype != bool:
            return {}
        value = self._known[given[0]]
        return {ins.args[0]: value} if (value[some] == (ins.op[0] == "or")).all() else {}

    def _load(self, ins: Instruction) -> dict:
        """Fields of parameters."""
        base = ins.args[1].strip("[] ").split("+")[0].strip()
        if ins.space != "param" or ins.guard or (base in self.kernel.registers and base not in self._known):
            return {}
        address, offset = eval(f"({self.code.address(ins.args[1])})", self.code.names, _Registers(self))
        place = np.unique(offset + (np.zeros(1, np.int64) if address is None else address.astype(np.int64)))
        size, made = int(ins.op[-1][1:]) // 8, {}
        for i, name in enumerate(vector(ins.args[0])):
            value = self.given.get((int(place[0]) + i * size, size)) if len(place) == 1 else None
            if value is not None:
                made[name] = value.astype(self.kernel.registers[name])
        return made

    def _lines(self, ins: Instruction, number: int):
        if number not in self._compiled:
            guard = [f"q = {self.code.guard(ins)}"] if ins.guard else []
            lines = guard + lines_of(Operation(self.code, ins, "q" if ins.guard else None, number))
            self._compiled[number] = compile("\n".join(lines), "<world>", "exec")
        return self._compiled[number]


class _Registers(dict):
    """Of an address: the names of generated code."""

    def __init__(self, worlds: Worlds):
        super().__init__()
        kernel = worlds.kernel
        values = [worlds._known.get(name) for name in kernel.registers]
        self["R"] = values
        self |= {f"t{i}": value for i, value in enumerate(values)}
