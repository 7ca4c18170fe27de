# SPDX-License-Identifier: Apache-2.0
"""smnoise::color_mask: exact-ratio masks from white, red, blue, green or purple noise, fused.

Contract sections 1 to 6. Reference: `smnoise.reference.color_mask`; CPU: csrc/color_cpu.h.
"""

from __future__ import annotations

import torch

from ..spec import ColorSpec
from ..tensors import check_tensors
from ._library import ALL_OUTPUTS, register_masks


def color_mask(
    seed: torch.Tensor, samples: torch.Tensor, spec: str, backend: str = "auto", outputs: str = ALL_OUTPUTS
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Masks of a batch of samples; each row depends on its own sample index only.

    >>> spec = smnoise.Green3D((8, 14, 14), 0.9).spec.to_json()
    >>> mask, ids_keep, ids_mask, ids_restore = color_mask(torch.tensor(0), torch.arange(2), spec)
    >>> mask.shape, ids_keep[0, :4].tolist()
    (torch.Size([2, 1568]), [1, 11, 12, 18])

    Args:
        seed: int64, one element; read as the 64-bit key (negative values are its upper half).
        samples: int64 [B], sample indices on the seed's device.
        spec: JSON of a `smnoise.spec.ColorSpec`.
        backend: "auto" (the environment variable SMNOISE_BACKEND, else the fast one of the device), or
            a name; a named backend that cannot run raises BackendError.
        outputs: which of the four to compute, comma-separated; the others come back with shape [0].

    Returns:
        mask bool [B, L], True = masked; ids_keep int64 [B, V] and ids_mask int64 [B, L - V], ascending;
        ids_restore int64 [B, L], with gather(cat(x[ids_keep], x[ids_mask]), ids_restore) = x.
    """
    check_tensors(seed=seed, samples=samples)
    return torch.ops.smnoise.color_mask(seed, samples, spec, backend, outputs)


register_masks("color_mask", ColorSpec, lambda s: (1, s.groups * s.tokens, s.groups * s.visible))
