# SPDX-License-Identifier: Apache-2.0
"""Masks cut from coloured noise in two dimensions, frame by frame or as tubes, and in one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from .. import ops
from ..spec import ColorSpec, as_float, as_grid, as_int, as_tuple, with_ones
from .base import Sampler
from .repeated import repeat_frames, visible_per_frame


class FlatColor(Sampler, abstract=True):
    """What both have in common."""

    color: ClassVar[str]
    _op = staticmethod(ops.color_mask)
    _colored = True

    def _prepare(self, grid, visible: int, per: str, anisotropy) -> None:
        """grid, anisotropy: of the noise."""
        if not hasattr(self, "color"):
            raise TypeError(
                f"{type(self).__name__} is abstract; use one of its colours, such as Green2D or Green1D"
            )
        same = {n: getattr(self, n) for n in ("boundary", "sigma1", "sigma2", "truncate")}
        spec = ColorSpec(self.color, grid, visible, per=per, anisotropy=anisotropy, **same)
        self._put(**{n: getattr(spec, n) for n in same}, seed=as_int("seed", self.seed, 0, 2**64 - 1))
        self._put_spec(spec)

    @property
    def _scored(self) -> bool:
        return not getattr(self, "tube", False)


@dataclass(frozen=True)
class Color2D(FlatColor, abstract=True):
    """Masks cut from coloured noise that is filtered within frames only, each frame showing equally many tokens.

    Use one of the colours: `White2D`, `Red2D`, `Blue2D`, `Green2D`, `Purple2D`.

    Args:
        grid: tokens along (T, H, W), or (H, W) for images and spectrograms.
        mask_ratio: share of each frame that is masked, in (0, 1): floor(H * W * (1 - mask_ratio)) of it stay visible.
        num_visible: visible tokens per sample, instead of a ratio; a multiple of T.
        tube: one frame's mask, shown in all time steps; else each has noise of its own.
        anisotropy: factors on sigma along (y, x); 0 leaves an axis unfiltered.
        sigma1, sigma2, boundary, truncate, seed: as in `smnoise.samplers.Color3D`.

    Raises:
        ValueError, TypeError: for a parameter that cannot give such a mask, when the sampler is made; for a count that
            T frames do not share, with the nearest ones that they do.
    """

    grid: tuple[int, ...]
    mask_ratio: float | None = None
    num_visible: int | None = field(default=None, kw_only=True)
    tube: bool = field(default=False, kw_only=True)
    sigma1: tuple[float, float] = field(default=ColorSpec.sigma1, kw_only=True)
    sigma2: tuple[float, float] = field(default=ColorSpec.sigma2, kw_only=True)
    boundary: str = field(default="field", kw_only=True)
    anisotropy: tuple[float, float] = field(default=(1.0, 1.0), kw_only=True)
    truncate: float = field(default=4.0, kw_only=True)
    seed: int = field(default=0, kw_only=True)

    def __post_init__(self):
        if not isinstance(self.tube, bool):
            raise TypeError(f"tube must be True or False, got {self.tube!r}")
        grid = as_grid(with_ones(self.grid))
        scales = as_tuple("anisotropy", self.anisotropy, 2, "two factors (y, x)")
        self._put(grid=grid, anisotropy=tuple(as_float("anisotropy", a) for a in scales))
        of_noise = (1, *grid[1:]) if self.tube else grid
        self._prepare(of_noise, visible_per_frame(self, grid), "frame", (0.0, *self.anisotropy))

    @property
    def visible_per_sample(self) -> int:
        """V, visible tokens per sample, over all its frames."""
        return self.grid[0] * self._spec.visible

    @property
    def _times(self) -> int:
        return self.grid[0] if self.tube else 1

    def _masks(self, *arguments, **tables):
        masks = super()._masks(*arguments, **tables)
        return repeat_frames(masks, self.grid[0], self._spec.visible) if self.tube else masks


class White2D(Color2D):
    """Unfiltered noise: uniformly random masks of the same count in each frame. See `Color2D` for the arguments."""

    color = "white"


class Red2D(Color2D):
    """Low-pass noise: large blobs. See `Color2D` for the arguments."""

    color = "red"


class Blue2D(Color2D):
    """High-pass noise: visible tokens avoid each other. See `Color2D` for the arguments."""

    color = "blue"


class Green2D(Color2D):
    """Band-pass noise: blobs of a drawn size; with tube=True the same ones in all frames.

    >>> Green2D(grid=(8, 14, 14), num_visible=160, tube=True)([0]).volume()[0].all(0).sum().item()
    176

    See `Color2D` for the arguments.
    """

    color = "green"


class Purple2D(Color2D):
    """Noise without a band: what green leaves out. See `Color2D` for the arguments."""

    color = "purple"


@dataclass(frozen=True)
class Color1D(FlatColor, abstract=True):
    """Masks cut from coloured noise along a line, such as the time steps of a sequence.

    Use one of the colours: `White1D`, `Red1D`, `Blue1D`, `Green1D`, `Purple1D`.

    Args:
        grid: (L,), tokens of the line. The masks have grid (1, 1, L).
        mask_ratio: share of tokens that is masked, in (0, 1).
        num_visible: visible tokens per sample, instead of a ratio.
        sigma1, sigma2, boundary, truncate, seed: as in `smnoise.samplers.Color3D`.

    Raises:
        ValueError, TypeError: for a parameter that cannot give such a mask, when the sampler is made.
    """

    grid: tuple[int]
    mask_ratio: float | None = None
    num_visible: int | None = field(default=None, kw_only=True)
    sigma1: tuple[float, float] = field(default=ColorSpec.sigma1, kw_only=True)
    sigma2: tuple[float, float] = field(default=ColorSpec.sigma2, kw_only=True)
    boundary: str = field(default="field", kw_only=True)
    truncate: float = field(default=4.0, kw_only=True)
    seed: int = field(default=0, kw_only=True)

    def __post_init__(self):
        given = self.grid
        if isinstance(given, (tuple, list)) and len(given) == 3 and tuple(given[:2]) == (1, 1):
            given = given[2:]
        if not isinstance(given, (tuple, list)) or len(given) != 1:
            raise ValueError(f"grid must be (L,), one integer counted in tokens, got {self.grid!r}")
        self._put(grid=as_grid((1, 1, *given)))
        self._prepare(self.grid, self._resolve_visible(self.num_tokens), "clip", (0.0, 0.0, 1.0))

    @property
    def visible_per_sample(self) -> int:
        """V, visible tokens per sample."""
        return self._spec.visible


class White1D(Color1D):
    """Unfiltered noise: uniformly random masks. See `Color1D` for the arguments."""

    color = "white"


class Red1D(Color1D):
    """Low-pass noise: long runs. See `Color1D` for the arguments."""

    color = "red"


class Blue1D(Color1D):
    """High-pass noise: visible tokens avoid each other. See `Color1D` for the arguments."""

    color = "blue"


class Green1D(Color1D):
    """Band-pass noise: runs of a drawn length. See `Color1D` for the arguments."""

    color = "green"


class Purple1D(Color1D):
    """Noise without a band: what green leaves out. See `Color1D` for the arguments."""

    color = "purple"


FLAT_KINDS = {
    kind.__name__: kind
    for kind in (White2D, Red2D, Blue2D, Green2D, Purple2D, White1D, Red1D, Blue1D, Green1D, Purple1D)
}
