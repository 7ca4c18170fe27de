# SPDX-License-Identifier: Apache-2.0
"""Dual masking (VideoMAEv2, CVPR 2023): the decoder, too, works on a part of the tokens, which a sampler chooses.

    masks = smnoise.Green3D(grid, 0.9, seed=0)(samples)
    decode = smnoise.RunningCell(grid, 0.5, seed=1)(samples)     # another seed, or the two go together
    loss, prediction = model(pixels, dual(masks, decode, masks.num_masked // 2))

Polarity: what the second mask *shows* (its ids_keep) is decoded, what it masks is not. Tokens that the encoder sees are
never decoded, and just `num_decoded` hidden ones are in every sample, so that shapes do not depend on the masks.
VideoMAEv2 also decodes those that the encoder sees, for nothing, as they have no part in its loss; and how many of the
others are decoded differs from clip to clip.
"""

from __future__ import annotations

from math import gcd
from typing import NamedTuple

import torch

from . import ops
from .masks import MaskBatch
from .spec import as_int

LARGEST = 1 << 22  # tokens; scores are below three times as many, and float32 holds each exactly


class DualMasks(NamedTuple):
    """What a model with dual masking is given; `dual` makes it."""

    encoder: MaskBatch
    """What the encoder sees."""
    ids_decode: torch.Tensor
    """int64 [B, D], ascending: the tokens that are decoded, all hidden from the encoder."""

    def to(self, device, non_blocking: bool = False) -> DualMasks:
        """Return the masks on another device."""
        return DualMasks(
            self.encoder.to(device, non_blocking=non_blocking),
            self.ids_decode.to(device, non_blocking=non_blocking),
        )


def dual(encoder: MaskBatch, decoder: MaskBatch, num_decoded: int) -> DualMasks:
    """Choose `num_decoded` of the tokens hidden from the encoder in every sample, at first those that `decoder` shows.

    >>> masks = smnoise.Green3D((8, 14, 14), 0.9, seed=0)([0, 1])
    >>> decode = smnoise.RunningCell((8, 14, 14), 0.5, seed=1)([0, 1])
    >>> dual(masks, decode, masks.num_masked // 2).ids_decode.shape
    torch.Size([2, 706])

    If `decoder` shows more of the hidden tokens than that, some are left out; if it shows fewer, some that it masks are
    decoded too. Which ones is settled by a walk over all tokens in big steps, so that they lie apart, from a place that
    depends on the sample, so that no token is preferred: token i has number

        (i * stride + sum of encoder's ids_keep) mod L,

    stride being the first number from floor(0.618 L) on without a common divisor with L, and larger numbers win. All of
    it is integers, and the choice is `smnoise.ops.threshold`: the same bits everywhere, no wait for a GPU. It is a
    function of the two masks, and so of their (seed, sample, parameters).

    Args:
        encoder, decoder: masks of the same samples and grid, on one device, with mask; the encoder's with ids_keep.
            Give their samplers different seeds: from one seed both are cut from the same noise.
        num_decoded: 1 .. encoder.num_masked; of all hidden tokens, `decoder` does not matter.

    Raises:
        TypeError, ValueError: for masks that do not belong together, and counts that cannot be.
    """
    for masks in (encoder, decoder):
        if not isinstance(masks, MaskBatch):
            raise TypeError(f"expected two MaskBatch, as samplers return them, got {type(masks).__name__}")
    if encoder.grid != decoder.grid or encoder.batch_size != decoder.batch_size:
        raise ValueError(
            f"expected two masks for the same samples and grid, got {encoder.batch_size} for {encoder.grid} and "
            f"{decoder.batch_size} for {decoder.grid}"
        )
    if encoder.device != decoder.device:
        raise ValueError(f"masks are on {encoder.device} and {decoder.device}; move them to one device first")
    tokens = encoder.num_tokens
    if tokens > LARGEST:
        raise ValueError(f"at most {LARGEST} tokens are supported, got {tokens}")
    num_decoded = as_int("num_decoded", num_decoded, 1, encoder.num_masked)
    hidden = encoder.need("mask")
    wanted = hidden & ~decoder.need("mask")
    start = encoder.need("ids_keep").sum(dim=1, keepdim=True)
    number = (torch.arange(tokens, device=hidden.device) * stride_of(tokens) + start) % tokens
    scores = number + tokens * (hidden.long() + wanted.long())
    _, ids_decode, _, _ = ops.threshold(scores.float(), num_decoded, outputs="ids_keep")
    return DualMasks(encoder, ids_decode)


def stride_of(tokens: int) -> int:
    """About 0.618 of the tokens, so that those whose numbers follow each other are spread evenly."""
    stride = max(1, tokens * 618 // 1000)
    while gcd(stride, tokens) > 1:
        stride += 1
    return stride
