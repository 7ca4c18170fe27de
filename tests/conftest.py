# SPDX-License-Identifier: Apache-2.0
"""Every (backend, device) that can run, as one fixture; uninitialised memory filled with poison.

pytest --require=avx512      a skip of that target becomes a failure; may be repeated
pytest --gpu-code=all        tests/ptx: all cases for all architectures, not a part of them; =barriers: those alone
"""

from __future__ import annotations

import os

import hypothesis
import pytest
import torch
from targets import TARGETS, Target, skip_without

from smnoise import backends
from smnoise.backends import cpu

# The same examples in every run; HYPOTHESIS_PROFILE=default looks for new ones.
hypothesis.settings.register_profile("same", derandomize=True, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))

REQUIRABLE = {*(t.name for t in TARGETS), "nvrtc"}


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
