# SPDX-License-Identifier: Apache-2.0
"""What is trained on a pretrained model: a classifier over its encoder, or a linear probe on frozen features."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..compat import import_timm
from ..masks import MaskBatch
from .audiomae import AudioEncoder, gather_patches, to_patches
from .common import check_masks, run_blocks
from .videomae import Cubes, VideoMAE, bytes_or_unit_floats, sinusoid


class Classifier(nn.Module):
    """Fine-tuning of an encoder: mean over its tokens, LayerNorm, dropout, a linear layer. See the subclasses.

    The encoder becomes part of the classifier: it is trained, and its blocks get the drop path.

    Args:
        encoder: an `AudioEncoder` or a `VideoEncoder`, its weights loaded.
        num_classes: outputs; logits, for either loss (binary or softmax cross-entropy).
        drop_path: chance that the last block's branches are left out for a sample in training; it grows
            linearly from 0 at the first block.
        head_drop: share of the pooled features that are dropped in training.

    For layer-wise learning rates give the classifier to `timm.optim.param_groups_layer_decay`, with
    no_weight_decay_list=classifier.no_weight_decay(): the patch embedding is layer 0, the head the last.
    """

    encoder: AudioEncoder | VideoEncoder

    def __init__(
        self,
        encoder: AudioEncoder | VideoEncoder,
        num_classes: int,
        *,
        drop_path: float = 0.0,
        head_drop: float = 0.0,
    ):
        super().__init__()
        for name, share in (("drop_path", drop_path), ("head_drop", head_drop)):
            if not 0 <= share < 1:
                raise ValueError(f"{name} must be in [0, 1), got {share}")
        import_timm()
        from timm.layers import DropPath

        self.encoder = encoder
        width, depth = encoder.size.width, encoder.size.depth
        for i, block in enumerate(encoder.blocks):
            rate = drop_path * i / max(depth - 1, 1)
            block.drop_path1, block.drop_path2 = DropPath(rate), DropPath(rate)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.drop = nn.Dropout(head_drop)
        self.head = nn.Linear(width, num_classes)
        nn.init.trunc_normal_(self.head.weight, std=2e-5)
        nn.init.zeros_(self.head.bias)

    def classify(self, tokens: Tensor) -> Tensor:
        """Compute logits, float [B, num_classes], of tokens, float [B, L, width]."""
        return self.head(self.drop(self.norm(tokens.mean(dim=1))))

    def no_weight_decay(self) -> set[str]:
        """Parameters without weight decay, besides biases and other vectors."""
        return {"encoder.class_token"}

    def group_matcher(self, coarse: bool = False) -> dict:
        """Return the layers by parameter name, as timm asks for them; what matches none is the last layer."""
        return {"stem": r"^encoder\.(?:embed|class_token)", "blocks": [(r"^encoder\.blocks\.(\d+)", None)]}


class AudioClassifier(Classifier):
    """AudioMAE's fine-tuning; the class token is left out of the mean. The recipe has drop_path 0.1.

    Args: as of `Classifier`; encoder: `AudioMAE(...).encoder`.
    """

    encoder: AudioEncoder

    def __init__(self, encoder: AudioEncoder, num_classes: int, *, drop_path: float = 0.0):
        super().__init__(encoder, num_classes, drop_path=drop_path)

    def forward(self, spectrograms: Tensor, masks: MaskBatch | None = None) -> Tensor:
        """Compute logits, float [B, num_classes], of normalised spectrograms, float [B, time, mel]. If masks of grid
        (1, T, F) are given, their hidden patches are dropped (a regulariser in training; only ids_keep is read).
        """
        grid = self.encoder.grid_of(spectrograms)
        if masks is None:
            tokens = self.encoder(to_patches(spectrograms, self.encoder.patch), None, grid)
        else:
            check_masks(masks, (1, *grid), len(spectrograms), "spectrograms")
            ids = masks.need("ids_keep")
            tokens = self.encoder(gather_patches(spectrograms, ids, self.encoder.patch), ids, grid)
        return self.classify(tokens[:, 1:])

    def features(self, spectrograms: Tensor) -> Tensor:
        """Return what the head reads of whole spectrograms, float [B, time, mel]: float [B, width]."""
        grid = self.encoder.grid_of(spectrograms)
        tokens = self.encoder(to_patches(spectrograms, self.encoder.patch), None, grid)
        return self.norm(tokens[:, 1:].mean(dim=1))


class VideoEncoder(Cubes):
    """The part of a VideoMAE that is kept: embedding and blocks, those of the model itself, without its last norm.

    Args:
        model: the VideoMAE.
        checkpoint_blocks: recompute activations in the backward pass, to save memory.
    """

    positions: Tensor

    def __init__(self, model: VideoMAE, *, checkpoint_blocks: bool = False):
        super().__init__(
            model.tubelet, model.patch, model.channels, tuple(model.mean.tolist()), tuple(model.std.tolist())
        )
        self.size, self.grid = model.size, model.grid
        self.checkpoint_blocks = checkpoint_blocks
        self.embed, self.blocks = model.embed, model.encoder
        self.register_buffer("positions", model.encoder_positions.clone(), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return all tokens, float [B, L, width], of clips [B, C, T, H, W], uint8 or floats in [0, 1]; any grid will
        do.
        """
        t, h, w = self.grid_of(pixels)
        count = t * h * w
        if count > len(self.positions):
            self.positions = sinusoid(count, self.size.width).to(self.positions)
        ids = torch.arange(count, device=pixels.device).expand(len(pixels), -1)
        cubes = self.cubes(bytes_or_unit_floats(pixels), ids)
        x = self.embed(cubes.flatten(2)) + self.positions[:count]
        return run_blocks(self.blocks, x, recompute=self.checkpoint_blocks and self.training)


class VideoClassifier(Classifier):
    """VideoMAE's fine-tuning. The recipe has drop_path 0.1 and no head_drop; for UCF101 0.2 and 0.5.

    Args: as of `Classifier`; encoder: `VideoEncoder(VideoMAE(...))`.
    """

    encoder: VideoEncoder

    def forward(self, pixels: Tensor) -> Tensor:
        """Compute logits, float [B, num_classes], of clips [B, C, T, H, W], uint8 or floats in [0, 1]."""
        return self.classify(self.encoder(pixels))

    def features(self, pixels: Tensor) -> Tensor:
        """Return what the head reads of clips [B, C, T, H, W], uint8 or floats in [0, 1]: float [B, width]."""
        return self.norm(self.encoder(pixels).mean(dim=1))


def linear_probe(width: int, num_classes: int) -> nn.Sequential:
    """MAE's linear probe for `features` [B, width]: standardised by batch statistics, then one linear layer."""
    head = nn.Linear(width, num_classes)
    nn.init.trunc_normal_(head.weight, std=0.01)
    nn.init.zeros_(head.bias)
    return nn.Sequential(nn.BatchNorm1d(width, affine=False, eps=1e-6), head)
