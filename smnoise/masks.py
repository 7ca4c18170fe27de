# SPDX-License-Identifier: Apache-2.0
"""What a sampler returns: a batch of masks that knows its grid, its counts and its polarity."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from . import ops
from .spec import as_choice, as_grid, as_ratio, visible_of_ratio, with_ones
from .spec.checks import as_visible
from .tensors import as_device, check_tensors


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

    @classmethod
    def from_mask(cls, mask: torch.Tensor, grid: tuple[int, ...] | None = None) -> MaskBatch:
        """Masks that you have made yourself, with the ids that the package's models and adapters read.

        >>> MaskBatch.from_mask(torch.tensor([[True, False, True, False]])).ids_keep.tolist()
        [[1, 3]]

        Args:
            mask: bool [B, L] or [B, T, H, W], True = masked; the same number of tokens visible in every row. To check
                that, the call waits for a GPU once.
            grid: tokens along (T, H, W), (H, W) or (L,); by default the mask's own axes.

        Raises:
            TypeError, ValueError: for what is no such mask.
        """
        if not isinstance(mask, torch.Tensor) or mask.dtype != torch.bool:
            came = f"a tensor of {mask.dtype}" if isinstance(mask, torch.Tensor) else type(mask).__name__
            raise TypeError(f"mask must be a bool tensor, True = masked; got {came}")
        check_tensors(mask=mask)
        if mask.dim() < 2 or not mask.shape[0]:
            raise ValueError(
                f"mask must have shape [B, L] or [B, T, H, W], B at least 1; got {tuple(mask.shape)}"
            )
        counts = (~mask.flatten(1)).sum(dim=1)
        if (most := int(counts.max())) != (least := int(counts.min())):
            raise ValueError(f"every row must show the same number of tokens; these show {least} to {most}")
        return cls.from_scores((~mask).float(), num_visible=most, grid=grid)

    @classmethod
    def from_scores(
        cls,
        scores: torch.Tensor,
        mask_ratio: float | None = None,
        *,
        num_visible: int | None = None,
        per: str = "clip",
        grid: tuple[int, ...] | None = None,
    ) -> MaskBatch:
        """Masks with an exact count, cut from scores: the largest stay visible, ties to the lower token (contract, 6).

        >>> MaskBatch.from_scores(torch.tensor([[0.1, 0.7, 0.7, 0.3]]), 0.75).mask.tolist()
        [[True, False, True, True]]

        Args:
            scores: float32 [B, L] or [B, T, H, W], on any device; nothing waits for it. A NaN ranks by its bits, beyond
                the infinities.
            mask_ratio: share of tokens that is masked, in (0, 1), read as the decimal it is written as.
            num_visible: visible tokens per sample, instead of a ratio; per="frame": a multiple of T.
            per: "clip", or "frame" to rank each time step by itself.
            grid: tokens along (T, H, W), (H, W) or (L,); by default the scores' own axes.

        Raises:
            TypeError, ValueError: for scores, counts or a grid that do not go together.
        """
        if not isinstance(scores, torch.Tensor) or scores.dim() < 2:
            came = (
                f"shape {tuple(scores.shape)}" if isinstance(scores, torch.Tensor) else type(scores).__name__
            )
            raise TypeError(f"scores must be a tensor [B, L] or [B, T, H, W], got {came}")
        t, h, w = as_grid(with_ones(tuple(scores.shape[1:]) if grid is None else grid))
        if (tokens := t * h * w) != (there := math.prod(scores.shape[1:])):
            raise ValueError(f"grid {(t, h, w)} has {tokens} tokens, the scores have {there}")
        if (mask_ratio is None) == (num_visible is None):
            raise ValueError("give either mask_ratio or num_visible (just one of them)")
        groups = t if as_choice("per", per, ("clip", "frame")) == "frame" else 1
        if num_visible is None:
            visible = visible_of_ratio(tokens // groups, as_ratio(mask_ratio))
        elif as_visible(num_visible, tokens, "clip") % groups:
            raise ValueError(f'num_visible must be a multiple of T = {t} with per="frame", got {num_visible}')
        else:
            visible = num_visible // groups
        visible = as_visible(visible, tokens // groups, per)
        return cls(*ops.threshold(scores.flatten(1), visible, groups), (t, h, w), groups * visible)

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
        """The outputs that were asked for: mask, bool [B, L], and the ids, int64, in the order of the fields."""
        return tuple(v for v in self[:4] if v is not None)

    @property
    def batch_size(self) -> int:
        """B, the number of samples."""
        return self.tensors[0].shape[0]

    @property
    def device(self) -> torch.device:
        """The device that the masks are on."""
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
        """Return the masks on another device. With non_blocking=True the host does not wait for a copy from pinned
        memory.
        """
        device = as_device(device)  # no dtype: ids and masks keep theirs
        mask, keep, hide, restore = (
            v if v is None else v.to(device, non_blocking=non_blocking) for v in self[:4]
        )
        return MaskBatch(mask, keep, hide, restore, self.grid, self.num_visible)

    def need(self, name: str) -> torch.Tensor:
        """Return one of the outputs by its name: mask, bool [B, L], or ids, int64 [B, V], [B, L - V] or [B, L].

        Raises ValueError if it was not asked for.
        """
        value = getattr(self, name)
        if value is None:
            raise ValueError(f"{name} was not computed: include it in the sampler call's outputs")
        return value


def check_masks(masks) -> None:
    """Raise TypeError for what no sampler gives."""
    if not isinstance(masks, MaskBatch):
        raise TypeError(
            f"masks must be a MaskBatch, what a sampler gives, not its tensors; got {type(masks).__name__}"
        )
