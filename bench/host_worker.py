# SPDX-License-Identifier: Apache-2.0
"""The process that bench/host.py counts: each row of calls once, between two requests to callgrind.

python host_worker.py REQUESTS, the library of callgrind_requests.c. Outside of valgrind it runs the same calls and
counts nothing, which fills the cache of compiled kernels.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import torch

import smnoise

TREE = Path(smnoise.__file__).parent.parent  # its tests have the stand-in for the driver
CALLS, WARM = 20, 5
FOUR, VISIBLE = (1, 2, 2), 2  # a grid of four tokens: what is left is the way there and back
TWO_FRAMES = (2, 1, 2)
LARGE: dict[str, dict] = {"random": {}, "tube": {}, "green-3d": {}, "green-3d, wrap": {"boundary": "wrap"}}
NOTHING = "nothing"  # what counting itself costs


def topk_random(batch: int) -> Callable:
    """What people write instead of a sampler."""

    def make():
        noise = torch.rand(batch, 4)
        ids_keep = noise.topk(VISIBLE, dim=1, sorted=False).indices
        return torch.ones(batch, 4).scatter_(1, ids_keep, 0.0)

    return make


def batches(sampler, batch: int, **more) -> Callable:
    step = iter(range(1 << 30))
    return lambda: sampler(batch_size=batch, step=next(step), **more)


def yardsticks() -> Iterator[tuple[str, Callable]]:
    yield NOTHING, lambda: None
    yield "torch.empty", lambda: torch.empty(32, 4)
    for batch in (1, 32):
        yield f"torch.rand, topk, scatter_; batch {batch}", topk_random(batch)


def on_the_cpu() -> Iterator[tuple[str, Callable]]:
    random = smnoise.Random(FOUR, num_visible=VISIBLE)
    for batch in (1, 32):
        yield f"Random; batch {batch}", batches(random, batch)
    samples = torch.arange(32)
    yield "Random; 32 samples as a tensor", lambda: random(samples)
    yield "Random; batch 32, ids_keep and ids_mask", batches(random, 32, outputs="ids_keep,ids_mask")
    yield "Tube; batch 32", batches(smnoise.Tube(TWO_FRAMES, num_visible=VISIBLE), 32)
    yield "OptimBlue; batch 32", batches(smnoise.OptimBlue(FOUR, num_visible=VISIBLE), 32)
    yield "Grid; batch 32", batches(smnoise.Grid(FOUR, num_visible=VISIBLE, cell=(1, 2)), 32)
    yield "MaskStream of Random; batch 32", smnoise.MaskStream(random, 32)
    for name in LARGE:
        sampler = smnoise.strategy(name.partition(", ")[0], (8, 14, 14), num_visible=160, **LARGE[name])
        yield f"{name} of (8, 14, 14); batch 32", batches(sampler, 32)


def on_a_gpu() -> Iterator[tuple[str, Callable]]:
    """Over the stand-in driver of tests/ptx, whose launches do nothing here, nor does it look after memory."""
    random = smnoise.Random(FOUR, num_visible=VISIBLE)
    for batch in (1, 32):
        yield f"Random on cuda; batch {batch}", batches(random, batch, backend="cuda")
    green = smnoise.Green3D(FOUR, num_visible=VISIBLE)
    yield "Green3D on cuda; batch 32", batches(green, 32, backend="cuda")
    yield (
        "Random on cuda; batch 32, ids_keep and ids_mask",
        batches(random, 32, backend="cuda", outputs="ids_keep,ids_mask"),
    )
    yield (
        "OptimBlue on cuda; batch 32",
        batches(smnoise.OptimBlue(FOUR, num_visible=VISIBLE), 32, backend="cuda"),
    )
    yield "MaskStream of Random on cuda; batch 32", smnoise.MaskStream(random, 32, backend="cuda")


def without_a_gpu(monkeypatch) -> None:
    """backends/cuda.py with a driver that does nothing, and without what the tests' driver looks after besides."""
    import cupy.cuda
    from ptx.device import Device
    from ptx.stand_in import cuda_backend

    from smnoise.backends import cuda, outputs

    modules = [cuda, outputs]
    with suppress(ImportError):  # of an earlier commit
        from smnoise.backends import driver

        modules.append(driver)

    contiguous, to = torch.Tensor.contiguous, torch.Tensor.to
    functions = {n: f for n, f in vars(cuda).items() if callable(f)}
    owner = cuda_backend(monkeypatch, Device(), 90)
    random = smnoise.Random(FOUR, num_visible=VISIBLE)
    for sampler in (
        random,
        smnoise.Green3D(FOUR, num_visible=VISIBLE),
        smnoise.OptimBlue(FOUR, num_visible=VISIBLE),
    ):
        sampler([0], backend="cuda")
    owner.own = lambda tensor, written=True: tensor
    cupy.cuda.driver.launchKernel = lambda *arguments: None
    torch.Tensor.contiguous, torch.Tensor.to = contiguous, to
    for name in ("color_mask", "optim_blue", "strategy_mask"):
        setattr(cuda, name, functions[name])
    if hasattr(cuda, "_new"):  # an earlier commit has torch.empty alone
        cuda._new = outputs.maker("cpu")
    for module in modules:  # its own torch.empty writes into what it makes
        module.torch.empty = lambda *size, device=None, **more: torch.empty(*size, **more)


def main() -> None:
    requests = ctypes.CDLL(sys.argv[1])
    torch.set_num_threads(1)
    for name, call in [*yardsticks(), *on_the_cpu()]:
        count(requests, name, call)
    sys.path.insert(0, str(TREE / "tests"))
    import pytest

    with pytest.MonkeyPatch.context() as patch:
        without_a_gpu(patch)
        for name, call in on_a_gpu():
            count(requests, name, call)


def count(requests, name: str, call: Callable) -> None:
    for _ in range(WARM):
        call()
    gc.collect()
    gc.disable()
    label = name.encode()
    requests.count_from_here()
    for _ in range(CALLS):
        call()
    requests.write_count(label)
    gc.enable()
    print(name, flush=True)


if __name__ == "__main__":
    main()
