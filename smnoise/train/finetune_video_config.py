# SPDX-License-Identifier: Apache-2.0
"""Settings of fine-tuning on videos, and VideoMAE's published recipes as presets; see `finetune_video`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from .settings import LEFT_OUT, Filled, FineTuning, How, at_least, positive, shares

COMMON = {
    "warmup_epochs": 5,
    "min_lr": 1e-6,
    "layer_decay": 0.75,
    "drop_path": 0.1,
    "head_drop": 0.0,
    "smoothing": 0.1,
    "sampling": "dense",
    "flip": True,
    "segments": 5,
    "crops": 3,
}
UNIFORM = COMMON | {"sampling": "uniform", "flip": False, "segments": 2}
# From the published scripts; the batch of so many GPUs is accumulated on one.
PRESETS = {
    "k400-800": COMMON | {"batch_size": 8, "accumulate": 64, "views": 1, "base_lr": 1e-3, "epochs": 100},
    "k400-1600": COMMON | {"batch_size": 6, "accumulate": 64, "views": 2, "base_lr": 5e-4, "epochs": 75},
    "ssv2-800": UNIFORM | {"batch_size": 8, "accumulate": 64, "views": 1, "base_lr": 5e-4, "epochs": 50},
    "ssv2-2400": UNIFORM | {"batch_size": 6, "accumulate": 64, "views": 2, "base_lr": 5e-4, "epochs": 30},
    "ucf101": COMMON
    | {
        "batch_size": 16,
        "accumulate": 8,
        "views": 2,
        "base_lr": 5e-4,
        "min_lr": 1e-5,
        "epochs": 100,
        "layer_decay": 0.7,
        "drop_path": 0.2,
        "head_drop": 0.5,
    },
}
SCRATCH = {"model": "base", "frames": 16, "stride": 4, "size": 224, "tubelet": 2, "patch": 16}


@dataclass(frozen=True, kw_only=True)
class Config(FineTuning):
    """Fine-tune VideoMAE's encoder. What is None comes from the preset, or from the pretraining run."""

    MEDIUM: ClassVar[str] = "video"

    preset: How[Literal["k400-800", "k400-1600", "ssv2-800", "ssv2-2400", "ucf101"]] = "ucf101"
    """The number is of the epochs of pretraining before."""

    model: How[Literal["nano", "tiny", "small", "base", "large", "huge"] | None] = None
    """With from_scratch: size of the encoder (base)."""
    tubelet: How[int | None] = None
    """With from_scratch: frames of a token (2)."""
    patch: How[int | None] = None
    """With from_scratch: height and width of a token (16)."""
    frames: How[int | None] = None
    """Frames of a clip; by default those of pretraining, and so are stride and size."""
    stride: How[int | None] = None
    """With dense sampling, frames of the video from one frame of the clip to the next."""
    size: How[int | None] = None
    """Height and width of a clip in pixels."""

    sampling: Filled[Literal["dense", "uniform"]] = LEFT_OUT
    """dense: a piece of the video. uniform: frames spread over all of it."""
    views: Filled[int] = LEFT_OUT
    """Augmented clips of each decoded one. Neither batch_size nor the learning rate counts them."""
    flip: Filled[bool] = LEFT_OUT
    """Mirror half of the clips; not where left and right matter."""
    randaugment: str = "rand-m7-n4-mstd0.5-inc1"
    """timm's name of a policy; empty: none."""
    erasing: float = 0.25
    """Chance that a rectangle becomes noise."""
    mixup: float = 0.8
    """Alpha of the share of two mixed clips; 0: none."""
    cutmix: float = 1.0
    """Alpha of the area of a rectangle from another clip; 0: none. With both each pass has one or the other."""
    head_drop: Filled[float] = LEFT_OUT
    """Share of the pooled features that are dropped in training."""
    short_side: int | None = 320
    """Reduce frames to this many pixels along the shorter side while decoding for training."""
    frames_cache: How[Path | None] = None
    """Folder that `smnoise.data.video.cache` made of the training videos with the same short_side: it is read
    instead."""
    segments: Filled[int] = LEFT_OUT
    """After the last epoch: views of each test video along time."""
    crops: Filled[int] = LEFT_OUT
    """After the last epoch: views of each test video along its longer side."""
    weight_decay: float = 0.05

    def __post_init__(self):
        self.fill(PRESETS[self.preset], SCRATCH)
        at_least(1, self, ("views", "segments", "crops"))
        at_least(0, self, ("mixup", "cutmix"))
        positive(self, ("frames", "stride", "size", "tubelet", "patch", "short_side"))
        shares(self, ("head_drop",))
        if not 0 <= self.erasing <= 1:
            raise ValueError(f"erasing must be in [0, 1], got {self.erasing}")
        if self.mixes and self.batch_size * self.views % 2:
            raise ValueError(
                "mixup and cutmix mix clips in pairs: batch_size * views must be even, got "
                f"{self.batch_size} * {self.views}; or set both to 0"
            )

    @property
    def loss(self) -> str:
        """The kind of the loss that is trained with."""
        return "softmax"

    @property
    def mixes(self) -> bool:
        """Whether clips of a batch are mixed with one another."""
        return self.mixup > 0 or self.cutmix > 0
