# SPDX-License-Identifier: Apache-2.0
"""Sample numbers of a loop that somebody else runs: each is given out once, over all ranks, epochs and restarts."""

from __future__ import annotations

import torch

from ..spec import as_int

EVALUATION = 1 << 62  # where the numbers of evaluation begin, which training does not reach


class Numbers:
    """Counts the rows that all ranks have had.

    consumed: numbers below it have been given out, on this rank or another one. To be kept in checkpoints: a run that
    goes on, with any batch and number of ranks, then begins where all ranks together had stopped.
    """

    def __init__(self, consumed: int = 0):
        self.consumed = as_int("consumed", consumed, 0, EVALUATION)

    def take(self, rows: int, batch: int, rank: int, world_size: int, device=None) -> torch.Tensor:
        """Return the numbers of the next batch of this rank, int64 [rows]. A batch of fewer rows leaves the rest of its
        numbers out. Raises ValueError for more rows than batch.
        """
        if not 0 <= rows <= batch:
            raise ValueError(
                f"a batch has {rows} rows, more than the {batch} promised: give the loader's batch size"
            )
        first = self.consumed + rank * batch
        self.consumed += world_size * batch
        return torch.arange(first, first + rows, device="cpu" if device is None else device)
