# SPDX-License-Identifier: Apache-2.0
"""Masks batch after batch, also where the training step is a captured CUDA graph."""

from __future__ import annotations

from typing import Any

import torch

from .masks import MaskBatch
from .ops import ALL_OUTPUTS
from .samplers import Sampler, sample_indices
from .samplers.base import check_sampler
from .spec import signed64


class MaskStream:
    """The masks of step 0, 1, 2, ...: each call gives the next batch. Its counter lives on the device and is advanced
    there, so in a captured CUDA graph every replay gives new masks; nothing waits for the device.

        stream = smnoise.MaskStream(sampler, batch_size=32, device="cuda")
        with torch.cuda.graph(graph):
            masks = stream()

    >>> import smnoise
    >>> sampler = smnoise.White3D((1, 2, 3), num_visible=2)
    >>> stream = smnoise.MaskStream(sampler, batch_size=2, rank=1, world_size=2)
    >>> stream().ids_keep.tolist(), sampler([2, 3]).ids_keep.tolist()
    ([[2, 4], [3, 4]], [[2, 4], [3, 4]])

    Args:
        sampler: any sampler of smnoise.
        batch_size, rank, world_size: as in `smnoise.sample_indices`.
        step: number of the first batch; after a restart, of the first one not yet trained on.
        device: where masks are made.
        backend, outputs: as in `smnoise.ops.color_mask`.

    The step after the last batch is `stream.step`, an int64 tensor of shape []; `stream.step.fill_(n)` goes to batch n.
    `state_dict` and `load_state_dict` are for checkpoints.
    """

    def __init__(
        self,
        sampler: Sampler,
        batch_size: int,
        *,
        rank: int = 0,
        world_size: int = 1,
        step: int = 0,
        device: torch.device | str = "cpu",
        backend: str = "auto",
        outputs: str = ALL_OUTPUTS,
    ):
        check_sampler(sampler)
        sample_indices(
            step, batch_size, rank=rank, world_size=world_size, device=device
        )  # raises for what cannot be
        self.sampler = sampler
        self.ranks = {"rank": rank, "world_size": world_size}
        self.arguments: dict[str, Any] = {**self.ranks, "backend": backend, "outputs": outputs}
        self.batch_size = batch_size
        device = "cpu" if device is None else device
        self.step = torch.full((), int(step), dtype=torch.int64, device=device)
        # Held: made anew in each call it would cost a kernel each time.
        self.seed = torch.full((), signed64(sampler.seed), dtype=torch.int64, device=device)
        # Else a compiled step that advances the counter is not made a CUDA graph (mode="reduce-overhead").
        for tensor in (self.step, self.seed):
            torch._dynamo.mark_static_address(tensor)
        self._masks()  # compiles and uploads what the first batch needs, which cannot be done in a capture

    def __call__(self) -> MaskBatch:
        """The next batch."""
        masks = self._masks()
        self.step.add_(1)
        return masks

    def state_dict(self) -> dict[str, int]:
        """What a checkpoint needs: the number of the next batch. Waits for the device."""
        return {"step": int(self.step)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on with the batch of `state_dict`. A captured graph goes on with it too.

        Raises TypeError, ValueError for a state that is none.
        """
        if set(state) != {"step"}:
            raise ValueError(f"the state of a MaskStream is {{'step': n}}, got {state!r}")
        sample_indices(state["step"], self.batch_size, **self.ranks)  # raises for what cannot be
        self.step.fill_(int(state["step"]))

    def _masks(self) -> MaskBatch:
        return self.sampler(batch_size=self.batch_size, step=self.step, seed=self.seed, **self.arguments)
