# SPDX-License-Identifier: Apache-2.0
"""State dicts and files as the official programs have them, of small models."""

import torch

from smnoise.convert import AudioConfig, VideoConfig, load_model
from smnoise.models.audiomae import sinusoid_2d
from smnoise.models.common import Size

VIDEO = VideoConfig(Size(8, 2, 2, 4, 1, 2), (2, 3, 4), tubelet=2, patch=4)
AUDIO = AudioConfig(Size(16, 1, 2, 8, 2, 2), (8, 4), patch=4, decoder="local", positions="published")
GLOBAL = AudioConfig(Size(16, 1, 2, 8, 2, 2), (8, 4), patch=4, decoder="global", positions="right")
WIDTHS = {"heads": 2, "decoder_heads": 2}


def numbers(shapes: dict, seed: int = 0) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=random) * 0.3 for name, shape in shapes.items()}


def standard_block(prefix: str, width: int, bias: dict) -> dict:
    """Shapes of a transformer block as both official programs name it."""
    layers = {"attn.proj": (width, width), "mlp.fc1": (4 * width, width), "mlp.fc2": (width, 4 * width)}
    shapes = {f"{prefix}.{name}.weight": shape for name, shape in layers.items()}
    shapes |= {f"{prefix}.{name}.bias": shape[:1] for name, shape in layers.items()}
    shapes |= {f"{prefix}.norm{i}.{kind}": (width,) for i in (1, 2) for kind in ("weight", "bias")}
    return (
        shapes
        | {f"{prefix}.attn.qkv.weight": (3 * width, width)}
        | {f"{prefix}.{k}": v for k, v in bias.items()}
    )


def official_video() -> dict[str, torch.Tensor]:
    def block(prefix, width):
        return standard_block(prefix, width, {"attn.q_bias": (width,), "attn.v_bias": (width,)})

    return numbers(
        {
            "mask_token": (1, 1, 4),
            "encoder.patch_embed.proj.weight": (8, 3, 2, 4, 4),
            "encoder.patch_embed.proj.bias": (8,),
            **block("encoder.blocks.0", 8),
            **block("encoder.blocks.1", 8),
            "encoder.norm.weight": (8,),
            "encoder.norm.bias": (8,),
            "encoder_to_decoder.weight": (4, 8),
            **block("decoder.blocks.0", 4),
            "decoder.norm.weight": (4,),
            "decoder.norm.bias": (4,),
            "decoder.head.weight": (96, 4),
            "decoder.head.bias": (96,),
        }
    )


def official_audio(config: AudioConfig = AUDIO) -> dict[str, torch.Tensor]:
    def block(prefix, width):
        return standard_block(prefix, width, {"attn.qkv.bias": (3 * width,)})

    shapes = {
        "cls_token": (1, 1, 16),
        "mask_token": (1, 1, 8),
        "patch_embed.proj.weight": (16, 1, 4, 4),
        "patch_embed.proj.bias": (16,),
        **block("blocks.0", 16),
        "norm.weight": (16,),
        "norm.bias": (16,),
        "decoder_embed.weight": (8, 16),
        "decoder_embed.bias": (8,),
        **block("decoder_blocks.0", 8),
        **block("decoder_blocks.1", 8),
        "decoder_norm.weight": (8,),
        "decoder_norm.bias": (8,),
        "decoder_pred.weight": (16, 8),
        "decoder_pred.bias": (16,),
    }
    if config.decoder == "local":
        for i in range(2):
            attention = f"decoder_blocks.{i}.attn"
            shapes[f"{attention}.tau"] = (2,)
            shapes[f"{attention}.meta_mlp.fc1.weight"] = (384, 2)
            shapes[f"{attention}.meta_mlp.fc1.bias"] = (384,)
            shapes[f"{attention}.meta_mlp.fc2.weight"] = (2, 384)
            shapes[f"{attention}.meta_mlp.fc2.bias"] = (2,)
    state = numbers(shapes)
    for name in state:
        if name.endswith("tau"):
            state[name] = torch.tensor([0.5, 0.2])
    grid = config.grid[::-1] if config.positions == "published" else config.grid
    for name, width in (("pos_embed", 16), ("decoder_pos_embed", 8)):
        state[name] = torch.cat([torch.zeros(1, width), sinusoid_2d(grid, width)])[None]
    return state


def same_bits(got: dict, want: dict) -> bool:
    integers = {4: torch.int32, 2: torch.int16}
    return got.keys() == want.keys() and all(
        got[n].dtype == t.dtype
        and torch.equal(got[n].view(integers[t.itemsize]), t.view(integers[t.itemsize]))
        for n, t in want.items()
    )


def save_official(path, state=None, **more):
    torch.save({"model": official_video() if state is None else state, "epoch": 799} | more, path)
    return path


def load_small(path, **options):
    """The model of VIDEO out of a file of weights, whatever its layout."""
    return load_model(path, grid=VIDEO.grid, **WIDTHS, **options)
