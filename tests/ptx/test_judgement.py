# SPDX-License-Identifier: Apache-2.0
"""Collectives, and what is a fault: tiny kernels that race and that do not, that miss barriers, that read too far."""

import numpy as np
import pytest

from .small_kernels import module, run
from .text import PtxError

# Shared memory at 4 * thread, and at 4 * (thread ^ 1) and 4 * (thread ^ 32).
PLACES = """mov.u32 %r20, memory; shl.b32 %r21, %t, 2; add.u32 %r21, %r21, %r20; xor.b32 %r22, %r21, 4;
    xor.b32 %r23, %r21, 128; """


def out(n: int = 64) -> np.ndarray:
    return np.zeros(n, np.uint64)


def kinds(body: str, threads: int = 64, **how) -> list[str]:
    return sorted(
        {f.kind for f in run(PLACES + body, out(threads), threads=threads, shared=4 * threads, **how).faults}
    )


@pytest.mark.parametrize("hostile", [None, 1, 2])
def test_a_barrier_orders_a_block(hostile):
    store, load = "st.shared.u32 [%r21], %t; ", "ld.shared.u32 %r1, [%r23]; "
    assert kinds(store + "bar.sync 0; " + load, hostile=hostile) == []
    assert "race: read after write" in kinds(store + load + "bar.sync 0; " + load) or hostile is not None
    assert kinds(store + "bar.sync 0; " + load + "st.shared.u32 [%r21], 7;") == ["race: write after read"]
    assert (
        kinds(store + "bar.sync 0; " + load + "bar.sync 0; st.shared.u32 [%r21], 7;", hostile=hostile) == []
    )
    assert kinds(store + "st.shared.u32 [%r23], %t;") == ["race: write after write"]
    assert kinds(store + "bar.sync 0; st.shared.u32 [%r23], %t;", hostile=hostile) == []
    assert kinds("st.shared.u32 [memory], %t;") == ["race: write after write"]  # in one instruction


def test_a_race_within_a_warp_is_ended_by_its_own_barrier():
    store, load = "st.shared.u32 [%r21], %t; ", "ld.shared.u32 %r1, [%r22]; "
    assert kinds(store + load) == ["race: read after write"]
    assert kinds(store + "bar.warp.sync -1; " + load) == []
    assert kinds(store + "shfl.sync.idx.b32 %r2, %t, 0, 31, -1; " + load) == ["race: read after write"]
    across = "ld.shared.u32 %r1, [%r23]; "
    assert kinds(store + "bar.warp.sync -1; " + across) == ["race: read after write"]  # another warp's


def test_several_lanes_that_read_are_ordered_by_their_warp_s_barrier_too():
    start = "setp.eq.u32 %p1, %t, 0; @%p1 st.shared.u32 [memory], 0; bar.sync 0; "
    load, add = (
        "ld.shared.u32 %r1, [memory]; ",
        "@%p1 ld.shared.u32 %r2, [memory]; @%p1 st.shared.u32 [memory], %t;",
    )
    assert kinds(start + load + add, threads=32) == ["race: write after read"]
    assert kinds(start + load + "bar.warp.sync -1; " + add, threads=32) == []
    assert kinds(start + load + "bar.warp.sync -1; " + load + add, threads=32) == ["race: write after read"]
    # readers of another warp
    assert kinds(start + load + "bar.warp.sync -1; " + add, threads=64) == ["race: write after read"]
    one = "setp.eq.u32 %p2, %t, 40; @%p2 ld.shared.u32 %r1, [memory]; "
    assert kinds(start + one + "bar.warp.sync -1; " + add, threads=64) == ["race: write after read"]


def test_equal_values_are_a_note_and_atomics_do_not_race():
    device = run("st.shared.u32 [memory], 7;", threads=64, shared=16)
    assert not device.faults
    assert [n.kind for n in device.notes] == ["note: equal values written at once"]
    start = "setp.eq.u32 %p1, %t, 0; @%p1 st.shared.u32 [memory], 0; bar.sync 0; "
    add = "atom.shared.add.u32 %r1, [memory], 1; "
    device = run(start + add, threads=64, shared=16)
    assert not device.faults
    assert not device.notes
    assert kinds(start + add + "ld.shared.u32 %r2, [memory];") == ["race: read after write"]
    assert kinds(start + add + "bar.sync 0; ld.shared.u32 %r2, [memory];") == []
    assert kinds(add)[0] == "read of memory that nobody wrote"


def test_parts_of_a_word_do_not_race_with_each_other():
    byte = "add.u32 %r1, %t, %r20; st.shared.u8 [%r1], %t; "
    assert kinds(byte) == []
    assert kinds(byte + "ld.shared.u8 %r2, [%r1];") == []
    assert kinds(byte + "bar.sync 0; ld.shared.u32 %r2, [memory]; st.shared.u8 [%r1], 1;") == [
        "race: write after read"
    ]


def test_blocks_are_ordered_by_nothing():
    body = "setp.eq.u32 %p1, %t, 0; @%p1 st.global.u32 [%a0], %r1; bar.sync 0; ld.global.u32 %r2, [%a0];"
    number = "mov.u32 %r1, %ctaid.x; "
    assert not run(number + body, out()).faults
    found = {f.kind for f in run(number + body, out(), blocks=2).faults}
    assert found == {"race: read after write", "race: write after write", "race: write after read"} & found
    assert "race: write after write" in found
    assert run(number + body, out(), blocks=40, threads=64).faults  # of which some run behind the others


def test_bounds_alignment_and_what_nobody_wrote():
    assert kinds("st.shared.u32 [%r21+4], %t;") == ["out of bounds"]
    assert kinds("ld.shared.u32 %r1, [memory+-4];") == ["out of bounds"]
    assert kinds("st.shared.u32 [memory+2], 1;") == ["misaligned"]
    assert kinds("st.shared.v2.u32 [memory+4], {1, 2};") == ["misaligned"]
    assert kinds("ld.shared.u32 %r1, [%r21];") == ["read of memory that nobody wrote"]
    assert kinds("st.shared.u8 [%r21], 1; ld.shared.u32 %r1, [%r21];") == ["read of memory that nobody wrote"]
    assert {f.kind for f in run("ld.global.u64 %d1, [%a0+512];", out()).faults} == {"out of bounds"}
    # Of a vector, what nothing reads is no read, but for its bounds; what is read is one.
    half = "st.shared.u32 [memory+8], 1; bar.sync 0; ld.shared.v2.u32 {%r1, %r3}, [memory+8];"
    assert not kinds(half + "add.u32 %r2, %r1, 1;", threads=32)
    assert kinds(half + "add.u32 %r2, %r3, 1;", threads=32) == ["read of memory that nobody wrote"]
    assert kinds("ld.shared.v2.u32 {%r1, %r3}, [memory+-8];") == ["out of bounds"]
    assert {f.kind for f in run("ld.global.u64 %d1, [%a0+505];", out()).faults} == {
        "out of bounds",
        "misaligned",
    }
    assert {f.kind for f in run("mov.u64 %d1, 64; st.global.u64 [%d1], 1;", out()).faults} == {
        "out of bounds"
    }
    with pytest.raises(PtxError, match="parameter read"):
        run("ld.param.u64 %d1, [k_param_0+8];", out())


def test_what_a_block_leaves_in_shared_memory_is_not_the_next_one_s():
    body = "mov.u32 %r1, %ctaid.x; setp.eq.u32 %p1, %r1, 0; @%p1 st.shared.u32 [%r21], 1; ld.shared.u32 %r2, [%r21];"
    assert kinds(body, blocks=2) == ["read of memory that nobody wrote"]


def test_missed_barriers_and_deadlocks():
    assert kinds("setp.lt.u32 %p1, %t, 40; @%p1 bra END; bar.sync 0; END: ") == ["barrier missed"]
    assert kinds("setp.lt.u32 %p1, %t, 32; @%p1 bra A; bar.sync 0; bra END; A: bar.sync 0; END: ") == [
        "barrier missed"
    ]
    assert kinds(
        "setp.lt.u32 %p1, %t, 40; @%p1 bra END; shfl.sync.idx.b32 %r1, %t, 0, 31, -1; END: bar.sync 0;"
    ) == ["deadlock"]
    assert kinds("A: bra A;", budget=1000) == ["endless"]
    # Lanes that have ended are not waited for; lanes that are named and come later are.
    assert kinds("setp.lt.u32 %p1, %t, 40; @%p1 ret; vote.sync.any.pred %p2, %p1, -1;") == []
    assert (
        kinds("setp.lt.u32 %p1, %t, 40; @%p1 bra A; add.u32 %r1, %t, 1; A: bar.warp.sync -1;", hostile=3)
        == []
    )


def lanes(body: str, **how) -> list[int]:
    """%r1 of each thread of a warp."""
    result = out(32)
    device = run(
        body + "add.u64 %at, %a0, %o8; cvt.u64.u32 %d1, %r1; st.global.u64 [%at], %d1;", result, **how
    )
    assert not device.faults, device.faults
    return result.tolist()


def test_shuffles():
    t = range(32)
    assert lanes("shfl.sync.bfly.b32 %r1, %t, 5, 31, -1;") == [i ^ 5 for i in t]
    assert lanes("shfl.sync.up.b32 %r1, %t, 3, 0, -1;") == [max(i - 3, i if i < 3 else 0) for i in t]
    assert lanes("shfl.sync.down.b32 %r1, %t, 3, 31, -1;") == [i + 3 if i + 3 < 32 else i for i in t]
    assert lanes("shfl.sync.idx.b32 %r1|%p1, %t, 9, 31, -1;") == [9] * 32
    assert lanes("shfl.sync.up.b32 %r2|%p1, %t, 3, 0, -1; selp.u32 %r1, 1, 0, %p1;") == [
        int(i >= 3) for i in t
    ]
    # Segments of eight lanes.
    assert lanes("shfl.sync.down.b32 %r1, %t, 2, 6175, -1;") == [i + 2 if i % 8 < 6 else i for i in t]
    assert lanes("shfl.sync.idx.b32 %r1, %t, 1, 6175, -1;") == [i - i % 8 + 1 for i in t]
    device = run(
        "setp.lt.u32 %p1, %t, 16; @!%p1 bra END; shfl.sync.bfly.b32 %r1, %t, 16, 31, 65535; END: ", out()
    )
    assert [f.kind for f in device.faults] == ["shuffle from a lane that takes no part"]


@pytest.mark.parametrize("hostile", [None, 5])
def test_votes_and_reductions_of_some_lanes(hostile):
    low = "mov.u32 %r1, 99; setp.lt.u32 %p1, %t, 16; @!%p1 bra END; and.b32 %r3, %t, 1; setp.eq.u32 %p2, %r3, 0; "

    def some(body):
        return lanes(low + body + " END: ", hostile=hostile)

    assert some("vote.sync.ballot.b32 %r1, %p2, 65535;") == [0x5555] * 16 + [99] * 16
    assert some("vote.sync.all.pred %p3, %p1, 65535; selp.u32 %r1, 1, 0, %p3;")[0] == 1
    assert some("vote.sync.all.pred %p3, %p2, 65535; selp.u32 %r1, 1, 0, %p3;")[0] == 0
    assert some("vote.sync.any.pred %p3, %p2, 65535; selp.u32 %r1, 1, 0, %p3;")[0] == 1
    assert some("vote.sync.uni.pred %p3, %p2, 65535; selp.u32 %r1, 1, 0, %p3;")[0] == 0
    assert some("vote.sync.uni.pred %p3, !%p1, 65535; selp.u32 %r1, 1, 0, %p3;")[0] == 1
    assert some("redux.sync.add.s32 %r1, %t, 65535;") == [120] * 16 + [99] * 16
    assert some("sub.s32 %r2, %t, 3; redux.sync.min.s32 %r1, %r2, 65535;")[0] == 2**32 - 3
    assert some("sub.s32 %r2, %t, 3; redux.sync.min.u32 %r1, %r2, 65535;")[0] == 0
    assert some("sub.s32 %r2, %t, 3; redux.sync.max.s32 %r1, %r2, 65535;")[0] == 12
    assert some("sub.s32 %r2, %t, 3; redux.sync.max.u32 %r1, %r2, 65535;")[0] == 2**32 - 1
    assert some("or.b32 %r2, %t, 32; redux.sync.and.b32 %r1, %r2, 65535;")[0] == 32
    assert some("redux.sync.or.b32 %r1, %t, 65535;")[0] == 15
    assert some("redux.sync.xor.b32 %r1, %t, 65535;")[0] == 0


def test_matrices_are_stored_and_loaded():
    """Lane l holds words of row l / 4, at l % 4; rows lie where lanes say."""
    start = PLACES + "shl.b32 %r2, %t, 4; add.u32 %r2, %r2, %r20; add.u32 %r4, %t, 100; "
    store = "stmatrix.sync.aligned.m8n8.x2.shared.b16 [%r2], {%t, %r4}; bar.sync 0; "
    assert lanes(start + store + "ld.shared.u32 %r1, [%r21];", shared=512) == list(range(32))
    assert lanes(start + store + "ld.shared.u32 %r1, [%r21+128];", shared=512) == list(range(100, 132))
    back = "ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%r9, %r1}, [%r2];"
    assert lanes(start + store + back, shared=512) == list(range(100, 132))


def test_atomics_find_what_was_there():
    start = "setp.eq.u32 %p1, %t, 0; @%p1 st.shared.u32 [memory], 5; bar.sync 0; "

    def after(op):
        both = lanes(start + op + "bar.sync 0; ld.shared.u32 %r1, [memory];", shared=16)
        return both[0]

    assert sorted(lanes(start + "atom.shared.add.u32 %r1, [memory], 2;", shared=16)) == [
        5 + 2 * i for i in range(32)
    ]
    found = lanes(start + "atom.shared.add.u32 %r1, [memory], 2;", shared=16, hostile=1)
    assert sorted(found) == [5 + 2 * i for i in range(32)] != found
    assert after("atom.shared.max.u32 %r2, [memory], %t; ") == 31
    assert after("atom.shared.min.s32 %r2, [memory], -3; ") == 2**32 - 3
    assert after("atom.shared.or.b32 %r2, [memory], 8; ") == 13
    assert after("atom.shared.and.b32 %r2, [memory], 4; ") == 4
    assert after("atom.shared.xor.b32 %r2, [memory], %t; ") == 5
    assert after("atom.shared.exch.b32 %r2, [memory], 77; ") == 77
    assert (
        after("atom.shared.cas.b32 %r2, [memory], 5, %t; ") == 0
    )  # lane 0 comes first, and the others find its 0
    assert after("red.shared.add.u32 [memory], 1; ") == 37


def test_generic_addresses_reach_shared_and_global_memory():
    body = """cvta.shared.u64 %d3, %d4; add.u64 %d3, %d3, %o8; setp.lt.u32 %p1, %t, 16; add.u64 %at, %a0, %o8;
        selp.b64 %d5, %d3, %at, %p1; st.u64 [%d5], %o8; bar.sync 0; ld.u64 %d6, [%d5]; @%p1 st.global.u64 [%at], %d6;"""
    result = out(32)
    assert not run("mov.u64 %d4, memory; " + body, result, shared=256).faults
    assert result.tolist() == [8 * i for i in range(32)]


def test_counts_of_instructions_banks_and_sectors():
    body = (
        PLACES
        + """setp.lt.u32 %p1, %t, 8; @%p1 bra END; st.shared.u32 [%r21], 1; shl.b32 %r1, %t, 7;
        add.u32 %r1, %r1, %r20; st.shared.u32 [%r1], 1; END: add.u64 %at, %a0, %o8; st.global.u64 [%at], %o8;"""
    )
    result = out(64)
    device = run(body, result, threads=64, shared=8192, count=True)
    kernel = device.kernels["k"]
    rows = {ins.text: (warps, threads) for ins, warps, threads in device.counts.instructions(kernel)}
    assert rows["st.shared.u32 [%r21], 1"] == (2, 56)
    assert rows["st.global.u64 [%at], %o8"] == (2, 64)
    numbers = {kernel.instructions[i].text: (device.counts.requests["k", i], device.counts.wavefronts["k", i])
               for i in range(len(kernel.instructions)) if device.counts.requests["k", i]}  # fmt: skip
    assert numbers == {"st.shared.u32 [%r21], 1": (2, 2), "st.shared.u32 [%r1], 1": (2, 24 + 32)}
    assert sum(device.counts.accesses.values()) == 2
    assert (
        sum(device.counts.sectors.values()) == 2 * 8
    )  # of 32 bytes from the tensor's begin, wherever that lies
    assert device.counts.classes(kernel)["st.shared"] == 4
    assert device.counts.barriers(kernel) == 0


def test_the_kernel_is_parsed_as_it_is_written():
    kernel = module("bar.sync 0; A: @%p1 bra A; vote.sync.any.pred %p2, %p1, -1;", 1).kernels["k"]
    assert [b.end for b in kernel.blocks] == ["bar", "bra", "warp", "ret"]
    assert kernel.parameter_sizes == [(0, 8)]
