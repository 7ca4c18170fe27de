# SPDX-License-Identifier: Apache-2.0
"""transformers' VideoMAEForPreTraining under its Trainer, with another mask for each clip in each epoch.

    python examples/huggingface.py VIDEOS --epochs 3          # VIDEOS: a folder of .mp4 files

A clip's mask is a function of (seed, epoch * clips + index): the index comes with the clip, the epoch is the Trainer's.
So it differs from epoch to epoch and from clip to clip, and is the same for any batch size and number of processes.
Give a Trainer masks from a data set instead, and without the epoch, and every clip keeps one mask for good.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from own_loop import clip_of, read_videos
from torch.utils.data import Dataset

import smnoise
from smnoise.adapters.huggingface import grid_of
from smnoise.compat import import_timm

import_timm()  # which mends torchvision beside a CPU build of torch; transformers imports it too
from transformers import Trainer, TrainingArguments, VideoMAEConfig, VideoMAEForPreTraining  # noqa: E402

CLIPS_PER_VIDEO = 8


class Clips(Dataset):
    """Some clips of each video, the same in every epoch, with their index."""

    def __init__(self, folder: Path):
        self.videos = read_videos(folder)

    def __len__(self) -> int:
        return CLIPS_PER_VIDEO * len(self.videos)

    def __getitem__(self, index: int) -> dict:
        return {"pixel_values": clip_of(self.videos, index).transpose(0, 1), "index": index}


class MaskedTrainer(Trainer):
    """A Trainer that adds `bool_masked_pos` to each batch."""

    def __init__(self, *arguments, sampler: smnoise.samplers.Sampler, **options):
        super().__init__(*arguments, **options)
        self.sampler = sampler
        self.model_accepts_loss_kwargs = False  # the loss is a mean over the batch, for accumulation too

    def compute_loss(self, model, inputs, *arguments, **options):
        index = inputs.pop("index")
        samples = int(self.state.epoch or 0) * len(self.train_dataset) + index
        masks = self.sampler(samples, outputs="mask")
        inputs["bool_masked_pos"] = masks.bool_masked_pos()
        return super().compute_loss(model, inputs, *arguments, **options)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("videos", type=Path)
    parser.add_argument("--mask", default="green-3d", help="anything that smnoise.sampler_of takes")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--out", default="runs/huggingface")
    given = parser.parse_args()

    config = VideoMAEConfig(
        image_size=64, num_frames=16, hidden_size=96, num_hidden_layers=3, num_attention_heads=3,
        intermediate_size=384, decoder_hidden_size=48, decoder_num_hidden_layers=1, decoder_num_attention_heads=3,
        decoder_intermediate_size=192,
    )  # fmt: skip
    sampler = smnoise.sampler_of(given.mask, grid_of(config), 0.9)
    trainer = MaskedTrainer(
        model=VideoMAEForPreTraining(config),
        args=TrainingArguments(
            output_dir=given.out,
            num_train_epochs=given.epochs,
            per_device_train_batch_size=4,
            learning_rate=1e-3,
            logging_steps=5,
            report_to=[],
            remove_unused_columns=False,  # or the index is dropped
            use_cpu=not torch.cuda.is_available(),
        ),
        train_dataset=Clips(given.videos),
        sampler=sampler,
    )
    result = trainer.train()
    print(f"loss {result.training_loss:.4f} after {trainer.state.global_step} steps")


if __name__ == "__main__":
    main()
