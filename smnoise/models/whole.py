# SPDX-License-Identifier: Apache-2.0
"""AudioMAE on sounds of several lengths at once: rows are padded to the longest, and nothing sees the padding.

A row's prediction, loss and gradients are those of that row alone, but for the order of sums. Letters as in `audiomae`;
K and M are the visible and hidden patches of the longest row.
"""

from __future__ import annotations

import inspect
from typing import NamedTuple

import torch
from torch import Tensor

from ..masks import MaskBatch
from ..samplers import RaggedBatch
from .audiomae import AudioMAE, gather_patches, patch_statistics
from .common import gather_tokens, run_blocks


class Heard(NamedTuple):
    """Spectrograms of several lengths."""

    spectrograms: Tensor
    """float32 [B, time, mel], normalised; padded at the end."""
    steps: Tensor
    """int64 [B], time steps (patches) of each, at least 1."""


class WholeAudioMAE(AudioMAE):
    """An AudioMAE that also reads rows of several lengths. For the arguments see `AudioMAE`.

    Raises ValueError for positions "published", by which a place has another code at each length; and where timm is too
    old for attention with a mask.
    """

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        if self.encoder.positions.transposed:
            raise ValueError(
                "positions 'published' code a place by the length of its sound; sounds of several lengths need 'right'"
            )
        if "attn_mask" not in inspect.signature(self.encoder.blocks[0].forward).parameters:
            raise ValueError(
                "this timm's blocks take no attn_mask; sounds of several lengths need a newer timm"
            )

    def forward(self, spectrograms: Tensor, masks: MaskBatch | RaggedBatch) -> tuple[Tensor, Tensor]:
        """Loss and prediction for a batch.

        Args:
            spectrograms: float [B, time, mel], normalised, padded at the end by anything.
            masks: of a `Ragged` sampler for grid (T, F) of these spectrograms or a longer one; or a MaskBatch, as of
                `AudioMAE`.

        Returns the mean of the rows' losses, each of which is the mean over its own hidden patches; and the prediction
        [B, M, P], which means nothing where `masks.mask_valid` is False.
        """
        if not isinstance(masks, RaggedBatch):
            return super().forward(spectrograms, masks)
        prediction = self.predict(spectrograms, masks)
        return self._errors(prediction, spectrograms, masks).mean(), prediction

    @torch.no_grad()
    def losses(self, prediction: Tensor, spectrograms: Tensor, masks: MaskBatch | RaggedBatch) -> Tensor:
        """The loss of each row, float32 [B], of the prediction that `forward` gave for these arguments."""
        if not isinstance(masks, RaggedBatch):
            return super().losses(prediction, spectrograms, masks)
        return self._errors(prediction, spectrograms, masks)

    def _errors(self, prediction: Tensor, spectrograms: Tensor, masks: RaggedBatch) -> Tensor:
        target = gather_patches(spectrograms, masks.ids_mask, self.patch)
        if self.normalise_target:
            mean, deviation = patch_statistics(target)
            target = (target - mean) / deviation
        real = masks.mask_valid
        errors = (prediction.float() - target).square().mean(dim=2).where(real, 0.0)
        return errors.sum(dim=1) / real.sum(dim=1)

    def predict(self, spectrograms: Tensor, masks: MaskBatch | RaggedBatch) -> Tensor:
        """What the decoder says of the hidden patches, [B, M, P]. Arguments as of `forward`."""
        if not isinstance(masks, RaggedBatch):
            return super().predict(spectrograms, masks)
        grid = self.encoder.grid_of(spectrograms)
        places = grid[0] * grid[1]
        if len(masks.tokens) != len(spectrograms) or masks.ids_restore.shape[1] < places:
            raise ValueError(
                f"masks of {len(masks.tokens)} rows with {masks.ids_restore.shape[1]} tokens do not fit "
                f"{len(spectrograms)} spectrograms with {places}"
            )
        patches = gather_patches(spectrograms, masks.ids_keep, self.patch)
        features = self.encoder(patches, masks.ids_keep, grid, attention_to(masks.keep_valid))
        features = self.bridge(self.encoder_norm(features))
        class_token, visible = features[:, :1], features[:, 1:]
        hidden = self.mask_token.to(visible.dtype).expand(len(visible), masks.ids_mask.shape[1], -1)
        x = gather_tokens(torch.cat([visible, hidden], dim=1), masks.ids_restore[:, :places])
        x, real = x + self.decoder_positions(grid), masks.valid[:, :places]
        recompute = self.checkpoint_blocks and self.training
        if self.local:
            x = run_blocks(self.decoder, x, grid, real, recompute=recompute)
        else:
            x = torch.cat([class_token.to(x.dtype), x], dim=1)
            x = run_blocks(self.decoder, x, attention_to(real), recompute=recompute)[:, 1:]
        return self.head(self.decoder_norm(gather_tokens(x, masks.ids_mask)))

    @torch.no_grad()
    def features(self, heard: Tensor | Heard) -> Tensor:
        """Frozen features, nothing hidden: float [B, width], of each row the mean over its own patches."""
        if not isinstance(heard, Heard):
            return super().features(heard)
        tokens, real = self._all_tokens(heard)
        return tokens.where(real[..., None], 0).sum(dim=1) / real.sum(dim=1, keepdim=True)

    @torch.no_grad()
    def tokens(self, heard: Tensor | Heard) -> Tensor:
        """Return the features of all tokens, of which `features` is the mean: float [B, L, width]. Where a row has
        ended, its patches come again from the first on, so that what looks at all of them sees nothing else.
        """
        if not isinstance(heard, Heard):
            return super().tokens(heard)
        tokens, real = self._all_tokens(heard)
        again = torch.arange(tokens.shape[1], device=tokens.device) % real.sum(dim=1, keepdim=True)
        return gather_tokens(tokens, again)

    def _all_tokens(self, heard: Heard) -> tuple[Tensor, Tensor]:
        grid = self.encoder.grid_of(heard.spectrograms)
        places = torch.arange(grid[0] * grid[1], device=heard.steps.device)
        real = places < heard.steps[:, None] * grid[1]
        ids = places.expand(len(real), -1)
        patches = gather_patches(heard.spectrograms, ids, self.patch)
        return self.encoder_norm(self.encoder(patches, ids, grid, attention_to(real))[:, 1:]), real


def attention_to(real: Tensor) -> Tensor:
    """What attention may look at, bool [B, 1, 1, 1 + N], of the tokens behind the class token that are real [B, N]."""
    return torch.cat([real.new_ones(len(real), 1), real], dim=1)[:, None, None]
