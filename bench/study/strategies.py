# SPDX-License-Identifier: Apache-2.0
"""The masks of a study by name: all of them have the same exact number of visible tokens."""

from __future__ import annotations

import smnoise

NAMES = {"random": "White3D", "green": "Green3D", "red": "Red3D", "blue": "Blue3D", "purple": "Purple3D"}


def sampler_of(name: str, grid: tuple[int, int, int], visible: int, seed: int):
    """The sampler of a strategy. Raises ValueError where there is none of that name, or it cannot have as many
    visible tokens."""
    if name == "optim-blue":
        return smnoise.OptimBlue(grid, num_visible=visible, seed=seed)
    if name in NAMES:
        return getattr(smnoise, NAMES[name])(grid, num_visible=visible, seed=seed)
    return smnoise.strategy(name, grid, num_visible=visible, seed=seed)
