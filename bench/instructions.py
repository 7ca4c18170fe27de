# SPDX-License-Identifier: Apache-2.0
"""Counts what the CUDA kernels do for a mask, without a GPU, and writes bench/results/instructions.json and .md.

python -m bench.instructions                     # some minutes
python -m bench.instructions --only optim-blue   # prints; writes nothing

The PTX that NVRTC makes is run on the CPU (tests/ptx), by the launches of backends/cuda.py; a case whose bits are not
the reference's is not counted. Warp instructions, wavefronts of shared memory (one a request without bank conflicts),
lines and sectors of global memory are exact. Machine instructions are reckoned by the lines of PTX that they come from
(machine_code.py) and left out where the assembler's package is not there.

Cycles are of one SM and a mask, if nothing but the pipe in question counted: an upper bound of speed, not a time.
Bounds by latency: each barrier costs a block PHASE_CYCLES at least, and the blocks that fit an SM share its cycles.
`philox` and `sigmas` are run by one thread for the conformance check, and not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import numpy as np
import pytest
import torch
from ptx.counts import Counts, class_of
from ptx.device import Device
from ptx.point_workloads import implementation_of
from ptx.run import same
from ptx.stand_in import cuda_backend
from ptx.text import Kernel

from smnoise import OptimBlue
from smnoise.backends import cuda, nvrtc, occupancy, reference
from smnoise.backends.outputs import NAMES
from smnoise.files import write_text
from smnoise.spec import ColorSpec, OptimBlueSpec, StrategySpec, tables

from . import floor, machine_code

HERE = Path(__file__).parent
JSON, TABLE = (HERE / "results" / f"instructions.{kind}" for kind in ("json", "md"))
ARCHITECTURES = (80, 90, 100)
# A barrier and a load from shared memory behind it: about 30 cycles each, by published measurements of an H100.
PHASE_CYCLES = 60
SECTORS_A_CYCLE = 2  # of 32 bytes, from an SM to L2


class WrongBitsError(RuntimeError):
    """Raised instead of counts."""


class Case(NamedTuple):
    run: Callable  # of a backend
    masks: int
    spec: ColorSpec | OptimBlueSpec | StrategySpec | None = None  # None: no mask of its own
    floor: Callable[[], float] | None = None  # cycles of an SM
    what: str = ""


def _masks(op: str, spec, samples: range, floor_of=None) -> Case:
    """Masks alone: their noise is not put out."""
    seed, numbers = torch.tensor(1), torch.tensor(list(samples))
    return Case(
        lambda backend: getattr(backend, op)(seed, numbers, spec, NAMES[1:]), len(samples), spec, floor_of
    )


def _color(color: str, draws: int, boundary: str = "field") -> Case:
    spec = ColorSpec(color, (8, 14, 14), 157, boundary=boundary)
    case = _masks("color_mask", spec, range(draws), partial(floor.floor_cycles, spec))
    return case._replace(what=f"(8, 14, 14), 157 visible, mean of {draws} draws")


def _of_size(boundary: str) -> Case:
    """Of the kernels for any grid; those of 14 x 14 tokens a time step have their own."""
    spec = ColorSpec("green", (8, 16, 16), 205, boundary=boundary)
    case = _masks("color_mask", spec, range(4), partial(floor.floor_cycles, spec))
    return case._replace(what="(8, 16, 16), 205 visible, mean of 4 draws")


def _swaps() -> float:
    """The integer operations that the contract asks of the swaps."""
    sampler = OptimBlue((64, 8), 0.8)
    return floor.swap_operations(sampler, 4) / sampler.num_masks / floor.PRODUCTS


def cases() -> dict[str, Case]:
    blue = OptimBlueSpec((64, 8), 102)
    seed, samples = torch.tensor(1), torch.arange(4)
    g = np.random.default_rng(3)
    scores = torch.from_numpy(g.standard_normal((4, 1568)).astype(np.float32))
    bias = scores.flip(1).contiguous()
    volume = torch.from_numpy(g.standard_normal((2, 8, 20, 20)).astype(np.float32))
    taps = tables(ColorSpec("green", (8, 14, 14), 157)).taps[1, 3].copy()
    lengths, visible = torch.tensor([1568, 1200, 800, 200]), torch.tensor([157, 120, 80, 20])
    places = torch.tensor([[[0, 0, 0], [7, -9, 100]]], dtype=torch.int32)
    point = ColorSpec("green", (1, 1, 2), 1, sigma1=(1.2, 1.2), sigma2=(1.4, 1.4))
    video = (8, 14, 14)
    return {
        "green, field": _color("green", 12),
        "green, wrap": _color("green", 8, "wrap"),
        "red, field": _color("red", 8),
        "red, wrap": _color("red", 8, "wrap"),
        "random": _color("white", 4),
        "green, field of another size": _of_size("field"),
        "green, wrap of another size": _of_size("wrap"),
        "optim-blue": _masks("optim_blue", blue, range(5), _swaps)._replace(
            what="(64, 8), 102 visible, 256 steps, the five masks of a partition"
        ),
        "blocks": _masks("strategy_mask", StrategySpec("blocks", video, 392), range(4))._replace(
            what="(8, 14, 14), 392 visible, mean of 4 draws"
        ),
        "running cells": _masks(
            "strategy_mask", StrategySpec("running", video, 784, cell=(1, 2, 2)), range(4)
        )._replace(what="(8, 14, 14), 784 visible, mean of 4 draws"),
        "bars": _masks("strategy_mask", StrategySpec("bars", (1, 64, 8), 95), range(4))._replace(
            what="(64, 8), 95 visible, mean of 4 draws"
        ),
        "threshold": Case(lambda b: b.threshold(scores, 157, 1, NAMES[1:]), 4, what="1568 normal scores"),
        "slots": Case(
            lambda b: b.slot_threshold(scores, (40, 0, 20, 20, 20, 17, 20, 20), None, NAMES[1:]),
            4,
            what="1568 normal scores, 157 visible in eight frames",
        ),
        "ragged": Case(
            lambda b: implementation_of(b, "ragged_threshold")(
                scores, lengths, visible, 160, 1500, NAMES[1:]
            ),
            4,
            what="rows of 1568 columns, 200 to 1568 tokens, a tenth visible",
        ),
        "points": Case(
            lambda b: {"noise": implementation_of(b, "noise_at")(seed, samples[:1], places, point)},
            places.shape[0] * places.shape[1],
            what="green noise, radius 6, at a point between tokens",
        ),
        "bias": Case(lambda b: {"scores": b.add_bias(scores, bias, 0.3)}, 4, what="1568 scores; of a sample"),
        "gaussian": Case(
            lambda b: {"volume": b.gaussian_filter(volume, taps, (2, 3, 4), False)},
            2,
            what="(8, 20, 20), radii (2, 3, 4); of a volume",
        ),
        "random words": Case(
            lambda b: {"words": b.random_words(seed, samples, 3, 1568)}, 4, what="1568 words; of a sample"
        ),
    }


@lru_cache(maxsize=64)
def _ran(name: str, architecture: int) -> Device:
    """A case, run on the text of an architecture. Raises WrongBitsError where it is not the reference's answer."""
    case = cases()[name]
    device = Device(check=False, count=True)
    with pytest.MonkeyPatch.context() as patch:
        cuda_backend(patch, device, architecture)
        got = case.run(cuda)
    if not same(got, case.run(reference)):
        raise WrongBitsError(f"{name}, compute_{architecture}: another answer than the reference's")
    return device


def _text(kernel: str, architecture: int) -> bytes:
    """But for the line that names the target."""
    return b"\n".join(
        line for line in nvrtc.ptx(architecture, kernel).splitlines() if not line.startswith(b".target")
    )


def ran(name: str, architecture: int) -> Device:
    """The same; an architecture with the text of another one shares its run."""
    if architecture == 80:
        later = _ran(name, 90)
        if all(_text(kernel, 80) == _text(kernel, 90) for kernel in later.kernels):
            return later
    return _ran(name, architecture)


def of_ptx(counts: Counts, kernel: Kernel, masks: int) -> dict:
    """A mask's share of what a kernel did."""
    rows = counts.instructions(kernel)
    warps = sum(w for _, w, _ in rows)

    def share(counter: Counter, only: tuple[str, ...] = ()) -> float:
        mine = ((i, n) for (name, i), n in counter.items() if name == kernel.name)
        return round(sum(n for i, n in mine if not only or kernel.instructions[i].op[0] in only) / masks, 1)

    classes = {c: round(n / masks, 1) for c, n in counts.classes(kernel).most_common()}
    return {
        "warp instructions": round(warps / masks, 1),
        "lanes active": round(sum(t for _, _, t in rows) / 32 / max(warps, 1), 3),
        "shared requests": share(counts.requests),
        "shared wavefronts": share(counts.wavefronts),
        "generic": round(sum(n for c, n in classes.items() if c.endswith(".generic")), 1),
        "global requests": share(counts.accesses),
        "global lines": share(counts.lines),
        "global sectors": share(counts.sectors),
        "stored sectors": share(counts.sectors, ("st", "atom", "red")),
        "barriers of warps": round(counts.barriers(kernel) / masks, 1),
        "classes": classes,
    }


def measure(name: str, architecture: int) -> dict[str, dict]:
    """By kernel, of one mask of a case."""
    case, device = cases()[name], ran(name, architecture)
    found = {}
    for kernel in device.kernels.values():
        row = of_ptx(device.counts, kernel, case.masks)
        bounds = {
            "shared": row["shared wavefronts"],
            "l1": row["global lines"],
            "l2": row["stored sectors"] / SECTORS_A_CYCLE,
        }
        if case.spec is not None:
            fits = occupancy.occupancy(case.spec, architecture)
            warps = fits.launch.threads // 32
            row |= {
                "registers": fits.registers,
                "shared bytes": fits.launch.shared_bytes,
                "blocks": fits.blocks,
            }
            row["barriers"] = round(row["barriers of warps"] / warps, 1)
            bounds["latency"] = row["barriers"] * PHASE_CYCLES / fits.blocks
        if machine_code.why_not() is None:
            runs = {i.line: w for i, w, _ in device.counts.instructions(kernel)}
            classes = {i.line: class_of(i) for i in kernel.instructions}
            blocks = machine_code.disassembled(nvrtc.ptx(architecture, kernel.name), architecture)
            ops = machine_code.executed(blocks, runs, classes)
            by_pipe = {p: n / case.masks for p, n in machine_code.pipes(ops).most_common()}
            row["pipes"] = {p: round(n, 1) for p, n in by_pipe.items()}
            row["opcodes"] = {
                op: round(n / case.masks, 1)
                for op, n in sorted(ops.items(), key=lambda o: (-o[1], o[0]))[:30]
            }
            bounds = machine_code.cycles(by_pipe, architecture) | bounds
        row["cycles"] = {b: round(c) for b, c in bounds.items()}
        row["bound"] = max(bounds, key=lambda b: bounds[b])
        if case.floor is not None:
            row["floor"] = round(_floor(name))
        found[kernel.name] = row
    return found


@lru_cache(maxsize=16)
def _floor(name: str) -> float:
    return cases()[name].floor()


def conflicts(name: str, architecture: int, most: int = 8) -> list[str]:
    """The requests of shared memory that take the most wavefronts too many."""
    device, masks = ran(name, architecture), cases()[name].masks
    extra = {key: device.counts.wavefronts[key] - n for key, n in device.counts.requests.items()}
    worst = sorted(extra, key=lambda key: -extra[key])[:most]
    return [
        f"+{extra[key] / masks:.1f} of {device.counts.requests[key] / masks:.1f}: line "
        f"{device.kernels[key[0]].instructions[key[1]].line}: {device.kernels[key[0]].instructions[key[1]].text}"
        for key in worst
        if extra[key]
    ]


def table(found: dict) -> str:
    """Of what main() writes."""
    lines = [
        "# What the CUDA kernels do for a mask",
        "",
        f"Written by bench/instructions.py: NVRTC {found['compiler']}. Compiled and run on a CPU, instruction by "
        "instruction, with the reference's bits; not on a GPU. Cycles are of one SM, if nothing but that pipe counted; "
        "the floor is the arithmetic that the contract asks (bench/floor.py). Machine instructions: "
        f"{found['machine code'] or 'by ptxas, through the lines of PTX'}.",
        "",
    ]
    for name, case in cases().items():
        if name in found["cases"]:
            lines.append(f"- {name}: {case.what}")
    for architecture in ARCHITECTURES:
        lines += ["", f"## sm_{architecture}", "", _header(COLUMNS)]
        for name, per in found["cases"].items():
            for kernel, row in per[str(architecture)].items():
                cells = [str(cell(row)) for cell in COLUMNS.values()]
                lines.append("| " + " | ".join((name, kernel, *cells)) + " |")
    return "\n".join([*lines, ""])


def _header(columns: dict) -> str:
    names = ("case", "kernel", *columns)
    return f"| {' | '.join(names)} |\n|---|---|{'---:|' * len(columns)}"


def _pipe(name: str) -> Callable:
    return lambda row: round(row["pipes"].get(name, 0)) if "pipes" in row else "-"


COLUMNS: dict[str, Callable] = {
    "PTX": lambda row: round(row["warp instructions"]),
    "lanes active": lambda row: f"{row['lanes active']:.0%}",
    "machine": lambda row: round(sum(row["pipes"].values())) if "pipes" in row else "-",
    "fma": _pipe("fma"),
    "imad": _pipe("imad"),
    "alu": _pipe("alu"),
    "xu": _pipe("xu"),
    "shared requests": lambda row: round(row["shared requests"]),
    "wavefronts": lambda row: round(row["shared wavefronts"]),
    "generic": lambda row: round(row["generic"]),
    "global requests": lambda row: round(row["global requests"]),
    "lines": lambda row: round(row["global lines"]),
    "sectors": lambda row: round(row["global sectors"]),
    "barriers": lambda row: row.get("barriers", "-"),
    "blocks an SM": lambda row: row.get("blocks", "-"),
    "cycles": lambda row: row["cycles"][row["bound"]],
    "bound by": lambda row: row["bound"],
    "floor": lambda row: row.get("floor", "-"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", help="one case, printed, with its bank conflicts; nothing is written")
    only = parser.parse_args().only
    if (reason := nvrtc.why_not()) is not None:
        sys.exit(f"nothing to count: {reason}")
    if only is not None and only not in cases():
        sys.exit(f"no case {only!r}; there are: {', '.join(cases())}")
    torch.set_num_threads(1)
    missing = machine_code.why_not()
    if missing:
        print(f"no machine code: it {missing}", file=sys.stderr)
    found = {
        "compiler": ".".join(map(str, nvrtc.version())),
        "machine code": missing and f"left out, since it {missing}",
        "cases": {},
    }
    for name in [only] if only else cases():
        found["cases"][name] = {str(a): measure(name, a) for a in ARCHITECTURES}
        print(name, {a: {k: r["cycles"] for k, r in per.items()} for a, per in found["cases"][name].items()})
    if only:
        print(json.dumps(found["cases"][only]["90"], indent=1))
        print(*conflicts(only, 90), sep="\n")
        return
    write_text(JSON, json.dumps(found, indent=1) + "\n")
    write_text(TABLE, table(found))


if __name__ == "__main__":
    main()
