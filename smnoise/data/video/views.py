# SPDX-License-Identifier: Apache-2.0
"""What evaluation looks at: every video once, nothing drawn, from as many views as are asked for.

A view is a segment (where in time) and a crop (where along the longer side). Letters: V views, T frames.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ...errors import DataError
from ..messages import FileMessage
from ..numbered import EveryItem
from .clips import clip_indices, open_video
from .motion import MotionClips

Sampling = Literal["dense", "uniform"]


@dataclass
class EveryVideo(EveryItem):
    """The views of each file, in the order of `paths`.

    Args:
        paths: video files.
        frames, stride, size: of a clip, as in `VideoClips`; the frame's shorter side is brought to `size`.
        segments, crops: so many places in time times so many in space; one is the middle.
        sampling: dense: `frames` frames `stride` apart, of several segments the first at the video's beginning and the
            last at its end. uniform: spread over the whole video, one from each of `frames` equal parts, of several
            segments at shares 0, 1 / segments and so on of each part.

    Item i is {"clip": uint8 [V, 3, T, size, size], all crops of a segment behind each other, "place": i, "decodes":
    whether it does, "broken": [messages]}. A file that does not decode is black and has a message; one that is served
    although some frames do not decode has one, too.
    """

    MEDIUM: ClassVar[str] = "videos"

    paths: list[Path]
    frames: int = 16
    stride: int = 4
    size: int = 224
    segments: int = 1
    crops: int = 1
    sampling: Sampling = "dense"

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, place: int) -> dict:
        path, messages, decodes = self.paths[place], [], True
        try:
            file = open_video(path)
            segments = [self._indices(file.frames, k) for k in range(self.segments)]
            images = file.read([i for segment in segments for i in segment], self.size)
            clip = torch.from_numpy(images).unflatten(0, (self.segments, self.frames)).movedim(-1, 1)
            clip = torch.stack([view for segment in clip for view in self._crops(segment)])
            if file.note:
                messages = [FileMessage(file.note, path, served=True)]
        except DataError as error:
            shape = self.segments * self.crops, 3, self.frames, self.size, self.size
            clip = torch.zeros(shape, dtype=torch.uint8, device="cpu")
            messages, decodes = [FileMessage(str(error), path)], False
        return {"clip": clip, "place": place, "decodes": decodes, "broken": messages}

    def _indices(self, frames: int, segment: int) -> list[int]:
        if self.sampling == "uniform":
            offset = segment / self.segments if self.segments > 1 else 0.5
            return uniform_indices(frames, self.frames, offset)
        if self.segments > 1:
            # On the raster of the stride, and rounded down, as VideoMAE's test does.
            last = max(0, -(-frames // self.stride) - self.frames)
            start = last * segment // (self.segments - 1) * self.stride
        else:
            start = max(0, frames - 1 - (self.frames - 1) * self.stride) // 2
        return clip_indices(frames, self.frames, self.stride, start)

    def _crops(self, segment: Tensor) -> list[Tensor]:
        """A segment uint8 [3, T, H, W] as `crops` clips [3, T, size, size]."""
        height, width = segment.shape[2:]
        scale = self.size / min(height, width)
        if scale != 1:
            shape = max(self.size, round(height * scale)), max(self.size, round(width * scale))
            segment = interpolate(
                segment.transpose(0, 1).contiguous(), size=shape, mode="bilinear", antialias=True
            )
            segment = segment.transpose(0, 1)
        height, width = segment.shape[2:]
        places = [
            (spread(height - self.size, k, self.crops), spread(width - self.size, k, self.crops))
            for k in range(self.crops)
        ]
        return [segment[..., y : y + self.size, x : x + self.size] for y, x in places]


@dataclass
class EveryMotion(EveryItem):
    """The first `count` clips of the motion task, each once, as items of `EveryVideo` are."""

    MEDIUM: ClassVar[str] = "videos"

    clips: MotionClips
    count: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, place: int) -> dict:
        if not 0 <= place < self.count:
            raise IndexError(f"place {place} of {self.count}")
        item = self.clips[place]
        return {"clip": item["clip"][None], "place": place, "decodes": True, "broken": item["broken"]}

    @property
    def labels(self) -> Tensor:
        """int64 [count]."""
        return torch.tensor([self.clips.label(place) for place in range(self.count)], device="cpu")


def uniform_indices(frames: int, length: int, offset: float) -> list[int]:
    """A frame of each of `length` equal parts of a video, at that share (in [0, 1)) of the part."""
    return [min(frames - 1, int(frames * (i + offset) / length)) for i in range(length)]


def spread(last: int, number: int, count: int) -> int:
    """Return place `number` of `count` places from 0 to `last` that are evenly apart; a single one is the middle."""
    return last // 2 if count == 1 else round(last * number / (count - 1))


def over_views(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The function of clips [B, 3, T, H, W] as one of views [B, V, 3, T, H, W], whose results are averaged."""

    def mean(views: Tensor) -> Tensor:
        batch, count = views.shape[:2]
        found = function(views.flatten(0, 1)).unflatten(0, (batch, count))
        return found[:, 0] if count == 1 else found.mean(dim=1)

    return mean
