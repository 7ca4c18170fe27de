# SPDX-License-Identifier: Apache-2.0
"""Latent prediction after SALT: a frozen pretrained model says what a student predicts of hidden tokens.

    smnoise pretrain video --data VIDEOS --out runs/video                                # stage 1: pixels
    smnoise pretrain video --data VIDEOS --out runs/student --teacher runs/video         # stage 2: its latents

The teacher sees whole inputs and never changes, so that nothing can collapse and nothing of it need be kept in
checkpoints: their recipe has the checksum of its weights, without which no run goes on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..errors import CheckpointError
from .pretrained.find import pretrained


class Teacher:
    """A frozen model. Called with what it reads, it gives its tokens, float32 [B, L, width], without a gradient.

    Args:
        run: folder of a pretraining run, whose newest whole checkpoint is read, or of converted weights.
        medium: that it must be of.
        needed: attributes of the student's model that the teacher's must share, by name, so that their tokens are of
            the same parts.
        device: to compute on.

    Attributes: width; record, what a student's recipe says of it; notes for a person; found, the `Pretrained`.

    Raises CheckpointError where there is no such model, ValueError where its tokens are others.
    """

    def __init__(self, run: Path, medium: str, needed: Mapping[str, object], device: torch.device):
        self.found = pretrained(run, medium)
        self.model = self.found.model
        for name, wanted in needed.items():
            if (has := getattr(self.model, name)) != wanted:
                raise ValueError(
                    f"teacher {run} has {name} {has}, and the student {wanted}; their tokens must be the same: choose "
                    "the student's clips and tokens so, or another teacher"
                )
        if not all(value.isfinite().all() for value in self.model.state_dict().values()):
            raise CheckpointError(f"teacher {run} has weights that are NaN or Inf; its training had diverged")
        self.width = self.model.size.width
        self.record = {"width": self.width, "weights": checksum(self.model)}
        self.notes = [f"predicting latents of {run}", *self.found.notes]
        self.model.to(device).eval().requires_grad_(False)

    @torch.no_grad()
    def __call__(self, inputs: Tensor) -> Tensor:
        return self.model.tokens(inputs).float()


def checksum(model: torch.nn.Module) -> str:
    """sha256 of a model's weights: of each, by name, its name, shape, dtype and bytes."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name} {list(value.shape)} {value.dtype}\n".encode())
        digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return f"sha256 {digest.hexdigest()}"


def latents_of(recipe: Mapping, run: Path) -> int | None:
    """How many latents a run's model predicts, by its recipe; None where it predicts pixels."""
    if (teacher := recipe.get("teacher")) is None:
        return None
    width = teacher.get("width") if isinstance(teacher, Mapping) else None
    if isinstance(width, bool) or not isinstance(width, int) or not 0 < width < 1 << 20:
        raise CheckpointError(f"{run} says of its teacher {teacher!r}, of which the width is not known")
    return width
