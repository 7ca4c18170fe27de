# SPDX-License-Identifier: Apache-2.0
"""What is said of a kind of file in the video zoo."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ..zoo_tools import FRAMES, Make

Turn = Callable[[np.ndarray], np.ndarray]
HEAD = "| what | kind | frames | way | readers | said of it |\n|---|---|---:|---|---|---|"


class Kind(NamedTuple):
    """A kind of file, and what is right for it.

    group, what: of the table.
    name: of the file.
    make: writes it.
    frames: that it has; 0: none, and `error` is what is said.
    way: by which they are reached (smnoise.data.video.index); `later`: when all have been read, if by another one.
    note: what is said of a file that is served although not all of it decodes.
    placed: whether frames that do not decode keep their place, where a neighbour stands in.
    stream: which one is the film.
    turn: from stored pictures to shown ones.
    torchcodec: False where torchcodec cannot read it or gives other frames, so that PyAV does.
    patched: whether it has pictures that a decoder patches up with what it decoded before, be that what it may.
    """

    group: str
    what: str
    name: str
    make: Make
    frames: int = FRAMES
    way: str = "seek"
    later: str = ""
    note: str = ""
    placed: bool = False
    stream: int = 0
    turn: Turn | None = None
    torchcodec: bool = True
    patched: bool = False
    error: str = ""

    @property
    def by_torchcodec(self) -> bool:
        return self.torchcodec and self.way == "seek" and not self.later and self.turn is None

    @property
    def row(self) -> str:
        way = f"{self.way}, then {self.later}" if self.later else self.way
        if not self.frames:
            return f"| {self.group} | {self.what} | refused | | |"
        reader = "both" if self.by_torchcodec else "PyAV"
        reader += ", unlike" if self.patched and self.by_torchcodec else ""
        return f"| {self.group} | {self.what} | {self.frames} | {way} | {reader} | {self.note} |"
