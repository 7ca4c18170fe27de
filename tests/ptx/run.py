# SPDX-License-Identifier: Apache-2.0
"""Runs cases on compiled kernels and says what is wrong: another answer than the NumPy reference's, or a fault."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch

from .counts import Counts
from .device import Device
from .text import Kernel


def same(got, want) -> bool:
    """Bit for bit, NaNs included."""
    if not isinstance(want, dict):
        return [int(v) for v in got] == [int(v) for v in want]
    return got.keys() == want.keys() and all(_bits_equal(v, want[name]) for name, v in got.items())


def _bits_equal(got: torch.Tensor, want: torch.Tensor) -> bool:
    if got.shape != want.shape or got.dtype != want.dtype:
        return False
    a, b = (v.contiguous().reshape(-1).view(torch.uint8) if v.numel() else v for v in (got, want))
    return torch.equal(a, b)


def close(got: torch.Tensor, want: torch.Tensor) -> bool:
    """As the loss of patches is promised: its sums may have any order. Halves may fall to the next one."""
    last_place = max(1e-5, torch.finfo(want.dtype).eps)
    numbers = got.float(), want.float()
    return got.dtype == want.dtype and torch.allclose(*numbers, rtol=last_place, atol=1e-6, equal_nan=True)


def wrong(name: str, got, want, device: Device, equal=same) -> list[str]:
    """What a test is to say of a case."""
    said = [] if equal(got, want) else [f"{name}: another answer than the reference's"]
    said += [f"{name}: {fault}" for fault in device.faults]
    device.forget_faults()
    return said


class Reached(NamedTuple):
    """Of the basic blocks of a kernel, or of all variants of one."""

    blocks: int
    of: int
    variants: int
    missed: list[str]

    @property
    def share(self) -> float:
        return self.blocks / self.of

    def __str__(self) -> str:
        return f"{self.blocks} of {self.of} blocks ({self.share:.0%}) in {self.variants} variants"


def reached(counts: Counts, kernels: Iterable[Kernel]) -> dict[str, Reached]:
    found: dict[str, Reached] = {}
    for kernel in kernels:
        name = kernel.name.split(".")[0]
        ran = counts.reached(kernel)
        old = found.get(name, Reached(0, 0, 0, []))
        missed = [
            f"PTX line {block.instructions[0].line}: {block.instructions[0].text}"
            for block, yes in zip(kernel.blocks, ran, strict=True)
            if not yes
        ]
        found[name] = Reached(old.blocks + sum(ran), old.of + len(ran), old.variants + 1, old.missed + missed)
    return found
