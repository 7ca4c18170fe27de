# SPDX-License-Identifier: Apache-2.0
"""Each barrier of the CUDA kernels, taken out by itself, is noticed: the race detector sees, and but for a few that
are known no barrier is there for nothing. All of it: `make test-barriers`; two kernels in each `make test`."""

from dataclasses import replace

import pytest
from targets import skip_without

from smnoise.backends import cuda, nvrtc
from smnoise.spec import ColorSpec, OptimBlueSpec

from . import workloads
from .device import Device
from .stand_in import cuda_backend, module_of, restrict
from .workloads import KIB, Case, mask_of, noise_of, samples_of, shared_for, threshold_of, ties, unfused_torus

GRIDS = {"window": "field", "torus": "wrap"}
# Known to be for nothing: those behind white noise that a filter's own barriers follow, in one launch and in
# two; behind noise that is put out; at the end of the first of two launches. Where boxes are laid, each token by one
# thread: behind the first zeros, and between what is then done to each token.
NEEDLESS = {"color": 4, "strategy": 3}
UNREACHED = {"color": 1, "strategy": 1}  # by any case here
ALWAYS = [("threshold", 90), ("optim_blue", 90)]
BLUE = OptimBlueSpec((6, 8), 10, steps=12, masks="views")
HEAVY = replace(BLUE, delta=1, weights=(1e6, 1e6, 0.0, 0.0))


@pytest.fixture(autouse=True)
def asked_for(pytestconfig, name, architecture, one_thread):
    if pytestconfig.getoption("--gpu-code") != "barriers" and (name, architecture) not in ALWAYS:
        pytest.skip("make test-barriers")
    skip_without(pytestconfig, "nvrtc", nvrtc.why_not())


def _color_cases(kernel: str) -> list[Case]:
    boundary, two = GRIDS[kernel.split("_")[1]], kernel.endswith("two")
    colors, one = (("green", "purple") if two else ("red", "blue")), samples_of(7)
    cases = []
    for color in colors:
        spec = ColorSpec(color, (3, 10, 13), 100, boundary=boundary)
        cases.append(Case(color, mask_of("color_mask", spec, 1, samples=one)))
        if boundary == "field":
            cases.append(
                Case(f"{color}, tiles", mask_of("color_mask", spec, 2, samples=one), shared=16 * KIB)
            )
            wrapped = ColorSpec(color, (3, 10, 13), 100, boundary="wrap")
            run = mask_of("color_mask", wrapped, 2, samples=one)
            cases.append(Case(f"{color}, torus in tiles", run, shared=16 * KIB))
            short = {"sigma1": (0.4, 0.5), "sigma2": (0.7, 0.8)}
            for b in ("field", "wrap"):
                large = ColorSpec(color, (3, 12, 12), 100, boundary=b, **short)
                run, shared = (
                    mask_of("color_mask", large, 3, samples=one),
                    shared_for(large, torus=False, fused=False),
                )
                cases.append(Case(f"{color}, {b}, two launches", run, shared=shared))
        else:
            spec, shared = unfused_torus(color)
            cases.append(
                Case(f"{color}, two launches", mask_of("color_mask", spec, 3, samples=one), shared=shared)
            )
    if not two:
        white = ColorSpec("white", (3, 10, 13), 100, boundary=boundary)
        cases.append(Case("white", mask_of("color_mask", white, 1, samples=one)))
    noise = ColorSpec(colors[1], (3, 10, 13), 1, boundary=boundary)
    return [*cases, Case("noise", noise_of(noise, 3))]


def _cases(kernel: str) -> list[Case]:
    if kernel.startswith("color_"):
        return _color_cases(kernel)
    if kernel == "threshold":
        scores = ties()
        return [Case(f"threshold {v}", threshold_of(scores, *v)) for v in ((400,), (20, 8), (1039,))]
    if kernel == "slot_threshold":
        return [c for c in workloads.slots(True) if c.name in ("slots in drawn order", "slots of ties")]
    if kernel.startswith("optim_blue"):
        run, heavy = (mask_of("optim_blue", spec, 1, samples=samples_of(0, 1)) for spec in (BLUE, HEAVY))
        return {
            "optim_blue": [Case("views", run)],
            "optim_blue_wide": [Case("heavy", heavy)],
            "optim_blue_global": [Case("in global memory", run, shared=1100, workspace=8000)],
        }[kernel]
    if kernel == "strategy_mask":
        cases = [c for c in workloads.strategies(True) if "hostile" not in c.name and "nobody" not in c.name]
        return [c for c in cases if "clip" not in c.name]
    return []


def _run(case: Case, architecture: int) -> Device:
    device = Device()
    with pytest.MonkeyPatch.context() as patch:
        cuda_backend(patch, device, architecture)
        restrict(patch, case.shared, case.workspace, case.threads)
        case.run(cuda)
    return device


@pytest.mark.parametrize("architecture", [90, 100])
@pytest.mark.parametrize("name", nvrtc.KERNELS)
def test_every_barrier_is_needed(name, architecture, capsys):
    kernel = module_of(nvrtc.ptx(architecture, name)).kernels[name]
    barriers = [b for b, block in enumerate(kernel.blocks) if block.end == "bar"]
    reaching: dict[int, list[Case]] = {b: [] for b in barriers}
    for case in _cases(name):
        device = _run(case, architecture)
        assert not device.faults, device.faults
        assert device.kernels.get(name, kernel) is kernel, "the barriers of another copy would be taken out"
        for b in barriers:
            if device.counts.warps[name, b]:
                reaching[b].append(case)
    silent = []
    for b in barriers:
        kernel.blocks[b].end = "fall"
        try:
            # A thread that runs ahead may go anywhere; what it breaks is a fault all the same.
            if reaching[b] and not any(_run(case, architecture).faults for case in reaching[b]):
                line = kernel.blocks[b].instructions[-1].line
                silent.append(f"PTX line {line}, of: {', '.join(c.name for c in reaching[b])}")
        finally:
            kernel.blocks[b].end = "bar"
    missed = [kernel.blocks[b].instructions[-1].line for b in barriers if not reaching[b]]
    with capsys.disabled():
        print(f"\ncompute_{architecture}, {name}: {len(barriers)} barriers, {len(barriers) - len(silent) - len(missed)}"
              f" noticed, {len(silent)} silent, not reached: PTX lines {missed}")  # fmt: skip
    kind = name.split("_")[0]
    assert len(silent) <= NEEDLESS.get(kind, 0), silent
    assert len(missed) <= UNREACHED.get(kind, 0), missed
