# SPDX-License-Identifier: Apache-2.0
"""What fine-tuning does to videos: random crops, flips, RandAugment and erasing of a clip; mixup and cutmix of a batch.

The operations are timm's, which draw from the global generators of Python, NumPy and torch. Here these are set to a
state of (seed, sample number) around each call and put back after it, so that a clip is the same in any process and
after any restart. All frames of a clip are treated alike. Letters: B clips, T frames, S pixels along a side.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from ...compat import import_timm
from ...models.videomae import IMAGENET_MEAN, IMAGENET_STD
from ...reference import words
from ..draws import choose
from ..numbered import NumberedClips
from .clips import open_video

if TYPE_CHECKING:
    from .store import FrameStore

PURPOSE_VIDEO = 12  # beside those of `draws` and `augment`
AREA, ASPECT = (0.08, 1.0), (3 / 4, 4 / 3)  # of a crop: its share of the frame, width over height
START, PARTS = 20, 32  # slots of a sample's choices; PARTS is the first of many
RANDAUGMENT, ERASING, MIXING = 0, 1, 2  # what the global generators are set for


@contextmanager
def seeded_globals(seed: int, number: int, part: int, view: int = 0) -> Iterator[None]:
    """Let the global generators of Python, NumPy and torch's CPU begin inside of the block at a state that is a
    function of the arguments. After the block they are the caller's again, as they were.
    """
    word = [int(w) for w in words(seed, number, PURPOSE_VIDEO, block=view, y=part)]
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 (timm draws from it)
    with torch.random.fork_rng(devices=[]):
        random.seed(word[0] | word[1] << 32)
        np.random.seed(word[2])  # noqa: NPY002
        torch.default_generator.manual_seed(word[3] | word[0] << 32)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002


@dataclass
class LabelledClips(NumberedClips):
    """Augmented training clips by global sample number.

    Args:
        paths: video files.
        labels: of each path: int64 [paths].
        frames, stride, size: of a clip, as in `VideoClips`.
        sampling: dense: a random start, `frames` frames spread over frames * stride of the video, see
            `spread_indices`. uniform: a random frame from each of `frames` equal parts of the video.
        views: augmented clips made of the same frames, which saves decoding.
        flip: half of the clips are mirrored, left to right.
        randaugment: timm's name of a policy, such as rand-m7-n4-mstd0.5-inc1; empty: none.
        erasing: chance that a rectangle of a clip becomes noise, the same one in all frames.
        short_side: frames are reduced to this while decoding.
        store: a cache on disk (`FrameStore`), made with the same short_side, which is read instead of the videos it
            has.

    An item is {"clip": uint8 [views, 3, T, S, S], "label": that of the file, "sample": n, "broken": [messages]}.
    """

    MEDIUM: ClassVar[str] = "videos"

    labels: Tensor = field(kw_only=True)
    frames: int = 16
    stride: int = 4
    size: int = 224
    sampling: Literal["dense", "uniform"] = "dense"
    views: int = 1
    flip: bool = True
    randaugment: str = ""
    erasing: float = 0.0
    short_side: int | None = 320
    store: FrameStore | None = None

    def __post_init__(self):
        if self.store is not None:
            self.store.check_short_side(self.short_side)
        if len(self.labels) != len(self.paths):
            raise ValueError(f"need a label for each of {len(self.paths)} paths, got {len(self.labels)}")
        if self.randaugment:
            randaugment(self.randaugment, self.size)  # raises for a name that timm does not know

    @property
    def clips_per_file(self) -> int:
        return 1

    def read_clip(self, index: int, sample: int) -> dict:
        held = None if self.store is None else self.store.frames(self.paths[index])
        if held is None:
            file = open_video(self.paths[index])
            images = file.read(self.indices(file.frames, sample), self.short_side)
        else:
            images = held[self.indices(len(held), sample)]
        views = [self.view(images, sample, number) for number in range(self.views)]
        return {"clip": torch.stack(views), "label": int(self.labels[index])}

    def note(self, index: int) -> str | None:
        if self.store is not None and self.paths[index] in self.store:
            return self.store.note(self.paths[index])
        return open_video(self.paths[index]).note

    def indices(self, frames: int, sample: int) -> list[int]:
        """Frame numbers of a sample's clip, from a video of so many."""
        if self.sampling == "uniform":
            ends = [frames * i // self.frames for i in range(self.frames + 1)]
            parts = enumerate(pairwise(ends))
            return [
                min(frames - 1, a + choose(self.seed, sample, PARTS + i, max(1, b - a)))
                for i, (a, b) in parts
            ]
        starts = max(1, frames - self.frames * self.stride)
        return spread_indices(frames, self.frames, self.stride, choose(self.seed, sample, START, starts))

    def view(self, images: np.ndarray, sample: int, number: int) -> Tensor:
        """One augmented clip uint8 [3, T, S, S] of frames uint8 [T, H, W, 3]."""
        top, left, height, width, flip = self.box(images.shape[1], images.shape[2], sample, number)
        crop = torch.from_numpy(images[:, top : top + height, left : left + width]).permute(0, 3, 1, 2)
        clip = interpolate(crop.contiguous(), size=(self.size, self.size), mode="bilinear", antialias=True)
        clip = clip.flip(3) if flip and self.flip else clip
        if self.randaugment:
            clip = self._randaugmented(clip, sample, number)
        if self.erasing:
            clip = self._erased(clip, sample, number)
        return clip.transpose(0, 1).contiguous()

    def box(self, height: int, width: int, sample: int, number: int) -> tuple[int, int, int, int, bool]:
        """The random crop of a view, as (top, left, height, width), and whether it may be mirrored."""
        word = words(self.seed, sample, PURPOSE_VIDEO, block=np.arange(11), y=64 + number).reshape(-1)
        share = [(int(w) + 0.5) / (1 << 32) for w in word]
        for i in range(0, 40, 4):
            area = height * width * (AREA[0] + (AREA[1] - AREA[0]) * share[i])
            aspect = math.exp(math.log(ASPECT[0]) + math.log(ASPECT[1] / ASPECT[0]) * share[i + 1])
            h, w = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
            if 0 < h <= height and 0 < w <= width:
                top, left = int(share[i + 2] * (height - h + 1)), int(share[i + 3] * (width - w + 1))
                return top, left, h, w, share[40] < 0.5
        side = min(height, width)  # of a very long frame: its middle
        return (height - side) // 2, (width - side) // 2, side, side, share[40] < 0.5

    def _randaugmented(self, clip: Tensor, sample: int, number: int) -> Tensor:
        policy, frames = randaugment(self.randaugment, self.size), []
        for frame in clip.permute(0, 2, 3, 1).contiguous().numpy():
            with seeded_globals(self.seed, sample, RANDAUGMENT, number):  # the same for every frame
                frames.append(np.array(policy(Image.fromarray(frame))))
        return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)

    def _erased(self, clip: Tensor, sample: int, number: int) -> Tensor:
        import_timm()
        from timm.data.random_erasing import RandomErasing

        # In normalised colours, where the noise is standard normal; frames as channels share the rectangle.
        mean, std = (
            torch.tensor(v, device="cpu").view(1, 3, 1, 1) * 255 for v in (IMAGENET_MEAN, IMAGENET_STD)
        )
        normal = (clip - mean) / std
        erase = RandomErasing(self.erasing, mode="pixel", device="cpu")
        with seeded_globals(self.seed, sample, ERASING, number):
            erased = erase(normal.flatten(0, 1)).view_as(normal)
        return (erased * std + mean).round().clamp(0, 255).to(torch.uint8)


def spread_indices(frames: int, length: int, stride: int, start: int) -> list[int]:
    """Frame numbers of a clip as VideoMAE's fine-tuning takes them: `length` frames spread over length * stride of the
    video, both ends included, so that some gaps are stride + 1. Of a video that is not longer than that,
    frames // stride frames spread over all of it, and the last one again for the rest."""
    span = length * stride
    if frames > span:
        gaps = max(length - 1, 1)
        return [start + min(i * span // gaps, span - 1) for i in range(length)]
    count = max(1, min(length, frames // stride))
    gaps = max(count - 1, 1)
    return [min(i * frames // gaps, frames - 1) if i < count else frames - 1 for i in range(length)]


def randaugment(name: str, size: int):
    """timm's policy of that name for pictures of `size` pixels; ValueError where timm knows none."""
    import_timm()
    from timm.data import rand_augment_transform

    usual = {
        "translate_const": int(size * 0.45),
        "img_mean": tuple(round(255 * value) for value in IMAGENET_MEAN),
        "interpolation": Image.Resampling.BICUBIC,
    }
    try:
        return rand_augment_transform(name, usual)
    except (AssertionError, KeyError, ValueError) as error:
        raise ValueError(
            f"randaugment must be a name such as rand-m7-n4-mstd0.5-inc1, or empty; got {name!r} ({error})"
        ) from None


def mixed(
    pixels: Tensor,
    labels: Tensor,
    classes: int,
    *,
    seed: int,
    number: int,
    mixup: float,
    cutmix: float,
    smoothing: float,
) -> tuple[Tensor, Tensor]:
    """Mixup or cutmix (half of the time each) of the clips of pass `number` with one another, by timm.

    Args:
        pixels: float [B, 3, T, S, S], an even number of clips; overwritten.
        labels: int64 [B].
        mixup, cutmix: the alpha of the Beta distribution of their shares; 0: not this one.
        smoothing: of the labels.

    Returns pixels and targets float [B, classes].
    """
    import_timm()
    from timm.data import Mixup

    mix = Mixup(mixup, cutmix, label_smoothing=smoothing, num_classes=classes)
    shape = pixels.shape
    with seeded_globals(seed, number, MIXING):
        pictures, targets = mix(pixels.flatten(1, 2), labels)  # frames as channels share rectangle and share
    return pictures.view(shape), targets
