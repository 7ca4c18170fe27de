# SPDX-License-Identifier: Apache-2.0
"""A mask of one frame, shown in every time step: tubes (contract/extensions.md, 6). Plain arithmetic on tensors, so
that it runs wherever they are, compiles, and can be captured."""

from __future__ import annotations

import torch

from ..masks import MaskBatch
from ..spec import as_int


def repeat_frames(masks: MaskBatch, times: int, visible: int) -> MaskBatch:
    """Masks of grid (1, H, W) as those of grid (times, H, W): every frame shows the same `visible` tokens."""
    _, height, width = masks.grid
    frame = height * width
    t = torch.arange(times, device=masks.device)[:, None]

    def of_each_frame(ids):
        return None if ids is None else (ids[:, None] + t * frame).flatten(1)

    mask, restore = masks.mask, masks.ids_restore
    if restore is not None:
        # A CPU multiplies 32-bit integers several times faster; a sample has fewer than 2^31 tokens.
        first = restore.int()
        hidden = (first >= visible).int()
        first = torch.add(first, hidden, alpha=(times - 1) * visible)
        step = hidden * (frame - 2 * visible) + visible
        restore = torch.addcmul(first[:, None], t.int(), step[:, None]).long().flatten(1)
    return MaskBatch(
        None if mask is None else mask[:, None].expand(-1, times, -1).flatten(1),
        of_each_frame(masks.ids_keep),
        of_each_frame(masks.ids_mask),
        restore,
        (times, height, width),
        times * visible,
    )


def visible_per_frame(sampler, grid: tuple[int, int, int]) -> int:
    """The count of each frame, from a ratio (of a frame) or from a num_visible of all frames together."""
    frames, tokens = grid[0], grid[1] * grid[2]
    visible = sampler._resolve_visible(tokens)
    if sampler.num_visible is None:
        return visible
    visible = as_int("num_visible", visible, 1, frames * tokens - 1)
    if visible % frames:
        lower = visible // frames * frames
        near = [n for n in (lower, lower + frames) if 0 < n < frames * tokens]
        raise ValueError(
            f"num_visible must be a multiple of the {frames} frames, each of which shows the same number of tokens; "
            f"got {visible}, nearest: {' or '.join(map(str, near))}"
        )
    return visible // frames
