# SPDX-License-Identifier: Apache-2.0
"""Numbers of any sampler's masks: counts, where and how often tokens are visible, spectra, distances, persistence."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from ..masks import MaskBatch
from ..reference import draw_sigmas, first_partner, taps
from ..samplers import Color3D
from ..samplers.base import Sampler
from ..spec import with_ones

AXES = ("t", "y", "x")
NOISE_GRID, NOISE_SAMPLES = (32, 48, 48), 32  # of the noise's spectrum: finer than that of a mask's own grid
BINS = 24
PAIRS = 2**30  # of visible tokens, whose distances are measured
ROWS = 1024  # tokens whose distances from all others are held at a time


class Spectrum(NamedTuple):
    """Power by frequency, float64, NaN where a bin holds no frequency. 1 is that of random masks, or of white noise."""

    frequency: Tensor
    """The middle of each bin, in cycles a token, up to 0.5."""
    power: Tensor


@dataclass(frozen=True)
class NoiseSpectrum:
    """The spectrum of the noise behind a sampler, over the length of the frequency vector, and what its filters
    promise.
    """

    measured: Spectrum
    expected: Tensor
    """Of the filters, averaged over the sigmas that the measured samples drew. float64 [bins]."""
    low: Tensor
    """The least and the most over the sampler's sigmas. float64 [bins]."""
    high: Tensor


@dataclass(frozen=True)
class Patterns:
    """How visible tokens lie to each other, in masks over a grid of L tokens, V of them visible in each."""

    persistence: dict[str, Tensor]
    """By axis longer than 1: how probably the token 1, 2, ... further along it is visible too where one is."""
    expected_persistence: float
    """Of random masks: (V - 1) / (L - 1)."""
    in_space: Spectrum | None
    """Of the visible tokens of each time step, radially averaged; None for grids that are too small."""
    in_time: Spectrum | None
    """Of the visible tokens of each place over time; None for grids of one time step."""


@dataclass(frozen=True)
class Measures(Patterns):
    """What was measured of N masks over a grid of L tokens, V of them visible in each."""

    masks: int
    grid: tuple[int, int, int]
    num_visible: int
    visible_counts: tuple[int, int]
    """The least and the most visible tokens of a mask, counted."""
    visible_per_frame: tuple[int, float, int]
    """Of a mask's time step: the least, the standard deviation, the most."""
    seen: Tensor
    """The share of the masks in which each token is visible, float64 [T, H, W]."""
    deviation: float
    """Standard deviation of `seen` where each mask is independent: sqrt(p (1 - p) / N) with p = V / L."""
    nearest: Tensor
    """Distance in tokens from each visible token to the nearest other one, float64, ascending."""
    touching: float
    """Share of visible tokens with a visible neighbour beside, above, below, before or after."""
    noise: NoiseSpectrum | None
    """None for samplers that cut their masks from no noise."""

    @property
    def z(self) -> Tensor:
        """`seen`, as float64 [T, H, W], in standard deviations from V / L."""
        return (self.seen - self.num_visible / self.seen.numel()) / self.deviation

    @property
    def beyond_two(self) -> float:
        """The share of tokens more than 2 deviations off; 0.0455 of a normal distribution."""
        return (self.z.abs() > 2).double().mean().item()


def measure(
    sampler: Sampler,
    count: int = 512,
    first: int = 0,
    step: Callable[[int], object] = lambda n: None,
) -> Measures:
    """Measure masks first .. first + count - 1 of a sampler.

    step: called with a number of masks after each part of the work, for a progress bar.

    Raises ValueError for fewer than two masks, or a single visible token.
    """
    sums, visible = _Sums(sampler, count), sampler.visible_per_sample
    counts: list[Tensor] = []
    per_frame: list[Tensor] = []
    nearest: list[Tensor] = []
    for batch in _batches(sampler, count, first):
        shown = sums.add(batch)
        counts.append(shown.sum((1, 2, 3)))
        per_frame.append(shown.sum((2, 3)).flatten())
        # Distances are the slow part, and a few masks tell them well.
        nearest.extend(nearest_visible(batch, min(128, max(1, PAIRS // visible**2)) - len(nearest)))
        step(batch.batch_size)
    of_masks, of_frames, apart = torch.cat(counts), torch.cat(per_frame), torch.cat(nearest).sort().values
    share = visible / sums.seen.numel()
    return Measures(
        masks=count,
        grid=sums.grid,
        num_visible=visible,
        visible_counts=(int(of_masks.min()), int(of_masks.max())),
        visible_per_frame=(int(of_frames.min()), of_frames.std().item(), int(of_frames.max())),
        seen=sums.seen / count,
        deviation=math.sqrt(share * (1 - share) / count),
        nearest=apart,
        touching=(apart <= 1).double().mean().item(),
        noise=noise_spectrum(sampler) if isinstance(sampler, Color3D) else None,
        **vars(sums.patterns()),
    )


def patterns(sampler: Sampler, count: int = 64) -> Patterns:
    """Measure of masks 0 .. count - 1 of a sampler what takes least time. Raises ValueError as `measure` does."""
    sums = _Sums(sampler, count)
    for batch in _batches(sampler, count, 0):
        sums.add(batch)
    return sums.patterns()


def _batches(sampler: Sampler, count: int, first: int) -> Iterator[MaskBatch]:
    for at in range(first, first + count, 64):
        yield sampler(range(at, min(at + 64, first + count)))


class _Sums:
    """Over masks, of what `Patterns` are made of."""

    def __init__(self, sampler: Sampler, count: int):
        if count < 2 or sampler.visible_per_sample < 2:
            raise ValueError(
                f"need at least 2 masks of at least 2 visible tokens, got {count} of {sampler.visible_per_sample}"
            )
        self.grid = grid = with_ones(sampler.grid)
        self.count, self.visible = count, sampler.visible_per_sample
        self.seen, self.planes, self.lines = (
            torch.zeros(shape, dtype=torch.float64, device="cpu") for shape in (grid, grid[1:], grid[:1])
        )
        self.pairs = {
            axis: torch.zeros(n - 1, dtype=torch.float64, device="cpu")
            for axis, n in zip(AXES, grid, strict=True)
            if n > 1
        }

    def add(self, batch: MaskBatch) -> Tensor:
        """Returns where tokens are visible, float64 [B, T, H, W]."""
        shown = (~batch.volume().cpu()).double()
        self.seen += shown.sum(0)
        share = self.visible / self.seen.numel()
        self.planes += torch.fft.fft2(shown - share).abs().square().sum((0, 1))
        self.lines += torch.fft.fft(shown - share, dim=1).abs().square().sum((0, 2, 3))
        for axis in self.pairs:
            self.pairs[axis] += pairs_apart(shown, AXES.index(axis) + 1)
        return shown

    def patterns(self) -> Patterns:
        grid, tokens, visible = self.grid, self.seen.numel(), self.visible
        share = visible / tokens
        even = (
            share * (1 - share) * tokens / (tokens - 1)
        )  # the power of random masks, over tokens of a line or plane
        small = min((n for n in grid[1:] if n > 1), default=1) < 4
        return Patterns(
            persistence={
                axis: conditional(found, grid, AXES.index(axis), self.seen)
                for axis, found in self.pairs.items()
            },
            expected_persistence=(visible - 1) / (tokens - 1),
            in_space=None if small else radial(self.planes / (self.count * tokens * even)),
            in_time=None if grid[0] < 4 else radial(self.lines / (self.count * tokens * even)),
        )


def pairs_apart(shown: Tensor, dim: int) -> Tensor:
    """Count how many pairs of visible tokens are 1, 2, ... apart along a dimension of volumes, float [B, T, H, W], 1 =
    visible: float64 [size - 1].
    """
    size = shown.shape[dim]
    # Padded, a line does not meet itself around the end. The sums are whole numbers, and far below 2^52.
    power = torch.fft.rfft(shown, 2 * size, dim).abs().square()
    lines = power.sum([d for d in range(shown.dim()) if d != dim])
    return torch.fft.irfft(lines, 2 * size)[1:size].round()


def conditional(pairs: Tensor, grid: tuple[int, int, int], axis: int, seen: Tensor) -> Tensor:
    """The probability that the token `lag` further is visible where one is: pairs over the visible tokens that have
    such a token, float64 [size - 1]."""
    per_place = seen.sum([a for a in range(3) if a != axis])
    return pairs / per_place.cumsum(0)[:-1].flip(0)


def nearest_visible(masks: MaskBatch, most: int) -> list[Tensor]:
    """Return, for each of the first `most` masks, the distances, float64 [V], from its visible tokens to the nearest
    other one, without wrapping.
    """
    keep = masks.need("ids_keep").cpu()[: max(most, 0)]
    every = torch.cartesian_prod(*(torch.arange(n, dtype=torch.float64, device="cpu") for n in masks.grid))
    found = []
    for ids in keep:
        parts = []
        for at in range(0, len(ids), ROWS):
            rows = every[ids[at : at + ROWS]]
            apart = torch.cdist(rows, every[ids], compute_mode="donot_use_mm_for_euclid_dist")
            apart.diagonal(at).fill_(torch.inf)
            parts.append(apart.amin(1))
        found.append(torch.cat(parts))
    return found


def radial(power: Tensor, bins: int = BINS) -> Spectrum:
    """Average the power, floats of a discrete Fourier transform of any shape, over frequency vectors of one length.
    Frequency 0 is left out, and so are lengths beyond 0.5.
    """
    axes = [torch.fft.fftfreq(n, dtype=torch.float64, device="cpu") for n in power.shape]
    squares = torch.stack([f.square() for f in torch.meshgrid(*axes, indexing="ij")]).sum(0)
    bins = min(bins, max(power.shape) // 2)
    place = ((squares.sqrt() * 2 * bins - 1e-9).ceil().long() - 1).flatten()
    inside = (place >= 0) & (place < bins)
    sums, counts = torch.zeros(2, bins, dtype=torch.float64, device="cpu")
    sums.index_add_(0, place[inside], power.flatten()[inside])
    counts.index_add_(0, place[inside], torch.ones_like(sums).new_ones(int(inside.sum())))
    return Spectrum((torch.arange(bins, dtype=torch.float64, device="cpu") + 0.5) / (2 * bins), sums / counts)


def noise_spectrum(sampler: Color3D) -> NoiseSpectrum:
    """Measure the noise itself, on a larger window of the same sampler, against white noise.

    A window that does not wrap is tapered (Hann), so that its edges do not spread the band; the power of one bin then
    leaks into its neighbours, but not further.
    """
    grid = NOISE_GRID if sampler.grid[0] > 1 else (1, *NOISE_GRID[1:])
    noise = replace(sampler, grid=grid, mask_ratio=0.9, num_visible=None).noise(range(NOISE_SAMPLES)).double()
    taper = torch.ones(grid, dtype=torch.float64, device="cpu")
    if sampler.boundary == "field":
        for axis, n in enumerate(grid):
            if n > 1:
                taper = taper * along(
                    axis, torch.hann_window(n, periodic=True, dtype=torch.float64, device="cpu")
                )
    white = taper.square().sum() / 12  # the variance of a uniform value of width 1
    measured = radial(torch.fft.fftn(noise * taper, dim=(1, 2, 3)).abs().square().mean(0) / white)

    def of_filters(pairs: list[tuple[float, float]]) -> Tensor:
        # A plane of an unbounded volume has the power of all frequencies in time together.
        volume = NOISE_GRID if sampler.boundary == "field" else grid
        powers = (response(sampler, volume, *pair) for pair in pairs)
        return torch.stack([radial(p.mean(0, keepdim=True) if grid[0] == 1 else p).power for p in powers])

    drawn, every = of_filters(drawn_sigmas(sampler, NOISE_SAMPLES)), of_filters(possible_sigmas(sampler))
    return NoiseSpectrum(measured, drawn.mean(0), every.amin(0), every.amax(0))


def drawn_sigmas(sampler: Color3D, samples: int) -> list[tuple[float, float]]:
    """Return the sigmas of samples 0, 1, ... (contract, section 3), in tokens."""
    one, two = sampler.spec.banks
    first = first_partner(one, two) if sampler.spec.two_sigmas else None
    draws = (draw_sigmas(sampler.seed, sample, first) for sample in range(samples))
    return [(one[i], two[j]) for i, j in draws]


def possible_sigmas(sampler: Color3D) -> list[tuple[float, float]]:
    """Return a selection of all pairs of sigmas that a sample may draw, the extremes among them."""
    one, two = sampler.spec.banks
    if not sampler.spec.two_sigmas:
        return [(a, a) for a in {*one[::4], one[-1]}]
    starts = first_partner(one, two)
    chosen = [i for i in range(32) if i % 6 in (0, 1)]
    return [(one[i], two[j]) for i in chosen for j in {starts[i], *range(starts[i], 32, 6), 31}]


def response(sampler: Color3D, grid: tuple[int, int, int], sigma1: float, sigma2: float) -> Tensor:
    """Compute the power that the sampler's filters leave of white noise, at each frequency of a Fourier transform over
    `grid`: float64 of that shape.
    """
    low1, low2 = (low_pass(sampler, grid, sigma) for sigma in (sigma1, sigma2))
    passed = {
        "white": torch.ones_like(low1),
        "red": low1,
        "blue": 1 - low1,
        "green": low1 - low2,
        "purple": 1 - (low1 - low2),
    }
    return passed[sampler.color].square()


def low_pass(sampler: Color3D, grid: tuple[int, int, int], sigma: float) -> Tensor:
    """Compute the transfer function of the sampler's Gaussian filter, from the very weights that it uses: float64, of
    the grid's shape.
    """
    passed = torch.ones(grid, dtype=torch.float64, device="cpu")
    for axis, (size, factor) in enumerate(zip(grid, sampler.anisotropy, strict=True)):
        if sigma * factor:
            weights = torch.from_numpy(taps(sigma * factor, sampler.truncate)).double()
            frequency = torch.fft.fftfreq(size, dtype=torch.float64, device="cpu")[:, None]
            waves = torch.cos(2 * torch.pi * frequency * torch.arange(1, len(weights), device="cpu"))
            passed = passed * along(axis, weights[0] + 2 * (waves * weights[1:]).sum(1))
    return passed


def along(axis: int, values: Tensor) -> Tensor:
    """Lay a vector, float [n], along one axis of a volume [T, H, W], of size 1 along the others."""
    return values.reshape([-1 if a == axis else 1 for a in range(3)])
