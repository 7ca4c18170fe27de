# SPDX-License-Identifier: Apache-2.0
"""smnoise::optim_blue: complementary masks, spread out by swaps under a crowding energy.

Contract section 7. Reference: `smnoise.reference.partition`; CPU: csrc/optim_blue_cpu.h; CUDA: csrc/optim_blue_block.h.
"""

from __future__ import annotations

import torch

from ..spec import OptimBlueSpec
from ..tensors import check_tensors
from ._library import ALL_OUTPUTS, register_masks


def optim_blue(
    seed: torch.Tensor, samples: torch.Tensor, spec: str, backend: str = "auto", outputs: str = ALL_OUTPUTS
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Masks of a batch of samples; each row depends on its own sample index only. Neighbouring rows of one partition
    share its computation.

    >>> spec = smnoise.OptimBlue((4, 4), num_visible=4).spec.to_json()
    >>> optim_blue(torch.tensor(0), torch.arange(4), spec, outputs="ids_keep")[1].tolist()
    [[2, 4, 11, 13], [1, 7, 8, 14], [3, 5, 10, 12], [0, 6, 9, 15]]

    Args:
        spec: JSON of a `smnoise.spec.OptimBlueSpec`; with masks="views" a sample gives K rows instead of one.
        seed, samples, backend, outputs, returns: as in `color_mask`.
    """
    check_tensors(seed=seed, samples=samples)
    return torch.ops.smnoise.optim_blue(seed, samples, spec, backend, outputs)


register_masks("optim_blue", OptimBlueSpec, lambda s: (s.rows_per_sample, s.tokens, s.visible))
