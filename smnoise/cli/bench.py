# SPDX-License-Identifier: Apache-2.0
"""Time of a mask on this machine, beside MAE's random masking as its code has it: a quick look.

    smnoise bench                              # a clip's masks on the CPU, one thread and all
    smnoise bench optim-blue --device cuda

Each number is the median over runs of a second in all; masks are new ones in every run. The benchmark behind the
published tables is `python -m bench` in a checkout.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tyro.conf import Positional

from .strategies import Budget

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch


@dataclass(frozen=True)
class Options:
    """Time masks."""

    strategies: Positional[tuple[str, ...]] = ("green-3d", "random")
    """Short names or .json files of samplers."""
    budget: Budget = field(default_factory=Budget)
    batch_size: int = 32
    """Masks made together."""
    device: str = "cpu"
    """cpu or cuda."""
    backend: str = "auto"
    """cpu, triton, cuda, reference, or auto for the best of the device."""
    seconds: float = 1.0
    """For each number."""
    json: bool = False
    """Print JSON."""


def run(options: Options) -> int:
    import platform
    from functools import partial

    import torch

    from ..samplers.indices import sample_indices
    from .output import print_json, print_table, progress

    if options.batch_size < 1 or not options.seconds > 0:
        raise ValueError(f"need batch_size and seconds above 0, got {options.batch_size}, {options.seconds}")
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError("device cuda was asked for, but torch sees no GPU; smnoise doctor says more")
    samplers = {name: options.budget.sampler(name) for name in options.strategies}
    step = torch.zeros((), dtype=torch.int64, device=device)

    def of(sampler) -> Callable[[], object]:
        def make():
            step.add_(1)
            return sampler(sample_indices(step, options.batch_size), backend=options.backend)

        return make

    threads = (1,) if device.type != "cpu" else tuple(sorted({1, torch.get_num_threads()}))
    rows: list[dict[str, Any]] = []
    before = torch.get_num_threads()
    try:
        with progress("timing", 2 * len(samplers) * len(threads)) as advance:
            for count in threads:
                torch.set_num_threads(count)
                baselines: dict[tuple[int, int], float] = {}
                for name, sampler in samplers.items():
                    time = microseconds(of(sampler), device, options.seconds) / options.batch_size
                    advance(1)
                    budget = sampler.num_tokens, sampler.visible_per_sample
                    if budget not in baselines:
                        usual = partial(mae_random, options.batch_size, *budget, device)
                        baselines[budget] = microseconds(usual, device, options.seconds) / options.batch_size
                    advance(1)
                    rows.append(
                        {
                            "strategy": name,
                            "grid": list(sampler.grid),
                            "num_visible": sampler.visible_per_sample,
                            "threads": count,
                            "microseconds a mask": round(time, 3),
                            "MAE random masking": round(baselines[budget], 3),
                            "of MAE random masking": round(time / baselines[budget], 4),
                        }
                    )
    finally:
        torch.set_num_threads(before)
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    about = {
        "device": where,
        "backend": options.backend,
        "batch_size": options.batch_size,
        "torch": torch.__version__,
    }
    if options.json:
        print_json({**about, "results": rows})
        return 0
    title = f"µs a mask, batches of {options.batch_size} on {where}, torch {torch.__version__}"
    cells = [
        [r["strategy"], " x ".join(map(str, r["grid"])), str(r["num_visible"]), str(r["threads"]),
         f"{r['microseconds a mask']:.1f}", f"{r['MAE random masking']:.1f}", f"{r['of MAE random masking']:.2f}x"]
        for r in rows
    ]  # fmt: skip
    print_table(
        ("strategy", "grid", "visible", "threads", "µs a mask", "MAE random", "of MAE's"), cells, title
    )
    return 0


def mae_random(batch: int, tokens: int, visible: int, device: torch.device) -> tuple[torch.Tensor, ...]:
    """Random masking as masked autoencoders usually do it: two sorts of uniform numbers, from torch's generator."""
    import torch

    order = torch.rand(batch, tokens, device=device, generator=_generator(device)).argsort(dim=1)
    restore = order.argsort(dim=1)
    mask = torch.ones(batch, tokens, device=device)
    mask[:, :visible] = 0
    return order[:, :visible], mask.gather(1, restore), restore


def _generator(device: torch.device) -> torch.Generator:
    """Of our own: the caller's global one stays as it is."""
    import torch

    if device not in _generators:
        _generators[device] = torch.Generator(device).manual_seed(0)
    return _generators[device]


_generators: dict = {}


def microseconds(make: Callable[[], object], device: torch.device, seconds: float) -> float:
    """Median time of a call, over `seconds` of calls and at least five, after three to warm up."""
    import statistics
    import time

    import torch

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    for _ in range(3):
        make()
    wait()
    times: list[float] = []
    begin = time.perf_counter()
    while len(times) < 5 or time.perf_counter() - begin < seconds:
        at = time.perf_counter()
        make()
        wait()
        times.append(time.perf_counter() - at)
    return statistics.median(times) * 1e6
