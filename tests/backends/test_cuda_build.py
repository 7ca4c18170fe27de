# SPDX-License-Identifier: Apache-2.0
"""Every CUDA kernel compiles for every architecture that we promise, without a GPU and without spills; what is compiled
for which card and driver; the cache."""

import fcntl
import os
import re
import signal
import subprocess
import sys
import time
from ctypes import Array, Structure, sizeof

import pytest
from targets import skip_without

from smnoise import BackendError
from smnoise.backends import cuda, nvrtc, plan
from smnoise.backends.layout import THREADS

pytestmark = pytest.mark.slow

ARCHITECTURES = (75, 80, 86, 89, 90, 100, 120)


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


@pytest.mark.parametrize("kernel", nvrtc.KERNELS)
def test_a_kernel_is_compiled_alone(kernel):
    text = nvrtc.compile_sources(90, False, kernel)[0].decode()
    assert [line.split()[2].split("(")[0] for line in text.splitlines() if ".visible .entry" in line] == [
        kernel
    ]


def test_no_multiply_is_fused_with_an_add():
    """In the intermediate code, before the assembler: fused operations are spelt fma."""
    for architecture in (75, 90):
        ptx = nvrtc.compile_sources(architecture, False)[0].decode()
        assert "mul.rn.f32" in ptx or "mul.f32" in ptx
        assert "fma." not in ptx
        assert ".ftz" not in ptx
        assert ("redux.sync" in ptx) == (architecture >= 80)


# Structs of Python and C++, by name.
STRUCTS = {
    "smn_ranking": plan.Ranking,
    "smn_layout": plan.LayoutStruct,
    "smn_plan": plan.Plan,
    "smn_outputs": plan.Outputs,
    "smn_axis": plan.Axis,
    "smn_optim_blue": plan.OptimBlue,
    "smn_slots": plan.Slots,
    "smn_strategy": plan.Strategy,
    "smn_masks_call": plan.MasksCall,
    "smn_call": plan.Call,
    "smn_blue_call": plan.BlueCall,
    "smn_points": plan.Points,
    "smn_ragged": plan.Ragged,
}


def assertions(name: str, struct: type[Structure]) -> list[str]:
    """C++ that does not compile where a field lies elsewhere, has another size, or is not there."""
    lines = [f'static_assert(sizeof({name}) == {sizeof(struct)}, "size of {name}");']
    for field, kind, *_ in struct._fields_:
        place = getattr(struct, field)
        lines += [
            f'static_assert(__builtin_offsetof({name}, {field}) == {place.offset}, "{name}.{field}");',
            f'static_assert(sizeof((({name}*)0)->{field}) == {sizeof(kind)}, "size of {name}.{field}");',
        ]
        if issubclass(kind, Array):
            element = f"(({name}*)0)->{field}[0]"
            lines.append(f'static_assert(sizeof({element}) == {sizeof(kind._type_)}, "{name}.{field}[0]");')
    return lines


def compile_with(monkeypatch, added: list[str]) -> None:
    source = nvrtc.sources()[nvrtc.SOURCE] + "\n".join(["", *added, ""]).encode()
    texts = {**nvrtc.sources(), nvrtc.SOURCE: source}
    with monkeypatch.context() as patch:
        patch.setattr(nvrtc, "sources", lambda: texts)
        nvrtc.compile_sources(90, False, "philox")


def test_the_structs_of_python_are_those_of_cuda(monkeypatch):
    lines = [line for name, struct in STRUCTS.items() for line in assertions(name, struct)]
    lines.append(f"static_assert(sizeof(smn_slot) == {plan.SLOT.itemsize});")
    for field, (_, place) in plan.SLOT.fields.items():
        lines.append(f"static_assert(__builtin_offsetof(smn_slot, {field}) == {place});")
    assert len(lines) > 100
    compile_with(monkeypatch, lines)


def test_a_field_that_is_elsewhere_is_found_out(monkeypatch):
    class Moved(Structure):
        _fields_ = [plan.Ranking._fields_[i] for i in (1, 0, 2, 3, 4)]

    with pytest.raises(BackendError, match=r"smn_ranking\.(groups|tokens)"):
        compile_with(monkeypatch, assertions("smn_ranking", Moved))


def test_every_struct_that_a_launch_takes_is_compared():
    named = {s for module in (plan, cuda) for s in vars(module).values() if isinstance(s, type)}
    of_cpu = {plan.Gaussian, plan.Patches, plan.PatchLoss, plan.Held, Structure}
    assert {s for s in named if issubclass(s, Structure)} - of_cpu == set(STRUCTS.values())


@pytest.fixture
def machine(monkeypatch):
    """A machine of which the versions are said; nothing else is pretended."""

    def says(compiler, driver, supported=(75, 80, 86, 89, 90, 100, 120)):
        monkeypatch.setattr(nvrtc, "version", lambda: compiler)
        monkeypatch.setattr(nvrtc, "driver_version", lambda: driver)
        monkeypatch.setattr(nvrtc, "supported", lambda: supported)

    return says


@pytest.mark.parametrize(
    ("compiler", "driver", "architecture", "words"),
    [
        (
            (13, 0),
            (12, 8),
            90,
            r"NVRTC 13\.0.*driver, of CUDA 12\.8.*the extra cuda12 in the place of cuda, or update the driver",
        ),
        ((13, 0), (13, 0), 90, None),
        ((13, 5), (13, 0), 90, None),  # the same major version: machine code loads
        ((12, 9), (13, 0), 90, None),
        ((13, 5), (13, 5), 130, None),  # text, which the driver compiles on
        ((13, 5), (13, 0), 130, r"does not know sm_130.*13\.0.*update the driver"),
        ((13, 5), (13, 5), 70, r"makes code for sm_75 and later, this GPU is sm_70"),
        ((13, 5), None, 90, None),
    ],
)
def test_what_the_driver_does_not_load_is_said_before_it_is_tried(
    machine, compiler, driver, architecture, words
):
    machine(compiler, driver)
    found = nvrtc.why_not(architecture)
    assert (found is None) == (words is None), found
    assert words is None or re.search(words, found), found


def test_for_a_card_that_the_compiler_does_not_know_text_is_made(machine, monkeypatch, tmp_path):
    monkeypatch.setenv("SMNOISE_CACHE", str(tmp_path))
    monkeypatch.setattr(nvrtc, "precompiled", lambda architecture: None)
    assert nvrtc.target_of(90) == (90, True)
    (code,) = nvrtc.codes(90, "philox")
    assert code.startswith(b"\x7fELF")
    machine((13, 5), (13, 9))
    assert nvrtc.target_of(130) == (120, False)
    (text,) = nvrtc.codes(130, "philox")
    assert b".target sm_120" in text
    assert nvrtc.target_of(103) == (100, False)
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".cubin", ".lock", ".lock", ".ptx"]


def test_machine_code_of_a_wheel_goes_first_and_needs_no_compiler(machine, monkeypatch, tmp_path):
    monkeypatch.setenv("SMNOISE_CACHE", str(tmp_path))
    monkeypatch.setattr(nvrtc, "precompiled", lambda architecture: b"of the wheel")
    first, second = nvrtc.codes(90, "philox")  # the second for a driver that does not load the first
    assert first == b"of the wheel"
    assert second.startswith(b"\x7fELF")
    machine((13, 0), (12, 4))  # nothing that is compiled here would load
    assert list(nvrtc.codes(90, "philox")) == [b"of the wheel"]


def test_code_is_cached_by_source_and_kernel_and_damage_is_noticed(monkeypatch, tmp_path):
    monkeypatch.setenv("SMNOISE_CACHE", str(tmp_path))
    calls = []

    def compiled(architecture, machine_code, kernel):
        calls.append((architecture, kernel))
        return b"code %d" % architecture, ""

    monkeypatch.setattr(nvrtc, "compile_sources", compiled)
    assert nvrtc.cubin(90) == nvrtc.cubin(90) == b"code 90"
    assert nvrtc.cubin(80) == b"code 80"
    assert calls == [(90, None), (80, None)]
    for file in tmp_path.glob("*.cubin"):
        file.write_bytes(file.read_bytes()[:-1])
    assert nvrtc.cubin(90) == b"code 90"
    assert nvrtc.cubin(90, "sigmas") == nvrtc.cubin(90, "sigmas") == b"code 90"
    assert calls[2:] == [(90, None), (90, "sigmas")]
    with monkeypatch.context() as patch:
        patch.setattr(nvrtc, "sources", lambda: {"kernels.cu": b"other"})
        nvrtc.cubin(90)
    assert calls[4:] == [(90, None)]


def test_of_several_processes_one_compiles_and_the_others_wait(tmp_path):
    """Each process notes that it compiles; it is a real compilation, of the smallest kernel."""
    code = (
        "import os, pathlib, sys\n"
        "from smnoise.backends import nvrtc\n"
        "folder, real = pathlib.Path(sys.argv[1]), nvrtc.compile_sources\n"
        "def noted(*target):\n"
        "    (folder / f'compiled by {os.getpid()}').touch()\n"
        "    return real(*target)\n"
        "nvrtc.compile_sources = noted\n"
        "sys.stdin.readline()\n"
        "assert nvrtc.cubin(90, 'sigmas').startswith(b'\\x7fELF')\n"
        "print('done')\n"
    )
    environment = {**os.environ, "SMNOISE_CACHE": str(tmp_path / "cache")}
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], env=environment, text=True,
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(3)
    ]  # fmt: skip
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    assert [process.communicate(timeout=300)[0] for process in processes] == ["done\n"] * 3
    assert len(list(tmp_path.glob("compiled by *"))) == 1


def test_a_process_forked_while_another_thread_compiles_holds_nobody_up(tmp_path):
    """Such as a loader's worker, which may live for days."""
    path = tmp_path / "kernel.lock"
    with nvrtc._alone(path):
        child = os.fork()
        if not child:
            time.sleep(600)
            os._exit(0)
    try:
        with path.open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_cache_that_cannot_be_written_is_no_error(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SMNOISE_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(nvrtc, "compile_sources", lambda *target: (b"code", ""))
    assert nvrtc.cubin(90) == b"code"


def test_a_source_that_does_not_compile_says_where(monkeypatch):
    broken = {**nvrtc.sources(), "contract.h": b"this is no C++"}
    monkeypatch.setattr(nvrtc, "sources", lambda: broken)
    with pytest.raises(BackendError, match=r"(?s)sm_90.*contract\.h"):
        nvrtc.compile_sources(90)
