# SPDX-License-Identifier: Apache-2.0
"""Settings of fine-tuning on videos, and VideoMAE's published recipes as presets; see `finetune_video`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .filled import LEFT_OUT, Filled
from .run import check_numbers

COMMON = {
    "warmup_epochs": 5,
    "layer_decay": 0.75,
    "drop_path": 0.1,
    "head_drop": 0.0,
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
        "epochs": 100,
        "layer_decay": 0.7,
        "drop_path": 0.2,
        "head_drop": 0.5,
    },
}
SCRATCH = {"model": "base", "frames": 16, "stride": 4, "size": 224, "tubelet": 2, "patch": 16}


@dataclass(frozen=True)
class Config:
    """Fine-tune VideoMAE's encoder. What is None comes from the preset, or from the pretraining run."""

    train: Path
    """Folder with a folder a class, or list file with `path label` a line."""
    test: Path
    """Likewise."""
    out: Path
    """Folder of the run; made if it does not exist."""
    run: Path | None = None
    """Folder of a run of smnoise.train.video; its newest whole checkpoint is read."""
    from_scratch: bool = False
    """Begin with random weights instead."""
    resume: bool = False
    """Go on from the newest whole checkpoint in `out`."""
    preset: Literal["k400-800", "k400-1600", "ssv2-800", "ssv2-2400", "ucf101"] = "ucf101"
    """The number is of the epochs of pretraining before."""

    model: Literal["nano", "tiny", "small", "base", "large", "huge"] | None = None
    """With from_scratch: size of the encoder (base)."""
    tubelet: int | None = None
    """With from_scratch: frames of a token (2)."""
    patch: int | None = None
    """With from_scratch: height and width of a token (16)."""
    frames: int | None = None
    """Frames of a clip; by default those of pretraining, and so are stride and size."""
    stride: int | None = None
    """With dense sampling, frames of the video from one frame of the clip to the next."""
    size: int | None = None
    """Height and width of a clip in pixels."""
    classes: int | None = None
    """Of list files; by default one more than the highest label in `train`."""

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
    smoothing: float = 0.1
    """Of labels: this share is spread over all classes."""
    drop_path: Filled[float] = LEFT_OUT
    head_drop: Filled[float] = LEFT_OUT
    """Share of the pooled features that are dropped in training."""
    short_side: int | None = 320
    """Reduce frames to this many pixels along the shorter side while decoding for training."""
    segments: Filled[int] = LEFT_OUT
    """After the last epoch: views of each test video along time."""
    crops: Filled[int] = LEFT_OUT
    """And along the longer side."""

    epochs: Filled[int] = LEFT_OUT
    warmup_epochs: Filled[float] = LEFT_OUT
    """Linear warm-up of the learning rate from 0."""
    batch_size: Filled[int] = LEFT_OUT
    """Clips, before views, in a forward pass."""
    accumulate: Filled[int] = LEFT_OUT
    """Forward passes in a step; a step sees batch_size * accumulate clips."""
    base_lr: Filled[float] = LEFT_OUT
    """Peak learning rate of the head for 256 clips a step; scaled by clips / 256."""
    min_lr: float = 1e-6
    """End of the cosine, scaled likewise."""
    layer_decay: Filled[float] = LEFT_OUT
    """Learning rate of a layer, as a share of the next one's."""
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.999)
    clip_grad: float | None = None
    """Largest gradient norm; None: no clipping."""

    seed: int = 0
    """Of weights, order, clips and all that is done to them."""
    device: str = "auto"
    """auto: cuda where there is one, else cpu."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of autocast in training. auto: bfloat16 on GPUs of capability 8.0 and later, else float32."""
    checkpoint_blocks: bool = False
    """Recompute activations in the backward pass, to save memory."""
    workers: int = 4
    """Processes that read files; 0: read in the training process."""
    log_every: int = 10
    """Steps from one log line to the next."""
    save_every: int = 500
    """Steps from one checkpoint to the next; the last step is always saved."""

    def __post_init__(self):
        if (self.run is None) != self.from_scratch:
            raise ValueError("give either run, the folder of a pretraining run, or from_scratch")
        for name, value in (PRESETS[self.preset] | (SCRATCH if self.from_scratch else {})).items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        check_numbers(
            self,
            at_least_one=("epochs", "batch_size", "accumulate", "views", "segments", "crops", "log_every",
                          "save_every"),
            not_negative=("workers", "warmup_epochs", "weight_decay", "min_lr", "mixup", "cutmix"),
            positive_or_none=("clip_grad", "classes", "frames", "stride", "size", "tubelet", "patch", "short_side"),
        )  # fmt: skip
        if not self.base_lr > 0 or self.min_lr > self.base_lr:
            raise ValueError(f"need 0 < base_lr and min_lr <= base_lr, got {self.base_lr} and {self.min_lr}")
        for name in ("smoothing", "drop_path", "head_drop"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be in [0, 1), got {getattr(self, name)}")
        if not 0 <= self.erasing <= 1 or not 0 < self.layer_decay <= 1:
            raise ValueError(
                f"erasing must be in [0, 1] and layer_decay in (0, 1], got {self.erasing} and {self.layer_decay}"
            )
        if self.mixes and self.batch_size * self.views % 2:
            raise ValueError(
                "mixup and cutmix mix clips in pairs: batch_size * views must be even, got "
                f"{self.batch_size} * {self.views}; or set both to 0"
            )

    @property
    def loss(self) -> str:
        return "softmax"

    @property
    def mixes(self) -> bool:
        """Whether clips of a batch are mixed with one another."""
        return self.mixup > 0 or self.cutmix > 0

    @property
    def clips_per_step(self) -> int:
        return self.batch_size * self.accumulate


# What a resumed run must share with the run that it goes on with, besides files, classes, encoder and inputs.
RECIPE = ("from_scratch", "sampling", "views", "flip", "randaugment", "erasing", "mixup", "cutmix", "smoothing",
          "drop_path", "head_drop", "short_side", "segments", "crops", "epochs", "warmup_epochs", "batch_size",
          "accumulate", "base_lr", "min_lr", "layer_decay", "weight_decay", "betas", "clip_grad", "seed")  # fmt: skip
