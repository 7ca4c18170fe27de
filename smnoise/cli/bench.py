# SPDX-License-Identifier: Apache-2.0
"""Time of a mask on this machine, beside MAE's random masking as its code has it: a quick look.

    smnoise bench                              # a clip's masks on the CPU, one thread and all
    smnoise bench optim-blue --device cuda

Each number is the median over runs of a second in all, with the range of the middle eight tenths of them; masks are
new ones in every run. If other programs took the processor meanwhile, a line says so: then these are not the machine's
times. The benchmark behind the published tables is `python -m bench` in a checkout.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

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
    import sys
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
    shares: list[float] = []
    before = torch.get_num_threads()
    try:
        with progress("timing", 2 * len(samplers) * len(threads)) as advance:
            for count in threads:
                torch.set_num_threads(count)
                baselines: dict[tuple[int, int], Times] = {}
                for name, sampler in samplers.items():
                    times = measured(of(sampler), device, options.seconds, options.batch_size)
                    advance(1)
                    budget = sampler.num_tokens, sampler.visible_per_sample
                    if budget not in baselines:
                        usual = partial(mae_random, options.batch_size, *budget, device)
                        baselines[budget] = measured(usual, device, options.seconds, options.batch_size)
                    advance(1)
                    if count == 1:  # with more threads this one also waits for the others
                        shares += [times.share, baselines[budget].share]
                    rows.append(
                        {
                            "strategy": name,
                            "grid": list(sampler.grid),
                            "num_visible": sampler.visible_per_sample,
                            "threads": count,
                            "microseconds a mask": times.as_json(),
                            "MAE random masking": baselines[budget].as_json(),
                            "of MAE random masking": significant(times.median / baselines[budget].median),
                        }
                    )
    finally:
        torch.set_num_threads(before)
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    # A thread that waits for a GPU may sleep.
    share = round(min(shares), 3) if device.type == "cpu" else None
    about = {
        "device": where,
        "backend": options.backend,
        "batch_size": options.batch_size,
        "torch": torch.__version__,
        "share of a core": share,
    }
    notes = doubts(share, rows)
    if options.json:
        print_json({**about, "notes": notes, "results": rows})
        return 0
    title = f"µs a mask, batches of {options.batch_size} on {where}, torch {torch.__version__}"
    cells = [
        [r["strategy"], " x ".join(map(str, r["grid"])), str(r["num_visible"]), str(r["threads"]),
         shown(r["microseconds a mask"]), shown(r["MAE random masking"]), f"{r['of MAE random masking']:g}x"]
        for r in rows
    ]  # fmt: skip
    print_table(
        ("strategy", "grid", "visible", "threads", "µs a mask (10% to 90%)", "MAE random", "of MAE's"),
        cells,
        title,
    )
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    return 0


class Times(NamedTuple):
    """How long a call takes, in microseconds a mask."""

    median: float
    low: float
    """A tenth of the calls took less, and"""
    high: float
    """a tenth more."""
    share: float
    """Of the elapsed time, what this thread had a core for."""

    def as_json(self) -> dict[str, float]:
        """Return the median and both ends, each to three digits."""
        return {name: significant(getattr(self, name)) for name in ("median", "low", "high")}


def significant(value: float) -> float:
    """Round a number of any size to three digits."""
    return float(f"{value:.3g}")


def shown(times: dict[str, float]) -> str:
    """Write times as a cell of the table."""
    return f"{times['median']:g} ({times['low']:g} to {times['high']:g})"


BUSY = 0.9  # a share of a core below which other programs have been in the way
WIDE = 1.5  # how much longer the slow tenth may take than the quick one


def doubts(share: float | None, rows: list[dict[str, Any]]) -> list[str]:
    """Say what speaks against the numbers."""
    notes = []
    if share is not None and share < BUSY:
        notes.append(
            f"this process got {share:.0%} of a core: other programs are running, and these are not the times of an "
            "idle machine. Ratios to MAE's are as doubtful."
        )
    wide = [
        f"{row['strategy']} ({row['threads']} threads)" if row["threads"] > 1 else row["strategy"]
        for row in rows
        if row["microseconds a mask"]["high"] > WIDE * row["microseconds a mask"]["low"]
    ]
    if wide:
        notes.append(
            f"the times of {', '.join(wide)} spread by more than {WIDE:g} times: repeat with a larger --seconds, on an "
            "idle machine"
        )
    return notes


def mae_random(batch: int, tokens: int, visible: int, device: torch.device) -> tuple[torch.Tensor, ...]:
    """Random masking as masked autoencoders usually do it: two sorts of uniform numbers, from a generator of torch.

    Returns ids_keep, int64 [batch, visible]; the mask, float32 [batch, tokens], 1 = removed; and ids_restore, int64
    [batch, tokens].
    """
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


def measured(make: Callable[[], object], device: torch.device, seconds: float, batch: int) -> Times:
    """Times of a call, over `seconds` of calls and at least five, after three to warm up, divided by `batch`."""
    import time

    import torch

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    for _ in range(3):
        make()
    wait()
    times: list[float] = []
    begin, worked = time.perf_counter(), time.thread_time()
    while len(times) < 5 or time.perf_counter() - begin < seconds:
        at = time.perf_counter()
        make()
        wait()
        times.append(time.perf_counter() - at)
    share = (time.thread_time() - worked) / (time.perf_counter() - begin)
    low, median, high = (
        torch.tensor(times, dtype=torch.float64)
        .quantile(torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64))
        .mul(1e6 / batch)
        .tolist()
    )
    return Times(median, low, high, min(1.0, share))
