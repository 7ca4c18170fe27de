# SPDX-License-Identifier: Apache-2.0
"""The four outputs of a mask (contract section 6), for a batch of B samples of L tokens, V visible."""

from __future__ import annotations

from collections.abc import Sequence

import torch

NAMES = ("mask", "ids_keep", "ids_mask", "ids_restore")


def allocate(batch, tokens: int, visible: int, wanted, device="cpu") -> dict[str, torch.Tensor]:
    """Uninitialised tensors for the wanted outputs: mask bool [B, L], ids_keep int64 [B, V], ids_mask
    int64 [B, L - V], ids_restore int64 [B, L]."""
    widths = {"mask": tokens, "ids_keep": visible, "ids_mask": tokens - visible, "ids_restore": tokens}
    types = {"mask": torch.bool}
    return {
        name: torch.empty((batch, widths[name]), dtype=types.get(name, torch.int64), device=device)
        for name in wanted
    }


def rows_of(op: str, spec) -> tuple[int, int, int]:
    """Of an op that makes masks: rows of a sample, tokens of a row, visible tokens of a row."""
    groups = spec.groups if op == "color_mask" else 1
    return spec.rows_per_sample if op == "optim_blue" else 1, groups * spec.tokens, groups * spec.visible


def filtered_shape(shape, radius: Sequence[int], wrap: bool) -> tuple[int, ...]:
    """Shape of a filtered volume [B, T, H, W]: the same if wrap, else without `radius` tokens at both ends."""
    batch, *size = shape
    return batch, *(n if wrap else n - 2 * r for n, r in zip(size, radius, strict=True))


def padded_outputs(batch, tokens: int, keep: int, hide: int, wanted, device="cpu") -> dict[str, torch.Tensor]:
    """Zeros for the wanted outputs of rows of several lengths: ids_keep [B, keep], ids_mask [B, hide]."""
    widths = {"mask": tokens, "ids_keep": keep, "ids_mask": hide, "ids_restore": tokens}
    types = {"mask": torch.bool}
    return {
        name: torch.zeros((batch, widths[name]), dtype=types.get(name, torch.int64), device=device)
        for name in wanted
    }
