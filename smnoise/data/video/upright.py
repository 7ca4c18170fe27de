# SPDX-License-Identifier: Apache-2.0
"""Pictures as their container says that they are shown: turned by quarters, mirrored."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

TOLERANCE = math.sin(math.radians(1))  # of a turn that counts as one by quarters, as FFmpeg's program has it


class Orientation(NamedTuple):
    """How a stored picture becomes the one that is shown: first transposed, then mirrored."""

    transposed: bool = False
    left_right: bool = False
    up_down: bool = False

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """A picture [H, W, 3] as it is shown; a view."""
        if self.transposed:
            image = image.swapaxes(0, 1)
        if self.left_right:
            image = image[:, ::-1]
        return image[::-1] if self.up_down else image

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height as shown of a picture that is stored so, and the other way round."""
        return (height, width) if self.transposed else (width, height)


def orientation_of(matrix: bytes) -> Orientation:
    """Read a display matrix: nine native 32-bit integers, by rows. A point (x, y), y downwards, is shown at (a x + c y,
    b x + d y), where a, b, c, d are numbers 0, 1, 3, 4. Turns that are not by quarters are ignored.
    """
    if len(matrix) < 36:
        return Orientation()
    a, b, _, c, d = (int(v) for v in np.frombuffer(matrix[:20], np.int32))
    if a and d and max(abs(b), abs(c)) <= TOLERANCE * min(abs(a), abs(d)):
        return Orientation(False, a < 0, d < 0)
    if b and c and max(abs(a), abs(d)) <= TOLERANCE * min(abs(b), abs(c)):
        return Orientation(True, c < 0, b < 0)
    return Orientation()


def matrix_of(frame) -> bytes:
    """The display matrix of a decoded `av.VideoFrame`; empty where it has none. A frame that was looked at so is kept
    for a while, and with it the decoder's memory, so this is for the first of a film."""
    return next((bytes(data) for data in frame.side_data if data.type.name == "DISPLAYMATRIX"), b"")
