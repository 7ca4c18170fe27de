# SPDX-License-Identifier: Apache-2.0
"""Settings of fine-tuning on sounds, and AudioMAE's published recipes as presets; see `finetune_audio`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from .settings import LEFT_OUT, Filled, FineTuning, How, at_least, shares

AUDIOSET = {
    "accumulate": 1,
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
# From the published scripts and papers; ESC-50 has no script, its numbers are the defaults of its program. They end at
# a learning rate of 1e-6 for their batch, so min_lr, which is for 256 clips, is 1e-6 * 256 / batch_size.
PRESETS = {
    "as20k": AUDIOSET
    | {
        "batch_size": 32,
        "base_lr": 1e-3,
        "min_lr": 8e-6,
        "epochs": 60,
        "warmup_epochs": 4,
        "balanced": False,
        "draws": 0,
    },
    "as2m": AUDIOSET
    | {
        "batch_size": 256,
        "base_lr": 2e-4,
        "min_lr": 1e-6,
        "epochs": 100,
        "warmup_epochs": 10,
        "balanced": True,
        "draws": 200_000,
    },
    "esc50": {
        "accumulate": 1,
        "loss": "softmax",
        "smoothing": 0.1,
        "batch_size": 64,
        "base_lr": 1e-3,
        "min_lr": 4e-6,
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


@dataclass(frozen=True, kw_only=True)
class Config(FineTuning):
    """Fine-tune AudioMAE's encoder. What is None comes from the preset, or from the pretraining run."""

    MEDIUM: ClassVar[str] = "audio"

    preset: How[Literal["as20k", "as2m", "esc50"]] = "esc50"

    model: How[Literal["tiny", "small", "base"] | None] = None
    """With from_scratch: size of the encoder (base)."""
    rate: How[int | None] = None
    """With from_scratch or converted weights: Hz that all files are brought to (16000)."""
    mels: How[int | None] = None
    """With from_scratch: height of a spectrogram (128)."""
    patch: How[int | None] = None
    """With from_scratch: frames and mel bins of a token (16)."""
    frames: Filled[int] = LEFT_OUT
    """Length of a spectrogram; a frame is 10 ms."""
    statistics: How[Filled[Literal["run", "audioset", "esc50", "speechcommands"] | tuple[float, float]]] = (
        LEFT_OUT
    )
    """Mean and deviation of the log-mel values: of the pretraining run, a data set's, or two numbers."""

    loss: Filled[Literal["binary", "softmax"]] = LEFT_OUT
    """binary: a yes or no for each class, for several labels a clip. softmax: one label a clip."""
    drop_time: Filled[float] = LEFT_OUT
    """Share of the times whose patches are dropped in training."""
    drop_freq: Filled[float] = LEFT_OUT
    """Share of the frequencies whose patches are dropped."""
    mixup: Filled[float] = LEFT_OUT
    """Chance that a clip is mixed with another one of its batch."""
    gain: Filled[bool] = LEFT_OUT
    """Multiply each clip by 0.5 + Beta(10, 10)."""
    mask_bins: Filled[int] = LEFT_OUT
    """SpecAugment: fewer mel bins than this are hidden; 0: none."""
    mask_frames: Filled[int] = LEFT_OUT
    """SpecAugment: fewer frames than this are hidden; 0: none."""
    roll: bool = False
    """Rotate each clip in time by any amount."""
    balanced: Filled[bool] = LEFT_OUT
    """Draw clips so that rare classes come up as often as frequent ones."""
    draws: Filled[int] = LEFT_OUT
    """Clips of an epoch, if balanced; 0: as many as files."""
    weight_decay: Filled[float] = LEFT_OUT

    def __post_init__(self):
        self.fill(PRESETS[self.preset], SCRATCH)
        at_least(1, self, ("frames",))
        at_least(0, self, ("mask_bins", "mask_frames", "draws"))
        shares(self, ("drop_time", "drop_freq"))
        if not 0 <= self.mixup <= 1:
            raise ValueError(f"mixup must be in [0, 1], got {self.mixup}")
        if self.loss == "binary" and self.smoothing:
            raise ValueError("smoothing is for loss softmax; leave it at 0 for binary")
        if self.draws and not self.balanced:
            raise ValueError("draws is for balanced; without it each file comes up once an epoch")
        if self.from_scratch and self.statistics == "run":
            raise ValueError(
                "from_scratch has no run whose statistics to use; give a data set's or two numbers"
            )
