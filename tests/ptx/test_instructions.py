# SPDX-License-Identifier: Apache-2.0
"""The interpreter, instruction by instruction, against Python's integers and exact fractions."""

import itertools
import struct
from fractions import Fraction

import numpy as np
import pytest

from .small_kernels import apply, module, run
from .text import PtxError

CORNERS = [0, 1, 2, 3, 7, 31, 32, 33, 63, 64, 255, 256, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000,
           0xFFFFFFFE, 0xFFFFFFFF, 2**32, 2**63 - 1, 2**63, 2**64 - 2, 2**64 - 1, 0x123456789ABCDEF0]  # fmt: skip


def signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> (bits - 1) & 1 else value


def towards_zero(x: int, y: int) -> int:
    return abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1)


def shifted(x: int, amount: int, bits: int, kind: str, left: bool) -> int:
    if left:
        return x << amount if amount < bits else 0
    return signed(x, bits) >> min(amount, bits) if kind == "s" else x >> amount if amount < bits else 0


def pairs(bits: int) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of corners, as many as are of that width, and random ones."""
    corners = [c for c in CORNERS if c < 1 << bits] + [
        (1 << bits) - c for c in CORNERS if 0 < c < 1 << bits - 1
    ]
    g = np.random.default_rng(0)
    some = np.array(list(itertools.product(corners, corners)), np.uint64)
    some = some[g.permutation(len(some))[:900]]
    more = g.integers(0, 2**64, (100, 2), np.uint64) & np.uint64((1 << bits) - 1)
    x, y = np.concatenate([some, more]).T
    return tuple(v.astype(f"u{bits // 8}") for v in (x, y))


INTEGERS = {
    "add": lambda x, y, b: x + y, "sub": lambda x, y, b: x - y, "mul.lo": lambda x, y, b: x * y,
    "mul.hi": lambda x, y, b: x * y >> b, "min": lambda x, y, b: min(x, y), "max": lambda x, y, b: max(x, y),
    "div": lambda x, y, b: towards_zero(x, y) if y else -1,
    "rem": lambda x, y, b: x - towards_zero(x, y) * y if y else x,
}  # fmt: skip


@pytest.mark.parametrize("bits", [16, 32, 64])
@pytest.mark.parametrize("kind", "su")
@pytest.mark.parametrize("name", INTEGERS)
def test_integers(name, kind, bits):
    x, y = (v[:960] for v in pairs(bits))
    got = apply(f"{name}.{kind}{bits} {{d}}, {{0}}, {{1}}", f"u{bits}", x, y)
    for a, b, found in zip(x.tolist(), y.tolist(), got.tolist(), strict=True):
        if kind == "s":
            a, b = signed(a, bits), signed(b, bits)
        assert found == INTEGERS[name](a, b, bits) % (1 << bits), (a, b)


@pytest.mark.parametrize("kind", "su")
@pytest.mark.parametrize("bits", [16, 32])
def test_wide_products(kind, bits):
    x, y = (v[:960] for v in pairs(bits))
    z = (x.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)).astype(f"u{bits // 4}")
    product = apply(f"mul.wide.{kind}{bits} {{d}}, {{0}}, {{1}}", f"u{2 * bits}", x, y)
    total = apply(f"mad.wide.{kind}{bits} {{d}}, {{0}}, {{1}}, {{2}}", f"u{2 * bits}", x, y, z)
    low = apply(f"mad.lo.{kind}{bits} {{d}}, {{0}}, {{1}}, {{1}}", f"u{bits}", x, y)
    for a, b, c, p, t, low_ in zip(*(v.tolist() for v in (x, y, z, product, total, low)), strict=True):
        if kind == "s":
            a, b = signed(a, bits), signed(b, bits)
        assert (p, t, low_) == (a * b % 4**bits, (a * b + c) % 4**bits, (a * b + b) % 2**bits), (a, b, c)


@pytest.mark.parametrize("kind", "bsu")
@pytest.mark.parametrize("bits", [16, 32, 64])
@pytest.mark.parametrize("name", ["shl", "shr"])
def test_shifts_of_any_amount(name, kind, bits):
    if (name, kind) in (("shl", "s"), ("shl", "u")):
        kind = "b"
    x, amount = pairs(bits)
    x, amount = x[:960], (amount[:960] % np.uint64(1 << 32)).astype(np.uint32)
    amount[::2] %= 70
    got = apply(f"{name}.{kind}{bits} {{d}}, {{0}}, {{1}}", f"u{bits}", x, amount)
    for a, n, found in zip(x.tolist(), amount.tolist(), got.tolist(), strict=True):
        assert found == shifted(a, n, bits, kind, name == "shl") % (1 << bits), (a, n)
    constant = apply(f"{name}.{kind}{bits} {{d}}, {{0}}, {bits + 3}", f"u{bits}", x)
    assert constant.tolist() == [
        shifted(a, bits + 3, bits, kind, name == "shl") % (1 << bits) for a in x.tolist()
    ]


@pytest.mark.parametrize("bits", [32, 64])
def test_fields_of_bits(bits):
    g = np.random.default_rng(1)
    a, b = g.integers(0, 2**64, (2, 960), np.uint64).astype(f"u{bits // 8}")
    at, length = g.integers(0, 80, (2, 960)).astype(np.uint32)
    at[:60], length[:40] = 0, 0
    insert = apply(f"bfi.b{bits} {{d}}, {{0}}, {{1}}, {{2}}, {{3}}", f"u{bits}", a, b, at, length)
    taken = {k: apply(f"bfe.{k}{bits} {{d}}, {{0}}, {{1}}, {{2}}", f"u{bits}", a, at, length) for k in "us"}
    top = bits - 1
    for i in range(960):
        x, y, p, n = int(a[i]), int(b[i]), int(at[i]), int(length[i])
        field = ((1 << n) - 1) << p & (1 << bits) - 1
        assert insert[i] == (y & ~field | x << p & field)
        assert taken["u"][i] == x >> p & (1 << n) - 1
        # As the manual has it: above the field, its upper bit.
        sign = 0 if not n else x >> min(p + n - 1, top) & 1
        want = sum((x >> p + j & 1 if j < n and p + j <= top else sign) << j for j in range(bits))
        assert taken["s"][i] == want, (x, p, n)


def test_single_words():
    g = np.random.default_rng(2)
    x, y, z = g.integers(0, 2**32, (3, 960), np.uint64).astype(np.uint32)
    x[:33] = [0, *(1 << i for i in range(32))]
    apply3 = lambda text, *more: apply(text, "u32", *more).tolist()  # noqa: E731
    assert apply3("popc.b32 {d}, {0}", x) == [v.bit_count() for v in x.tolist()]
    assert apply3("clz.b32 {d}, {0}", x) == [32 - v.bit_length() for v in x.tolist()]
    wide = x.astype(np.uint64) << np.uint64(17)
    assert apply3("clz.b64 {d}, {0}", wide) == [64 - v.bit_length() for v in wide.tolist()]
    assert apply3("popc.b64 {d}, {0}", wide) == [v.bit_count() for v in wide.tolist()]
    for table in (0x96, 0xE8, 0xCA, 0x1B):
        want = [
            sum((table >> (4 * (a >> i & 1) + 2 * (b >> i & 1) + (c >> i & 1)) & 1) << i for i in range(32))
            for a, b, c in zip(x.tolist(), y.tolist(), z.tolist(), strict=True)
        ]
        assert apply3(f"lop3.b32 {{d}}, {{0}}, {{1}}, {{2}}, {table}", x, y, z) == want
    got = apply3("prmt.b32 {d}, {0}, {1}, {2}", x, y, z)
    for a, b, s, found in zip(x.tolist(), y.tolist(), z.tolist(), got, strict=True):
        bytes_ = struct.pack("<II", a, b)
        picked = [bytes_[s >> 4 * i & 7] for i in range(4)]
        picked = [255 * (v >> 7) if s >> 4 * i & 8 else v for i, v in enumerate(picked)]
        assert found == int.from_bytes(bytes(picked), "little")
    for side, how in itertools.product("lr", ("wrap", "clamp")):
        got = apply3(f"shf.{side}.{how}.b32 {{d}}, {{0}}, {{1}}, {{2}}", x, y, z % np.uint32(70))
        for a, b, n, found in zip(x.tolist(), y.tolist(), (z % 70).tolist(), got, strict=True):
            n = n & 31 if how == "wrap" else min(n, 32)
            both = b << 32 | a
            assert found == ((both << n >> 32 if side == "l" else both >> n) & 0xFFFFFFFF)


@pytest.mark.parametrize("bits", [16, 32, 64])
def test_logic_and_signs(bits):
    x, y = (v[:960] for v in pairs(bits))
    for name, f in (("and", np.bitwise_and), ("or", np.bitwise_or), ("xor", np.bitwise_xor)):
        assert (apply(f"{name}.b{bits} {{d}}, {{0}}, {{1}}", f"u{bits}", x, y) == f(x, y)).all()
    assert (apply(f"not.b{bits} {{d}}, {{0}}", f"u{bits}", x) == ~x).all()
    assert (apply(f"neg.s{bits} {{d}}, {{0}}", f"u{bits}", x) == (~x + np.array(1, x.dtype))).all()
    absolute = [abs(signed(v, bits)) for v in x.tolist()]
    assert apply(f"abs.s{bits} {{d}}, {{0}}", f"u{bits}", x).tolist() == absolute


@pytest.mark.parametrize("bits", [16, 32, 64])
@pytest.mark.parametrize("kind", "su")
def test_comparisons(kind, bits):
    x, y = (v[:960] for v in pairs(bits))
    y[::5] = x[::5]
    a, b = (v.view(f"i{bits // 8}") if kind == "s" else v for v in (x, y))
    for name, f in (("eq", np.equal), ("ne", np.not_equal), ("lt", np.less), ("le", np.less_equal),
                    ("gt", np.greater), ("ge", np.greater_equal)):  # fmt: skip
        assert (apply(f"setp.{name}.{kind}{bits} {{d}}, {{0}}, {{1}}", "pred", x, y) == f(a, b)).all()
    both = apply(
        f"setp.eq.u{bits} %p1, {{0}}, {{1}}; setp.lt.and.u{bits} {{d}}|%p2, {{0}}, {{1}}, !%p1", "pred", x, y
    )
    assert (both == (x < y)).all()
    opposite = apply(f"setp.lt.u{bits} %p2|{{d}}, {{0}}, {{1}}", "pred", x, y)
    assert (opposite == (x >= y)).all()
    chosen = apply(
        f"setp.lt.u{bits} %p1, {{0}}, {{1}}; selp.b{bits} {{d}}, {{0}}, {{1}}, %p1", f"u{bits}", x, y
    )
    assert (chosen == np.minimum(x, y)).all()


FLOATS = [0.0, -0.0, 1.0, -1.0, 1.5, 1 + 2**-23, 1 - 2**-24, 2.0**24, 2.0**24 + 2, 3.4e38, -3.4e38, 2.0**-126,
          2.0**-149, -(2.0**-149), 1e-42, 0.1, 1 / 3, 1e20, float("inf"), float("-inf"), float("nan")]  # fmt: skip


def floats(n: int) -> list[np.ndarray]:
    """Corners against each other, and numbers of random bits of all magnitudes."""
    g = np.random.default_rng(3)
    some = np.array(list(itertools.islice(itertools.product(FLOATS, repeat=2), 441)), np.float32).T
    close = g.integers(0x3F000000, 0x41000000, (n, 300)).astype(np.uint32).view(np.float32)
    any_ = g.integers(0, 2**32, (n, 219), np.uint64).astype(np.uint32).view(np.float32)
    first = [some[i] if i < 2 else np.roll(some[0], 7) for i in range(n)]
    return [np.concatenate([a, b, c]) for a, b, c in zip(first, close, any_, strict=True)]


def rounded(exact: Fraction) -> float:
    """The float32 nearest to a number, ties to even, by integers alone."""
    if not exact:
        return 0.0
    magnitude, exponent = abs(exact), -149
    while magnitude / Fraction(2) ** exponent >= 1 << 24:
        exponent += 1
    steps = round(magnitude / Fraction(2) ** exponent)  # to even, as Python rounds
    value = Fraction(steps) * Fraction(2) ** exponent
    value = float("inf") if value >= Fraction(2) ** 128 else float(value)
    return -value if exact < 0 else value


EXACT = {"add.rn": lambda a, b: a + b, "sub.rn": lambda a, b: a - b, "mul.rn": lambda a, b: a * b,
         "div.rn": lambda a, b: a / b}  # fmt: skip


@pytest.mark.parametrize("name", EXACT)
def test_floats_round_once(name):
    x, y = floats(2)
    with np.errstate(all="ignore"):
        plain = {"add.rn": x + y, "sub.rn": x - y, "mul.rn": x * y, "div.rn": x / y}[name]
    got = apply(f"{name}.f32 {{d}}, {{0}}, {{1}}", "f32", x, y)
    for a, b, found, numpy in zip(*(v.tolist() for v in (x, y, got, plain)), strict=True):
        finite = np.isfinite([a, b]).all() and not (name == "div.rn" and b == 0)
        want = rounded(EXACT[name](Fraction(a), Fraction(b))) if finite else numpy
        assert found == want or (np.isnan(found) and np.isnan(want)), (a, b)


def test_fma_rounds_once():
    x, y, z = floats(3)
    z[441:700] = -(x[441:700] * y[441:700])  # what is left is what the product lost
    got = apply("fma.rn.f32 {d}, {0}, {1}, {2}", "f32", x, y, z)
    with np.errstate(all="ignore"):
        wide = x.astype(np.float64) * y.astype(np.float64) + z.astype(np.float64)
    for a, b, c, found, w in zip(*(v.tolist() for v in (x, y, z, got, wide)), strict=True):
        want = rounded(Fraction(a) * Fraction(b) + Fraction(c)) if np.isfinite([a, b, c]).all() else w
        assert found == want or (np.isnan(found) and np.isnan(want)), (a, b, c)


def test_square_roots_are_exact():
    x, _ = floats(2)
    for value, found in zip(x.tolist(), apply("sqrt.rn.f32 {d}, {0}", "f32", x).tolist(), strict=True):
        if not value >= 0:
            assert np.isnan(found)
        elif np.isfinite(value) and value:
            half = Fraction(float(np.spacing(np.float32(found)))) / 2
            assert (Fraction(found) - half) ** 2 < Fraction(value) < (Fraction(found) + half) ** 2
        else:
            assert found == value


def test_least_and_most_of_floats():
    x, y = floats(2)
    for name in ("min", "max"):
        plain = apply(f"{name}.f32 {{d}}, {{0}}, {{1}}", "f32", x, y).view(np.uint32).tolist()
        strict = apply(f"{name}.NaN.f32 {{d}}, {{0}}, {{1}}", "f32", x, y).view(np.uint32).tolist()
        for a, b, p, s in zip(x, y, plain, strict, strict=True):
            nans = int(np.isnan(a)) + int(np.isnan(b))
            pick = min if name == "min" else max
            ordered = pick(
                (v for v in (a, b) if not np.isnan(v)), key=lambda v: (v, not np.signbit(v)), default=None
            )
            want = 0x7FFFFFFF if ordered is None else int(np.float32(ordered).view(np.uint32))
            assert (p, s) == (want, 0x7FFFFFFF if nans else want), (a, b)


def test_comparisons_of_floats():
    x, y = floats(2)
    nan = np.isnan(x) | np.isnan(y)
    for name, f in (("eq", np.equal), ("ne", np.not_equal), ("lt", np.less), ("le", np.less_equal),
                    ("gt", np.greater), ("ge", np.greater_equal)):  # fmt: skip
        assert (apply(f"setp.{name}.f32 {{d}}, {{0}}, {{1}}", "pred", x, y) == f(x, y) & ~nan).all()
        assert (apply(f"setp.{name}u.f32 {{d}}, {{0}}, {{1}}", "pred", x, y) == f(x, y) | nan).all()
    assert (apply("setp.nan.f32 {d}, {0}, {1}", "pred", x, y) == nan).all()
    assert (apply("setp.num.f32 {d}, {0}, {1}", "pred", x, y) == ~nan).all()


def test_conversions():
    x, y = (v[:960] for v in pairs(64))
    for to, source in itertools.product(
        ("u16", "s32", "u32", "s64", "u64"), ("u16", "s16", "s32", "u32", "u64")
    ):
        given = x.astype(f"u{int(source[1:]) // 8}")
        got = apply(f"cvt.{to}.{source} {{d}}, {{0}}", f"u{to[1:]}", given)
        want = given.view(f"{'i' if source[0] == 's' else 'u'}{int(source[1:]) // 8}").astype(
            f"u{int(to[1:]) // 8}"
        )
        assert (got == want).all(), (to, source)
    for source in ("u16", "s16", "u32", "s32"):
        given = y.astype(f"u{int(source[1:]) // 8}")
        numbers = [signed(v, int(source[1:])) if source[0] == "s" else v for v in given.tolist()]
        got = apply(f"cvt.rn.f32.{source} {{d}}, {{0}}", "f32", given)
        assert got.tolist() == [rounded(Fraction(v)) for v in numbers]


def test_half_floats():
    halves = np.arange(0, 2**16, 67, dtype=np.uint16)[:960]
    got = apply("cvt.f32.bf16 {d}, {0}", "f32", halves).view(np.uint32)
    assert (got == halves.astype(np.uint32) << np.uint32(16)).all()
    numbers = np.nan_to_num(halves.view(np.float16).astype(np.float32), nan=1.25)
    assert (apply("cvt.f32.f16 {d}, {0}", "f32", halves).view(np.uint32)
            == halves.view(np.float16).astype(np.float32).view(np.uint32)).all()  # fmt: skip
    import torch

    x = np.concatenate([numbers * np.float32(1 + 2**-9), floats(1)[0]])[:992]
    want = torch.from_numpy(x).to(torch.bfloat16).view(torch.uint16).numpy()
    real = ~np.isnan(x)
    assert (apply("cvt.rn.bf16.f32 {d}, {0}", "u16", x)[real] == want[real]).all()
    pair = apply("cvt.rn.bf16x2.f32 {d}, {0}, {1}", "u32", x, x[::-1].copy())
    both = real & real[::-1]
    assert (pair[both] == (want.astype(np.uint32) << np.uint32(16) | want[::-1])[both]).all()


def test_two_floats_in_a_register():
    x, y = floats(2)
    x, y, z, w = x[::2], y[::2], x[1::2], y[1::2]
    n = min(len(x), len(z))
    pack = "mov.b64 %d10, {{{0}, {2}}}; mov.b64 %d11, {{{1}, {3}}}; "
    unpack = "mov.b64 {{%r20, %r21}}, %d12; mov.b32 {d}, %r2"
    with np.errstate(all="ignore"):
        for name, low, high in (("add", x[:n] + y[:n], z[:n] + w[:n]), ("mul", x[:n] * y[:n], z[:n] * w[:n])):
            text = f"{pack}{name}.rn.f32x2 %d12, %d10, %d11; {unpack}"
            for part, want in (("0", low), ("1", high)):
                got = apply(text + part, "f32", x[:n], y[:n], z[:n], w[:n])
                assert np.array_equal(got, want, equal_nan=True)


def test_registers_are_cut_and_joined():
    x = np.random.default_rng(5).integers(0, 2**64, 96, np.uint64)
    assert (apply("mov.b64 {{%r20, %r21}}, {0}; mov.b64 {d}, {{%r21, %r20}}", "u64", x)
            == (x << np.uint64(32) | x >> np.uint64(32))).all()  # fmt: skip
    y = x.astype(np.uint32)
    assert (apply("mov.b32 {{_, %h7}}, {0}; cvt.u32.u16 {d}, %h7", "u32", y) == y >> np.uint32(16)).all()


@pytest.mark.parametrize(
    "text",
    ["tanh.approx.f32 %f1, %f2", "add.ftz.f32 %f1, %f2, %f3", "add.rz.f32 %f1, %f2, %f3", "add.sat.s32 %r1, %r2, %r3",
     "mad.rn.f32 %f1, %f2, %f3, %f4", "cvt.rzi.s32.f32 %r1, %f1", "mul.s32 %r1, %r2, %r3", "mov.u32 %r1, %clock",
     "ld.local.u32 %r1, [%r2]", "shfl.bfly.b32 %r1, %r2, 1, 31", "add.s32 %r1, %d1, 1.5",
     "atom.global.add.f32 %f1, [%d1], %f2", "membar.gl", "add.cc.u32 %r1, %r2, %r3", "bar.sync 1",
     "setp.eq.s32 %r1, %r2, %r3"],
)  # fmt: skip
def test_what_is_not_known_is_an_error(text):
    with pytest.raises(PtxError):
        run(f"{text};", np.zeros(1))
    with pytest.raises(PtxError):  # also where it is never reached
        run(f"ret; {text};", np.zeros(1))


def test_registers_of_an_inner_scope_are_others():
    out = np.zeros(32, np.uint64)
    run("""mov.u32 %r1, 5; { .reg .b32 %r1; mov.u32 %r1, 6; } add.u64 %at, %a0, %o8; cvt.u64.u32 %d1, %r1;
        st.global.u64 [%at], %d1;""", out)  # fmt: skip
    assert (out == 5).all()
    assert module("", 0).target == "sm_90"
