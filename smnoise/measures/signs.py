# SPDX-License-Identifier: Apache-2.0
"""Signs in masks that something may be wrong with them: flicker from frame to frame, and holes in a spectrum.

Both are named in summaries of arXiv 2503.16311 as ways in which structured noise fails. Neither is an error: random
masks flicker, and masks that repeat a pattern have holes. They are said so that nobody takes these for smooth masks.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from ..samplers.base import Sampler
from .spectra import Measures, Patterns, Spectrum, patterns

FLICKER = 0.05  # of the way from random masks to masks that stand still
HOLE = 0.1  # of the lesser of the two peaks around it
PEAK = 0.1  # of the power of random masks: what is lower is no peak


class Sign(NamedTuple):
    """What was found in masks, and what it means."""

    name: str
    """"flicker", "hole in space", "hole in time" or "hole in the noise"."""
    said: str
    """A sentence with the numbers, and what it means."""


def signs(found: Patterns) -> list[Sign]:
    """What a person should be told of masks that were measured; empty for most. Only `Measures` know of the noise."""
    noise = found.noise if isinstance(found, Measures) else None
    spectra = [
        ("space", found.in_space),
        ("time", found.in_time),
        ("the noise", None if noise is None else noise.measured),
    ]
    holes = [_hole(where, spectrum) for where, spectrum in spectra if spectrum is not None]
    return [sign for sign in (_flicker(found), *holes) if sign is not None]


def signs_of(sampler: Sampler) -> list[Sign]:
    """Look at a sampler's first 64 masks, which takes well under a second for usual grids: neither at the noise behind
    them nor at distances.

    Masks of a single visible token have none.
    """
    if sampler.visible_per_sample < 2:
        return []
    return signs(patterns(sampler))


def _flicker(found: Patterns) -> Sign | None:
    if "t" not in found.persistence or found.expected_persistence >= 1:
        return None
    seen, chance = found.persistence["t"][0].item(), found.expected_persistence
    if (seen - chance) / (1 - chance) >= FLICKER:
        return None
    return Sign(
        "flicker",
        f"flicker: the token one time step after a visible one is visible too in {seen:.1%} of the cases, and in "
        f"{chance:.1%} of them in random masks; what is hidden can be copied from the time step before or after. "
        "Masks that last longer have larger sigmas in time, or are tubes",
    )


def _hole(where: str, spectrum: Spectrum) -> Sign | None:
    """The deepest valley between two peaks, if it is a hole."""
    there = ~spectrum.power.isnan()
    frequency, power = spectrum.frequency[there], spectrum.power[there]
    if len(power) < 3:
        return None
    left, right = power.cummax(0).values[:-2], power.flip(0).cummax(0).values.flip(0)[2:]
    peaks, valleys = torch.minimum(left, right), power[1:-1]
    depth = torch.where(peaks >= PEAK, valleys / peaks, math.inf)
    at = int(depth.argmin())
    if depth[at] >= HOLE:
        return None
    return Sign(
        f"hole in {where}",
        f"hole in {where}: at {frequency[at + 1]:.2f} cycles a token is {depth[at]:.1%} of the power of the lower "
        "peak beside it, so structures of this size are never shown alone; masks that repeat a pattern, and bars, have "
        "such holes, smooth noise has none",
    )
