# SPDX-License-Identifier: Apache-2.0
"""Masks of a clip and of its sound together: the moving clip above the spectrogram of the same seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import Tensor

from ..samplers.coupled import MaskPair
from . import film
from .overlay import masked
from .scenes import STRIP, colored
from .style import HIDDEN

WIDE = 192  # pixels of a panel, at least
BAR = 10  # pixels of a row that tells how much of each frame is visible
GAP = 3
NOW = np.array([255, 255, 255], np.uint8)  # the line that goes over the spectrogram
BARS = "bars: how much of each frame (blue), and of the sound beside it (orange), is visible"
SHOWN = np.array(
    [[86, 180, 233], [230, 159, 0]], np.float32
)  # colours of the rows: the picture's, the sound's


def pair(
    masks: dict[str, MaskPair],
    clip: np.ndarray,
    spectrogram: np.ndarray,
    stem: Path,
    *,
    milliseconds: int = 160,
    colors: int = 128,
    footer: str = "",
    formats: tuple[str, ...] = ("png",),
) -> list[Path]:
    """The first masks of each pair over a clip and its spectrogram, as stem.gif and a film strip stem.png and so on.

    In the GIF a line goes through the spectrogram while the clip plays. The two rows of bars between them tell how many
    tokens of the picture, and of the sound beside each frame, are visible: the brighter the more.

    Args:
        masks: by caption, all of the same two grids, of token order (time, frequency) for the sound.
        clip: uint8 [frames, H, W, 3], T * tubelet frames of the picture's grid.
        spectrogram: float [time, mel], sides multiples of the sound's grid, of the clip's seconds.

    Raises ValueError for masks of other grids than clip and spectrogram, or no masks.
    """
    if not masks:
        raise ValueError("need a pair of masks to show")
    panels, strips = {}, {}
    for name, found in masks.items():
        seen, heard = found.video.volume()[0].cpu().numpy(), found.audio.volume()[0, 0].cpu().numpy()
        pictures = masked(clip, _in_time(seen, len(clip)))
        sound = masked(colored(spectrogram), heard)
        panels[name] = _panel(pictures, sound.transpose(1, 0, 2)[::-1], _bars(seen, heard))
        steps = np.linspace(0, len(seen) - 1, min(STRIP, len(seen))).round().astype(int)
        parts = np.split(sound, len(seen))
        strips[f"{name}\npicture"] = pictures[steps * (len(clip) // len(seen))]
        strips[f"{name}\nits sound"] = np.stack([_as_square(parts[n], clip.shape[1]) for n in steps])
    animation = stem.with_name(f"{stem.name}.gif")
    told = f"{BARS}; {footer}" if footer else BARS
    film.gif(panels, animation, milliseconds=milliseconds, colors=colors, footer=told)
    return [animation, *film.strip(strips, [f"t = {n}" for n in steps], stem, footer=footer, formats=formats)]


def visible_by_frame(masks: MaskPair) -> tuple[Tensor, Tensor]:
    """How many tokens are visible in each frame of the picture, and in the time steps of the sound beside it: int64
    [B, T] both."""
    seen = (~masks.video.volume()).sum((2, 3))
    heard = (~masks.audio.volume())[:, 0].sum(2)
    if heard.shape[1] % seen.shape[1]:
        raise ValueError(
            f"the {heard.shape[1]} time steps of the sound must be a multiple of the {seen.shape[1]} frames"
        )
    return seen, heard.unflatten(1, (seen.shape[1], -1)).sum(2)


def _in_time(mask: np.ndarray, frames: int) -> np.ndarray:
    if frames % len(mask):
        raise ValueError(f"{frames} frames must be a multiple of the grid's {len(mask)} time steps")
    return mask.repeat(frames // len(mask), axis=0)


def _bars(seen: np.ndarray, heard: np.ndarray) -> np.ndarray:
    """Share of visible tokens of each time step, of the fullest one's: float [2, time steps of the sound]."""
    steps = len(heard)
    by_frame = (~seen).sum((1, 2)).repeat(steps // len(seen))
    beside = (~heard).sum(1).reshape(len(seen), -1).sum(1).repeat(steps // len(seen))
    return np.stack([row / max(1, row.max()) for row in (by_frame, beside)])


def _panel(pictures: np.ndarray, sound: np.ndarray, bars: np.ndarray) -> np.ndarray:
    """Pictures [frames, H, W, 3] above two rows of bars above the spectrogram [mel, time, 3] with a line that moves:
    uint8 [frames, H', W', 3]."""
    larger = -(-WIDE // pictures.shape[2])
    pictures = pictures.repeat(larger, axis=1).repeat(larger, axis=2)
    count, _, wide = pictures.shape[:3]
    columns = np.arange(wide) * sound.shape[1] // wide
    below = sound[:, columns].repeat(max(1, wide // 4 // sound.shape[0]), axis=0)
    dark = np.array(HIDDEN, np.float32) * 255
    rows = []
    for bar, color in zip(bars, SHOWN, strict=True):
        line = bar[np.arange(wide) * bars.shape[1] // wide, None] * (color - dark) + dark
        rows.append(np.broadcast_to(line.astype(np.uint8), (BAR, wide, 3)))
    gap = np.broadcast_to(dark.astype(np.uint8), (GAP, wide, 3))
    still = np.concatenate([gap, rows[0], gap[:1], rows[1], gap, below])
    panels = []
    for n, picture in enumerate(pictures):
        moving = still.copy()
        at = min(wide - 2, int((n + 0.5) * wide / count))
        moving[GAP:, at : at + 2] = NOW
        panels.append(np.concatenate([picture, moving]))
    return np.stack(panels)


def _as_square(sound: np.ndarray, side: int) -> np.ndarray:
    """A piece of a spectrogram [time, mel, 3], mel upwards, in a square of so many pixels."""
    upright = sound.transpose(1, 0, 2)[::-1]
    rows, columns = (np.arange(side) * n // side for n in upright.shape[:2])
    return upright[rows][:, columns]
