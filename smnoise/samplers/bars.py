# SPDX-License-Identifier: Apache-2.0
"""Masks that hide whole frames of a video, or whole time steps or frequencies of a spectrogram."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..spec import as_blue_grid, as_int, as_tuple
from ._strategy import Strategy


@dataclass(frozen=True)
class Frame(Strategy):
    """Whole frames are shown or hidden, as in VideoMAE's ablation.

    >>> masks = Frame(grid=(8, 14, 14), mask_ratio=0.75)([0])
    >>> masks.volume().all((2, 3)).sum().item(), masks.num_visible  # 6 of 8 frames hidden
    (6, 392)

    Args:
        grid: tokens along (T, H, W), T > 1.
        mask_ratio: share of tokens that is masked, in (0, 1). Where that is no whole number of frames, one more frame
            shows the tokens that are missing, drawn at random; so with mask_ratio > 1 - 1/T no frame is shown whole.
        num_visible: visible tokens per sample, instead of a ratio.
        seed: 0 .. 2^64 - 1; a call may give another one, also as a tensor.

    Raises:
        ValueError, TypeError: for a parameter that cannot give such a mask, when the sampler is made.
    """

    grid: tuple[int, int, int]
    mask_ratio: float | None = None
    num_visible: int | None = field(default=None, kw_only=True)
    seed: int = field(default=0, kw_only=True)

    def __post_init__(self):
        grid = as_blue_grid(self.grid)
        if grid[0] < 2:
            raise ValueError(
                f"Frame hides some of several frames: grid must be (T, H, W) with T > 1, got {grid}"
            )
        self._prepare("axis", grid, axis=0)


def as_spectrogram(grid) -> tuple[int, int, int]:
    """(H, W) or (1, H, W) as the latter."""
    grid = as_blue_grid(grid)
    if grid[0] != 1:
        raise ValueError(f"bars are of spectrograms: grid must be (time, frequency), got {grid}")
    return grid


@dataclass(frozen=True)
class TimeBars(Strategy):
    """Whole time steps of a spectrogram are shown or hidden.

    >>> TimeBars(grid=(64, 8), num_visible=80)([0]).volume()[0, 0].all(1).sum().item()
    54

    Args:
        grid: tokens along (time, frequency).
        mask_ratio: share of tokens that is masked, in (0, 1). Where that is no whole number of bars, one more bar shows
            the tokens that are missing, drawn at random.
        num_visible, seed: as in `Frame`.
    """

    grid: tuple[int, ...]
    mask_ratio: float | None = None
    num_visible: int | None = field(default=None, kw_only=True)
    seed: int = field(default=0, kw_only=True)

    def __post_init__(self):
        self._prepare("axis", as_spectrogram(self.grid), axis=1)


@dataclass(frozen=True)
class FrequencyBars(Strategy):
    """Whole frequencies of a spectrogram are shown or hidden. See `TimeBars` for the arguments."""

    grid: tuple[int, ...]
    mask_ratio: float | None = None
    num_visible: int | None = field(default=None, kw_only=True)
    seed: int = field(default=0, kw_only=True)

    def __post_init__(self):
        self._prepare("axis", as_spectrogram(self.grid), axis=2)


@dataclass(frozen=True)
class TimeFrequencyBars(Strategy):
    """Bars of both kinds are hidden, and what is left where shown time steps cross shown frequencies is visible.

    >>> TimeFrequencyBars(grid=(64, 8), kept=(19, 5)).visible_per_sample  # AudioMAE's 2D mode
    95

    Args:
        grid: tokens along (time, frequency).
        mask_ratio: share of tokens that is masked, in (0, 1).
        num_visible: visible tokens per sample, instead of a ratio.
        kept: (time steps, frequencies) that are shown. Alone it makes the count, their product; beside a ratio or a
            count it is the proportion in which steps and frequencies are shown, which otherwise is that of the grid.
            Where bars do not give the count, one more shows the tokens that are missing, drawn at random.
        seed: as in `Frame`.

    Raises:
        ValueError, TypeError: for a parameter that cannot give such a mask, when the sampler is made.
    """

    grid: tuple[int, ...]
    mask_ratio: float | None = None
    num_visible: int | None = field(default=None, kw_only=True)
    kept: tuple[int, int] | None = field(default=None, kw_only=True)
    seed: int = field(default=0, kw_only=True)

    def __post_init__(self):
        grid = as_spectrogram(self.grid)
        if self.kept is not None:
            kept = as_tuple("kept", self.kept, 2, "two integers (time steps, frequencies)")
            self._put(kept=tuple(as_int("kept", k, 1, n) for k, n in zip(kept, grid[1:], strict=True)))
            if self.mask_ratio is None and self.num_visible is None:
                self._put(num_visible=self.kept[0] * self.kept[1])
        self._prepare("bars", grid, pace=self.kept)
