# SPDX-License-Identifier: Apache-2.0
"""What a sampler returns: a batch of masks that knows its grid, its counts and its polarity."""

from __future__ import annotations

from typing import NamedTuple

import torch

from .tensors import as_device


class _Fields(NamedTuple):
    mask: torch.Tensor | None
    ids_keep: torch.Tensor | None
    ids_mask: torch.Tensor | None
    ids_restore: torch.Tensor | None
    grid: tuple[int, int, int]
    num_visible: int


class MaskBatch(_Fields):
    """Masks of B samples over a grid of L = T * H * W tokens, V of them visible in every sample.

    Tokens are numbered t, y, x with x fastest. Outputs that were not asked for are None.

        mask:        bool [B, L], True = masked (hidden from the encoder)
        ids_keep:    int64 [B, V], the visible tokens, ascending
        ids_mask:    int64 [B, L - V], the masked tokens, ascending
        ids_restore: int64 [B, L], with gather(cat(x[ids_keep], x[ids_mask]), ids_restore) = x
        grid:        (T, H, W)
        num_visible: V, visible tokens per sample

    >>> import smnoise
    >>> masks = smnoise.White3D((1, 2, 3), num_visible=2)([0])
    >>> masks.ids_keep.tolist(), masks.ids_mask.tolist(), masks.ids_restore.tolist()
    ([[1, 3]], [[0, 2, 4, 5]], [[2, 0, 3, 1, 4, 5]])
    >>> masks.volume().int().tolist(), masks.num_masked
    ([[[[1, 0, 1], [0, 1, 1]]]], 4)
    """

    __slots__ = ()

    def __new__(cls, mask, ids_keep, ids_mask, ids_restore, grid, num_visible) -> MaskBatch:
        # Loaders that pin or convert a batch rebuild tuples as lists.
        if isinstance(grid, (list, torch.Size)):
            grid = tuple(grid)
        if isinstance(grid, tuple) and any(isinstance(n, torch.Tensor) and n.numel() > 1 for n in grid):
            raise TypeError(
                "a MaskBatch is already a batch, and cannot be collated with others: give the data set's items their "
                "masks with smnoise.adapters.dataloader.MaskCollate, or collate the tensors that you need"
            )
        return super().__new__(cls, mask, ids_keep, ids_mask, ids_restore, grid, num_visible)

    @classmethod
    def _make(cls, iterable):  # type: ignore[override]  # of a plainer type
        return cls(*iterable)  # the inherited one, and _replace with it, would pass __new__ by

    @property
    def num_tokens(self) -> int:
        """L, tokens per sample."""
        t, h, w = self.grid
        return t * h * w

    @property
    def num_masked(self) -> int:
        """L - V, masked tokens per sample."""
        return self.num_tokens - self.num_visible

    @property
    def tensors(self) -> tuple[torch.Tensor, ...]:
        """The outputs that were asked for."""
        return tuple(v for v in self[:4] if v is not None)

    @property
    def batch_size(self) -> int:
        return self.tensors[0].shape[0]

    @property
    def device(self) -> torch.device:
        return self.tensors[0].device

    def bool_masked_pos(self) -> torch.Tensor:
        """bool [B, L], True = masked: the argument of that name of Hugging Face's VideoMAEForPreTraining, and
        VideoMAE's own mask."""
        return self.need("mask")

    def mae(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """MAE's (mask, ids_restore, ids_keep): mask float32 [B, L], 1 = removed, 0 = kept."""
        return self.need("mask").float(), self.need("ids_restore"), self.need("ids_keep")

    def volume(self) -> torch.Tensor:
        """The mask as bool [B, T, H, W], True = masked."""
        return self.need("mask").unflatten(1, self.grid)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> MaskBatch:
        """The same masks on another device."""
        device = as_device(device)  # no dtype: ids and masks keep theirs
        mask, keep, hide, restore = (
            v if v is None else v.to(device, non_blocking=non_blocking) for v in self[:4]
        )
        return MaskBatch(mask, keep, hide, restore, self.grid, self.num_visible)

    def need(self, name: str) -> torch.Tensor:
        """One of the outputs. Raises ValueError if it was not asked for."""
        value = getattr(self, name)
        if value is None:
            raise ValueError(f"{name} was not computed: include it in the sampler call's outputs")
        return value


def check_masks(masks) -> None:
    """Raises TypeError for what no sampler gives."""
    if not isinstance(masks, MaskBatch):
        raise TypeError(
            f"masks must be a MaskBatch, what a sampler gives, not its tensors; got {type(masks).__name__}"
        )
