# SPDX-License-Identifier: Apache-2.0
"""smnoise::color_mask: exact-ratio masks from white, red, blue, green or purple noise, fused.

Contract sections 1 to 6. Reference: `smnoise.reference.color_mask`; CPU: csrc/color_cpu.h.
"""

from __future__ import annotations

import torch

from ..backends import choose
from ..backends.outputs import allocate
from ..spec import ColorSpec
from ..tensors import check_tensors
from ._library import (
    ALL_OUTPUTS,
    as_returned,
    check_origin,
    check_seed_and_samples,
    check_sigma_table,
    given,
    register,
    wanted_outputs,
)


def color_mask(
    seed: torch.Tensor,
    samples: torch.Tensor,
    spec: str,
    backend: str = "auto",
    outputs: str = ALL_OUTPUTS,
    sigma_table: torch.Tensor | None = None,
    origin: torch.Tensor | None = None,
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
        sigma_table: int64 [31] on the seed's device, how often each of the 32 values of sigma1 is drawn (extension 12;
            `smnoise.sigma_table` makes one); by default equally often. Being a tensor, it may change from step to step
            in compiled and captured code.
        origin: int64 [B, 3] on the seed's device, what is added to the origin of each sample's window along t, y, x
            (extension 13): windows of one sample that touch continue its field. Any integers: the field repeats. Not
            with boundary="wrap".

    Returns:
        mask bool [B, L], True = masked; ids_keep int64 [B, V] and ids_mask int64 [B, L - V], ascending;
        ids_restore int64 [B, L], with gather(cat(x[ids_keep], x[ids_mask]), ids_restore) = x.
    """
    check_tensors(seed=seed, samples=samples, **given(sigma_table=sigma_table, origin=origin))
    return torch.ops.smnoise.color_mask(seed, samples, spec, backend, outputs, sigma_table, origin)


def _color_mask(seed, samples, spec, backend="auto", outputs=ALL_OUTPUTS, sigma_table=None, origin=None):
    check_seed_and_samples(seed, samples)
    check_sigma_table(sigma_table, samples.device, values=True)
    described = ColorSpec.from_json(spec)
    check_origin(origin, samples, described.boundary)
    wanted = wanted_outputs(outputs)
    run = choose("color_mask", backend, samples.device.type)
    return as_returned(run(seed, samples, described, wanted, sigma_table, origin), samples.device)


def _fake(seed, samples, spec, backend="auto", outputs=ALL_OUTPUTS, sigma_table=None, origin=None):
    check_seed_and_samples(seed, samples)
    check_sigma_table(sigma_table, samples.device, values=False)
    s = ColorSpec.from_json(spec)
    check_origin(origin, samples, s.boundary)
    sizes = samples.shape[0], s.groups * s.tokens, s.groups * s.visible
    return as_returned(allocate(*sizes, wanted_outputs(outputs), samples.device), samples.device)


register(
    f'color_mask(Tensor seed, Tensor samples, str spec, str backend="auto", str outputs="{ALL_OUTPUTS}", '
    "Tensor? sigma_table=None, Tensor? origin=None) "
    "-> (Tensor mask, Tensor ids_keep, Tensor ids_mask, Tensor ids_restore)",
    _color_mask,
    _fake,
)
