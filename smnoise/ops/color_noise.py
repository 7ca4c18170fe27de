# SPDX-License-Identifier: Apache-2.0
"""smnoise::color_noise: the filtered noise that color_mask thresholds.

Contract sections 1 to 5. Reference: `smnoise.reference.color_noise`; CPU: csrc/color_cpu.h.
"""

from __future__ import annotations

import torch

from ..backends import choose
from ..spec import ColorSpec
from ..tensors import check_tensors
from ._library import check_origin, check_seed_and_samples, check_sigma_table, given, register


def color_noise(
    seed: torch.Tensor,
    samples: torch.Tensor,
    spec: str,
    backend: str = "auto",
    sigma_table: torch.Tensor | None = None,
    origin: torch.Tensor | None = None,
) -> torch.Tensor:
    """The field of each sample, float32 [B, T, H, W]; its largest values are visible.

    >>> spec = smnoise.Green3D((8, 14, 14), 0.9).spec.to_json()
    >>> color_noise(torch.tensor(0), torch.arange(2), spec).shape
    torch.Size([2, 8, 14, 14])

    Arguments as in `color_mask`.
    """
    check_tensors(seed=seed, samples=samples, **given(sigma_table=sigma_table, origin=origin))
    return torch.ops.smnoise.color_noise(seed, samples, spec, backend, sigma_table, origin)


def _color_noise(seed, samples, spec, backend="auto", sigma_table=None, origin=None):
    check_seed_and_samples(seed, samples)
    check_sigma_table(sigma_table, samples.device, values=True)
    described = ColorSpec.from_json(spec)
    check_origin(origin, samples, described.boundary)
    run = choose("color_noise", backend, samples.device.type)
    return run(seed, samples, described, sigma_table, origin)


def _fake(seed, samples, spec, backend="auto", sigma_table=None, origin=None):
    check_seed_and_samples(seed, samples)
    check_sigma_table(sigma_table, samples.device, values=False)
    described = ColorSpec.from_json(spec)
    check_origin(origin, samples, described.boundary)
    return torch.empty((samples.shape[0], *described.grid), dtype=torch.float32, device=samples.device)


register(
    "color_noise(Tensor seed, Tensor samples, str spec, "
    'str backend="auto", Tensor? sigma_table=None, Tensor? origin=None) -> Tensor',
    _color_noise,
    _fake,
)
