# SPDX-License-Identifier: Apache-2.0
"""Our masks in the place where timm's vision transformers drop patches.

    >>> import torch, smnoise
    >>> from smnoise.compat import import_timm
    >>> model = import_timm().create_model("vit_tiny_patch16_224", depth=1, num_classes=0, global_pool="").train()
    >>> drop = replace_patch_drop(model, smnoise.OptimBlue(grid=(14, 14), mask_ratio=0.75))
    >>> drop.samples = smnoise.sample_indices(step=0, batch_size=2)  # in the loop, before each forward pass
    >>> model(torch.rand(2, 3, 224, 224)).shape  # a class token and 49 of 196 patches
    torch.Size([2, 50, 192])

As in timm, nothing is dropped in evaluation mode, and samples that were set are forgotten. `drop.masks` holds the masks
of the last pass, for a decoder and a loss; None after one in evaluation mode.
"""

from __future__ import annotations

from typing import Any

import torch

from ..masks import MaskBatch
from ..ops import ALL_OUTPUTS
from ..samplers import Sampler
from ..spec import with_ones
from ._samples import SampledModule


class PatchDrop(SampledModule):
    """In the place of timm.layers.PatchDropout, or of PatchDropoutWithIndices; see `SampledModule` for `samples`.

    Args:
        sampler: its grid is the model's patches, (H, W) or (1, H, W).
        num_prefix_tokens: class and register tokens in front, which always stay.
        return_indices: return ids_keep too, None in evaluation mode, as PatchDropoutWithIndices does.
    """

    masks: MaskBatch | None

    def __init__(self, sampler: Sampler, num_prefix_tokens: int = 1, return_indices: bool = False):
        super().__init__(sampler)
        self.num_prefix_tokens, self.return_indices = num_prefix_tokens, return_indices
        self.masks = None

    def forward(self, x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor | None]:
        """Keep the prefix tokens and the visible patches.

        Args:
            x: float [B, prefix + L, D], of any floating type.

        Returns float [B, prefix + V, D] in the order of the tokens; with return_indices also ids_keep, int64 [B, V],
        which is None in evaluation mode.
        """
        if not self.training:
            self.samples = self.masks = None  # or the next training pass would have those of this one
            return (x, None) if self.return_indices else x
        prefix, patches = x[:, : self.num_prefix_tokens], x[:, self.num_prefix_tokens :]
        self.masks = self.masks_for(patches, ALL_OUTPUTS)
        ids = self.masks.need("ids_keep")
        x = torch.cat([prefix, self.visible(patches, ids)], dim=1)
        return (x, ids) if self.return_indices else x


def replace_patch_drop(model: torch.nn.Module, sampler: Sampler) -> PatchDrop:
    """Put a `PatchDrop` in the place of the model's patch_drop, and return it.

    For VisionTransformer and models made like it, whose patch_drop gives tokens, and for Eva and the like, whose gives
    tokens and indices (it is None there, or a PatchDropoutWithIndices). Raises TypeError for a model without, and
    ValueError for a sampler of another grid than that of a model with one.
    """
    if not hasattr(model, "patch_drop") or not hasattr(model, "num_prefix_tokens"):
        raise TypeError(f"{type(model).__name__} has no patch_drop and num_prefix_tokens: not a ViT of timm")
    grid = getattr(getattr(model, "patch_embed", None), "grid_size", None)
    any_size = getattr(model, "dynamic_img_size", False)
    if grid is not None and not any_size and with_ones(sampler.grid) != with_ones(tuple(grid)):
        raise ValueError(
            f"the sampler's grid {sampler.grid} is not the model's, {tuple(grid)}; make it for that one"
        )
    present = model.patch_drop
    if isinstance(present, PatchDrop):
        with_indices = present.return_indices
    else:
        with_indices = present is None or type(present).__name__ == "PatchDropoutWithIndices"
    prefix: Any = model.num_prefix_tokens
    drop = PatchDrop(sampler, prefix, with_indices).train(model.training)
    model.patch_drop = drop
    return drop
