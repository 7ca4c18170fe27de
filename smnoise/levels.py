# SPDX-License-Identifier: Apache-2.0
"""Several disjoint sets of tokens from one ranking, a set cut into several, and distances to a set (extension 10).

All of it is made of `smnoise.ops.threshold` and of integers, so that counts are exact and bits are the same everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from . import ops
from .ops._library import check_scores
from .spec import as_int


class Levels(NamedTuple):
    """Disjoint sets of tokens. What is in none of them is the guard band."""

    top: tuple[Tensor, ...]
    """int64 [B, n] each, ascending: the sets counted from the largest score on."""
    bottom: tuple[Tensor, ...]
    """int64 [B, n] each, ascending: the sets counted from the smallest score on."""


def levels(
    scores: Tensor, top: Sequence[int] = (), bottom: Sequence[int] = (), backend: str = "auto"
) -> Levels:
    """Rank the tokens of each sample by their scores and take sets of just so many, from the top and from the bottom.

    >>> found = levels(torch.tensor([[0.1, 0.7, 0.2, 0.9, 0.3]]), top=(1, 1), bottom=(2,))
    >>> [ids.tolist() for ids in found.top], [ids.tolist() for ids in found.bottom]
    ([[[3]], [[1]]], [[[0, 2]]])

    Args:
        scores: float32 [B, L]; keys as in `smnoise.ops.threshold`; of equal scores the lower token ranks higher.
        top: sizes of the sets that follow each other from the largest score on; 1 .. L - 1 each.
        bottom: of those from the smallest score on. All sizes together are at most L.
        backend: as in `smnoise.ops.color_mask`.

    Raises TypeError or ValueError for sizes that are none, or for sets that would overlap.
    """
    check_scores(scores)
    tokens = scores.shape[1]
    sizes = [_sizes(name, given, tokens) for name, given in (("top", top), ("bottom", bottom))]
    wanted = sum(map(sum, sizes))
    if not wanted:
        raise ValueError("levels needs the size of at least one set: top=(n,) or bottom=(n,)")
    if wanted > tokens:
        raise ValueError(
            f"the sets overlap: {' + '.join(map(str, sizes[0] + sizes[1]))} = {wanted} tokens of {tokens}; take fewer"
        )
    masks: dict[int, Tensor] = {}

    def beyond(cut: int) -> Tensor:
        """bool [B, L], True for the tokens whose rank is `cut` or more."""
        if cut not in masks:
            masks[cut] = ops.threshold(scores, cut, 1, backend, "mask")[0]
        return masks[cut]

    def between(first: int, last: int) -> Tensor:
        """The tokens of ranks first .. last - 1, of which not all are asked for."""
        if first == 0:
            return ops.threshold(scores, last, 1, backend, "ids_keep")[1]
        if last == tokens:
            return ops.threshold(scores, first, 1, backend, "ids_mask")[2]
        inside = beyond(first) & ~beyond(last)
        return ops.threshold(inside.float(), last - first, 1, backend, "ids_keep")[1]

    found: tuple[list[Tensor], list[Tensor]] = ([], [])
    for side, counts in enumerate(sizes):
        at = 0
        for count in counts:
            first, last = (at, at + count) if side == 0 else (tokens - at - count, tokens - at)
            found[side].append(between(first, last))
            at += count
    return Levels(tuple(found[0]), tuple(found[1]))


def _sizes(name: str, given, tokens: int) -> list[int]:
    if not hasattr(given, "__iter__") or isinstance(given, (str, bytes)):
        raise TypeError(f"{name} must be sizes of sets, integers, got {given!r}")
    return [as_int(f"{name}[{i}]", size, 1, max(1, tokens - 1)) for i, size in enumerate(given)]


def split(ids: Tensor, fields: Tensor, backend: str = "auto") -> Tensor:
    """Cut a set of M * N tokens into M sets of N, each where its own field is large.

    Set j takes, of the tokens that are left, the N for which `fields[j] - max(fields[j + 1], .., fields[M - 1])` is
    largest (float32, ties to the lower token); the last set is what remains.

    >>> split(torch.tensor([[1, 2, 5, 6]]), torch.tensor([[[0, 1.0, 9, 0, 0, 8, 2], [0, 3, 0, 0, 0, 0, 0]]])).tolist()
    [[[2, 5], [1, 6]]]

    Args:
        ids: int64 [B, M * N], ascending, as `levels` gives them.
        fields: float32 [B, M, L], such as noise, on the same device. NaNs as in `smnoise.ops.add_bias`.
        backend: as in `smnoise.ops.color_mask`.

    Returns int64 [B, M, N], each set ascending.

    Raises TypeError or ValueError for what does not go together.
    """
    if fields.dtype != torch.float32 or ids.dtype != torch.int64:
        raise TypeError(f"split needs int64 ids and float32 fields, got {ids.dtype} and {fields.dtype}")
    if fields.dim() != 3 or ids.dim() != 2 or len(ids) != len(fields) or not fields.shape[1]:
        raise ValueError(
            f"split needs ids [B, M * N] and fields [B, M, L], got {tuple(ids.shape)} and {tuple(fields.shape)}"
        )
    sets = fields.shape[1]
    if not ids.shape[1] or ids.shape[1] % sets:
        raise ValueError(f"{ids.shape[1]} tokens cannot be cut into {sets} sets of equal size")
    size, rest, parts = ids.shape[1] // sets, ids, []
    for j in range(sets - 1):
        values = fields[:, j:].gather(2, rest[:, None].expand(-1, sets - j, -1))
        lead = ops.add_bias(values[:, 0], values[:, 1:].amax(1), -1.0, backend)
        _, own, others, _ = ops.threshold(lead, size, 1, backend, "ids_keep,ids_mask")
        parts.append(rest.gather(1, own))
        rest = rest.gather(1, others)
    return torch.stack([*parts, rest], dim=1)


def distance_to(members: Tensor) -> Tensor:
    """The city-block distance of each token to the nearest member of a set: |dt| + |dy| + |dx|, 0 for a member.

    >>> distance_to(torch.tensor([[[[True, False, False], [False, False, False]]]])).tolist()
    [[[[0, 1, 2], [1, 2, 3]]]]

    Args:
        members: bool [B, T, H, W], True for the tokens of the set: of masks the visible ones are `~masks.volume()`.

    Returns int64 [B, T, H, W], on the device of the members; nothing waits for it. T + H + W everywhere in a sample
    whose set is empty.

    Raises TypeError or ValueError for what is no such tensor.
    """
    if not isinstance(members, Tensor) or members.dtype != torch.bool:
        came = f"a tensor of {members.dtype}" if isinstance(members, Tensor) else type(members).__name__
        raise TypeError(f"members must be a bool tensor [B, T, H, W], got {came}")
    if members.dim() != 4:
        raise ValueError(f"members must have shape [B, T, H, W], got {tuple(members.shape)}")
    none = sum(members.shape[1:])
    found = torch.where(members, 0, none)
    for axis in (1, 2, 3):
        at = torch.arange(members.shape[axis], device=members.device).view([-1] + [1] * (3 - axis))
        before = (found - at).cummin(
            axis
        ).values + at  # the nearest one of those before, and the token itself
        behind = (found + at).flip(axis).cummin(axis).values.flip(axis) - at
        found = torch.minimum(before, behind)
    return found.clamp(max=none)
