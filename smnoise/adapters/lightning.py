# SPDX-License-Identifier: Apache-2.0
"""Masks in the training_step of a LightningModule, of `lightning` or `pytorch_lightning`.

    class Pretraining(lightning.LightningModule):
        def __init__(self, model):
            super().__init__()
            self.model = model
            self.masks = StepMasks(smnoise.Green3D(grid=(8, 14, 14), mask_ratio=0.9), batch_size=32)

        def training_step(self, clips, batch_idx):
            masks = self.masks(self.trainer, len(clips))
            loss, _ = self.model(clips, masks)
            return loss

Which masks come depends on the trainer's count of training batches, which a checkpoint brings back, and on the rank: a
resumed run goes on with the masks that come next. trainer.global_step would be wrong for this: it counts optimizer
steps, so that all batches of an accumulated step would have the same masks.

In validation_step give each clip the same mask in every epoch:

            samples = range(batch_idx * 32, batch_idx * 32 + len(clips))
            masks = self.masks.sampler(samples, device=clips.device)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ..masks import MaskBatch
from ..ops import ALL_OUTPUTS
from ..samplers import Sampler, sample_indices
from ..spec import as_int

if TYPE_CHECKING:
    from lightning.pytorch import Trainer


class StepMasks:
    """Masks for the batch that a trainer is at, on its device.

    Args:
        sampler: any sampler of smnoise.
        batch_size: rows of a full batch on one rank. Smaller ones, such as the last of an epoch, take as many masks
            and leave the rest of theirs out.
    """

    def __init__(self, sampler: Sampler, batch_size: int):
        self.sampler, self.batch_size = sampler, as_int("batch_size", batch_size, 1, 2**31)

    def samples(self, trainer: Trainer, rows: int) -> torch.Tensor:
        """Return the sample numbers of the current training batch, int64 [rows], on the trainer's device.

        Raises ValueError for more rows than batch_size, RuntimeError outside of training.
        """
        if not 0 <= rows <= self.batch_size:
            raise ValueError(
                f"a batch has {rows} rows, but batch_size={self.batch_size}: give the loader's batch size"
            )
        batch = trainer.fit_loop.total_batch_idx
        if not trainer.training or batch < 0:
            raise RuntimeError(
                "StepMasks follows training batches; in validation call the sampler with sample numbers"
            )
        indices = sample_indices(
            batch,
            self.batch_size,
            rank=trainer.global_rank,
            world_size=trainer.world_size,
            device=trainer.strategy.root_device,
        )
        return indices[:rows]

    def __call__(self, trainer: Trainer, rows: int, outputs: str = ALL_OUTPUTS) -> MaskBatch:
        """Masks of the first `rows` samples of the batch."""
        return self.sampler(self.samples(trainer, rows), outputs=outputs)
