# SPDX-License-Identifier: Apache-2.0
"""transformers' Trainer in a process of torchrun; each rank writes the masks that it saw."""

import sys
from pathlib import Path

import torch
from test_adapters_loops import SAMPLER, Clips, Tiny
from transformers import Trainer, TrainingArguments

from smnoise.adapters.trainer import MaskCallback

folder = Path(sys.argv[1])
trainer = Trainer(
    Tiny(),
    TrainingArguments(
        str(folder), use_cpu=True, report_to=[], disable_tqdm=True, logging_strategy="no", save_strategy="no",
        num_train_epochs=2, per_device_train_batch_size=3, dataloader_pin_memory=False,
    ),
    train_dataset=Clips(),
    callbacks=[MaskCallback(SAMPLER)],
)  # fmt: skip
trainer.train()
seen = torch.cat(trainer.model.seen)
torch.save([seen], folder / f"rank{trainer.args.process_index}.pt")
