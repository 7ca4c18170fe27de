# SPDX-License-Identifier: Apache-2.0
"""What is trained on a pretrained model: a classifier over its encoder, or a linear probe on frozen features."""

from __future__ import annotations

from torch import Tensor, nn

from ..compat import import_timm
from ..masks import MaskBatch
from .audiomae import AudioEncoder, gather_patches, to_patches
from .common import check_masks


class AudioClassifier(nn.Module):
    """AudioMAE's fine-tuning: mean over the patches without the class token, LayerNorm, a linear layer.

    The encoder becomes part of the classifier: it is trained, and its blocks get the drop path.

    Args:
        encoder: `AudioMAE(...).encoder`, its weights loaded.
        num_classes: outputs; logits, for either loss (binary or softmax cross-entropy).
        drop_path: chance that the last block's branches are left out for a sample in training; it grows
            linearly from 0 at the first block. The recipe has 0.1.

    For layer-wise learning rates give the classifier to `timm.optim.param_groups_layer_decay`, with
    no_weight_decay_list=classifier.no_weight_decay(): the patch embedding is layer 0, the head the last.
    """

    def __init__(self, encoder: AudioEncoder, num_classes: int, *, drop_path: float = 0.0):
        super().__init__()
        if not 0 <= drop_path < 1:
            raise ValueError(f"drop_path must be in [0, 1), got {drop_path}")
        import_timm()
        from timm.layers import DropPath

        self.encoder = encoder
        width, depth = encoder.size.width, encoder.size.depth
        for i, block in enumerate(encoder.blocks):
            rate = drop_path * i / max(depth - 1, 1)
            block.drop_path1, block.drop_path2 = DropPath(rate), DropPath(rate)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, num_classes)
        nn.init.trunc_normal_(self.head.weight, std=2e-5)
        nn.init.zeros_(self.head.bias)

    def forward(self, spectrograms: Tensor, masks: MaskBatch | None = None) -> Tensor:
        """Logits [B, num_classes] of normalised spectrograms [B, time, mel]. Given masks of grid (1, T, F) drop
        their hidden patches (a regulariser in training; only ids_keep is read)."""
        grid = self.encoder.grid_of(spectrograms)
        if masks is None:
            tokens = self.encoder(to_patches(spectrograms, self.encoder.patch), None, grid)
        else:
            check_masks(masks, (1, *grid), len(spectrograms), "spectrograms")
            ids = masks.need("ids_keep")
            tokens = self.encoder(gather_patches(spectrograms, ids, self.encoder.patch), ids, grid)
        return self.head(self.norm(tokens[:, 1:].mean(dim=1)))

    def no_weight_decay(self) -> set[str]:
        """Parameters without weight decay, besides biases and other vectors."""
        return {"encoder.class_token"}

    def group_matcher(self, coarse: bool = False) -> dict:
        """The layers by parameter name, as timm asks for them; what matches none is the last layer."""
        return {"stem": r"^encoder\.(?:embed|class_token)", "blocks": [(r"^encoder\.blocks\.(\d+)", None)]}


def linear_probe(width: int, num_classes: int) -> nn.Sequential:
    """MAE's linear probe for `features` [B, width]: standardised by batch statistics, then one linear layer."""
    head = nn.Linear(width, num_classes)
    nn.init.trunc_normal_(head.weight, std=0.01)
    nn.init.zeros_(head.bias)
    return nn.Sequential(nn.BatchNorm1d(width, affine=False, eps=1e-6), head)
