# SPDX-License-Identifier: Apache-2.0
"""smnoise::noise_at: the field of color_noise at any coordinates, for masks of point clouds.

Extension 15. Reference: `smnoise.reference_points.noise_at`; CPU: csrc/points_cpu.h; CUDA: csrc/points_block.h.
"""

from __future__ import annotations

import torch

from ..backends import choose
from ..spec import REACH, ColorSpec, check_points_spec
from ..tensors import check_tensors
from ._library import check_seed_and_samples, check_sigma_table, given, register

MAX_POINTS = 1 << 29


def noise_at(
    seed: torch.Tensor,
    samples: torch.Tensor,
    points: torch.Tensor,
    spec: str,
    backend: str = "auto",
    sigma_table: torch.Tensor | None = None,
) -> torch.Tensor:
    """The field of each sample at its points, float32 [B, N].

    >>> spec = smnoise.Green3D((2, 3, 4), 0.5).spec.to_json()
    >>> seed, samples = torch.tensor(0), torch.arange(2)
    >>> points = torch.cartesian_prod(*(torch.arange(n).float() for n in (2, 3, 4))).expand(2, -1, -1)
    >>> torch.equal(noise_at(seed, samples, points, spec), smnoise.ops.color_noise(seed, samples, spec).flatten(1))
    True

    Args:
        seed, samples: as in `color_mask`.
        points: float32 [B, N, 3], coordinates (t, y, x) in lattice steps, rounded to sixteenths (halves up), of
            magnitude below 2^19, 2^15 and 2^18. Others, and what is not finite, are refused on the CPU; on a GPU,
            where nothing waits to look, a NaN counts as 0 and the rest as the nearest that fits.
        spec: JSON of a `smnoise.spec.ColorSpec` with boundary "field", of which the grid, its origin and its count are
            not read, and with filter radii of at most 32.
        backend, sigma_table: as in `color_mask`.

    White noise, which blue and purple contain, is that of the nearest lattice place, so that it has steps between.
    """
    check_tensors(seed=seed, samples=samples, points=points, **given(sigma_table=sigma_table))
    return torch.ops.smnoise.noise_at(seed, samples, points, spec, backend, sigma_table)


def _check(samples: torch.Tensor, points: torch.Tensor, spec: ColorSpec) -> None:
    check_points_spec(spec)
    if points.dtype != torch.float32:
        raise TypeError(f"points must be float32, got {points.dtype}; convert with points.float()")
    if points.dim() != 3 or points.shape[2] != 3 or points.shape[0] != samples.shape[0]:
        raise ValueError(
            f"points must have shape [B, N, 3], (t, y, x) of the points of each of {samples.shape[0]} samples; got "
            f"{tuple(points.shape)}"
        )
    if points.shape[0] * points.shape[1] > MAX_POINTS:
        raise ValueError(
            f"at most {MAX_POINTS} points a call are supported, got {points.shape[0]} x {points.shape[1]}; split "
            "the batch"
        )
    if points.device != samples.device:
        raise ValueError(
            f"points are on {points.device} but samples are on {samples.device}; put both on one device"
        )


def _noise_at(seed, samples, points, spec, backend="auto", sigma_table=None):
    check_seed_and_samples(seed, samples)
    check_sigma_table(sigma_table, samples.device, values=True)
    described = ColorSpec.from_json(spec)
    _check(samples, points, described)
    reach = torch.tensor(REACH, dtype=torch.float32, device=points.device)
    if points.device.type == "cpu" and (wrong := ~(points.abs() < reach)).any():
        row, number, axis = wrong.nonzero()[0].tolist()
        raise ValueError(
            f"points must be finite and of magnitude below {REACH} along t, y, x, where the field has not repeated "
            f"itself; point {number} of row {row} has {points[row, number, axis]:g} along {'tyx'[axis]}"
        )
    within = points.nan_to_num(0.0).clamp(-reach, reach - 0.0625)
    places = (within * 16 + 0.5).floor().to(torch.int32)
    run = choose("noise_at", backend, samples.device.type)
    return run(seed, samples, places, described, sigma_table)


def _fake(seed, samples, points, spec, backend="auto", sigma_table=None):
    check_seed_and_samples(seed, samples)
    check_sigma_table(sigma_table, samples.device, values=False)
    _check(samples, points, ColorSpec.from_json(spec))
    return torch.empty(points.shape[:2], dtype=torch.float32, device=points.device)


register(
    "noise_at(Tensor seed, Tensor samples, Tensor points, str spec, "
    'str backend="auto", Tensor? sigma_table=None) -> Tensor',
    _noise_at,
    _fake,
)
