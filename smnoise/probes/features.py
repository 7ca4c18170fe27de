# SPDX-License-Identifier: Apache-2.0
"""What frozen models make of whole data sets."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ..data.numbered import EveryItem, loader
from ..errors import DataError


class Frozen(Protocol):
    """A module with `features`, such as `AudioMAE` and `VideoMAE`."""

    def features(self, inputs: Tensor, /) -> Tensor:
        """Return features, float [B, D], of what the model reads, whose shape [B, ...] is the model's own."""

    def to(self, device: torch.device | str, /) -> Frozen:
        """Move the model to a device."""

    def eval(self) -> Frozen:
        """Put the model into evaluation mode."""


class Features(NamedTuple):
    """What a frozen model makes of a data set."""

    features: Tensor
    """float32 [N, width], on the CPU, in the order of the files."""
    places: list[int]
    """Which file each row is of: those that decode."""
    broken: list[str]
    """What was wrong with the others."""


def features_of(
    model: Frozen,
    clips: EveryItem,
    inputs: Callable[..., Tensor],
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 32,
    workers: int = 0,
) -> Features:
    """The features of each item of a data set, nothing drawn.

    Args:
        model: has `features`, as `AudioMAE` and `VideoMAE` have; is moved to the device and put in evaluation mode.
        clips: an `EveryFile`, `EveryVideo` or `EveryMotion`.
        inputs: makes of clips, or of waveforms [B, samples] and lengths [B], or of all three, on the device, what the
            model reads.
        batch_size, workers: change the speed, and features by no more than rounding.

    Raises DataError where no file decodes.
    """
    model.to(device).eval()
    return Features(*outputs_of(model.features, clips, inputs, device, batch_size, workers))


@torch.no_grad()
def outputs_of(
    function: Callable[[Tensor], Tensor],
    clips: EveryItem,
    inputs: Callable[..., Tensor],
    device: torch.device | str,
    batch_size: int,
    workers: int,
) -> tuple[Tensor, list[int], list[str]]:
    """What a function makes of inputs, [N, ...] on the CPU, for each file that decodes; their places; and
    what was wrong with the others. Arguments and errors are those of `features_of`."""
    rows, places, broken = [], [], []
    for batch in loader(clips, range(len(clips)), batch_size, workers, device, drop_last=False):
        media = [name for name in ("clip", "wave", "length") if name in batch]
        read = inputs(*(batch[name].to(device, non_blocking=True) for name in media))
        rows.append(function(read).cpu()[batch["decodes"]])
        places += batch["place"][batch["decodes"]].tolist()
        broken += batch["broken"]
    if not places:
        raise DataError(
            f"none of the {len(clips)} {getattr(clips, 'MEDIUM', 'sound files')} decodes:\n  "
            + "\n  ".join(broken[:5])
        )
    return torch.cat(rows), places, broken
