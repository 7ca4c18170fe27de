# SPDX-License-Identifier: Apache-2.0
"""What modules inside of a model share: they are called with tokens alone, so samples are handed to them beforehand."""

from __future__ import annotations

import torch

from ..masks import MaskBatch
from ..samplers import Sampler


class SampledModule(torch.nn.Module):
    """Base of modules that stand in a model where masks are drawn.

    Set `samples`, int64 [B], before each forward pass: a global sample number for each row, as `smnoise.sample_indices`
    makes them. A pass uses them up, so that no two steps have the same masks because a line was forgotten.
    """

    samples: torch.Tensor | None

    def __init__(self, sampler: Sampler):
        super().__init__()
        self.sampler = sampler
        self.samples = None

    def masks_for(self, tokens: torch.Tensor, outputs: str) -> MaskBatch:
        """Masks for tokens [B, L, D]. Raises RuntimeError without samples, ValueError where shapes do not fit."""
        if self.samples is None:
            raise RuntimeError(
                f"{type(self).__name__}.samples is not set: give it the sample numbers of the batch, int64 [B], "
                "before each forward pass (smnoise.sample_indices makes them from step and rank)"
            )
        if tokens.dim() != 3 or tokens.shape[1] != self.sampler.num_tokens:
            raise ValueError(
                f"the sampler's grid {tuple(self.sampler.grid)} has {self.sampler.num_tokens} tokens, the model has "
                f"{list(tokens.shape)} [B, L, D]; make the sampler for the model's grid"
            )
        samples, self.samples = self.samples, None
        if len(samples) != len(tokens):
            raise ValueError(f"{len(samples)} samples were set for a batch of {len(tokens)}")
        if isinstance(samples, torch.Tensor):
            samples = samples.to(tokens.device, non_blocking=True)
        return self.sampler(samples, device=tokens.device, outputs=outputs)


def gather(tokens: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Tokens [B, L, D] by number [B, V]: [B, V, D]."""
    return tokens.gather(1, ids[..., None].expand(-1, -1, tokens.shape[2]))
