# SPDX-License-Identifier: Apache-2.0
"""smnoise::strategy_mask: exact-count masks made of frames, bars, blocks or cells.

Extension 5. Reference: `smnoise.reference.strategy_mask`; CPU: csrc/strategy_cpu.h; CUDA: csrc/strategy_block.h.
"""

from __future__ import annotations

import torch

from ..spec import StrategySpec
from ..tensors import check_tensors
from ._library import ALL_OUTPUTS, register_masks


def strategy_mask(
    seed: torch.Tensor, samples: torch.Tensor, spec: str, backend: str = "auto", outputs: str = ALL_OUTPUTS
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Masks of a batch of samples; each row depends on its own sample index only.

    >>> spec = smnoise.Grid((4, 4), num_visible=4, cell=(2, 2)).spec.to_json()
    >>> strategy_mask(torch.tensor(0), torch.arange(2), spec, outputs="ids_keep")[1].tolist()
    [[0, 2, 8, 10], [4, 6, 12, 14]]

    Args:
        seed, samples: int64, one element and [B], as in `color_mask`.
        spec: JSON of a `smnoise.spec.StrategySpec`.
        backend, outputs: as in `color_mask`, which returns the same four.
    """
    check_tensors(seed=seed, samples=samples)
    return torch.ops.smnoise.strategy_mask(seed, samples, spec, backend, outputs)


register_masks("strategy_mask", StrategySpec, lambda s: (1, s.tokens, s.visible))
