# SPDX-License-Identifier: Apache-2.0
"""What single instructions compute, over arrays with one element a thread. What NumPy does as PTX does is not here."""

from __future__ import annotations

import numpy as np

from .text import UNSIGNED


def _together(*values):
    return np.broadcast_arrays(*(np.asarray(v) for v in values))


def shift(x, amount, left: bool):
    """Amounts are unsigned; from the width on nothing is left, or only signs."""
    bits = 8 * x.dtype.itemsize
    within = np.minimum(amount, np.uint32(bits - 1)).astype(x.dtype)
    if not left and x.dtype.kind == "i":
        return x >> within
    return np.where(amount < np.uint32(bits), x << within if left else x >> within, x.dtype.type(0))


def high_product(x, y):
    """The upper half of the product."""
    size = x.dtype.itemsize
    if size < 8:
        wide = np.int64 if x.dtype.kind == "i" else np.uint64
        return (x.astype(wide) * y.astype(wide) >> wide(8 * size)).astype(x.dtype)
    x, y = _together(x, y)
    exact = x.astype(object) * y.astype(object) >> 64
    return exact.astype(x.dtype)


def quotient(x, y):
    """Towards zero. By zero: all bits, as GPUs happen to do."""
    x, y = _together(x, y)
    by = np.where(y == 0, x.dtype.type(1), y)
    q = x // by
    if x.dtype.kind == "i":
        q = q + ((q * by != x) & ((x < 0) != (by < 0))).astype(x.dtype)
    return np.where(y == 0, ~x.dtype.type(0), q)


def remainder(x, y):
    x, y = _together(x, y)
    return x - quotient(x, np.where(y == 0, x.dtype.type(1), y)) * np.where(y == 0, x.dtype.type(0), y)


def leading_zeros(x):
    bits, v = 8 * x.dtype.itemsize, x.astype(np.uint64)
    length = np.zeros(x.shape, np.uint32)
    for step in (32, 16, 8, 4, 2, 1):
        more = v >> np.uint64(step) != 0
        length += np.where(more, np.uint32(step), np.uint32(0))
        v = np.where(more, v >> np.uint64(step), v)
    return np.where(x == 0, np.uint32(bits), np.uint32(bits - 1) - length)


def insert_bits(a, b, position, length):
    """bfi: the low bits of a, put into b."""
    a, b, position, length = _together(a, b, position & np.uint32(255), length & np.uint32(255))
    kind, bits = b.dtype.type, 8 * b.dtype.itemsize
    field = np.where(length >= bits, ~kind(0), shift(np.full_like(b, 1), length, True) - kind(1))
    mask = shift(field, position, True)
    return b & ~mask | shift(a, position, True) & mask


def extract_bits(a, position, length):
    """bfe: a field of a; signed ones repeat its upper bit."""
    a, position, length = _together(a, position & np.uint32(255), length & np.uint32(255))
    bits = np.uint32(8 * a.dtype.itemsize)
    away = bits - np.minimum(length, bits)
    found = shift(shift(shift(a, position, False), away, True), away, False)
    return np.where(length == 0, a.dtype.type(0), found)


def permute(a, b, selectors):
    """prmt: four bytes picked of eight, or their signs."""
    a, b, selectors = _together(a, b, selectors)
    both = a.astype(np.uint64) | b.astype(np.uint64) << np.uint64(32)
    out = np.zeros(a.shape, np.uint32)
    for i in range(4):
        choice = selectors >> np.uint32(4 * i)
        byte = both >> (choice & np.uint32(7)).astype(np.uint64) * np.uint64(8) & np.uint64(255)
        sign = np.where(byte & np.uint64(128), np.uint32(255), np.uint32(0))
        out |= np.where(choice & np.uint32(8), sign, byte.astype(np.uint32)) << np.uint32(8 * i)
    return out


def funnel(low, high, amount, left: bool, wrap: bool):
    """shf: 32 bits of a shifted pair."""
    low, high, amount = _together(low, high, amount)
    amount = (amount & np.uint32(31) if wrap else np.minimum(amount, np.uint32(32))).astype(np.uint64)
    both = high.astype(np.uint64) << np.uint64(32) | low.astype(np.uint64)
    return (both << amount >> np.uint64(32) if left else both >> amount).astype(np.uint32)


def logic(a, b, c, table: int):
    """lop3: any function of three bits."""
    a, b, c = _together(a, b, c)
    out = np.zeros(a.shape, a.dtype)
    for i in range(8):
        if table >> i & 1:
            out = out | (a if i & 4 else ~a) & (b if i & 2 else ~b) & (c if i & 1 else ~c)
    return out


def fused(a, b, c):
    """fma.rn.f32: the product is exact in float64; the sum is rounded there to odd, so that rounding twice is right."""
    a, b, c = (v.astype(np.float64) for v in _together(a, b, c))
    product = a * b
    total = product + c
    back = total - product
    lost = (product - (total - back)) + (c - back)
    raw = total.view(np.int64)
    even = (lost != 0) & np.isfinite(total) & (raw & 1 == 0)
    raw = np.where(even, raw + np.where((lost > 0) == (total > 0), 1, -1), raw)
    return raw.view(np.float64).astype(np.float32)


def extreme(x, y, greatest: bool, spread_nan: bool):
    """min and max: of a number and a NaN the number, unless spread_nan; -0 is below +0."""
    x, y = _together(x, y)
    first = np.where(np.signbit(x) != np.signbit(y), np.signbit(y) if greatest else np.signbit(x),
                     x > y if greatest else x < y)  # fmt: skip
    chosen = np.where(first, x, y)
    nan = np.array([0x7FFFFFFF], np.uint32).view(np.float32)[0]
    if spread_nan:
        return np.where(np.isnan(x) | np.isnan(y), nan, chosen)
    chosen = np.where(np.isnan(x), y, np.where(np.isnan(y), x, chosen))
    return np.where(np.isnan(chosen), nan, chosen)


def compare(name: str, x, y):
    """setp of floats: with u behind it, true of a NaN."""
    nan = np.isnan(x) | np.isnan(y)
    if name in ("num", "nan"):
        return nan if name == "nan" else ~nan
    base = name[:-1] if name in ("equ", "neu", "ltu", "leu", "gtu", "geu") else name
    found = {"eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater,
             "ge": np.greater_equal}[base](x, y)  # fmt: skip
    return found | nan if base != name else found & ~nan


def from_bfloat(x):
    return (x.astype(np.uint32) << np.uint32(16)).view(np.float32)


def to_bfloat(x):
    """To the nearest, ties to even."""
    bits = np.ascontiguousarray(x).view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1)) >> np.uint32(16)
    return np.where(np.isnan(x), np.uint32(0x7FFF), rounded).astype(np.uint16)


def in_pairs(sign: str, x, y):
    """add, mul of f32x2: two floats in 64 bits, each rounded by itself."""
    x, y = (np.ascontiguousarray(v).view(np.float32) for v in _together(x, y))
    return {"add": np.add, "sub": np.subtract, "mul": np.multiply}[sign](x, y).view(np.uint64)


def parts(x, n: int) -> list[np.ndarray]:
    """x cut into n registers, the lowest bits first."""
    kind = UNSIGNED[x.dtype.itemsize // n]
    return [v.copy() for v in np.ascontiguousarray(x).view(kind).reshape(-1, n).T]


def joined(values: list[np.ndarray], kind):
    """The reverse of parts."""
    return np.stack(_together(*values), axis=-1).reshape(-1).view(kind)
