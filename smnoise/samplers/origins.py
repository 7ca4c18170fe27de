# SPDX-License-Identifier: Apache-2.0
"""Where in the field of its sample each row's window lies (contract/extensions.md, 13)."""

from __future__ import annotations

import torch

from ..spec import as_int


def as_origin(origin, samples: torch.Tensor) -> torch.Tensor:
    """Return places of windows as int64 [B, 3] on the device of the samples, int64 [B]. Raises TypeError or ValueError
    for what is none.
    """
    if isinstance(origin, torch.Tensor):
        return origin  # which the op checks
    rows = tuple(origin) if isinstance(origin, (tuple, list)) else None
    if rows is None:
        raise TypeError(
            f"origin must be an int64 tensor [B, 3], or (t, y, x) for all or each of the samples, got {origin!r}"
        )
    if not any(isinstance(row, (tuple, list)) for row in rows):
        rows = (rows,) * len(samples)
    for row in rows:
        if not isinstance(row, (tuple, list)) or len(row) != 3:
            raise ValueError(f"origin must have shape [B, 3], (t, y, x) for each sample; got a row {row!r}")
    values = [[as_int("origin", v, -(2**63), 2**63 - 1) for v in row] for row in rows]
    return torch.tensor(values, dtype=torch.int64, device=samples.device).reshape(-1, 3)
