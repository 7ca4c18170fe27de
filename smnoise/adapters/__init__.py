# SPDX-License-Identifier: Apache-2.0
"""Masks in other people's code. One module each; none is imported before it is asked for.

huggingface   transformers' VideoMAEForPreTraining: its grid, and a check of bool_masked_pos
trainer       masks in transformers' Trainer, and for loops under accelerate
hub           models and masks to and from the Hugging Face Hub
lightning     masks in a LightningModule's training_step, and a module that has them
dataloader    masks made by the workers of a DataLoader
videomae      in the place of VideoMAE's mask generators
mae           in the place of random_masking(x, mask_ratio) of MAE, AudioMAE and transformers' ViTMAE
timm          in the place of a timm model's patch_drop
arrays        NumPy, CuPy and other arrays, without a copy
"""
