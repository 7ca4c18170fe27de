# SPDX-License-Identifier: Apache-2.0
"""Time to make a batch of masks on the CPU, beside what people run today. `make bench` runs it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import baselines
import pytest
import torch

import smnoise
from smnoise import conformance


class Workload(NamedTuple):
    grid: tuple[int, int, int]
    ratio: float
    batch: int
    samplers: dict[str, smnoise.samplers.Sampler]
    baselines: dict[str, Callable]


VIDEO, SPECTROGRAM = ((8, 14, 14), 0.9), ((1, 64, 8), 0.8)
WORKLOADS = {
    "video": Workload(
        *VIDEO,
        32,
        {
            "Green3D, field": smnoise.Green3D(*VIDEO),
            "Green3D, wrap": smnoise.Green3D(*VIDEO, boundary="wrap"),
            "White3D": smnoise.White3D(*VIDEO),
            **{
                name: smnoise.strategy(name, *VIDEO)
                for name in (
                    *("tube", "green-2d", "green-2d-tube", "frame"),
                    *("block", "multiblock", "inverse-block", "grid", "running-cell"),
                )
            },
        },
        {
            "MAE random masking": baselines.mae_random,
            "random, top-k and scatter": baselines.topk_random,
            "VideoMAE tubes": baselines.tubes,
            "SciPy band-pass, field": baselines.scipy_field,
            "SciPy band-pass, wrap": baselines.scipy_wrap,
        },
    ),
    "spectrogram": Workload(
        *SPECTROGRAM,
        160,
        {
            "Optim Blue, complementary": smnoise.OptimBlue(*SPECTROGRAM),
            "Optim Blue, independent": smnoise.OptimBlue(*SPECTROGRAM, masks="independent"),
            "White3D": smnoise.White3D(*SPECTROGRAM),
            **{
                name: smnoise.strategy(name, SPECTROGRAM[0][1:], SPECTROGRAM[1])
                for name in ("time-bars", "frequency-bars", "bars", "inverse-block")
            },
        },
        {
            "MAE random masking": baselines.mae_random,
            "random, top-k and scatter": baselines.topk_random,
            "Optim Blue in NumPy": baselines.optim_blue_numpy,
            "void and cluster in NumPy": baselines.void_and_cluster,
        },
    ),
}
CORES = torch.get_num_threads()
SAMPLERS = [(w, name) for w in WORKLOADS for name in WORKLOADS[w].samplers]
BASELINES = [(w, name) for w in WORKLOADS for name in WORKLOADS[w].baselines]


@pytest.fixture(scope="session", autouse=True)
def right_before_fast():
    """No number for a backend whose known answers fail."""
    results = list(conformance.run(conformance.shipped(), "cpu"))
    assert all(r.passed for r in results)


@pytest.fixture(params=sorted({1, CORES}))
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def record(benchmark, workload: str, name: str, threads: int) -> Workload:
    chosen = WORKLOADS[workload]
    benchmark.extra_info.update(workload=workload, name=name, threads=threads, batch=chosen.batch)
    return chosen


@pytest.mark.parametrize(("workload", "name"), SAMPLERS)
def test_sampler(benchmark, workload, name, threads):
    chosen = record(benchmark, workload, name, threads)
    sampler, step = chosen.samplers[name], torch.zeros((), dtype=torch.int64)

    def make():
        step.add_(1)  # a new batch each time, as in training
        return sampler(batch_size=chosen.batch, step=step)

    masks = benchmark(make)
    assert masks.mask.sum(1).tolist() == [masks.num_masked] * chosen.batch


@pytest.mark.parametrize(("workload", "name"), BASELINES)
def test_baseline(benchmark, workload, name, threads):
    chosen = record(benchmark, workload, name, threads)
    visible = chosen.samplers["White3D"].visible_per_sample
    make = chosen.baselines[name]
    if name.endswith("in NumPy"):  # a second and more a batch
        benchmark.pedantic(make, (chosen.batch, chosen.grid, visible), rounds=3)
    else:
        benchmark(make, chosen.batch, chosen.grid, visible)
