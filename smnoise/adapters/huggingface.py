# SPDX-License-Identifier: Apache-2.0
"""Masks for transformers' VideoMAEForPreTraining.

    >>> from transformers import VideoMAEConfig
    >>> from smnoise import Green3D
    >>> config = VideoMAEConfig()
    >>> sampler = Green3D(grid_of(config), mask_ratio=0.9)
    >>> bool_masked_pos = checked(sampler(batch_size=4, step=0).bool_masked_pos(), config)
    >>> bool_masked_pos.shape, int(bool_masked_pos[0].sum())
    (torch.Size([4, 1568]), 1412)

then `model(pixel_values, bool_masked_pos=bool_masked_pos)`. The model picks tokens with a boolean index and folds what
it gets into rows of equal length. Rows with unequal counts are therefore cut at the wrong places, so that tokens of one
clip end up in another, without an error; integers instead of booleans pick other tokens. `checked` refuses both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ..spec import as_int
from ..tensors import check_tensors

if TYPE_CHECKING:
    from transformers import VideoMAEConfig


def grid_of(config: VideoMAEConfig) -> tuple[int, int, int]:
    """Return the tokens of a clip along (T, H, W). Raises ValueError where cubes do not divide the clip."""
    height, width = _pair(config.image_size)
    down, across = _pair(config.patch_size)
    if config.num_frames % config.tubelet_size or height % down or width % across:
        raise ValueError(
            f"a clip of {config.num_frames} frames of {height} x {width} pixels is no whole number of cubes of "
            f"{config.tubelet_size} x {down} x {across}; change num_frames, image_size or patch_size of the config"
        )
    return config.num_frames // config.tubelet_size, height // down, width // across


def checked(
    bool_masked_pos: torch.Tensor, config: VideoMAEConfig, num_masked: int | None = None
) -> torch.Tensor:
    """Check that masks, wherever they come from, mean what the model takes them for, and return them as they are.

    Args:
        bool_masked_pos: bool [B, L], True = masked, of the L tokens of the config's clips.
        config: the model's.
        num_masked: True values that each row must have. None: any number of at least half of L, so that a mask with
            True for visible tokens is found out.

    The host waits for the device once if the masks are not on the CPU.

    Raises:
        TypeError: for anything but booleans.
        ValueError: for another shape, rows with unequal counts, another count, or an inverted mask.
    """
    check_tensors(bool_masked_pos=bool_masked_pos)
    if bool_masked_pos.dtype != torch.bool:
        raise TypeError(
            f"bool_masked_pos must be bool, True = masked, got {bool_masked_pos.dtype}; as an index anything "
            "else picks other tokens: convert with .bool()"
        )
    tokens = _tokens(config)
    if num_masked is not None:
        num_masked = as_int("num_masked", num_masked, 1, tokens - 1)
    if bool_masked_pos.dim() != 2 or bool_masked_pos.shape[1] != tokens or not len(bool_masked_pos):
        raise ValueError(
            f"bool_masked_pos must have shape [B, {tokens}], the grid {grid_of(config)} in one row; "
            f"got {list(bool_masked_pos.shape)}"
        )
    counts = bool_masked_pos.sum(1).tolist()
    if min(counts) != max(counts):
        row = next(i for i, n in enumerate(counts) if n != counts[0])
        raise ValueError(
            f"every row must mask the same number of tokens, or the model mixes clips: row 0 masks {counts[0]}, "
            f"row {row} masks {counts[row]}"
        )
    count = counts[0]
    if count in (0, tokens):
        raise ValueError(f"some tokens must be masked and some visible, got {count} of {tokens} masked")
    if (2 * count < tokens) if num_masked is None else (count == tokens - num_masked and count != num_masked):
        raise ValueError(
            f"{count} of {tokens} tokens are True, which means masked here; the mask looks inverted: pass "
            f"~mask, or num_masked={count} if so few are to be masked"
        )
    if num_masked is not None and count != num_masked:
        raise ValueError(f"every row must mask {num_masked} tokens, got {count}")
    return bool_masked_pos


def _tokens(config: VideoMAEConfig) -> int:
    t, h, w = grid_of(config)
    return t * h * w


def _pair(size) -> tuple[int, int]:
    """transformers allows one number, or two (height, width)."""
    height, width = size if isinstance(size, (list, tuple)) else (size, size)
    return height, width
