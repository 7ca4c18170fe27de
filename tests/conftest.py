# SPDX-License-Identifier: Apache-2.0
"""Every (backend, device) that can run, as one fixture; uninitialised memory filled with poison.

pytest --require=avx512      a skip of that target becomes a failure; may be repeated
pytest --gpu-code=all        tests/ptx: all cases for all architectures, not a part of them; =barriers: those alone
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import hypothesis
import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before smnoise is imported: then its Triton kernels run on the CPU

from smnoise import backends, ops
from smnoise.backends import cpu
from smnoise.spec import signed64

# The same examples in every run; HYPOTHESIS_PROFILE=default looks for new ones.
hypothesis.settings.register_profile("same", derandomize=True, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


@dataclass(frozen=True)
class Target:
    """One way to run the ops. `isa` is an instruction set of the CPU backend."""

    backend: str
    device: str = "cpu"
    isa: str | None = None

    @property
    def name(self) -> str:
        return self.isa or self.backend

    def why_not(self) -> str | None:
        if self.device == "cuda" and not torch.cuda.is_available():
            return "no GPU"
        why = backends.reason(self.backend, "color_mask", self.device)
        if why is None and self.isa in cpu.ISAS and self.isa not in cpu.isas():
            why = f"this machine has no {self.isa}"
        return why

    def color_mask(self, spec, samples, seed: int = 0, **kw) -> dict[str, torch.Tensor]:
        results = ops.color_mask(*self.tensors(seed, samples), spec.to_json(), self.backend, **kw)
        return dict(zip(backends.outputs.NAMES, (r.cpu() for r in results), strict=True))

    def color_noise(self, spec, samples, seed: int = 0) -> torch.Tensor:
        return ops.color_noise(*self.tensors(seed, samples), spec.to_json(), self.backend).cpu()

    def optim_blue(self, spec, samples, seed: int = 0, **kw) -> dict[str, torch.Tensor]:
        results = ops.optim_blue(*self.tensors(seed, samples), spec.to_json(), self.backend, **kw)
        return dict(zip(backends.outputs.NAMES, (r.cpu() for r in results), strict=True))

    def strategy_mask(self, spec, samples, seed: int = 0, **kw) -> dict[str, torch.Tensor]:
        results = ops.strategy_mask(*self.tensors(seed, samples), spec.to_json(), self.backend, **kw)
        return dict(zip(backends.outputs.NAMES, (r.cpu() for r in results), strict=True))

    def random_words(self, purpose: int, count: int, samples, seed: int = 0) -> torch.Tensor:
        return ops.random_words(*self.tensors(seed, samples), purpose, count, self.backend).cpu()

    def threshold(self, scores, visible: int, groups: int = 1, **kw) -> dict[str, torch.Tensor]:
        results = ops.threshold(scores.to(self.device), visible, groups, self.backend, **kw)
        return dict(zip(backends.outputs.NAMES, (r.cpu() for r in results), strict=True))

    def tensors(self, seed: int, samples) -> tuple[torch.Tensor, torch.Tensor]:
        rows = [signed64(int(s)) for s in samples]
        return (
            torch.tensor(signed64(seed), device=self.device),
            torch.tensor(rows, dtype=torch.int64, device=self.device),
        )


TARGETS = [
    Target("reference"),
    *(Target("cpu", isa=isa) for isa in cpu.CODES),
    Target("cuda", device="cuda"),
    Target("triton", device="cuda" if torch.cuda.is_available() else "cpu"),
]


REQUIRABLE = {*(t.name for t in TARGETS), "nvrtc"}


def skip_without(config, name: str, why: str | None) -> None:
    """Skip with the reason, if there is one; fail with it where --require names this."""
    if why and name in config.getoption("--require"):
        pytest.fail(f"{name} is required, but: {why}")
    if why:
        pytest.skip(why)


def pytest_addoption(parser):
    names = ", ".join(sorted(REQUIRABLE))
    parser.addoption("--require", action="append", default=[], help=f"fail, not skip, without: {names}")
    parser.addoption(
        "--gpu-code", choices=("part", "all", "barriers"), default="part", help="which of tests/ptx runs"
    )


def pytest_report_header(config):
    lines = [f"{t.name}: {'skipped: ' + t.why_not() if t.why_not() else 'runs'}" for t in TARGETS]
    return [f"smnoise on torch {torch.__version__}; " + "; ".join(lines)]


def pytest_configure(config):
    unknown = set(config.getoption("--require")) - REQUIRABLE
    if unknown:
        raise pytest.UsageError(f"--require: unknown {', '.join(sorted(unknown))}")


@pytest.fixture(params=TARGETS, ids=lambda t: t.name)
def target(request, monkeypatch) -> Target:
    chosen = request.param
    skip_without(request.config, chosen.name, chosen.why_not())
    monkeypatch.setattr(cpu, "_forced_isa", chosen.isa)
    return chosen


@pytest.fixture(autouse=True)
def poisoned_memory():
    """torch.empty comes filled with NaN, True and the largest integer, so that a value that nobody wrote
    shows up."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(autouse=True)
def no_backend_variable(monkeypatch):
    monkeypatch.delenv(backends.VARIABLE, raising=False)


@pytest.fixture(scope="module")
def one_thread():
    """Threads that wait for each other cost more than small problems, where cores are shared."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
