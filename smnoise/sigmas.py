# SPDX-License-Identifier: Apache-2.0
"""How often each sigma of a colour's range is drawn: tables, and schedules of them over a run (extension 12).

schedule = smnoise.SigmaSchedule("easy-to-hard", total_steps=100_000)
masks = sampler(batch_size=32, step=step, sigma_table=schedule(step))
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import torch

from .backends import outside_capture
from .reference import BANK
from .samplers.indices import check_device
from .spec import as_choice, as_float, as_int

STAGES = 16
KINDS = ("easy-to-hard", "hard-to-easy", "widen")
WINDOW = 8  # entries of the bank on each side of the middle of a window that moves


def sigma_table(weights: Sequence[float], device=None) -> torch.Tensor:
    """The table of a draw in which value i of a colour's 32 values of sigma1 has the probability weights[i] / sum.

    It holds the numbers floor(2^32 * (weights[0] + .. + weights[k]) / sum + 1/2), k = 0 .. 30; a sample draws value i
    where just i of them are <= its word r0. Equal weights give the contract's draw, to the bit.

    >>> sigma_table([1.0] * 32)[:2].tolist() == [2**27, 2**28]
    True

    Args:
        weights: 32 numbers, none negative or infinite, not all 0, of the sigmas from the smallest to the largest.
        device: where the masks are made; by default the CPU.

    Returns int64 [31], never falling.

    Raises ValueError or TypeError for other weights.
    """
    if isinstance(weights, torch.Tensor):
        weights = weights.tolist()
    if not hasattr(weights, "__iter__") or isinstance(weights, (str, bytes)):
        raise TypeError(f"weights must be {BANK} numbers, one for each sigma; got {weights!r}")
    weights = list(weights)
    if len(weights) != BANK:
        raise ValueError(f"weights must be {BANK} numbers, one for each sigma; got {len(weights)}")
    exact = [Fraction(as_float("weights", w)) for w in weights]
    if min(exact) < 0 or not (total := sum(exact)):
        raise ValueError(f"weights must not be negative, and not all 0; got {weights}")
    check_device(device)
    return torch.tensor(thresholds(exact, total), dtype=torch.int64, device=device)


def thresholds(weights: Sequence[Fraction | int], total: Fraction | int) -> list[int]:
    """The 31 numbers of a table, exactly, of 32 weights and their sum."""
    sums, table = Fraction(0), []
    for weight in weights[:-1]:
        sums += weight
        table.append(math.floor(2**32 * sums / total + Fraction(1, 2)))
    return table


@dataclass(frozen=True)
class SigmaSchedule:
    """A table for each step of a run, in 16 stages of equal length: a function of the step and of nothing else.

    >>> schedule = SigmaSchedule("widen", total_steps=1600)
    >>> schedule(1599).tolist() == sigma_table([1.0] * 32).tolist()
    True

    Args:
        kind: "easy-to-hard" moves a triangular window, 8 sigmas wide on each side, from the smallest sigma (small
            blobs, which are filled in most easily) to the largest; "hard-to-easy" the other way; "widen" begins with
            the two sigmas in the middle and takes one more on each side in every stage: all 32 in the last.
        total_steps: of the run, 16 at least. Later steps have the last stage.

    Raises ValueError or TypeError for other values.
    """

    kind: str
    total_steps: int

    def __post_init__(self):
        as_choice("kind", self.kind, KINDS)
        object.__setattr__(self, "total_steps", as_int("total_steps", self.total_steps, STAGES, 2**48))
        object.__setattr__(self, "_on", {})

    def weights(self, stage: int) -> list[int]:
        """The 32 weights of a stage, 0 .. 15."""
        stage = as_int("stage", stage, 0, STAGES - 1)
        last = STAGES - 1
        if self.kind == "widen":
            return [int(abs(2 * i - (BANK - 1)) < 2 * (stage + 1)) for i in range(BANK)]
        middle = (BANK - 1) * (
            stage if self.kind == "easy-to-hard" else last - stage
        )  # times 15, as all below
        return [max(0, WINDOW * last - abs(last * i - middle)) for i in range(BANK)]

    @cached_property
    def tables(self) -> torch.Tensor:
        """int64 [16, 31], on the CPU."""
        return torch.stack([sigma_table(self.weights(stage)) for stage in range(STAGES)])

    def stage(self, step: int | torch.Tensor) -> int | torch.Tensor:
        """floor(16 * step / total_steps), at most 15; for an int64 tensor, such a tensor."""
        if isinstance(step, torch.Tensor):
            if step.dtype != torch.int64 or step.numel() != 1:
                raise TypeError(
                    f"step must be one int64, got a tensor of {step.dtype}, shape {tuple(step.shape)}"
                )
            return (step.reshape(()) * STAGES // self.total_steps).clamp(0, STAGES - 1)
        return min(STAGES - 1, as_int("step", step, 0, 2**58) * STAGES // self.total_steps)

    def __call__(self, step: int | torch.Tensor, device=None) -> torch.Tensor:
        """The table of a step, int64 [31], on the device of a step that is a tensor, else on `device` (the CPU).

        Compiled and captured code must give a tensor. The tables are copied to a device when the first one is asked for
        there: ask once before capture.
        """
        if isinstance(step, torch.Tensor):
            device = step.device
        check_device(device)
        tables, stage = self._tables_on(torch.device("cpu" if device is None else device)), self.stage(step)
        if isinstance(stage, torch.Tensor):  # an index that is a tensor would be read by the host
            return tables.index_select(0, stage.reshape(1))[0]
        return tables[stage]

    def _tables_on(self, device: torch.device) -> torch.Tensor:
        on: dict[torch.device, torch.Tensor] = self._on  # type: ignore[attr-defined]  # put there when it was made
        if device not in on:
            if device.type == "cuda":
                outside_capture("uploading the tables of a schedule")
            on[device] = self.tables.to(device)
        return on[device]

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_on": {}}  # a process that unpickles it may lack the devices
