# SPDX-License-Identifier: Apache-2.0
"""The contrast of clips and their sounds, over the batches of all processes."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F


class Contrast(NamedTuple):
    """float32 scalars."""

    loss: Tensor
    accuracy: Tensor
    """Share of the own clips whose sound is told from all others, without a gradient."""


def contrast(audio: Tensor, video: Tensor, temperature: float, both_directions: bool = False) -> Contrast:
    """InfoNCE of a batch of pairs: for each picture the cross entropy of its sound among all sounds, by cosine over
    temperature.

    With several processes all sounds are those of all processes, and the mean over the processes of the losses, which
    is what DistributedDataParallel's gradient is of, is the loss of the whole batch.

    >>> found = contrast(torch.eye(2), torch.eye(2).flip(0), temperature=1.0)
    >>> round(found.loss.item(), 4), found.accuracy.item()
    (1.3133, 0.0)

    Args:
        audio, video: [B, width] of pairs, any floating type; as many in each process.
        temperature: positive.
        both_directions: the mean of this and of the cross entropy of each sound's picture among all pictures.
    """
    audio, video = (F.normalize(features.float(), dim=1) for features in (audio, video))
    every_audio, every_video = gathered(audio), gathered(video)
    first = dist.get_rank() * len(audio) if len(every_audio) > len(audio) else 0
    own = torch.arange(first, first + len(audio), device=audio.device)
    logits = video @ every_audio.T / temperature
    loss = F.cross_entropy(logits, own)
    if both_directions:
        loss = (loss + F.cross_entropy(audio @ every_video.T / temperature, own)) / 2
    accuracy = (logits.detach().argmax(dim=1) == own).float().mean()
    return Contrast(loss, accuracy)


def gathered(features: Tensor) -> Tensor:
    """Gather the rows of all processes, in their order: features, float [B, width], become [processes * B, width],
    differentiable. Without several processes they are returned as they are.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return features
    return _Gather.apply(features)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, features):
        ctx.rows = len(features)
        parts = [torch.empty_like(features) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, features.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, gradient):
        # What the losses of all processes ask of these rows.
        total = gradient.contiguous()
        dist.all_reduce(total)
        first = dist.get_rank() * ctx.rows
        return total[first : first + ctx.rows]
