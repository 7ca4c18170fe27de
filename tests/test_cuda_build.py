# SPDX-License-Identifier: Apache-2.0
"""Every CUDA kernel compiles for every architecture that we promise, without a GPU, and without spills."""

import pytest
from conftest import skip_without

from smnoise import BackendError
from smnoise.backends import nvrtc
from smnoise.backends.layout import THREADS

ARCHITECTURES = (80, 90, 100)


@pytest.fixture(autouse=True)
def needs_nvrtc(pytestconfig):
    skip_without(pytestconfig, "nvrtc", nvrtc.why_not())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_kernel_compiles_without_spills(architecture):
    code, log = nvrtc.compile_sources(architecture)
    assert code.startswith(b"\x7fELF")
    usage = nvrtc.usage(log)
    assert {u.kernel for u in usage} == set(nvrtc.KERNELS)
    for u in usage:
        assert (u.stack, u.spill_stores, u.spill_loads) == (0, 0, 0), u
        assert u.registers * THREADS * 2 <= 65536, f"fewer than two blocks fit an SM: {u}"


def test_no_multiply_is_fused_with_an_add():
    """In the intermediate code, before the assembler: fused operations are spelt fma."""
    from cupy.cuda import nvrtc as compiler

    texts = nvrtc.sources()
    headers = [texts[h] for h in nvrtc.HEADERS], [h.encode() for h in nvrtc.HEADERS]
    program = compiler.createProgram(texts[nvrtc.SOURCE].decode(), nvrtc.SOURCE, *headers)
    options = [o for o in nvrtc.OPTIONS if "ptxas" not in o]
    compiler.compileProgram(program, [*options, "-arch=compute_90"])
    ptx = compiler.getPTX(program).decode()
    compiler.destroyProgram(program)
    assert "mul.rn.f32" in ptx or "mul.f32" in ptx
    assert "fma." not in ptx
    assert ".ftz" not in ptx


def test_code_is_cached_by_source_and_damage_is_noticed(monkeypatch, tmp_path):
    monkeypatch.setenv("SMNOISE_CACHE", str(tmp_path))
    calls = []

    def compiled(architecture):
        calls.append(architecture)
        return b"code %d" % architecture, ""

    monkeypatch.setattr(nvrtc, "compile_sources", compiled)
    assert nvrtc.cubin(90) == nvrtc.cubin(90) == b"code 90"
    assert nvrtc.cubin(80) == b"code 80"
    assert calls == [90, 80]
    for file in tmp_path.iterdir():
        file.write_bytes(file.read_bytes()[:-1])
    assert nvrtc.cubin(90) == b"code 90"
    assert calls == [90, 80, 90]
    with monkeypatch.context() as patch:
        patch.setattr(nvrtc, "sources", lambda: {"kernels.cu": b"other"})
        nvrtc.cubin(90)
    assert calls == [90, 80, 90, 90]


def test_a_cache_that_cannot_be_written_is_no_error(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SMNOISE_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(nvrtc, "compile_sources", lambda architecture: (b"code", ""))
    assert nvrtc.cubin(90) == b"code"


def test_a_source_that_does_not_compile_says_where(monkeypatch):
    broken = {**nvrtc.sources(), "contract.h": b"this is no C++"}
    monkeypatch.setattr(nvrtc, "sources", lambda: broken)
    with pytest.raises(BackendError, match=r"(?s)sm_90.*contract\.h"):
        nvrtc.compile_sources(90)
