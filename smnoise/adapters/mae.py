# SPDX-License-Identifier: Apache-2.0
"""Our masks in models that have a method `random_masking(x, mask_ratio)`: MAE, AudioMAE, and transformers' ViTMAE,
where it is `model.vit.embeddings` that has it.

    >>> import torch, smnoise
    >>> class Model(torch.nn.Module):  # stands for MaskedAutoencoderViT
    ...     def random_masking(self, x, mask_ratio):
    ...         raise NotImplementedError
    ...     def forward(self, x, mask_ratio=0.75):
    ...         return self.random_masking(x, mask_ratio)
    >>> model = Model()
    >>> masking = replace_random_masking(model, smnoise.OptimBlue(grid=(14, 14), mask_ratio=0.75))
    >>> masking.samples = smnoise.sample_indices(step=0, batch_size=2)  # in the loop, before each forward pass
    >>> visible, mask, ids_restore = model(torch.rand(2, 196, 8))
    >>> visible.shape, mask.sum(1).tolist()
    (torch.Size([2, 49, 8]), [147.0, 147.0])

Visible tokens come in ascending order where MAE shuffles them: its decoder restores the order with ids_restore, and
its encoder does not see any.
"""

from __future__ import annotations

import torch

from ..samplers import Sampler
from ._samples import SampledModule


class RandomMasking(SampledModule):
    """In the place of MAE's random_masking; see `SampledModule` for `samples`."""

    def forward(
        self, x: torch.Tensor, mask_ratio: float | None = None, noise: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Keep the visible tokens of x, float [B, L, D] of any floating type.

        Args:
            mask_ratio: the ratio that the caller believes in; it must leave as many tokens as the sampler does.
            noise: must be None; ViTMAE has it for masks of the caller's own.

        Returns:
            x_masked, float [B, V, D]; mask, float32 [B, L], 1 = removed; ids_restore, int64 [B, L].

        Raises:
            ValueError: for another number of tokens or of samples, or another ratio.
            RuntimeError: without samples.
        """
        if (
            isinstance(mask_ratio, torch.Tensor) or noise is not None
        ):  # ViTMAE hands over noise in second place
            raise ValueError("masks come from the sampler: call the model without noise")
        kept = self.sampler.visible_per_sample
        if mask_ratio is not None and mask_ratio != self.sampler.mask_ratio:
            wanted = int(self.sampler.num_tokens * (1 - mask_ratio))
            if wanted != kept:
                raise ValueError(
                    f"mask_ratio {mask_ratio} leaves {wanted} tokens visible, the sampler {kept}: give the model "
                    "the sampler's ratio, or make the sampler with the model's"
                )
        masks = self.masks_for(x, "mask,ids_keep,ids_restore")
        return (
            self.visible(x, masks.need("ids_keep")),
            masks.need("mask").to(x.dtype),
            masks.need("ids_restore"),
        )


def replace_random_masking(model: torch.nn.Module, sampler: Sampler) -> RandomMasking:
    """Put a `RandomMasking` in the place of the model's method, and return it. TypeError if it has no such method."""
    if not callable(getattr(type(model), "random_masking", None)):
        raise TypeError(
            f"{type(model).__name__} has no method random_masking; for transformers' ViTMAE pass model.vit.embeddings"
        )
    masking = RandomMasking(sampler)
    # Not as an attribute: a module's children are looked up after the methods of its class.
    model.__dict__["random_masking"] = masking
    return masking
