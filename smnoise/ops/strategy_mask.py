# SPDX-License-Identifier: Apache-2.0
"""smnoise::strategy_mask: exact-count masks made of frames, bars, blocks or cells.

Extension 5. Reference: `smnoise.reference.strategy_mask`; CPU: csrc/strategy_cpu.h; CUDA: csrc/strategy_block.h.
"""

from __future__ import annotations

import torch

from ..backends import choose
from ..backends.outputs import allocate
from ..spec import StrategySpec
from ._library import ALL_OUTPUTS, as_returned, check_seed_and_samples, register, wanted_outputs


def strategy_mask(
    seed: torch.Tensor, samples: torch.Tensor, spec: str, backend: str = "auto", outputs: str = ALL_OUTPUTS
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Masks of a batch of samples; each row depends on its own sample index only.

    >>> spec = smnoise.Grid((4, 4), num_visible=4, cell=(2, 2)).spec.to_json()
    >>> strategy_mask(torch.tensor(0), torch.arange(2), spec, outputs="ids_keep")[1].tolist()
    [[0, 2, 8, 10], [4, 6, 12, 14]]

    Args:
        spec: JSON of a `smnoise.spec.StrategySpec`.
        seed, samples, backend, outputs, returns: as in `color_mask`.
    """
    return torch.ops.smnoise.strategy_mask(seed, samples, spec, backend, outputs)


def _strategy_mask(seed, samples, spec, backend="auto", outputs=ALL_OUTPUTS):
    check_seed_and_samples(seed, samples)
    wanted = wanted_outputs(outputs)
    run = choose("strategy_mask", backend, samples.device.type)
    return as_returned(run(seed, samples, StrategySpec.from_json(spec), wanted), samples.device)


def _fake(seed, samples, spec, backend="auto", outputs=ALL_OUTPUTS):
    check_seed_and_samples(seed, samples)
    s = StrategySpec.from_json(spec)
    tensors = allocate(samples.shape[0], s.tokens, s.visible, wanted_outputs(outputs), samples.device)
    return as_returned(tensors, samples.device)


register(
    f'strategy_mask(Tensor seed, Tensor samples, str spec, str backend="auto", str outputs="{ALL_OUTPUTS}")'
    " -> (Tensor mask, Tensor ids_keep, Tensor ids_mask, Tensor ids_restore)",
    _strategy_mask,
    _fake,
)
