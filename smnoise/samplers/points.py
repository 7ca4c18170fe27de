# SPDX-License-Identifier: Apache-2.0
"""Masks of point clouds, cut from coloured noise at the points' coordinates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from .. import ops
from ..masks import MaskBatch
from ..ops import ALL_OUTPUTS
from ..ops._library import given
from ..spec import ColorSpec, as_float, as_int, as_ratio, check_points_spec, visible_of_ratio
from ..tensors import check_tensors
from .base import as_bias, as_seed, batch_indices

AUTO = 1.5  # steps of the median spacing
SETTINGS = {"sigma1", "sigma2", "anisotropy", "truncate"}


@dataclass(frozen=True)
class PointMasks:
    """Masks of N points, or of the centres of N patches of points, at an exact count (contract/extensions.md, 15).

    The field that `Green3D` cuts on a grid is read at the points' own coordinates, divided by `step`.

    >>> cloud = torch.randn(2, 64, 3, generator=torch.Generator().manual_seed(0))
    >>> masks = PointMasks(num_points=64, mask_ratio=0.6, color="green", step=0.25)([0, 1], points=cloud)
    >>> masks.ids_keep.shape, masks.mask.sum(1).tolist()
    (torch.Size([2, 25]), [39, 39])

    Args:
        num_points: N.
        mask_ratio: share of the points that is masked, in (0, 1): floor(N * (1 - mask_ratio)) stay visible.
        num_visible: visible points, instead of a ratio.
        color: white, red, blue, green or purple. White gives points of one lattice cell the same score, so that ties
            are cut by their order: take random masks (`smnoise.Random((N,), ...)`) where you want none of the noise.
        step: the lattice step in the points' own unit: sigmas are in steps. Or "auto": 1.5 times the median distance
            of a cloud's points to their nearest ones, computed for each cloud from its points, so that masks depend on
            the data (in float64, operation by operation, hence the same on all devices).
        parameters: sigma1, sigma2, anisotropy, truncate as in `smnoise.Green3D`; axes in the points' order.
        seed: 0 .. 2^64 - 1; a call may give another one, also as a tensor.

    Raises:
        ValueError, TypeError: for a parameter that cannot give such a mask, when the sampler is made.
    """

    num_points: int
    mask_ratio: float | None = None
    num_visible: int | None = field(default=None, kw_only=True)
    color: str = field(default="green", kw_only=True)
    step: float | str = field(default="auto", kw_only=True)
    parameters: Mapping[str, Any] = field(default_factory=dict, kw_only=True, hash=False)
    seed: int = field(default=0, kw_only=True)

    def __post_init__(self):
        count = as_int("num_points", self.num_points, 2, 1 << 19)
        if (self.mask_ratio is None) == (self.num_visible is None):
            raise ValueError("give either mask_ratio or num_visible (just one of them)")
        ratio, visible = self.mask_ratio, self.num_visible
        visible = visible_of_ratio(count, as_ratio(ratio)) if visible is None else visible
        step = None if self.step == "auto" else self.step
        if step is not None and (isinstance(step, str) or not as_float("step", step) > 0):
            raise ValueError(f'step must be "auto" or a positive length, got {step!r}')
        self._step: float | None  # declared here: in the class they would be fields
        object.__setattr__(self, "_step", None if step is None else float(step))
        if not isinstance(self.parameters, Mapping) or not set(self.parameters) <= SETTINGS:
            raise TypeError(
                f"parameters must be some of {', '.join(sorted(SETTINGS))}, by name; got {self.parameters!r}"
            )
        spec = ColorSpec(self.color, (1, 1, count), visible, **self.parameters)
        check_points_spec(spec)
        object.__setattr__(self, "num_points", count)
        object.__setattr__(self, "seed", as_int("seed", self.seed, 0, 2**64 - 1))
        self._spec: ColorSpec
        object.__setattr__(self, "_spec", spec)

    @property
    def spec(self) -> ColorSpec:
        """The parameters without seed and step, the ratio resolved to a count."""
        return self._spec

    @property
    def visible_per_sample(self) -> int:
        """V, visible points per cloud."""
        return self._spec.visible

    def __call__(
        self,
        samples=None,
        *,
        points: torch.Tensor,
        batch_size: int | None = None,
        step: int | torch.Tensor | None = None,
        rank: int = 0,
        world_size: int = 1,
        seed: int | torch.Tensor | None = None,
        backend: str = "auto",
        outputs: str = ALL_OUTPUTS,
        bias: torch.Tensor | None = None,
        bias_weight: float = 1.0,
        sigma_table: torch.Tensor | None = None,
    ) -> MaskBatch:
        """Masks for a batch, of grid (1, 1, N), where the points are.

        Args:
            points: float32 [B, N, 3]. Divided by the step they must be finite and within 2^15 steps of the origin.
            bias: float32 [B, N].
            others: as of every sampler's call (step is the batch's number, not the lattice's).
        """
        scores = self.scores(
            samples, points=points, batch_size=batch_size, step=step, rank=rank, world_size=world_size,
            seed=seed, backend=backend, sigma_table=sigma_table,
        )  # fmt: skip
        if bias is not None:
            bias = as_bias(bias, len(scores), (self.num_points,))
            scores = ops.add_bias(scores, bias, bias_weight, backend)
        results = ops.threshold(scores, self._spec.visible, 1, backend, outputs)
        wanted = [n.strip() for n in outputs.split(",")]
        names = zip(ALL_OUTPUTS.split(","), results, strict=True)
        mask, keep, hide, restore = (r if n in wanted else None for n, r in names)
        return MaskBatch(mask, keep, hide, restore, (1, 1, self.num_points), self._spec.visible)

    def scores(
        self,
        samples=None,
        *,
        points: torch.Tensor,
        batch_size: int | None = None,
        step: int | torch.Tensor | None = None,
        rank: int = 0,
        world_size: int = 1,
        seed: int | torch.Tensor | None = None,
        backend: str = "auto",
        sigma_table: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The field at the points, float32 [B, N]; the largest are visible. Arguments as in a call."""
        check_tensors(points=points)
        if points.dtype != torch.float32 or points.dim() != 3 or points.shape[1:] != (self.num_points, 3):
            raise ValueError(
                f"points must be float32 [B, {self.num_points}, 3], got {points.dtype} {tuple(points.shape)}"
            )
        samples = batch_indices(samples, batch_size, step, rank, world_size, points.device)
        seed = as_seed(self.seed if seed is None else seed, points.device)
        lattice = auto_step(points) if self._step is None else self._step
        return ops.noise_at(
            seed, samples, points / lattice, self._spec.to_json(), backend, **given(sigma_table=sigma_table)
        )


def auto_step(points: torch.Tensor) -> torch.Tensor:
    """1.5 times the median distance of each cloud's points to their nearest ones: float32 [B, 1, 1].

    points: float32 [B, N, 3], N at least 2; memory for B N^2 distances in float64. Raises ValueError, on the CPU, for a
    cloud of which half the points or more lie upon others; elsewhere its step is 1.
    """
    exact = points.double()
    squares = torch.zeros(*points.shape[:2], points.shape[1], dtype=torch.float64, device=points.device)
    for axis in range(3):
        squares += (exact[:, :, None, axis] - exact[:, None, :, axis]).square()
    every = torch.arange(points.shape[1], device=points.device)
    squares[:, every, every] = torch.inf
    nearest = squares.min(dim=2).values.sort(dim=1).values[:, (points.shape[1] - 1) // 2].sqrt()
    step = (AUTO * nearest).float()
    usable = (step > 0) & step.isfinite()
    if points.device.type == "cpu" and not usable.all():
        row = int((~usable).nonzero()[0])
        raise ValueError(
            f'step="auto" finds no spacing in cloud {row}: at least half of its points lie upon others, or are not '
            "finite; give the step as a number"
        )
    return torch.where(usable, step, 1.0)[:, None, None]
