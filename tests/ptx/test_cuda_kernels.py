# SPDX-License-Identifier: Apache-2.0
"""csrc/kernels.cu as NVRTC compiles it, launched by backends/cuda.py, on a CPU: the reference's bits, and no fault."""

import itertools

import pytest
import torch
from conftest import skip_without

from smnoise import conformance
from smnoise.backends import cuda, nvrtc, reference
from smnoise.spec import ColorSpec

from . import random_workloads, run, workloads
from .counts import Counts
from .device import Device
from .stand_in import cuda_backend, module_of, restrict

RANDOM_CASES = 30
# What no case reaches, of any kernel: the ends of loops that the compiler unrolled over the warps of a block (there are
# eight, or four), second steps of loops over more tokens than a small grid has, divisions of numbers above 2^32. Of
# color_*_one: all that reads a second bank of sigmas, which backends/cuda.py never gives these kernels.
LEAST_SHARE, LEAST_SHARE_OF_COLORS = 0.9, 0.85
LEAST_SHARE_OF_A_PART = 0.75


@pytest.fixture(autouse=True)
def needs_nvrtc(pytestconfig, one_thread):
    skip_without(pytestconfig, "nvrtc", nvrtc.why_not())
    if pytestconfig.getoption("--gpu-code") == "barriers":
        pytest.skip("barriers alone are tested")


@pytest.fixture
def whole(pytestconfig) -> bool:
    return pytestconfig.getoption("--gpu-code") == "all"


@pytest.fixture(params=(80, 90, 100))
def architecture(request, whole) -> int:
    if request.param == 80 and not whole:
        pytest.skip("the text of compute_80 is compute_90's: --gpu-code=all runs it too")
    return request.param


@pytest.mark.parametrize("group", workloads.GROUPS)
def test_the_reference_s_bits_and_no_fault(architecture, group, whole, capsys):
    cases, wanted = workloads.GROUPS[group]
    counts, kernels, said = Counts(), {}, []
    more = (
        random_workloads.random_case(group, i)
        for i in range(RANDOM_CASES if whole and group in random_workloads.RANDOM else 0)
    )
    number = 0
    for case in itertools.chain(cases(not whole), more):
        device = Device(hostile=case.hostile)
        device.counts = counts
        with pytest.MonkeyPatch.context() as patch:
            cuda_backend(patch, device, architecture)
            restrict(patch, case.shared, case.workspace)
            got = case.run(cuda)
        said += run.wrong(case.name, got, case.run(reference), device)
        kernels |= device.kernels
        number += 1
    found = run.reached(counts, kernels.values())
    with capsys.disabled():
        print(f"\ncompute_{architecture}, {group}: {number} cases")
        for name in wanted:
            print(f"  {name}: {found[name]}")
    assert not said, "\n".join(said)
    least = (LEAST_SHARE_OF_COLORS if group == "colors" else LEAST_SHARE) if whole else LEAST_SHARE_OF_A_PART
    for name in wanted:
        assert found[name].share >= least, "\n".join([f"{name}: {found[name]}", *found[name].missed])
        assert not kernels[name].code.loose, f"an assembler might fuse {kernels[name].code.loose[0].text}"


def test_a_field_where_a_block_has_more_threads(monkeypatch):
    """On sm_89, whose multiprocessors have memory for one block of a field."""
    device = Device()
    cuda_backend(monkeypatch, device, 89)
    run_it = workloads.mask_of("color_mask", workloads.GREEN, 3, samples=workloads.samples_of(7))
    assert not run.wrong("green", run_it(cuda), run_it(reference), device)
    (kernel,) = device.kernels
    assert (kernel, device.counts.warps[kernel, 0]) == ("clip_window_two", 16)


def test_samplers_that_differ_in_no_table_share_them(monkeypatch):
    """What is uploaded stays for good: windows that move through a field would fill the memory."""
    import cupy.cuda

    device = Device()
    cuda_backend(monkeypatch, device, 90)
    seed, samples, made = torch.tensor(1), torch.tensor([3]), []
    for t in range(3):
        spec = ColorSpec("red", (1, 3, 4), 5, origin=(t, 0, 0))
        masks = [backend.color_mask(seed, samples, spec, ("mask",))["mask"] for backend in (cuda, reference)]
        assert torch.equal(*masks)
        made.append(len(cupy.cuda.runtime.made))
    assert made[0] == made[-1] == 2  # weights and their radii
    assert not device.faults, device.faults


def test_known_answers(architecture, whole, monkeypatch):
    """Of the contract and its extensions, through smnoise.ops."""
    known = conformance.shipped()
    if not whole:  # masks of 64 x 8 take long; test_the_reference_s_bits_and_no_fault has one
        known["optim_blue"] = [e for e in known["optim_blue"] if e["grid"] == [7, 9]]
    device = Device()
    cuda_backend(monkeypatch, device, architecture)
    for result in conformance.run(known, "cuda"):
        assert result.passed, result
    assert not device.faults, device.faults


@pytest.mark.parametrize("name", nvrtc.KERNELS)
def test_compute_80_and_90_have_the_same_text(name):
    """So that a part of the tests may leave one out."""
    old, new = (module_of(nvrtc.ptx(a, name)) for a in (80, 90))
    assert (old.target, new.target) == ("sm_80", "sm_90")
    assert [i.text for i in old.kernels[name].instructions] == [
        i.text for i in new.kernels[name].instructions
    ]


def test_every_kernel_belongs_to_a_group():
    assert sorted(itertools.chain(*(names for _, names in workloads.GROUPS.values()))) == sorted(
        nvrtc.KERNELS
    )
