# SPDX-License-Identifier: Apache-2.0
"""The static parameters of a colour mask, checked once, and the tables that every backend reads."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from statistics import NormalDist

import numpy as np

from .. import reference
from .checks import MAX_TOKENS, Spec, as_axes, as_choice, as_float, as_int, as_tuple, as_visible

COLORS = ("white", "red", "blue", "green", "purple")
BOUNDARIES = ("field", "wrap")
PER = ("clip", "frame")

MAX_SLAB = 1 << 28  # noise values behind one mask; 1 GiB of float32
MAX_ORIGIN = 1 << 30
MAX_RADIUS = 1 << 12
PERIOD = reference.PERIOD


def as_grid(grid) -> tuple[int, int, int]:
    """Return a grid as (T, H, W). Raises TypeError or ValueError for one that cannot be, or is too large."""
    t, y, x = as_axes(grid, "three integers (T, H, W), counted in tokens")
    grid = tuple(as_int(f"grid {axis}", n, 1, MAX_TOKENS) for axis, n in zip("THW", (t, y, x), strict=True))
    for axis, n, period in zip("THW", grid, PERIOD, strict=True):
        if n > period:
            raise ValueError(f"grid {axis} must be at most {period}, where the noise repeats itself; got {n}")
    if math.prod(grid) > MAX_TOKENS:
        raise ValueError(f"grid {grid} has {math.prod(grid)} tokens; at most {MAX_TOKENS} are supported")
    return grid


def as_sigma_range(name: str, value) -> tuple[float, float]:
    """Return a range (low, high) of sigmas in tokens. Raises TypeError or ValueError for what is none."""
    low, high = (as_float(name, v) for v in as_tuple(name, value, 2, "a range (low, high), in tokens"))
    if not 0 < low <= high:
        raise ValueError(f"{name} must satisfy 0 < low <= high, got ({low}, {high})")
    return low, high


@dataclass(frozen=True)
class ColorSpec(Spec):
    """Contract sections 2 to 6, all static parameters. Fields as in `smnoise.Green3D`, but `visible` is
    the count per ranking: per clip, or per frame with per="frame"."""

    color: str
    grid: tuple[int, int, int]
    visible: int
    per: str = "clip"
    boundary: str = "field"
    sigma1: tuple[float, float] = (0.4, 1.5)
    sigma2: tuple[float, float] = (1.4, 3.0)
    anisotropy: tuple[float, float, float] = (1.0, 1.0, 1.0)
    origin: tuple[int, int, int] = (0, 0, 0)
    truncate: float = 4.0

    def __post_init__(self):
        def put(name, value):
            object.__setattr__(self, name, value)

        as_choice("color", self.color, COLORS)
        as_choice("per", self.per, PER)
        as_choice("boundary", self.boundary, BOUNDARIES)
        put("grid", as_grid(self.grid))
        put("sigma1", as_sigma_range("sigma1", self.sigma1))
        put("sigma2", as_sigma_range("sigma2", self.sigma2))
        scales = as_tuple("anisotropy", self.anisotropy, 3, "three factors (t, y, x)")
        put("anisotropy", tuple(as_float("anisotropy", a) for a in scales))
        if min(self.anisotropy) < 0:
            raise ValueError(f"anisotropy must not be negative, got {self.anisotropy}")
        origin = as_tuple("origin", self.origin, 3, "three integers (t, y, x)")
        put("origin", tuple(as_int("origin", o, -MAX_ORIGIN, MAX_ORIGIN) for o in origin))
        put("truncate", as_float("truncate", self.truncate))
        if self.truncate <= 0:
            raise ValueError(f"truncate must be positive, got {self.truncate}")

        where = "frame" if self.per == "frame" else "clip"
        put("visible", as_visible(self.visible, self.tokens, where))
        if self.two_sigmas:
            bank1, bank2 = self.banks
            for sigma, j in zip(bank1, reference.first_partner(bank1, bank2), strict=True):
                if j == reference.BANK:
                    raise ValueError(
                        f"sigma2 {self.sigma2} has no value of at least sigma1 + 0.05 for sigma1 = "
                        f"{sigma:.4g} (largest: {bank2[-1]:.4g}); raise sigma2 or lower sigma1 {self.sigma1}"
                    )
        if max(self.max_radius) > MAX_RADIUS:
            raise ValueError(
                f"filter radii (truncate * sigma * anisotropy) must be at most {MAX_RADIUS}, got {self.max_radius}; "
                "lower sigma, anisotropy or truncate"
            )
        slab = self.slab
        if slab > MAX_SLAB:
            raise ValueError(
                f"grid {self.grid} with radii {self.max_radius} needs {slab} noise values a mask; at most "
                f"{MAX_SLAB} are supported: lower sigma, anisotropy or truncate"
            )

    @property
    def groups(self) -> int:
        """Rankings per sample."""
        return self.grid[0] if self.per == "frame" else 1

    @property
    def tokens(self) -> int:
        """Tokens per ranking."""
        return math.prod(self.grid) // self.groups

    @property
    def two_sigmas(self) -> bool:
        """Whether the colour is made of two filters."""
        return self.color in ("green", "purple")

    @cached_property
    def banks(self) -> tuple[list[float], list[float]]:
        """The 32 sigmas of each of the two filters, in tokens."""
        return reference.bank(self.sigma1), reference.bank(self.sigma2)

    def radius_of(self, bank: int) -> tuple[int, int, int]:
        """Largest filter radius of a bank along t, y, x."""
        t, y, x = (int(self.truncate * (max(self.banks[bank]) * scale) + 0.5) for scale in self.anisotropy)
        return t, y, x

    @cached_property
    def max_radius(self) -> tuple[int, int, int]:
        """Largest filter radius along t, y, x."""
        return (0, 0, 0) if self.color == "white" else self.radius_of(int(self.two_sigmas))

    @property
    def slab(self) -> int:
        """Noise values that the largest filter of a sample reads, as a bound on its memory."""
        return math.prod(n + 2 * r for n, r in zip(self.grid, self.max_radius, strict=True))


@dataclass(frozen=True)
class Tables:
    """What backends read: computed once, in float64, rounded once (contract section 3)."""

    taps: np.ndarray  # float32 [2 banks, 32, 3 axes t y x, longest], zero behind each radius
    radius: np.ndarray  # int32 [2, 32, 3]
    first: np.ndarray | None  # int32 [32]; None for colours of one sigma
    quantile: float  # where the search for the threshold starts: in standard deviations,
    slope: float  # and tokens per standard deviation there


@lru_cache(maxsize=256)
def tables(spec: ColorSpec) -> Tables:
    """Compute the tables of a spec, which are kept for specs that were used last."""
    taps_of = lru_cache(maxsize=None)(reference.taps)
    rows = [
        [[taps_of(sigma * scale, spec.truncate) for scale in spec.anisotropy] for sigma in bank]
        for bank in (spec.banks if spec.color != "white" else ([0.0] * 32,) * 2)
    ]
    longest = max(len(g) for bank in rows for entry in bank for g in entry)
    taps = np.zeros((2, reference.BANK, 3, longest), np.float32)
    radius = np.zeros((2, reference.BANK, 3), np.int32)
    for b, bank in enumerate(rows):
        for i, entry in enumerate(bank):
            for axis, g in enumerate(entry):
                taps[b, i, axis, : len(g)] = g
                radius[b, i, axis] = len(g) - 1
    first = np.array(reference.first_partner(*spec.banks), np.int32) if spec.two_sigmas else None
    return Tables(taps, radius, first, *search_start(spec.tokens, spec.visible, spec.color == "white"))


def search_start(tokens: int, visible: int, uniform: bool = False) -> tuple[float, float]:
    """Quantile and slope of a normal (or uniform) field at its threshold: a starting guess, never a result."""
    below = 1 - (visible - 0.5) / tokens
    if uniform:
        return math.sqrt(12) * (below - 0.5), tokens / math.sqrt(12)
    normal = NormalDist()
    quantile = normal.inv_cdf(below)
    return quantile, tokens * normal.pdf(quantile)
