# SPDX-License-Identifier: Apache-2.0
"""Time to make a batch of masks on the CPU, for every strategy, beside what people run today. `make bench` runs it."""

from __future__ import annotations

import time

import pytest
import torch

from smnoise import conformance
from smnoise.backends import cpu
from smnoise.train.run.memory import keep_freed_memory

from . import clock
from .workloads import WORKLOADS, check_masks, check_sampler, make_sampler

STRATEGIES = [(w, name) for w in WORKLOADS for name in WORKLOADS[w].strategies]
BASELINES = [(w, name) for w in WORKLOADS for name in WORKLOADS[w].baselines]
OTHER_ISAS = [("video", n) for n in ("green-3d", "green-3d, wrap", "random", "tube")]
OTHER_ISAS += [("spectrogram", "optim-blue")]
REFERENCE_BATCH = 4
SLOW = 0.1  # seconds a batch: few rounds are enough, and there is no time for more


@pytest.fixture(scope="session", autouse=True)
def as_in_training():
    """Whether a batch's pages are fresh ones would hang on what happens to lie beside them: up to twice the time."""
    keep_freed_memory()


@pytest.fixture(scope="session", autouse=True)
def right_before_fast():
    """No number for a backend whose known answers fail."""
    results = list(conformance.run(conformance.shipped(), "cpu"))
    assert all(r.passed for r in results)


@pytest.fixture(params=sorted({1, torch.get_num_threads()}))
def threads(request):
    with clock.threads(request.param):
        yield request.param


@pytest.fixture
def one_thread():
    with clock.threads(1):
        yield


def batches(workload: str, name: str, batch: int, backend: str):
    """A function that makes the next batch in each call, as in training."""
    sampler, step = make_sampler(workload, name), torch.zeros((), dtype=torch.int64)

    def make():
        step.add_(1)
        return sampler(batch_size=batch, step=step, backend=backend)

    return make


@pytest.mark.parametrize(("workload", "name"), STRATEGIES)
def test_strategy(benchmark, workload, name, threads):
    batch = WORKLOADS[workload].batch
    check_sampler(name, make_sampler(workload, name), batch)
    benchmark.extra_info.update(workload=workload, name=name, backend="cpu", threads=threads, batch=batch)
    benchmark(batches(workload, name, batch, "cpu"))


@pytest.mark.parametrize("isa", cpu.isas()[1:])
@pytest.mark.parametrize(("workload", "name"), OTHER_ISAS)
def test_other_instruction_set(benchmark, threads, monkeypatch, workload, name, isa):
    monkeypatch.setattr(cpu, "_forced_isa", isa)
    batch = WORKLOADS[workload].batch
    check_sampler(name, make_sampler(workload, name), batch)
    benchmark.extra_info.update(
        workload=workload, name=f"{name}; {isa}", backend="cpu", threads=threads, batch=batch
    )
    benchmark(batches(workload, name, batch, "cpu"))


@pytest.mark.parametrize(("workload", "name"), STRATEGIES)
def test_reference(benchmark, one_thread, workload, name):
    """The NumPy backend, that the others are checked against; milliseconds a mask, so few rounds."""
    batch = REFERENCE_BATCH
    benchmark.extra_info.update(workload=workload, name=name, backend="reference", threads=1, batch=batch)
    benchmark.pedantic(batches(workload, name, batch, "reference"), rounds=3)


@pytest.mark.parametrize(("workload", "name"), BASELINES)
def test_baseline(benchmark, workload, name, threads):
    chosen = WORKLOADS[workload]
    make, arguments = chosen.baselines[name], (chosen.batch, chosen.grid, chosen.visible)
    tokens = chosen.grid[0] * chosen.grid[1] * chosen.grid[2]
    begin = time.perf_counter()
    made = make(*arguments)
    seconds = time.perf_counter() - begin
    check_masks(name, made, chosen.batch, tokens, chosen.visible)
    benchmark.extra_info.update(
        workload=workload, name=name, backend="others", threads=threads, batch=chosen.batch
    )
    if seconds > SLOW:
        benchmark.pedantic(make, arguments, rounds=5)
    else:
        benchmark(make, *arguments)
