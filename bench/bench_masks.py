# SPDX-License-Identifier: Apache-2.0
"""Time to make a batch of masks on the CPU, beside what people run today. `make bench` runs it."""

from __future__ import annotations

import baselines
import pytest
import torch

import smnoise
from smnoise import conformance

GRID, RATIO, BATCH = (8, 14, 14), 0.9, 32
SAMPLERS = {
    "Green3D, field": smnoise.Green3D(GRID, RATIO),
    "Green3D, wrap": smnoise.Green3D(GRID, RATIO, boundary="wrap"),
    "White3D": smnoise.White3D(GRID, RATIO),
}
BASELINES = {
    "MAE random masking": baselines.mae_random,
    "random, top-k and scatter": baselines.topk_random,
    "VideoMAE tubes": baselines.tubes,
    "SciPy band-pass, field": baselines.scipy_field,
    "SciPy band-pass, wrap": baselines.scipy_wrap,
}
CORES = torch.get_num_threads()


@pytest.fixture(scope="session", autouse=True)
def right_before_fast():
    """No number for a backend whose known answers fail."""
    results = list(conformance.run(conformance.load(conformance.built_in(), list(conformance.CHECKS)), "cpu"))
    assert all(r.passed for r in results)


@pytest.fixture(params=sorted({1, CORES}))
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def record(benchmark, name: str, threads: int) -> None:
    benchmark.extra_info.update(name=name, threads=threads, batch=BATCH)


@pytest.mark.parametrize("name", SAMPLERS)
def test_sampler(benchmark, name, threads):
    sampler, step = SAMPLERS[name], torch.zeros((), dtype=torch.int64)
    record(benchmark, name, threads)

    def make():
        step.add_(1)  # a new batch each time, as in training
        return sampler(batch_size=BATCH, step=step)

    masks = benchmark(make)
    assert masks.mask.sum(1).tolist() == [masks.num_masked] * BATCH


@pytest.mark.parametrize("name", BASELINES)
def test_baseline(benchmark, name, threads):
    record(benchmark, name, threads)
    benchmark(BASELINES[name], BATCH, GRID, SAMPLERS["White3D"].visible_per_sample)
