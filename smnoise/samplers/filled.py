# SPDX-License-Identifier: Apache-2.0
"""Masks that are written into tensors that there are, and ids of 32 bits."""

from __future__ import annotations

from itertools import pairwise

import torch

from ..backends.outputs import NAMES, wanted_outputs
from ..masks import MaskBatch
from ..ops import ALL_OUTPUTS
from .indices import eager, plain

IDS = (torch.int64, torch.int32)


def check_ids_dtype(dtype) -> None:
    """Raises ValueError for what ids cannot be."""
    if dtype is not None and dtype not in IDS:
        raise ValueError(f"ids_dtype must be torch.int64 or torch.int32, got {dtype!r}")


def outputs_of(out, outputs: str, ids_dtype, grid: tuple[int, ...], visible: int) -> str:
    """The outputs that are to be made for `out`, all it has. Raises TypeError or ValueError where `out` is no place for
    masks of that grid, or where other outputs or another dtype were asked for."""
    if not isinstance(out, MaskBatch):
        raise TypeError(f"out must be a MaskBatch, such as an earlier call gave; got {type(out).__name__}")
    names = tuple(name for name in NAMES if getattr(out, name) is not None)
    if outputs != ALL_OUTPUTS and wanted_outputs(outputs) != names:
        raise ValueError(
            f"out has {','.join(names)}, but outputs={outputs!r} was asked for; leave outputs out"
        )
    if (out.grid, out.num_visible) != (grid, visible):
        raise ValueError(
            f"out is for grid {out.grid} with {out.num_visible} visible tokens, the sampler's masks have {grid} with "
            f"{visible}; give what this sampler made"
        )
    if ids_dtype is not None and any(t.dtype != ids_dtype for t in _ids(out)):
        raise ValueError(f"out has ids of other dtypes than ids_dtype={ids_dtype}; leave ids_dtype out")
    return ",".join(names)


def check_out(out: MaskBatch, batch: int, device: torch.device) -> None:
    """Raises TypeError or ValueError where the tensors of `out` cannot take masks of `batch` samples on that device."""
    tokens, visible = out.num_tokens, out.num_visible
    widths = {"mask": tokens, "ids_keep": visible, "ids_mask": tokens - visible, "ids_restore": tokens}
    for name, width in widths.items():
        tensor = getattr(out, name)
        if tensor is None:
            continue
        allowed = (torch.bool,) if name == "mask" else IDS
        if tensor.dtype not in allowed:
            raise TypeError(f"out.{name} must be {' or '.join(map(str, allowed))}, got {tensor.dtype}")
        if tuple(tensor.shape) != (batch, width):
            raise ValueError(f"out.{name} must have shape {(batch, width)}, got {tuple(tensor.shape)}")
        if tensor.device != device:
            raise ValueError(f"out.{name} is on {tensor.device}, the masks are made on {device}")
        if not tensor.is_contiguous():
            raise ValueError(f"out.{name} must be contiguous; give a tensor of its own, no part of another")
    if device.type != "meta" and eager() and all(plain(tensor) for tensor in out.tensors):
        places = sorted((t.data_ptr(), t.data_ptr() + t.nbytes) for t in out.tensors)
        if any(end > begin for (_, end), (begin, _) in pairwise(places)):
            raise ValueError("the tensors of out share memory; give each of them its own")


def direct(out: MaskBatch) -> tuple[torch.Tensor | None, ...] | None:
    """Return the four tensors of `out`, mask bool [B, L] and ids int64 [B, N], where a backend can write into them
    itself; None where ids have 32 bits.
    """
    return None if any(t.dtype != torch.int64 for t in _ids(out)) else out[:4]


def finished(masks: MaskBatch, ids_dtype, out: MaskBatch | None) -> MaskBatch:
    """Masks of a backend, whose ids are int64, as they were asked for."""
    if out is not None:
        for name in NAMES:
            if (tensor := getattr(out, name)) is not None and tensor is not getattr(masks, name):
                tensor.copy_(getattr(masks, name))
        return out
    if ids_dtype is None or ids_dtype == torch.int64:
        return masks
    keep, hide, restore = (None if v is None else v.to(ids_dtype) for v in masks[1:4])
    return MaskBatch(masks.mask, keep, hide, restore, masks.grid, masks.num_visible)


def _ids(out: MaskBatch) -> tuple[torch.Tensor, ...]:
    return tuple(v for v in out[1:4] if v is not None)
