# SPDX-License-Identifier: Apache-2.0
"""bench/instructions.py: the same counts each time, what arithmetic asks, and none for a wrong answer."""

from collections import Counter

import pytest
from targets import skip_without

from bench import machine_code
from smnoise.backends import nvrtc

WORDS = 1568


@pytest.fixture
def instructions(pytestconfig, one_thread):
    skip_without(pytestconfig, "nvrtc", nvrtc.why_not())
    from bench import instructions

    instructions._ran.cache_clear()
    return instructions


def test_counts_are_reproducible(instructions):
    first = instructions.measure("random words", 90)
    instructions._ran.cache_clear()
    assert instructions.measure("random words", 90) == first
    row = first["random_words"]
    calls = WORDS / 4 / 32  # of Philox, by warps: ten rounds of two products each
    assert row["classes"]["mul.lo.64"] + row["classes"]["mul.wide.32"] >= 20 * calls
    assert row["classes"]["st.global"] == 4 * calls
    assert row["lanes active"] == 1.0
    assert row["shared requests"] == 0


def test_a_wrong_answer_is_not_counted(instructions, monkeypatch):
    case = instructions.cases()["random words"]
    wrong = case._replace(
        run=lambda backend: {k: v + (backend is instructions.reference) for k, v in case.run(backend).items()}
    )
    monkeypatch.setattr(instructions, "cases", lambda: {"random words": wrong})
    with pytest.raises(instructions.WrongBitsError, match="random words"):
        instructions.measure("random words", 90)


def test_every_kernel_that_makes_masks_is_written_down(instructions):
    import json

    written = json.loads(instructions.JSON.read_text())
    assert written["cases"].keys() == instructions.cases().keys()
    table = instructions.TABLE.read_text()
    assert table == instructions.table(written)
    alone = {"philox", "sigmas", *(k for k in nvrtc.KERNELS if k.startswith("optim_blue_"))}
    rare = {"color_torus_one"}  # not counted: no preset has a colour with one sigma that wraps
    assert {kernel for kernel in nvrtc.KERNELS if f"| {kernel} |" not in table} - alone == rare


def test_the_assembler_keeps_every_float_operation(instructions):
    if (reason := machine_code.why_not()) is not None:
        pytest.skip(f"machine code {reason}")
    row = instructions.measure("gaussian", 90)["gaussian"]
    floats = sum(row["classes"].get(name, 0) for name in ("add.f32", "mul.f32", "sub.f32"))
    assert row["pipes"]["fma"] == pytest.approx(floats, rel=0.01)
    assert not [p for p in row["pipes"] if p.startswith("unknown")]


LISTING = """
.text.k:
        //## File "k.ptx", line 1
        //## File ".nv_debug_ptx_txt", line 5
        /*0000*/                   LDS R1, [R2] ;
        //## File ".nv_debug_ptx_txt", line 6
        /*0010*/                   IADD3 R1, R1, 0x1, RZ ;
        /*0020*/              @!P0 BRA `(.L_x_1) ;
.L_x_0:
        //## File ".nv_debug_ptx_txt", line 7
        /*0030*/                   FADD R1, R1, R2 ;
        /*0040*/                   FADD R3, R3, R2 ;
        /*0050*/                   UIADD3 UR4, UR4, 0x1, URZ ;
.L_x_1:
        //## File ".nv_debug_ptx_txt", line 8
        /*0060*/                   EXIT ;
"""


def test_machine_code_runs_as_often_as_its_lines():
    blocks = machine_code.parsed(LISTING)
    assert [[op for op, _ in block] for block in blocks] == [
        ["LDS", "IADD3", "BRA"], ["FADD", "FADD", "UIADD3"], ["EXIT"]
    ]  # fmt: skip
    runs = {5: 3, 6: 3, 7: 10, 8: 3}
    ops = machine_code.executed(blocks, runs, {5: "ld.shared", 6: "int32", 7: "add.f32", 8: "branch"})
    # the two copies of line 7 share its ten executions
    assert ops == Counter(FADD=10, LDS=3, IADD3=3, BRA=3, UIADD3=5, EXIT=3)
    by_pipe = machine_code.pipes(ops)
    assert by_pipe == Counter(fma=10, uniform=5, shared=3, alu=3, branch=6)
    cycles = machine_code.cycles(by_pipe, 80)
    assert (cycles["issue"], cycles["fma"], cycles["alu"]) == (27 / 4, 5, 1.5)


def test_an_opcode_that_is_not_known_is_named():
    assert machine_code.pipe("XYZ.E") == "unknown: XYZ"
