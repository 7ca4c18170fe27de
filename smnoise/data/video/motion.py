# SPDX-License-Identifier: Apache-2.0
"""V-motion: real pixels, exact labels of motion. Which way does the window move over the frame?

A clip shows what a square window sees that moves over a frame of a real video in one of eight ways. Pixels are
found by bilinear sampling at exact positions. Nothing but the order of pictures tells the class:

* Clips come in blocks of eight, one of each class, that share frame, speed and the window's middle pose.
* The frame is continued by its mirror images, and the window's place and angle are drawn evenly from all there
  are: so they are spread evenly in every picture of every class.
* Opposite motions (left and right, up and down, in and out) are the same pictures in opposite order, and a
  rotation is either way round.
* Zoom alone must change what a picture may show: who knew both the scale of a scene and the number of a picture
  could be right in `one_picture` of cases, 0.2 instead of 1/8 at the usual amplitude.

Places are not chosen for what they show, as that would tell a window's first picture from its middle one. So some
clips show clear sky, in which no motion is seen, and nobody reaches an accuracy of 1.

The amplitude decides how hard the task is. At 3, in 8 frames of 64 pixels, a window moves 2 to 6 pixels a frame, and a
small ViT that learns from labels alone is right in 0.83 of clips of a video that it has not seen, after 300 steps of 32
clips.

By default the video is frozen at one frame, so that labels are exact. `source="moving"` plays it below the window
instead: closer to a camera, but then a walking person in a "still" clip moves, and a pan may follow what it shows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from ..draws import choose, permutation
from ..numbered import NumberedClips
from .clips import clip_indices, open_video

MOTIONS = ("still", "left", "right", "up", "down", "zoom in", "zoom out", "rotate")
PAN = 0.15  # window sides from the first picture to the last; these three are multiplied by amplitude and clip's speed
ZOOM = 0.2  # natural logarithm of the scale
ROTATION = 0.35  # radians; all three move the window's edge about as far
SPEEDS = (0.5, 1.5)
SIDES = (0.28, 0.76)  # of the window, as a share of the frame's shorter side
AMPLITUDE = 3.0

FRAME, SPEED, WAY, SIDE, ANGLE, X, Y, ORDER = range(4, 12)  # slots of a block's choices
FINE = 1 << 20


def one_picture(amplitude: float = AMPLITUDE) -> float:
    """The highest accuracy that a single picture of each clip allows.

    A picture's scale is spread evenly over as much in every class, but begins and ends up to half a zoom off.
    """
    return (1 + ZOOM * amplitude / math.log(SIDES[1] / SIDES[0])) / len(MOTIONS)


class Window(NamedTuple):
    """Where a square window is."""

    x: float
    """Of its centre, in pixels of the frame from its left edge; beyond the frame are its mirror images."""
    y: float
    side: float
    """In pixels of the frame."""
    angle: float
    """Radians."""

    def moved(self, motion: str, amount: float) -> Window:
        """The window after part of a motion: `amount` 1 is all of it at amplitude and speed 1, negative ones run
        backwards.

        The words are those of a camera: left means that the window goes left, by its own axes, so that what it
        shows goes right; zoom in makes it smaller. A rotation at positive amounts is clockwise.
        """
        along = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}.get(motion, (0, 0))
        across, down = (PAN * amount * self.side * step for step in along)
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        zoom = {"zoom in": -1, "zoom out": 1}.get(motion, 0)
        return Window(
            self.x + across * cos - down * sin,
            self.y + across * sin + down * cos,
            self.side * math.exp(zoom * ZOOM * amount),
            self.angle + (ROTATION * amount if motion == "rotate" else 0.0),
        )


def look(images: np.ndarray, windows: list[Window], size: int) -> Tensor:
    """What windows see, bilinear.

    Args:
        images: uint8 [1 or N, H, W, 3]; one is seen by all windows.
        windows: N of them.
        size: height and width of what comes out.

    Returns uint8 [N, 3, size, size].
    """
    height, width = images.shape[1:3]
    unit = (torch.arange(size, dtype=torch.float64, device="cpu") + 0.5) / size - 0.5
    down, across = torch.meshgrid(unit, unit, indexing="ij")
    grids = []
    for window in windows:
        cos, sin = window.side * math.cos(window.angle), window.side * math.sin(window.angle)
        x, y = window.x + across * cos - down * sin, window.y + across * sin + down * cos
        grids.append(torch.stack([2 * x / width - 1, 2 * y / height - 1], dim=-1))
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float().expand(len(windows), -1, -1, -1)
    seen = grid_sample(pixels, torch.stack(grids).float(), padding_mode="reflection", align_corners=False)
    return seen.round().clamp(0, 255).to(torch.uint8)


@dataclass
class MotionClips(NumberedClips):
    """Clips of moving windows by global sample number.

    Args:
        paths: video files of any size.
        frames, size: a clip is `frames` pictures (2 or more) of `size` pixels square.
        seed: of order, classes, frames, poses and speeds.
        blocks_per_video: blocks of eight clips from each file in an epoch.
        source: whether the video stands still below the window, or plays.
        stride: of a playing video, frames from one picture to the next.
        amplitude: of all motions. At 1 a window pans 0.15 of its side at the middle speed, zooms by exp(0.2) and
            turns by 0.35 radians.

    An item is {"clip": uint8 [3, frames, size, size], "label": 0 .. 7 by MOTIONS, "sample": n, "broken": [messages]}.
    Samples 8 b .. 8 b + 7 are block b, its classes in an order of its own.
    """

    MEDIUM: ClassVar[str] = "videos"

    frames: int = 16
    size: int = 224
    blocks_per_video: int = 8
    source: Literal["frozen", "moving"] = "frozen"
    stride: int = 2
    amplitude: float = AMPLITUDE

    def __post_init__(self):
        if self.frames < 2 or self.size < 1 or self.blocks_per_video < 1 or self.stride < 1:
            raise ValueError(
                "need at least 2 frames, 1 pixel, 1 block a video and a stride of 1, got "
                f"frames={self.frames}, size={self.size}, blocks_per_video={self.blocks_per_video}, "
                f"stride={self.stride}"
            )
        if not 0 < self.amplitude < math.inf:
            raise ValueError(f"amplitude must be a positive number, got {self.amplitude}")
        if self.source not in ("frozen", "moving"):
            raise ValueError(f"source must be frozen or moving, got {self.source!r}")

    @property
    def clips_per_file(self) -> int:
        return len(MOTIONS) * self.blocks_per_video

    def turn(self, sample: int) -> int:
        blocks = len(self.paths) * self.blocks_per_video
        epoch, place = divmod(sample // len(MOTIONS), blocks)
        return int(permutation(self.seed, epoch, blocks)[place]) // self.blocks_per_video

    def label(self, sample: int) -> int:
        """The class of a sample: a number of MOTIONS."""
        block, place = divmod(sample, len(MOTIONS))
        keys = [choose(self.seed, block, ORDER + i, 1 << 32) for i in range(len(MOTIONS))]
        return int(np.argsort(keys, kind="stable")[place])

    def read_clip(self, index: int, sample: int) -> dict:
        block, label = sample // len(MOTIONS), self.label(sample)
        # Never reduced so far that a pixel of the clip would skip one of the frame.
        images = self._images(self.paths[index], block, round(self.size / SIDES[1]))
        speed = SPEEDS[0] + (SPEEDS[1] - SPEEDS[0]) * self._share(block, SPEED)
        way = 1 if choose(self.seed, block, WAY, 2) or MOTIONS[label] != "rotate" else -1
        times = [(t - (self.frames - 1) / 2) / (self.frames - 1) for t in range(self.frames)]
        middle = self._middle(images.shape[1], images.shape[2], block)
        windows = [middle.moved(MOTIONS[label], way * self.amplitude * speed * time) for time in times]
        return {"clip": look(images, windows, self.size).transpose(0, 1).contiguous(), "label": label}

    def note(self, index: int) -> str | None:
        return open_video(self.paths[index]).note

    def _images(self, path: Path, block: int, short_side: int) -> np.ndarray:
        file = open_video(path)
        if self.source == "frozen":
            indices = [choose(self.seed, block, FRAME, file.frames)]
        else:
            starts = max(1, file.frames - (self.frames - 1) * self.stride)
            start = choose(self.seed, block, FRAME, starts)
            indices = clip_indices(file.frames, self.frames, self.stride, start)
        return _decoded(path, tuple(indices), short_side)

    def _middle(self, height: int, width: int, block: int) -> Window:
        """The pose at half time over frames of that size."""
        return Window(
            2 * width * self._share(block, X),
            2 * height * self._share(block, Y),
            min(height, width) * SIDES[0] * (SIDES[1] / SIDES[0]) ** self._share(block, SIDE),
            2 * math.pi * self._share(block, ANGLE),
        )

    def _share(self, block: int, slot: int) -> float:
        """In (0, 1), drawn evenly."""
        return (choose(self.seed, block, slot, FINE) + 0.5) / FINE


@lru_cache(maxsize=4)
def _decoded(path: Path, indices: tuple[int, ...], short_side: int) -> np.ndarray:
    """Frames as VideoFile.read gives them; the clips of a block come one after the other and share them."""
    return open_video(path).read(list(indices), short_side)
