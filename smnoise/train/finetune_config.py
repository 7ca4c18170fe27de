# SPDX-License-Identifier: Apache-2.0
"""Settings of fine-tuning on sounds, and AudioMAE's published recipes as presets; see `finetune_audio`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .filled import LEFT_OUT, Filled
from .run import check_numbers

AUDIOSET = {
    "loss": "binary",
    "smoothing": 0.0,
    "weight_decay": 5e-4,
    "layer_decay": 0.75,
    "drop_path": 0.1,
    "drop_time": 0.2,
    "drop_freq": 0.2,
    "mixup": 0.5,
    "gain": True,
    "mask_bins": 48,
    "mask_frames": 192,
    "frames": 1024,
    "statistics": "audioset",
}
# From the published scripts and papers; ESC-50 has no script, its numbers are the defaults of its program.
PRESETS = {
    "as20k": AUDIOSET
    | {"batch_size": 32, "base_lr": 1e-3, "epochs": 60, "warmup_epochs": 4, "balanced": False, "draws": 0},
    "as2m": AUDIOSET
    | {
        "batch_size": 256,
        "base_lr": 2e-4,
        "epochs": 100,
        "warmup_epochs": 10,
        "balanced": True,
        "draws": 200_000,
    },
    "esc50": {
        "loss": "softmax",
        "smoothing": 0.1,
        "batch_size": 64,
        "base_lr": 1e-3,
        "epochs": 50,
        "warmup_epochs": 5,
        "weight_decay": 0.05,
        "layer_decay": 0.75,
        "drop_path": 0.1,
        "drop_time": 0.0,
        "drop_freq": 0.0,
        "mixup": 0.0,
        "gain": False,
        "mask_bins": 24,
        "mask_frames": 96,
        "frames": 512,
        "statistics": "esc50",
        "balanced": False,
        "draws": 0,
    },
}
SCRATCH = {"model": "base", "rate": 16000, "mels": 128, "patch": 16}


@dataclass(frozen=True)
class Config:
    """Fine-tune AudioMAE's encoder. What is None comes from the preset, or from the pretraining run."""

    train: Path
    """Folder with a folder a class, or list file with `path label` (or `path label;label`) a line."""
    test: Path
    """Likewise."""
    out: Path
    """Folder of the run; made if it does not exist."""
    run: Path | None = None
    """Folder of a run of smnoise.train.audio; its newest whole checkpoint is read."""
    from_scratch: bool = False
    """Begin with random weights instead."""
    resume: bool = False
    """Go on from the newest whole checkpoint in `out`."""
    preset: Literal["as20k", "as2m", "esc50"] = "esc50"

    model: Literal["tiny", "small", "base"] | None = None
    """With from_scratch: size of the encoder (base)."""
    rate: int | None = None
    """With from_scratch: Hz that all files are brought to (16000)."""
    mels: int | None = None
    """With from_scratch: height of a spectrogram (128)."""
    patch: int | None = None
    """With from_scratch: frames and mel bins of a token (16)."""
    frames: Filled[int] = LEFT_OUT
    """Length of a spectrogram; a frame is 10 ms."""
    statistics: Filled[Literal["run", "audioset", "esc50", "speechcommands"] | tuple[float, float]] = LEFT_OUT
    """Mean and deviation of the log-mel values: of the pretraining run, a data set's, or two numbers."""
    classes: int | None = None
    """Of list files; by default one more than the highest label in `train`."""

    loss: Filled[Literal["binary", "softmax"]] = LEFT_OUT
    """binary: a yes or no for each class, for several labels a clip. softmax: one label a clip."""
    smoothing: Filled[float] = LEFT_OUT
    """Of labels, with softmax: this share is spread over all classes."""
    drop_path: Filled[float] = LEFT_OUT
    drop_time: Filled[float] = LEFT_OUT
    """Share of the times whose patches are dropped in training."""
    drop_freq: Filled[float] = LEFT_OUT
    """Share of the frequencies whose patches are dropped."""
    mixup: Filled[float] = LEFT_OUT
    """Chance that a clip is mixed with another one of its batch."""
    gain: Filled[bool] = LEFT_OUT
    """Multiply each clip by 0.5 + Beta(10, 10)."""
    mask_bins: Filled[int] = LEFT_OUT
    """SpecAugment: most mel bins that are hidden; 0: none."""
    mask_frames: Filled[int] = LEFT_OUT
    """SpecAugment: most frames that are hidden; 0: none."""
    roll: bool = False
    """Rotate each clip in time by any amount."""
    balanced: Filled[bool] = LEFT_OUT
    """Draw clips so that rare classes come up as often as frequent ones."""
    draws: Filled[int] = LEFT_OUT
    """Clips of an epoch, if balanced; 0: as many as files."""

    epochs: Filled[int] = LEFT_OUT
    warmup_epochs: Filled[float] = LEFT_OUT
    """Linear warm-up of the learning rate from 0."""
    batch_size: Filled[int] = LEFT_OUT
    """Clips in a forward pass."""
    accumulate: int = 1
    """Forward passes in a step; a step sees batch_size * accumulate clips."""
    base_lr: Filled[float] = LEFT_OUT
    """Peak learning rate of the head for 256 clips a step; scaled by clips / 256."""
    min_lr: float = 0.0
    """End of the cosine, scaled likewise."""
    layer_decay: Filled[float] = LEFT_OUT
    """Learning rate of a layer, as a share of the next one's."""
    weight_decay: Filled[float] = LEFT_OUT
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's usual ones."""
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
            at_least_one=("frames", "epochs", "batch_size", "accumulate", "log_every", "save_every"),
            not_negative=(
                "workers",
                "warmup_epochs",
                "weight_decay",
                "min_lr",
                "mask_bins",
                "mask_frames",
                "draws",
            ),
            positive_or_none=("clip_grad", "classes"),
        )
        if not self.base_lr > 0 or self.min_lr > self.base_lr:
            raise ValueError(f"need 0 < base_lr and min_lr <= base_lr, got {self.base_lr} and {self.min_lr}")
        for name in ("smoothing", "drop_path", "drop_time", "drop_freq"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be in [0, 1), got {getattr(self, name)}")
        if not 0 <= self.mixup <= 1 or not 0 < self.layer_decay <= 1:
            raise ValueError(
                f"mixup must be in [0, 1] and layer_decay in (0, 1], got {self.mixup} and {self.layer_decay}"
            )
        if self.loss == "binary" and self.smoothing:
            raise ValueError("smoothing is for loss softmax; leave it at 0 for binary")
        if self.draws and not self.balanced:
            raise ValueError("draws is for balanced; without it each file comes up once an epoch")
        if self.from_scratch and self.statistics == "run":
            raise ValueError(
                "from_scratch has no run whose statistics to use; give a data set's or two numbers"
            )

    @property
    def clips_per_step(self) -> int:
        return self.batch_size * self.accumulate


# What a resumed run must share with the run that it goes on with, besides files, classes, encoder and inputs.
RECIPE = ("from_scratch", "frames", "loss", "smoothing", "drop_path", "drop_time", "drop_freq", "mixup", "gain",
          "mask_bins", "mask_frames", "roll", "balanced", "draws", "epochs", "warmup_epochs", "batch_size",
          "accumulate", "base_lr", "min_lr", "layer_decay", "weight_decay", "betas", "clip_grad", "seed")  # fmt: skip
