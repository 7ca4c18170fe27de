# SPDX-License-Identifier: Apache-2.0
"""Each barrier of Triton's compiled kernels taken out in turn, for a process in which Triton compiles
(test_triton_barriers.py). Triton's compiler puts them where one warp may read what another wrote in shared memory."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from smnoise.spec import ColorSpec, OptimBlueSpec, StrategySpec

from . import run, triton_workloads
from .device import Device
from .text import Kernel
from .workloads import Case, bias_of, filter_of, mask_of, samples_of, slots_of, threshold_of, ties

STEPS = 400_000  # of a run that has lost its way; the longest here takes a tenth
ONE = samples_of(7)


class Row(NamedTuple):
    """Of one kernel: its barriers, those whose lack was noticed, and of the others the PTX line and its variant."""

    barriers: int
    noticed: int
    silent: list[str]
    missed: list[str]

    def __add__(self, other: Row) -> Row:  # type: ignore[override]
        return Row(*(a + b for a, b in zip(self, other, strict=True)))


def _small(op: str, spec) -> Case:
    return Case(str(spec), mask_of(op, spec, 1, samples=ONE))


def _training(name: str, number: int) -> list[Case]:
    return list(getattr(triton_workloads, name)(False))[:number]


CASES = {
    "colors": lambda: [_small("color_mask", ColorSpec("green", (2, 5, 7), 9))],
    "threshold": lambda: [Case(f"ties {v}", threshold_of(ties()[:, :200], *v)) for v in ((77,), (9, 4))],
    "slots": lambda: [Case("slots", slots_of(ties()[:, :60], (7, 0, 20), [[2, 0, 1]]))],
    "bias": lambda: [Case("bias", bias_of(ties(), ties(), 0.5))],
    "gaussian": lambda: [Case("filter", filter_of(np.ones((1, 2, 3, 5), np.float32), (1, 1, 2), True))],
    "optim_blue": lambda: [_small("optim_blue", OptimBlueSpec((3, 7), 5, steps=4))],
    "strategies": lambda: [
        _small("strategy_mask", StrategySpec(kind, (2, 5, 6), 25)) for kind in ("blocks", "bars", "cells")
    ],
    "words": lambda: [
        Case("words", lambda b: {"words": b.random_words(torch.tensor(5), ONE, 3, 70)}),
        Case("philox", lambda b: b.philox([1, 2, 3, 4], 5)),
    ],
    "gather_patches": lambda: _training("gather_patches", 2),
    "patch_loss": lambda: _training("patch_loss", 4),
    "decoder_tokens": lambda: _training("decoder_tokens", 2),
}


def without_barriers(group: str, architecture: int) -> dict[str, Row]:
    """Of each kernel, all its variants in the cases together. Raises AssertionError where one is wrong as it is."""
    from smnoise.backends import reference
    from smnoise.backends import triton as backend

    torch.set_num_threads(1)
    driver = triton_workloads.driver_of(architecture)
    equal = run.close if group == "patch_loss" else run.same

    def wrong(case: Case, want) -> tuple[list[str], Device]:
        device = Device(budget=STEPS)
        driver.use(device)
        return run.wrong(case.name, case.run(backend), want, device, equal), device

    kernels: dict[str, Kernel] = {}
    reaching: dict[tuple[str, int], list] = {}
    for case in CASES[group]():
        want = case.run(reference)
        said, device = wrong(case, want)
        assert not said, said
        kernels |= device.kernels
        for (name, b), warps in device.counts.warps.items():
            if warps and kernels[name].blocks[b].end == "bar":
                reaching.setdefault((name, b), []).append((case, want))
    rows: dict[str, Row] = {}
    for name, kernel in kernels.items():
        row = Row(0, 0, [], [])
        for b, block in enumerate(kernel.blocks):
            if block.end == "bar":
                row += _without(kernel, b, reaching.get((name, b), []), wrong)
        short = name.split(".")[0]
        rows[short] = rows[short] + row if short in rows else row
    return rows


def _without(kernel: Kernel, b: int, cases: list, wrong) -> Row:
    block = kernel.blocks[b]
    where = f"{kernel.name} line {block.instructions[-1].line}"
    if not cases:
        return Row(1, 0, [], [where])
    block.end = "fall"
    try:
        noticed = any(wrong(*given)[0] for given in cases)
    finally:
        block.end = "bar"
    return Row(1, 1, [], []) if noticed else Row(1, 0, [where], [])
