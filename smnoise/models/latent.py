# SPDX-License-Identifier: Apache-2.0
"""Students that predict latents of hidden tokens instead of their pixels, of a teacher that is frozen (SALT, Li et al.
2025, arXiv 2509.24317, stage 2).

The student is a VideoMAE or AudioMAE whose decoder ends in as many values as the teacher is wide; the rest, with its
names, is as it was, so that what reads the one's encoder reads the other's. Written from the paper's description.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..dual import DualMasks
from ..masks import MaskBatch
from .audiomae import AudioMAE
from .common import gather_tokens, init_linears
from .lean import lean
from .videomae import VideoMAE, decoded


class _Latent(nn.Module):
    """What both students have. Its forward takes what the teacher makes of the whole input as well."""

    size: Any
    latents: int
    head: nn.Linear

    def _predict_latents(self, latents: int) -> None:
        """Another head: `latents` values of a token."""
        if isinstance(latents, bool) or not isinstance(latents, int) or not 0 < latents < 1 << 20:
            raise ValueError(f"latents must be the width of the teacher, a positive integer; got {latents!r}")
        self.latents = latents
        self.head = nn.Linear(self.size.decoder_width, latents)
        init_linears(self.head)
        lean(self)

    def _errors(self, prediction: Tensor, targets: Tensor, masks: MaskBatch | DualMasks) -> Tensor:
        """Mean absolute error of each row, float32 [B], to the latents [B, L, latents] less their mean and over their
        deviation, token by token."""
        ids = decoded(masks)
        if targets.dim() != 3 or targets.shape[0] != len(ids) or targets.shape[2] != self.latents:
            raise ValueError(
                f"targets must be what the teacher makes of each token, [{len(ids)}, L, {self.latents}]; "
                f"got {tuple(targets.shape)}"
            )
        wanted = F.layer_norm(gather_tokens(targets, ids).float(), (self.latents,))
        return (prediction.float() - wanted).abs().mean(dim=(1, 2))

    @torch.no_grad()
    def losses(self, prediction: Tensor, targets: Tensor, masks: MaskBatch | DualMasks) -> Tensor:
        """The loss of each row, float32 [B], of the prediction that `forward` gave for these arguments."""
        return self._errors(prediction, targets, masks)


class LatentVideoMAE(_Latent, VideoMAE):
    """Predicts a teacher's latents of hidden cubes of clips.

    Args:
        latents: width of the teacher.
        others: as of `VideoMAE`.
    """

    def __init__(self, latents: int, *arguments, **options):
        super().__init__(*arguments, **options)
        self._predict_latents(latents)

    def forward(  # type: ignore[override]  # it is a student
        self, pixels: Tensor, masks: MaskBatch | DualMasks, targets: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Loss and prediction. pixels, masks: as of `VideoMAE`. targets: the teacher's tokens of the whole clips, float
        [B, L, latents].

        Returns the mean absolute error, a float32 scalar, and the prediction [B, D, latents].
        """
        _, prediction = self.predict(pixels, masks)
        return self._errors(prediction, targets, masks).mean(), prediction


class LatentAudioMAE(_Latent, AudioMAE):
    """Predicts a teacher's latents of hidden patches of spectrograms.

    Args:
        latents: width of the teacher.
        others: as of `AudioMAE`.
    """

    def __init__(self, latents: int, *arguments, **options):
        super().__init__(*arguments, **options)
        self._predict_latents(latents)

    def forward(  # type: ignore[override]  # it is a student
        self, spectrograms: Tensor, masks: MaskBatch, targets: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Loss and prediction. spectrograms, masks: as of `AudioMAE`. targets: the teacher's tokens of the whole
        spectrograms, float [B, L, latents].

        Returns the mean absolute error, a float32 scalar, and the prediction [B, M, latents].
        """
        prediction = self.predict(spectrograms, masks)
        return self._errors(prediction, targets, masks).mean(), prediction
