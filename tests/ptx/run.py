# SPDX-License-Identifier: Apache-2.0
"""Runs cases on compiled kernels and says what is wrong: another answer than the NumPy reference's, or a fault."""

from __future__ import annotations

from collections.abc import Collection, Iterable
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
    """Of the basic blocks of a kernel, or of all variants of one, that can be reached."""

    blocks: int
    of: int
    dead: int  # that cannot
    variants: int
    missed: list[str]
    wrongly_dead: list[str]

    @property
    def share(self) -> float:
        return self.blocks / self.of

    def __str__(self) -> str:
        variants = "" if self.variants == 1 else f" in {self.variants} variants"
        dead = f", {self.dead} beside them cannot be reached" if self.dead else ""
        return f"{self.blocks} of {self.of} blocks ({self.share:.0%}){variants}{dead}"

    def __add__(self, other: Reached) -> Reached:  # type: ignore[override]
        return Reached(*(a + b for a, b in zip(self, other, strict=True)))


def reached_of(counts: Counts, kernel: Kernel, dead: Collection[int] = ()) -> Reached:
    """dead: blocks that cannot be reached, by number."""
    ran = counts.reached(kernel)
    said = [f"PTX line {b.instructions[0].line}: {b.instructions[0].text}" for b in kernel.blocks]
    missed = [said[b] for b, yes in enumerate(ran) if not yes and b not in dead]
    wrongly_dead = [said[b] for b, yes in enumerate(ran) if yes and b in dead]
    return Reached(sum(ran), len(ran) - len(dead), len(dead), 1, missed, wrongly_dead)


def reached(counts: Counts, kernels: Iterable[Kernel]) -> dict[str, Reached]:
    """Of each kernel by name, all its variants together."""
    found: dict[str, Reached] = {}
    for kernel in kernels:
        name, one = kernel.name.split(".")[0], reached_of(counts, kernel)
        found[name] = found[name] + one if name in found else one
    return found
