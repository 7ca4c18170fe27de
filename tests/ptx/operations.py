# SPDX-License-Identifier: Apache-2.0
"""Instructions as lines of Python: a table of forms. What no form matches as a whole raises PtxError."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from .text import SIGNED, UNSIGNED, Instruction, PtxError, dtype, vector

if TYPE_CHECKING:
    from .generate import Code

U16, U32, U64, F32, PRED = (np.dtype(t) for t in (np.uint16, np.uint32, np.uint64, np.float32, bool))
INTEGER, BITS = "[su](16|32|64)", "b(16|32|64)"
SIGNS = {"add": "+", "sub": "-", "mul": "*", "div": "/", "and": "&", "or": "|", "xor": "^"}
FORMS: list[tuple[re.Pattern, Callable[[Operation], list[str]]]] = []


class Operation:
    """An instruction while it is translated. mask: the name of the threads that take part; number: its place."""

    def __init__(self, code: Code, ins: Instruction, mask: str | None, number: int):
        self.code, self.mask, self.number = code, mask, number
        self.ins, self.op, self.args, self.name = ins, ins.op, ins.args, ins.op[0]

    @property
    def kind(self) -> np.dtype:
        return dtype(self.op[-1])

    @property
    def bits(self) -> np.dtype:
        return np.dtype(UNSIGNED[self.kind.itemsize])

    @property
    def wide(self) -> np.dtype:
        return np.dtype((SIGNED if self.kind.kind == "i" else UNSIGNED)[2 * self.kind.itemsize])

    def x(self, i: int, kind: np.dtype | None = None) -> str:
        return self.code.read(self.args[i], kind or self.kind)

    def each(self, i: int, kind: np.dtype | None = None) -> str:
        return self.code.each(self.args[i], kind or self.kind)

    def to(self, register: str, value: str, kind: np.dtype | None = None) -> str:
        return self.code.write(register, kind or self.kind, value, self.mask)

    def set(self, value: str, kind: np.dtype | None = None) -> list[str]:
        return [self.to(self.args[0], value, kind)]


def form(pattern: str):
    def keep(f):
        FORMS.append((re.compile(pattern), f))
        return f

    return keep


def lines_of(o: Operation) -> list[str]:
    op = ".".join(o.op)
    found = next((f for pattern, f in FORMS if pattern.fullmatch(op)), None)
    if found is None:
        raise PtxError(f"line {o.ins.line}: unknown instruction {op}")
    try:
        return found(o)
    except (PtxError, KeyError, TypeError, AttributeError, ValueError, IndexError) as e:
        raise PtxError(f"line {o.ins.line}: {o.ins.text}: {e}") from e


# Integers. Sums and low products are the same with and without signs.


@form(rf"(add|sub)\.{INTEGER}")
def _(o):
    return o.set(f"{o.x(1, o.bits)} {SIGNS[o.name]} {o.x(2, o.bits)}", o.bits)


@form(rf"(mul|mad)\.lo\.{INTEGER}")
def _(o):
    return o.set(
        f"{o.x(1, o.bits)} * {o.x(2, o.bits)}" + (f" + {o.x(3, o.bits)}" if o.name == "mad" else ""), o.bits
    )


@form(r"(mul|mad)\.wide\.[su](16|32)")
def _(o):
    value = " * ".join(f"{o.each(i)}.astype('{o.wide}')" for i in (1, 2))
    return o.set(value + (f" + {o.x(3, o.wide)}" if o.name == "mad" else ""), o.wide)


@form(rf"(mul|mad)\.hi\.{INTEGER}")
def _(o):
    return o.set(f"V.high_product({o.each(1)}, {o.each(2)})" + (f" + {o.x(3)}" if o.name == "mad" else ""))


@form(rf"(div|rem)\.{INTEGER}")
def _(o):
    return o.set(f"V.{'quotient' if o.name == 'div' else 'remainder'}({o.each(1)}, {o.each(2)})")


@form(r"(neg|abs)\.s(16|32|64)")
def _(o):
    return o.set(f"{'-' if o.name == 'neg' else 'np.abs'}({o.each(1)})")


@form(rf"(min|max)\.{INTEGER}")
def _(o):
    return o.set(f"np.{o.name}imum({o.x(1)}, {o.x(2)})")


@form(rf"(and|or|xor)\.({BITS}|pred)")
def _(o):
    return o.set(f"{o.x(1)} {SIGNS[o.name]} {o.x(2)}")


@form(rf"not\.({BITS}|pred)")
def _(o):
    return o.set(f"~{o.each(1)}")


@form(r"sh[lr]\.[bsu](16|32|64)")
def _(o):
    return o.set(f"V.shift({o.each(1)}, {o.x(2, U32)}, {o.name == 'shl'})")


@form(r"selp\.[bsuf](16|32|64)")
def _(o):
    return o.set(f"where({o.x(3, PRED)}, {o.x(1)}, {o.x(2)})")


@form(r"popc\.b(32|64)")
def _(o):
    return o.set(f"np.bitwise_count({o.each(1)}).astype('uint32')", U32)


@form(r"clz\.b(32|64)")
def _(o):
    return o.set(f"V.leading_zeros({o.each(1)})", U32)


@form(r"bfi\.b(32|64)")
def _(o):
    return o.set(f"V.insert_bits({o.x(1)}, {o.each(2)}, {o.x(3, U32)}, {o.x(4, U32)})")


@form(r"bfe\.[su](32|64)")
def _(o):
    return o.set(f"V.extract_bits({o.each(1)}, {o.x(2, U32)}, {o.x(3, U32)})")


@form(r"prmt\.b32")
def _(o):
    return o.set(f"V.permute({o.each(1)}, {o.x(2)}, {o.x(3)})")


@form(r"shf\.[lr]\.(wrap|clamp)\.b32")
def _(o):
    return o.set(f"V.funnel({o.each(1)}, {o.x(2)}, {o.x(3)}, {o.op[1] == 'l'}, {o.op[2] == 'wrap'})")


@form(r"lop3\.b32")
def _(o):
    return o.set(f"V.logic({o.each(1)}, {o.x(2)}, {o.x(3)}, {int(o.args[4], 0)})")


# Floating point: NumPy rounds each operation to the nearest, as .rn does.


@form(r"(add|sub|mul)(\.rn)?\.f32|div\.(rn|full)\.f32")
def _(o):
    if o.op[1] != "rn":
        o.code.loose.append(o.ins)
    return o.set(f"{o.each(1)} {SIGNS[o.name]} {o.x(2)}")


@form(r"(add|sub|mul)\.rn\.f32x2")
def _(o):
    return o.set(f"V.in_pairs('{o.name}', {o.x(1, U64)}, {o.x(2, U64)})", U64)


@form(r"fma\.rn\.f32")
def _(o):
    return o.set(f"V.fused({o.each(1)}, {o.x(2)}, {o.x(3)})")


@form(r"sqrt\.rn\.f32")
def _(o):
    return o.set(f"np.sqrt({o.each(1)})")


@form(r"(neg|abs)\.f32")
def _(o):
    return o.set(f"{'-' if o.name == 'neg' else 'np.abs'}({o.each(1)})")


@form(r"(min|max)(\.NaN)?\.f32")
def _(o):
    return o.set(f"V.extreme({o.each(1)}, {o.x(2)}, {o.name == 'max'}, {'NaN' in o.op})")


# Moves, conversions, comparisons.


@form(r"mov\.(pred|[bsuf](16|32|64))")
def _(o):
    to, given = o.args
    if to.startswith("{"):
        names = vector(to)
        kind = np.dtype(UNSIGNED[o.kind.itemsize // len(names)])
        cut = f"v = V.parts({o.each(1, o.bits)}, {len(names)})"
        return [cut, *(o.to(name, f"v[{i}]", kind) for i, name in enumerate(names) if name != "_")]
    if given.startswith("{"):
        names = vector(given)
        kind = np.dtype(UNSIGNED[o.kind.itemsize // len(names)])
        return o.set(f"V.joined([{', '.join(o.code.each(n, kind) for n in names)}], '{o.bits}')", o.bits)
    return o.set(o.each(1))


@form(r"cvta(\.to)?\.(global|shared|param)\.u64")
def _(o):
    from .generate import SHARED_WINDOW

    base = SHARED_WINDOW if "shared" in o.op else 0
    return o.set(f"{o.each(1)} {'-' if 'to' in o.op else '+'} {o.code.constant(np.uint64(base))}")


@form(r"cvt\.[su](8|16|32|64)\.[su](8|16|32|64)|cvt\.rn\.f32\.[su](8|16|32)|cvt\.f32\.f16|cvt\.rn\.f16\.f32")
def _(o):
    return o.set(f"{o.each(1)}.astype('{dtype(o.op[-2])}')", dtype(o.op[-2]))


@form(r"cvt\.f32\.bf16")
def _(o):
    return o.set(f"V.from_bfloat({o.each(1, U16)})", F32)


@form(r"cvt\.rn\.bf16\.f32")
def _(o):
    return o.set(f"V.to_bfloat({o.each(1)})", U16)


@form(r"cvt\.rn\.(bf16|f16)x2\.f32")
def _(o):
    half = "V.to_bfloat({})" if o.op[2] == "bf16x2" else "{}.astype('float16').view('uint16')"
    pair = ", ".join(half.format(o.each(i)) for i in (2, 1))  # the first operand is the upper half
    return o.set(f"V.joined([{pair}], 'uint32')", U32)


@form(r"setp\.(eq|ne|lt|le|gt|ge|lo|ls|hi|hs)(\.(and|or|xor))?\.[bsu](16|32|64)")
def _(o):
    name = {"lo": "lt", "ls": "le", "hi": "gt", "hs": "ge"}.get(o.op[1], o.op[1])
    sign = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}[name]
    return _set_predicates(o, f"{o.each(1)} {sign} {o.x(2)}")


@form(r"setp\.((eq|ne|lt|le|gt|ge)u?|num|nan)(\.(and|or|xor))?\.f32")
def _(o):
    return _set_predicates(o, f"V.compare('{o.op[1]}', {o.each(1)}, {o.x(2)})")


def _set_predicates(o: Operation, value: str) -> list[str]:
    """p|q: the comparison and its opposite, each combined with a third operand."""
    more = f" {SIGNS[o.op[2]]} ({o.x(3, PRED)})" if len(o.op) == 4 else ""
    names = zip(o.args[0].split("|"), ("", "~"), strict=False)
    return [f"v = {value}", *(o.to(name, f"{sign}v{more}", PRED) for name, sign in names if name != "_")]


# Memory. Volatile, weak and relaxed accesses are done in the order in which they come, like all others.


@form(r"ld(\.volatile|\.weak)?(\.(shared|global|param))?(::cta)?(\.v[248])?\.[busf](8|16|32|64)")
def _(o):
    names, memory = vector(o.args[0]), f"'{o.ins.space}', {o.code.address(o.args[1])}"
    # A compiler widens a load over a part that it does not need: what stands there is nobody's fault.
    used = [i for i, name in enumerate(names) if name in o.code.kernel.read] if len(names) > 1 else [0]
    lines = [f"v = T.load({memory}, '{o.kind}', {len(names)}, {o.mask}, {o.number}, {used})"]
    return lines + [o.to(name, f"v[{i}]") for i, name in enumerate(names) if name != "_"]


@form(r"st(\.volatile|\.weak)?(\.(shared|global))?(::cta)?(\.v[248])?\.[busf](8|16|32|64)")
def _(o):
    given = ", ".join(o.code.each(v, o.kind) for v in vector(o.args[1]))
    memory = f"'{o.ins.space}', {o.code.address(o.args[0])}"
    return [f"T.store({memory}, '{o.kind}', [{given}], {o.mask}, {o.number})"]


@form(r"(atom|red)(\.relaxed)?(\.cta|\.gpu)?(\.(shared|global))?(::cta)?"
      r"\.(add|min|max|and|or|xor|exch|cas)\.[bsu](32|64)")  # fmt: skip
def _(o):
    first = o.name == "atom"
    given = ", ".join(o.code.each(v, o.kind) for v in o.args[1 + first :])
    memory = f"'{o.ins.space}', {o.code.address(o.args[first])}"
    call = f"T.atomic({memory}, '{o.kind}', '{o.op[-2]}', [{given}], {o.mask}, {o.number})"
    return [f"v = {call}", *o.set("v")] if first else [call]


# Collectives: m are the lanes that have come.


@form(r"bar\.warp\.sync")
def _(o):
    return ["T.order_warps(m)"]


@form(r"shfl\.sync\.(up|down|bfly|idx)\.b32")
def _(o):
    names = o.args[0].split("|")
    given = ", ".join(o.each(i, U32) for i in (1, 2, 3))
    lines = [f"v, p = T.shuffle('{o.op[2]}', {given}, m, {o.number})", o.to(names[0], "v", U32)]
    return lines + [o.to(name, "p", PRED) for name in names[1:] if name != "_"]


@form(r"vote\.sync\.ballot\.b32")
def _(o):
    return o.set(f"T.ballot({o.each(1, PRED)}, m)", U32)


@form(r"vote\.sync\.(all|any|uni)\.pred")
def _(o):
    return o.set(f"T.vote('{o.op[2]}', {o.each(1, PRED)}, m)", PRED)


@form(r"redux\.sync\.(add|min|max)\.[su]32|redux\.sync\.(and|or|xor)\.b32")
def _(o):
    return o.set(f"T.reduce('{o.op[2]}', {o.each(1)}, m)")


@form(r"ldmatrix\.sync\.aligned\.m8n8\.x[124]\.shared(::cta)?\.b16")
def _(o):
    lines = []
    for i, name in enumerate(vector(o.args[0])):
        lines.append(f"v = T.load_matrix({o.code.address(o.args[1])}, {i}, m, {o.number})")
        lines.append(o.to(name, "v", U32))
    return lines


@form(r"stmatrix\.sync\.aligned\.m8n8\.x[124]\.shared(::cta)?\.b16")
def _(o):
    given = [o.code.each(v, U32) for v in vector(o.args[1])]
    at = o.code.address(o.args[0])
    return [f"T.store_matrix({at}, {i}, {v}, m, {o.number})" for i, v in enumerate(given)]
