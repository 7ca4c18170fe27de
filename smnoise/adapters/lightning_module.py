# SPDX-License-Identifier: Apache-2.0
"""A LightningModule that has masks, of `lightning`, or of `pytorch_lightning` where that is not there.

    class Pretraining(MaskedModule):
        def configure_optimizers(self):
            return torch.optim.AdamW(self.parameters(), lr=1e-3)

    module = Pretraining(VideoMAE("tiny"), smnoise.Green3D((8, 14, 14), 0.9), batch_size=8)
    lightning.Trainer(max_epochs=3).fit(module, DataLoader(clips, batch_size=8))

Each row of each training batch has a sample number of its own, over all epochs, ranks, restarts and calls of fit; a
checkpoint says how many there were. In validation batch n has the same masks every time.
"""

from __future__ import annotations

from typing import Any

import torch

try:
    from lightning.pytorch import LightningModule
except ImportError:
    from pytorch_lightning import LightningModule

from ..masks import MaskBatch
from ..ops import ALL_OUTPUTS
from ..samplers import Sampler, sample_indices
from ..samplers.base import check_sampler
from ..spec import as_int
from ._numbers import EVALUATION, Numbers

KEY = "smnoise_masks"


class MaskedModule(LightningModule):
    """Base of your module; `loss` is to be replaced where the model is not called as model(batch, masks).

    Args:
        model: called with a batch and its masks; gives the loss, or a tuple that begins with it, as smnoise's models.
        sampler: any sampler of smnoise.
        batch_size: rows of a full batch on one rank.
        outputs: as in `smnoise.ops.color_mask`.
    """

    def __init__(self, model: torch.nn.Module, sampler: Sampler, batch_size: int, outputs: str = ALL_OUTPUTS):
        super().__init__()
        check_sampler(sampler)
        self.model, self.sampler, self.mask_outputs = model, sampler, outputs
        self.mask_batch = as_int("batch_size", batch_size, 1, 2**31)
        self.numbers = Numbers()

    def loss(self, batch: Any, masks: MaskBatch) -> torch.Tensor:
        """Compute the loss of a batch, a float scalar []. Replace this where your model is called in another way."""
        found = self.model(batch, masks)
        return found[0] if isinstance(found, tuple) else found

    def rows(self, batch: Any) -> int:
        """Return how many masks a batch needs: its length, or that of the first tensor in a tuple, list or dict."""
        while not isinstance(batch, torch.Tensor):
            batch = next(iter(batch.values())) if isinstance(batch, dict) else batch[0]
        return len(batch)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        """Return the loss of a batch, a float scalar [], under masks that no other step or rank has."""
        trainer = self.trainer
        samples = self.numbers.take(
            self.rows(batch), self.mask_batch, trainer.global_rank, trainer.world_size, self.device
        )
        return self.loss(batch, self.sampler(samples, outputs=self.mask_outputs))

    def validation_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        """Return and log the loss of a batch, a float scalar [], under masks that are the same in each epoch."""
        trainer, rows = self.trainer, self.rows(batch)
        samples = sample_indices(
            batch_idx, max(rows, self.mask_batch), rank=trainer.global_rank, world_size=trainer.world_size,
            device=self.device,
        )[:rows]  # fmt: skip
        loss = self.loss(batch, self.sampler(EVALUATION + samples, outputs=self.mask_outputs))
        self.log("val_loss", loss, batch_size=rows, sync_dist=True)
        return loss

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[KEY] = self.numbers.consumed

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if KEY not in checkpoint:
            raise RuntimeError(
                "this checkpoint does not say how many masks there have been: it was written by another module, or by "
                f"one whose on_save_checkpoint does not call super().on_save_checkpoint; put the number of clips that "
                f"were seen into checkpoint[{KEY!r}]"
            )
        self.numbers = Numbers(checkpoint[KEY])
