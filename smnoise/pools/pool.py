# SPDX-License-Identifier: Apache-2.0
"""A pool: K patterns made ahead, to draw masks from. Each is a mask, or noise that is at least as large as the grid."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ..backends import outside_capture
from ..spec import as_grid
from ..spec.checks import as_visible
from ..tensors import check_tensors

FORMAT, VERSION, CONTRACT = "smnoise pool", 1, 1
SLICE_BYTES = 1 << 22


class Pool:
    """What `MaskPool` and `NoisePool` have in common. A pool is not to be written to: its name is its hash.

    data: the patterns, on the CPU
    size: (T, H, W) of a pattern, in tokens
    periodic: the patterns are tori: a roll along t, y or x makes no seam
    source: what it was made from, anything that JSON can hold; for pools of a sampler {"sampler": ...}
    """

    kind: ClassVar[str]
    num_visible: int | None = None

    def __init__(self, data: Tensor, size: tuple[int, int, int], periodic: bool, source):
        if not isinstance(periodic, bool):
            raise TypeError(f"periodic must be True or False, got {periodic!r}")
        if not 0 < len(data) < 2**31:
            raise ValueError(f"a pool has 1 to {2**31 - 1} patterns, got {len(data)}")
        self.data = data.detach().cpu().contiguous()
        self.size, self.periodic = size, periodic
        self.source = json.loads(json.dumps(source, allow_nan=False))
        self._copies = {self.data.device: self.data}

    def __len__(self) -> int:
        """K, the number of patterns."""
        return len(self.data)

    def __eq__(self, other) -> bool:
        return isinstance(other, Pool) and self.sha256 == other.sha256

    def __hash__(self) -> int:
        return hash(self.sha256)

    def __getstate__(self) -> dict:
        # A process that unpickles it, such as a worker of a data loader, may lack the other devices.
        return {**self.__dict__, "_copies": {self.data.device: self.data}}

    def __repr__(self) -> str:
        visible = f", num_visible={self.num_visible}" if self.num_visible else ""
        return (
            f"{type(self).__name__}({len(self)} patterns of {self.size}{visible}, sha256={self.sha256[:12]})"
        )

    @property
    def nbytes(self) -> int:
        """Bytes of the patterns in memory, on each device that masks were drawn on."""
        return self.data.nbytes

    def header(self) -> dict:
        """Return what a file says of the pool, besides its hash."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "contract": CONTRACT,
            "kind": self.kind,
            "patterns": len(self),
            "size": list(self.size),
            "num_visible": self.num_visible,
            "periodic": self.periodic,
            "source": self.source,
        }

    @cached_property
    def sha256(self) -> str:
        """The pool's name: the hash of its header (JSON, keys sorted, no spaces) and of its data."""
        digest = hashlib.sha256(canonical(self.header()).encode())
        digest.update(self.data.numpy().data)
        return digest.hexdigest()

    def on(self, device: torch.device) -> Tensor:
        """Return the patterns on a device, with the shape and dtype of `data`; they are copied there the first time,
        and kept.
        """
        if device not in self._copies:
            if device.type == "cuda":
                outside_capture("copying a pool to the device")
            # Of two threads that copy at once both get the first copy: a captured graph holds its address.
            self._copies.setdefault(device, self.data.to(device))
        return self._copies[device]


class MaskPool(Pool):
    """K masks of a grid, one bit a token.

    Args:
        data: uint8 [K, ceil(L / 8)], 1 = masked, most significant bit first, the last byte padded with zeros.
        grid: (T, H, W); L = T * H * W.
        num_visible: V, visible tokens of every mask.
        periodic, source: as in `Pool`.

    Raises:
        TypeError, ValueError: for data of another dtype or shape, and where a mask does not show V tokens.
    """

    kind = "masks"
    num_visible: int

    def __init__(self, data: Tensor, grid, num_visible: int, *, periodic: bool = False, source=None):
        grid = as_grid(grid)
        tokens = math.prod(grid)
        self.num_visible = as_visible(num_visible, tokens, "clip")
        width = -(-tokens // 8)
        check_tensors(**{"data of a MaskPool": data})
        if data.dtype != torch.uint8:
            raise TypeError(f"data of a MaskPool must be uint8, packed bits, got {data.dtype}")
        if data.dim() != 2 or data.shape[1] != width:
            raise ValueError(f"data of grid {grid} must have shape [K, {width}], got {list(data.shape)}")
        super().__init__(data, grid, periodic, source)
        for begin, rows in _slices(self.data):
            ones = POPCOUNT[rows.numpy()].sum(1, dtype=np.int64)
            padding = rows.numpy()[:, -1] & (1 << 8 * width - tokens) - 1
            wrong = np.flatnonzero((ones != tokens - self.num_visible) | (padding != 0))
            if len(wrong):
                row = wrong[0]
                raise ValueError(
                    f"every mask must show {self.num_visible} of {tokens} tokens, and pad its last byte with zeros; "
                    f"mask {begin + row} has {ones[row]} bits set"
                )

    @classmethod
    def of_masks(cls, masks: Tensor, grid, *, periodic: bool = False, source=None) -> MaskPool:
        """Make a pool of masks from anywhere, bool [K, L], True = masked; all must show the same number of tokens."""
        check_tensors(masks=masks)
        if masks.dtype != torch.bool or masks.dim() != 2 or not masks.numel():
            raise TypeError(f"masks must be bool [K, L], got {masks.dtype} {list(masks.shape)}")
        visible = int((~masks[0]).sum())
        return cls(packed(masks), grid, visible, periodic=periodic, source=source)

    def masks(self) -> Tensor:
        """Return all masks: bool [K, L], True = masked."""
        return unpacked(self.data, math.prod(self.size)).bool()


class NoisePool(Pool):
    """K volumes of noise; the largest values of a window of one are visible.

    Args:
        data: float32 [K, T, H, W], finite.
        periodic, source: as in `Pool`.
    """

    kind = "noise"

    def __init__(self, data: Tensor, *, periodic: bool = False, source=None):
        check_tensors(**{"data of a NoisePool": data})
        if data.dtype != torch.float32:
            raise TypeError(
                f"data of a NoisePool must be float32, got {data.dtype}; convert with data.float()"
            )
        if data.dim() != 4:
            raise ValueError(f"data of a NoisePool must have shape [K, T, H, W], got {list(data.shape)}")
        super().__init__(data, as_grid(data.shape[1:]), periodic, source)
        for begin, volumes in _slices(self.data):
            wrong = (~volumes.flatten(1).isfinite().all(1)).nonzero()
            if len(wrong):
                raise ValueError(
                    f"noise must be finite, but volume {begin + int(wrong[0])} holds a NaN or an infinity"
                )


def _slices(data: Tensor) -> Iterator[tuple[int, Tensor]]:
    """The patterns, some at a time, with the first one's number: all at once take the pool's memory again."""
    rows = max(1, SLICE_BYTES // max(1, data[0].nbytes))
    for begin in range(0, len(data), rows):
        yield begin, data[begin : begin + rows]


POPCOUNT = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(1, dtype=np.uint8)


def packed(masks: Tensor) -> Tensor:
    """uint8 [B, ceil(L / 8)] of bool [B, L], on the CPU."""
    return torch.from_numpy(np.packbits(masks.cpu().numpy(), axis=1))


def unpacked(rows: Tensor, tokens: int) -> Tensor:
    """uint8 [B, L] of zeros and ones, of uint8 [B, ceil(L / 8)]."""
    shifts = torch.arange(7, -1, -1, dtype=torch.uint8, device=rows.device)
    return ((rows[:, :, None] >> shifts) & 1).flatten(1)[:, :tokens]


def canonical(header: dict) -> str:
    """Return the one JSON text of a header."""
    return json.dumps(header, sort_keys=True, separators=(",", ":"), allow_nan=False)
