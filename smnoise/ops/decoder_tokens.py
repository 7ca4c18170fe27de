# SPDX-License-Identifier: Apache-2.0
"""smnoise::decoder_tokens: what a decoder starts from, visible tokens, mask tokens and positions put together.

One pass, no boolean indexing, no copy of positions or mask tokens. CPU: csrc/patches_cpu.h; Triton:
kernels/decoder_tokens.py.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..backends import choose
from ..tensors import check_tensors
from ._library import LIBRARY, register
from ._patches import as_ids, check_range


def decoder_tokens(
    visible: Tensor,
    mask_token: Tensor,
    positions: Tensor,
    ids_keep: Tensor,
    ids_mask: Tensor,
    *,
    in_grid: bool = False,
    backend: str = "auto",
) -> Tensor:
    """visible + positions[ids_keep], then mask_token + positions[ids_mask].

    >>> shown, hidden = torch.tensor([[2]]), torch.tensor([[0, 1]])
    >>> tokens = decoder_tokens(torch.full((1, 1, 1), 5.0), torch.zeros(1), torch.eye(3)[:, :1], shown, hidden)
    >>> tokens[0, :, 0].tolist()
    [5.0, 1.0, 0.0]

    Args:
        visible: [B, V, D], any floating type.
        mask_token: [D].
        positions: float32 [L, D]. No gradient.
        ids_keep, ids_mask: int64 or int32 [B, V] and [B, M], M > 0: tokens below L, none twice in a row of both.
        in_grid: each token at its own place, V + M = L, instead of visible ones first.
        backend: as in `color_mask`.

    Returns:
        float32 [B, V + M, D], differentiable in visible and mask_token.

    Raises:
        TypeError, ValueError for shapes, types and (on a CPU) ids that do not fit.
    """
    check_tensors(
        visible=visible, mask_token=mask_token, positions=positions, ids_keep=ids_keep, ids_mask=ids_mask
    )
    return torch.ops.smnoise.decoder_tokens(
        visible, mask_token, positions, as_ids(ids_keep), as_ids(ids_mask), in_grid, backend
    )


def _check(visible, mask_token, positions, ids_keep, ids_mask, in_grid):
    b, v, d = visible.shape if visible.dim() == 3 else (-1, -1, -1)
    if positions.dtype != torch.float32 or not (
        visible.is_floating_point() and mask_token.is_floating_point()
    ):
        raise TypeError(
            "visible and mask_token must be floating point and positions float32, got "
            f"{visible.dtype}, {mask_token.dtype} and {positions.dtype}"
        )
    if positions.dim() != 2 or d != positions.shape[1] or mask_token.shape != (d,):
        raise ValueError(
            "expected visible [B, V, D], mask_token [D], positions [L, D], got "
            f"{list(visible.shape)}, {list(mask_token.shape)}, {list(positions.shape)}"
        )
    for name, ids, count in (("ids_keep", ids_keep, v), ("ids_mask", ids_mask, "M")):
        if ids.dtype != torch.int64:
            raise TypeError(f"{name} must be int64, got {ids.dtype}; convert with {name}.long()")
        if ids.dim() != 2 or ids.shape[0] != b or not ids.shape[1] or count not in ("M", ids.shape[1]):
            raise ValueError(f"{name} must have shape [{b}, {count}], not empty, got {list(ids.shape)}")
    if in_grid and v + ids_mask.shape[1] != len(positions):
        raise ValueError(
            f"in_grid needs as many tokens as positions: {v} visible and {ids_mask.shape[1]} masked of {len(positions)}"
        )
    if len({t.device for t in (visible, mask_token, positions, ids_keep, ids_mask)}) > 1:
        raise ValueError("all tensors must be on one device")


def _decoder_tokens(visible, mask_token, positions, ids_keep, ids_mask, in_grid, backend="auto"):
    _check(visible, mask_token, positions, ids_keep, ids_mask, in_grid)
    for name, ids in (("ids_keep", ids_keep), ("ids_mask", ids_mask)):
        check_range(ids, len(positions), name)
    run = choose("decoder_tokens", backend, visible.device.type)
    return run(visible.detach(), mask_token.detach(), positions.detach(), ids_keep, ids_mask, in_grid)


def _fake(visible, mask_token, positions, ids_keep, ids_mask, in_grid, backend="auto"):
    _check(visible, mask_token, positions, ids_keep, ids_mask, in_grid)
    b, v, d = visible.shape
    return visible.new_empty((b, v + ids_mask.shape[1], d), dtype=torch.float32)


register(
    "decoder_tokens(Tensor visible, Tensor mask_token, Tensor positions, Tensor ids_keep, Tensor ids_mask, "
    "bool in_grid, str backend='auto') -> Tensor",
    _decoder_tokens,
    _fake,
)


def _setup(ctx, inputs, output):
    visible, mask_token, _, ids_keep, ids_mask, ctx.in_grid, _ = inputs
    ctx.types = visible.dtype, mask_token.dtype
    ctx.save_for_backward(ids_keep, ids_mask)


def _backward(ctx, gradient):
    ids_keep, ids_mask = ctx.saved_tensors
    width = gradient.shape[-1]
    if ctx.in_grid:
        shown, hidden = (
            gradient.gather(1, ids[..., None].expand(-1, -1, width)) for ids in (ids_keep, ids_mask)
        )
    else:
        shown, hidden = gradient.split([ids_keep.shape[1], ids_mask.shape[1]], dim=1)
    shown, hidden = shown.contiguous(), hidden.sum(dim=(0, 1))
    return shown.to(ctx.types[0]), hidden.to(ctx.types[1]), *[None] * 5


torch.library.register_autograd("smnoise::decoder_tokens", _backward, setup_context=_setup, lib=LIBRARY)
