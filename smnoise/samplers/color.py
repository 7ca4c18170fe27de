# SPDX-License-Identifier: Apache-2.0
"""Masks cut from coloured 3D noise, one class a colour."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import ClassVar

import torch

from .. import ops
from ..spec import ColorSpec, as_choice, as_grid, as_int
from .base import Sampler
from .indices import as_samples, as_seed


@dataclass(frozen=True)
class Color3D(Sampler, abstract=True):
    """Masks cut from coloured 3D noise at an exact count (contract sections 1 to 6, arXiv 2503.16311).

    Use one of the colours: `White3D`, `Red3D`, `Blue3D`, `Green3D`, `Purple3D`.

    Args:
        grid: tokens along (T, H, W); for a 16-frame 224-pixel clip with 2x16x16 tubelets (8, 14, 14).
        mask_ratio: share of tokens that is masked, in (0, 1). floor(tokens * (1 - mask_ratio)) stay visible,
            the ratio read as the decimal it is written as.
        num_visible: visible tokens, instead of a ratio: per clip, or per frame with per="frame".
        per: "clip" ranks all tokens of a clip together; "frame" gives every time step the same count.
        sigma1, sigma2: ranges of the two Gaussian low-pass filters in tokens; each sample draws its own from
            32 values of each. Colours of one sigma ignore sigma2, white ignores both.
        boundary: "field" cuts a window out of an unbounded field, the border of which is visible slightly more often
            where waves are long (by 1.6% for red, 0.1% for green; docs/masks/colors-3d.md); "wrap" filters the grid as
            a torus, about three times faster, and makes the first and last frame neighbours.
        anisotropy: factors on sigma along (t, y, x); 0 leaves an axis unfiltered.
        origin: place of the window in the field, (t, y, x). Windows that touch continue each other; the field
            repeats after 2^28 along t, 2^16 along y and 2^19 along x.
        truncate: filter radius in sigmas.
        seed: 0 .. 2^64 - 1; a call may give another one, also as a tensor.

    Raises:
        ValueError, TypeError: for a parameter that cannot give such a mask, when the sampler is made.
    """

    color: ClassVar[str]
    _op = staticmethod(ops.color_mask)
    _scored = _colored = True

    grid: tuple[int, int, int]
    mask_ratio: float | None = None
    num_visible: int | None = field(default=None, kw_only=True)
    per: str = field(default="clip", kw_only=True)
    sigma1: tuple[float, float] = field(default=(0.4, 1.5), kw_only=True)
    sigma2: tuple[float, float] = field(default=(1.4, 3.0), kw_only=True)
    boundary: str = field(default="field", kw_only=True)
    anisotropy: tuple[float, float, float] = field(default=(1.0, 1.0, 1.0), kw_only=True)
    origin: tuple[int, int, int] = field(default=(0, 0, 0), kw_only=True)
    truncate: float = field(default=4.0, kw_only=True)
    seed: int = field(default=0, kw_only=True)

    def __post_init__(self):
        if not hasattr(self, "color"):
            raise TypeError(f"Color3D is abstract; use one of {', '.join(COLOR_KINDS)}")
        grid = as_grid(self.grid)
        per_frame = as_choice("per", self.per, ("clip", "frame")) == "frame"
        visible = self._resolve_visible(math.prod(grid[per_frame:]))
        self._put(seed=as_int("seed", self.seed, 0, 2**64 - 1))
        spec = ColorSpec(
            color=self.color,
            grid=grid,
            visible=visible,
            per=self.per,
            boundary=self.boundary,
            sigma1=self.sigma1,
            sigma2=self.sigma2,
            anisotropy=self.anisotropy,
            origin=self.origin,
            truncate=self.truncate,
        )
        self._put(
            **{f.name: getattr(spec, f.name) for f in fields(spec) if f.name in self.__dataclass_fields__}
        )
        self._put_spec(spec)

    @property
    def spec(self) -> ColorSpec:
        """The parameters without the seed, the ratio resolved to a count."""
        return self._spec

    @property
    def visible_per_sample(self) -> int:
        """V, visible tokens per sample, over all its frames."""
        return self._spec.groups * self._spec.visible

    def noise(
        self,
        samples,
        *,
        seed=None,
        device=None,
        backend: str = "auto",
        sigma_table: torch.Tensor | None = None,
        origin=None,
    ) -> torch.Tensor:
        """Return the noise behind the masks, float32 [B, T, H, W]; its largest values are visible. Arguments are those
        of a call.
        """
        samples = as_samples(samples, device)
        seed = as_seed(self.seed if seed is None else seed, samples.device)
        return ops.color_noise(
            seed, samples, self._spec_json, backend, **self._given(sigma_table, origin, samples)
        )


class White3D(Color3D):
    """Unfiltered noise: uniformly random masks. See `Color3D` for the arguments."""

    color = "white"


class Red3D(Color3D):
    """Low-pass noise: large blobs. See `Color3D` for the arguments."""

    color = "red"


class Blue3D(Color3D):
    """High-pass noise: visible tokens avoid each other. See `Color3D` for the arguments."""

    color = "blue"


class Green3D(Color3D):
    """Band-pass noise, the paper's masks for video: blobs of a drawn size that drift smoothly through time.

    >>> masks = Green3D(grid=(8, 14, 14), mask_ratio=0.9)(batch_size=2, step=0)
    >>> masks.mask.shape, masks.num_visible, masks.ids_keep[0, :4].tolist()
    (torch.Size([2, 1568]), 156, [1, 11, 12, 18])

    See `Color3D` for the arguments.
    """

    color = "green"


class Purple3D(Color3D):
    """Noise without a band: what green leaves out. See `Color3D` for the arguments."""

    color = "purple"


COLOR_KINDS = {kind.__name__: kind for kind in (White3D, Red3D, Blue3D, Green3D, Purple3D)}
