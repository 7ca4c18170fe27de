# SPDX-License-Identifier: Apache-2.0
"""Strategies by their names, each on a grid that it is used on."""

import torch

from smnoise import strategy

VIDEO, SPECTROGRAM, LINE = (8, 14, 14), (64, 8), (48,)


def grid_of(name: str) -> tuple[int, ...]:
    return LINE if name.endswith("-1d") else SPECTROGRAM if "bars" in name or name == "optim-blue" else VIDEO


def made(name: str, **parameters):
    return strategy(name, grid_of(name), **{"mask_ratio": 0.75, **parameters})


def volume(name: str, samples=range(40), **parameters) -> torch.Tensor:
    """bool [B, T, H, W], True = visible."""
    return ~made(name, **parameters)(samples).volume()
