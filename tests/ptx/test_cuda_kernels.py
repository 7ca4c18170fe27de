# SPDX-License-Identifier: Apache-2.0
"""csrc/kernels.cu as NVRTC compiles it, launched by backends/cuda.py, on a CPU: the reference's bits, and no fault."""

import itertools

import pytest
import torch
from targets import skip_without

from smnoise import conformance
from smnoise.backends import cuda, nvrtc, reference
from smnoise.spec import ColorSpec

from . import clip_workloads, length_workloads, point_workloads, run, workloads
from .counts import Counts
from .device import Device
from .random_workloads import RANDOM, random_case
from .stand_in import cuda_backend, module_of, restrict
from .unreachable import unreachable

pytestmark = pytest.mark.slow

GROUPS = workloads.GROUPS | length_workloads.GROUPS | clip_workloads.GROUPS | point_workloads.GROUPS

# Of a group, until each block is reached that any launch can reach.
LEAST_RANDOM_CASES, MOST_RANDOM_CASES = 30, 200
# Of the blocks that no proof puts out of reach (unreachable.py): by all cases, and by those of `make test`, which leave
# out more of what the compiler unrolls for compute_100 (83 % of strategy_mask run; 90 % for compute_90).
LEAST_SHARE, LEAST_SHARE_OF_A_PART = 0.9, 0.8


@pytest.fixture(autouse=True)
def needs_nvrtc(pytestconfig, one_thread):
    skip_without(pytestconfig, "nvrtc", nvrtc.why_not())
    if pytestconfig.getoption("--gpu-code") == "barriers":
        pytest.skip("barriers alone are tested")


@pytest.fixture
def whole(pytestconfig) -> bool:
    return pytestconfig.getoption("--gpu-code") == "all"


@pytest.fixture(params=(90, 100))
def architecture(request) -> int:
    """compute_80's text is compute_90's (test_compute_80_and_90_have_the_same_text): to run it too adds nothing."""
    return request.param


class Coverage:
    """Blocks of a group's kernels that ran, and those that cannot."""

    def __init__(self, architecture: int, wanted: tuple[str, ...]):
        self.kernels = {n: module_of(nvrtc.ptx(architecture, n)).kernels[n] for n in wanted}
        self.dead = {name: unreachable(kernel) for name, kernel in self.kernels.items()}
        self.counts, self.cases, self.random = Counts(), 0, 0

    def add(self, case: workloads.Case, architecture: int) -> list[str]:
        """What is wrong."""
        device = Device(hostile=case.hostile)
        device.counts = self.counts
        with pytest.MonkeyPatch.context() as patch:
            cuda_backend(patch, device, architecture)
            restrict(patch, case.shared, case.workspace, case.threads)
            got = case.run(cuda)
        self.cases += 1
        other = [n for n, k in device.kernels.items() if self.kernels.get(n, k) is not k]
        assert not other, f"other code ran than what is counted: {other}"
        return run.wrong(case.name, got, case.run(reference), device)

    def found(self, name: str) -> run.Reached:
        return run.reached_of(self.counts, self.kernels[name], self.dead[name])

    def complete(self) -> bool:
        return all(not self.found(name).missed for name in self.kernels)


@pytest.mark.parametrize("group", GROUPS)
def test_the_reference_s_bits_and_no_fault(architecture, group, whole, capsys):
    """In the whole, random cases go on until every block ran that is not proved to be out of reach (unreachable.py), or
    there were MOST_RANDOM_CASES; blocks that are left are printed."""
    cases, wanted = GROUPS[group]
    coverage, said = Coverage(architecture, wanted), []
    for case in cases(not whole):
        said += coverage.add(case, architecture)
    chosen = coverage.cases
    while whole and group in RANDOM and coverage.random < MOST_RANDOM_CASES:
        # A few for their own sake, more for what is not reached yet.
        if coverage.random >= LEAST_RANDOM_CASES and coverage.complete():
            break
        said += coverage.add(random_case(group, coverage.random), architecture)
        coverage.random += 1
    with capsys.disabled():
        print(f"\ncompute_{architecture}, {group}: {chosen} cases and {coverage.random} random ones")
        for name in wanted:
            print(
                "\n    ".join(
                    [f"  {name}: {coverage.found(name)}", *(coverage.found(name).missed if whole else ())]
                )
            )
    assert not said, "\n".join(said)
    for name in wanted:
        reached = coverage.found(name)
        assert not reached.wrongly_dead, f"{name}: what cannot be reached was: {reached.wrongly_dead}"
        assert reached.share >= (LEAST_SHARE if whole else LEAST_SHARE_OF_A_PART), "\n".join(reached.missed)
        kernel = coverage.kernels[name]
        assert not kernel.code.loose, f"an assembler might fuse {kernel.code.loose[0].text}"


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
    assert sorted(itertools.chain(*(names for _, names in GROUPS.values()))) == sorted(nvrtc.KERNELS)
