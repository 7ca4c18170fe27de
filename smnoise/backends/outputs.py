# SPDX-License-Identifier: Apache-2.0
"""The four outputs of a mask (contract section 6), for a batch of B samples of L tokens, V visible."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial

import torch
from torch._C._dynamo import guards

Four = Sequence[torch.Tensor | None]  # the outputs in the order of NAMES; None for what is not wanted
NAMES = ("mask", "ids_keep", "ids_mask", "ids_restore")


@lru_cache(maxsize=64)
def wanted_outputs(outputs: str) -> tuple[str, ...]:
    """The names in a comma-separated list; ValueError for a name that is none of the four."""
    names = tuple(n.strip() for n in outputs.split(","))
    for name in names:
        if name not in NAMES:
            raise ValueError(f"outputs must be a comma-separated list of {', '.join(NAMES)}; got {name!r}")
    return tuple(n for n in NAMES if n in names)


def maker(device: str) -> Callable:
    """What makes an uninitialised tensor of (shape, strides, dtype) on the current device of a type: what torch's
    compiler has for the code that it writes, in less than half of torch.empty's time."""
    made = getattr(guards, f"_empty_strided_{device}", None)
    return partial(_strided, device) if made is None else made


def _strided(device: str, shape: Sequence[int], strides: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    """For a torch that has that no more."""
    return torch.empty_strided(shape, strides, dtype=dtype, device=device)


def four(tokens: int, visible: int, wanted) -> tuple[tuple[int, tuple[int, int], torch.dtype] | None, ...]:
    """Width, strides and dtype of each of NAMES; None for what is not wanted."""
    found = {n: (width, (max(width, 1), 1), dtype) for n, width, dtype in places(tokens, visible, wanted)}
    return tuple(map(found.get, NAMES))


def allocate(batch, tokens: int, visible: int, wanted, device="cpu") -> dict[str, torch.Tensor]:
    """Uninitialised tensors for the wanted outputs: mask bool [B, L], ids_keep int64 [B, V], ids_mask
    int64 [B, L - V], ids_restore int64 [B, L]."""
    return {
        name: torch.empty((batch, width), dtype=dtype, device=device)
        for name, width, dtype in places(tokens, visible, wanted)
    }


def places(tokens: int, visible: int, wanted) -> tuple[tuple[str, int, torch.dtype], ...]:
    """Name, width and dtype of the wanted outputs."""
    widths = {"mask": tokens, "ids_keep": visible, "ids_mask": tokens - visible, "ids_restore": tokens}
    return tuple((n, widths[n], torch.bool if n == "mask" else torch.int64) for n in wanted)


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
