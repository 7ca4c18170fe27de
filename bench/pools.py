# SPDX-License-Identifier: Apache-2.0
"""Pools of masks and of noise beside masks made on the fly: time, memory, storage, and how much the masks of an epoch
differ from each other.

Part of `python -m bench`: results/pools.json, results/pools.png.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import smnoise
from smnoise import pools
from smnoise.measures.diversity import diversity

from .baselines import colormae
from .clock import in_turns, threads
from .scaling import next_batches
from .workloads import POOL, VOLUME, check_masks, check_sampler, volumes

GRID, VISIBLE, BATCH = (8, 14, 14), 160, 32
EPOCH = 20_000
KS = (1000, 3000, 10_000)
FIELD, WRAP = (smnoise.Green3D(GRID, num_visible=VISIBLE, boundary=b) for b in ("field", "wrap"))


def on_the_fly() -> dict[str, smnoise.samplers.Sampler]:
    return {
        "on the fly, field": FIELD,
        "on the fly, wrap": WRAP,
        "on the fly, random": smnoise.Random(GRID, num_visible=VISIBLE),
        "on the fly, tube": smnoise.Tube(GRID, num_visible=VISIBLE),
    }


def builders(k: int) -> dict[str, Callable[[], pools.Pool]]:
    """Masks of the grid, masks of tori, which may be rolled, and volumes to cut windows from."""
    return {
        "masks": lambda: pools.build_masks(FIELD, k),
        "tori": lambda: pools.build_masks(WRAP, k),
        "volumes": lambda: pools.build_noise(FIELD, k, VOLUME),
    }


def samplers_of(kind: str, pool: pools.Pool) -> dict[str, smnoise.PoolSampler]:
    """The pool as it is, and with all that keeps its statistics."""
    make = partial(smnoise.PoolSampler, pool, GRID, num_visible=VISIBLE)
    plain = make(crop="", flip="", roll="")
    return {
        "masks": {"": plain, ", flips": make()},
        "tori": {"": plain, ", flips and rolls": make()},
        "volumes": {"": plain, ", windows and flips": make()},
    }[kind]


def measure(seconds: float, few: bool = False) -> dict:
    samplers = on_the_fly()
    sizes = {name: {"MiB": 0, "file, MiB": 0, "built in, seconds": 0} for name in samplers}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "pool.safetensors")
        for k in KS[:1] if few else KS:
            for kind, build in builders(k).items():
                start = time.perf_counter()
                pool = build()
                built = time.perf_counter() - start
                pools.save(pool, file)
                for how, sampler in samplers_of(kind, pool).items():
                    name = f"{k} {kind}{how}"
                    samplers[name] = sampler
                    sizes[name] = {
                        "MiB": round(pool.nbytes / 2**20, 2),
                        "file, MiB": round(file.stat().st_size / 2**20, 2),
                        "built in, seconds": round(built, 2),
                    }
    for name, sampler in samplers.items():
        check_sampler(name, sampler, BATCH)
    makers = {name: next_batches(sampler, BATCH) for name, sampler in samplers.items()}
    theirs = "ColorMAE's way"  # a time alone: it draws a batch's rows from the first volumes of its pool only
    makers[theirs] = partial(colormae(volumes()), BATCH, GRID, VISIBLE)
    check_masks(theirs, makers[theirs](), BATCH, FIELD.num_tokens, VISIBLE)
    with threads(1):
        times = {name: round(t / BATCH, 2) for name, t in in_turns(makers, seconds).items()}
    epoch, compare = (2000, 500) if few else (EPOCH, 2000)
    rows = {}
    for name, sampler in samplers.items():
        found = diversity(sampler, epoch, compare=compare)._asdict()
        rows[name] = {
            "microseconds a mask": times[name],
            **sizes[name],
            **{key: value if isinstance(value, int) else round(value, 5) for key, value in found.items()},
        }
    volume = volumes()
    rows[f"{POOL} volumes, {theirs}"] = {
        "microseconds a mask": times[theirs],
        "MiB": round(volume.nbytes / 2**20, 2),
    }
    return {
        "what": f"Green3D, grid {GRID}, {VISIBLE} tokens visible, batches of {BATCH}, 1 thread; epoch of {epoch} masks",
        "volume": VOLUME,
        "rows": rows,
    }


def draw(results: dict, path: Path) -> None:
    """How often masks repeat and how alike they are, against the size of the pool."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = {name: row for name, row in results["rows"].items() if "distinct" in row}
    fly = rows["on the fly, field"]
    lines: dict[str, dict[int, dict]] = {}
    for name, row in rows.items():
        size, _, kind = name.partition(" ")
        if size.isdigit():
            lines.setdefault(kind, {})[int(size)] = row
    shown = {
        "distinct": "distinct masks of an epoch",
        "bias": "bias: chi-square of tokens' visits, 1 is fair",
        "nearest": "correlation with the mask most alike",
    }
    figure, axes = plt.subplots(1, len(shown), figsize=(15, 4.8))
    for axis, (key, label) in zip(axes, shown.items(), strict=True):
        for kind, of_size in lines.items():
            axis.plot(list(of_size), [row[key] for row in of_size.values()], marker=".", label=kind)
        axis.axhline(fly[key], color="black", linestyle="--", label="on the fly, field")
        axis.set(xlabel="patterns of the pool", ylabel=label, xscale="log")
        sizes = sorted({k for of_size in lines.values() for k in of_size})
        axis.set_xticks(sizes, [str(k) for k in sizes])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[1].set_yscale("log")
    axes[0].legend(fontsize=8)
    figure.suptitle(results["what"])
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
