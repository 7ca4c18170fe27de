# SPDX-License-Identifier: Apache-2.0
"""The torch ops, one module each, all under `torch.ops.smnoise`.

They are pure: no global RNG, no hidden state. Seeds and sample indices are tensors, because a Python int
would be frozen into a compiled or captured graph.
"""

from ._library import ALL_OUTPUTS
from .add_bias import add_bias
from .color_mask import color_mask
from .color_noise import color_noise
from .decoder_tokens import decoder_tokens
from .gather_patches import gather_patches
from .gaussian_filter import gaussian_filter
from .noise_at import noise_at
from .optim_blue import optim_blue
from .patch_loss import patch_loss
from .ragged_threshold import ragged_threshold
from .random_words import random_words
from .slot_threshold import slot_threshold
from .strategy_mask import strategy_mask
from .threshold import threshold

__all__ = [
    "ALL_OUTPUTS",
    "add_bias",
    "color_mask",
    "color_noise",
    "decoder_tokens",
    "gather_patches",
    "gaussian_filter",
    "noise_at",
    "optim_blue",
    "patch_loss",
    "ragged_threshold",
    "random_words",
    "slot_threshold",
    "strategy_mask",
    "threshold",
]
