# SPDX-License-Identifier: Apache-2.0
"""Which of our weights is which of theirs: one table for both directions.

Sources of the names: transformers 5 (installed) and its earlier conversion scripts for VideoMAE and ViT-MAE, timm's
Swin-V2-CR block, and the list of keys in facebookresearch/AudioMAE issue 12.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .architecture import AnyConfig, JointConfig, shapes

# Our prefix: theirs. Where a block's number follows, INSIDE names what comes after it.
PREFIXES = {
    ("videomae", "official"): {
        "embed.": "encoder.patch_embed.proj.",
        "encoder.": "encoder.blocks.",
        "encoder_norm.": "encoder.norm.",
        "bridge.": "encoder_to_decoder.",
        "mask_token": "mask_token",
        "decoder.": "decoder.blocks.",
        "decoder_norm.": "decoder.norm.",
        "head.": "decoder.head.",
    },
    ("videomae", "huggingface"): {
        "embed.": "videomae.embeddings.patch_embeddings.projection.",
        "encoder.": "videomae.encoder.layer.",
        "encoder_norm.": "videomae.layernorm.",
        "bridge.": "encoder_to_decoder.",
        "mask_token": "mask_token",
        "decoder.": "decoder.decoder_layers.",
        "decoder_norm.": "decoder.norm.",
        "head.": "decoder.head.",
    },
    ("audiomae", "official"): {
        "encoder.embed.": "patch_embed.proj.",
        "encoder.class_token": "cls_token",
        "encoder.blocks.": "blocks.",
        "encoder_norm.": "norm.",
        "bridge.": "decoder_embed.",
        "mask_token": "mask_token",
        "decoder.": "decoder_blocks.",
        "decoder_norm.": "decoder_norm.",
        "head.": "decoder_pred.",
    },
}
# Several names: our tensor is theirs, joined along the first axis. What is not named here is called the same.
INSIDE: dict[tuple[str, str], dict[str, tuple[str, ...]]] = {
    ("videomae", "official"): {},
    ("videomae", "huggingface"): {
        "norm1.": ("layernorm_before.",),
        "attn.q_bias": ("attention.attention.query.bias",),
        "attn.v_bias": ("attention.attention.value.bias",),
        "attn.qkv.": (
            "attention.attention.query.",
            "attention.attention.key.",
            "attention.attention.value.",
        ),
        "attn.proj.": ("attention.output.dense.",),
        "norm2.": ("layernorm_after.",),
        "mlp.fc1.": ("intermediate.dense.",),
        "mlp.fc2.": ("output.dense.",),
    },
    ("audiomae", "official"): {
        "attention.temperature": ("attn.tau",),
        "attention.qkv.": ("attn.qkv.",),
        "attention.project.": ("attn.proj.",),
        "attention.position_bias.0.": ("attn.meta_mlp.fc1.",),
        "attention.position_bias.3.": ("attn.meta_mlp.fc2.",),
        "mlp.0.": ("mlp.fc1.",),
        "mlp.2.": ("mlp.fc2.",),
    },
}


@dataclass(frozen=True)
class Entry:
    """One of our weights and the one or several of theirs that hold the same numbers in the same order."""

    ours: str
    shape: torch.Size
    theirs: tuple[str, ...]
    part: torch.Size
    """Shape of each of theirs."""

    def join(self, parts: list[Tensor]) -> Tensor:
        """Make our weight of the parts that they have, as a new tensor of `shape` and of the parts' dtype."""
        return torch.cat(parts).reshape(self.shape)

    def split(self, tensor: Tensor) -> dict[str, Tensor]:
        """Cut our weight, a tensor of `shape` and any dtype, into the parts that they have, which are new tensors and
        share no memory.
        """
        parts = tensor.reshape(len(self.theirs) * self.part[0], *self.part[1:]).chunk(len(self.theirs))
        return {name: part.clone() for name, part in zip(self.theirs, parts, strict=True)}


def entries(config: AnyConfig, layout: str) -> list[Entry]:
    """Every weight of the model."""
    if isinstance(config, JointConfig):
        if layout != "smnoise":
            raise ValueError("CAV-MAE's layout is read and written by convert.cavmae")
        return [Entry(ours, shape, (ours,), shape) for ours, shape in shapes(config).items()]
    convolution, kernel = config.convolution
    table = []
    for ours, shape in shapes(config).items():
        theirs = (ours,) if layout == "smnoise" else _their_names(ours, config.model, layout)
        if layout != "smnoise" and ours == convolution:
            part = torch.Size(kernel)
        else:
            part = torch.Size((shape[0] // len(theirs), *shape[1:]))
        table.append(Entry(ours, shape, theirs, part))
    return table


def _their_names(ours: str, model: str, layout: str) -> tuple[str, ...]:
    prefixes = PREFIXES[model, layout]
    prefix = max((p for p in prefixes if ours.startswith(p)), key=len)
    start, rest = prefixes[prefix], ours.removeprefix(prefix)
    number, _, inside = rest.partition(".")
    if not number.isdigit():
        return (start + rest,)
    for mine, theirs in INSIDE[model, layout].items():
        if inside.startswith(mine):
            return tuple(f"{start}{number}.{t}{inside.removeprefix(mine)}" for t in theirs)
    return (start + rest,)
