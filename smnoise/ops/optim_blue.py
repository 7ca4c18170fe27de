# SPDX-License-Identifier: Apache-2.0
"""smnoise::optim_blue: complementary masks, spread out by swaps under a crowding energy.

Contract section 7. Reference: `smnoise.reference.partition`; CPU: csrc/optim_blue_cpu.h; CUDA: csrc/optim_blue_block.h.
"""

from __future__ import annotations

import torch

from ..backends import choose
from ..backends.outputs import allocate
from ..spec import OptimBlueSpec
from ._library import ALL_OUTPUTS, as_returned, check_seed_and_samples, register, wanted_outputs


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
    return torch.ops.smnoise.optim_blue(seed, samples, spec, backend, outputs)


def _optim_blue(seed, samples, spec, backend="auto", outputs=ALL_OUTPUTS):
    check_seed_and_samples(seed, samples)
    wanted = wanted_outputs(outputs)
    run = choose("optim_blue", backend, samples.device.type)
    return as_returned(run(seed, samples, OptimBlueSpec.from_json(spec), wanted), samples.device)


def _fake(seed, samples, spec, backend="auto", outputs=ALL_OUTPUTS):
    check_seed_and_samples(seed, samples)
    s = OptimBlueSpec.from_json(spec)
    rows = samples.shape[0] * s.rows_per_sample
    tensors = allocate(rows, s.tokens, s.visible, wanted_outputs(outputs), samples.device)
    return as_returned(tensors, samples.device)


register(
    f'optim_blue(Tensor seed, Tensor samples, str spec, str backend="auto", str outputs="{ALL_OUTPUTS}")'
    " -> (Tensor mask, Tensor ids_keep, Tensor ids_mask, Tensor ids_restore)",
    _optim_blue,
    _fake,
)
