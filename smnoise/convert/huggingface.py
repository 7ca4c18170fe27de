# SPDX-License-Identifier: Apache-2.0
"""config.json of transformers' VideoMAEForPreTraining."""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import CheckpointError
from .architecture import VideoConfig

EPS = 1e-6  # of the LayerNorms of smnoise's models, as in the official program
# What a file may say and smnoise's VideoMAE cannot do otherwise; transformers' defaults are the same.
FIXED = {
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "qv_bias": True,
}


def config(video: VideoConfig) -> dict:
    """Return the config.json of transformers' VideoMAEForPreTraining for a model of ours."""
    size, (t, h, w) = video.size, video.grid
    return {
        "architectures": ["VideoMAEForPreTraining"],
        "model_type": "videomae",
        "image_size": h * video.patch if h == w else [h * video.patch, w * video.patch],
        "patch_size": video.patch,
        "num_channels": video.channels,
        "num_frames": t * video.tubelet,
        "tubelet_size": video.tubelet,
        "hidden_size": size.width,
        "num_hidden_layers": size.depth,
        "num_attention_heads": size.heads,
        "intermediate_size": int(size.width * size.mlp_ratio),
        "decoder_hidden_size": size.decoder_width,
        "decoder_num_hidden_layers": size.decoder_depth,
        "decoder_num_attention_heads": size.decoder_heads,
        "decoder_intermediate_size": int(size.decoder_width * size.mlp_ratio),
        "layer_norm_eps": EPS,
        "use_mean_pooling": False,  # else there is no norm after the encoder
        "norm_pix_loss": True,
        **FIXED,
    }


def options(text: Mapping, notes: list[str]) -> dict:
    """Read from transformers' config.json what the weights do not tell, as options of `convert_state`. Values that are
    absent are transformers' defaults.

    Raises CheckpointError where it is of another model, or asks for what smnoise's VideoMAE does not do.
    """
    if text.get("model_type") != "videomae":
        raise CheckpointError(
            f"config.json is of {text.get('model_type')!r}; of transformers' models only videomae"
        )
    for name, value in FIXED.items():
        if text.get(name, value) != value:
            raise CheckpointError(f"config.json has {name} {text[name]!r}; smnoise's VideoMAE has {value!r}")
    if text.get("use_mean_pooling", True):
        raise CheckpointError(
            "config.json has use_mean_pooling, so the encoder lacks its last norm: a fine-tuned model, or one that "
            "was trained otherwise than VideoMAE; neither can be converted"
        )
    eps = text.get("layer_norm_eps", 1e-12)
    if eps != EPS:
        notes.append(f"config.json has layer_norm_eps {eps}; smnoise has {EPS}, as VideoMAE was trained with")
    if not text.get("norm_pix_loss", True):
        notes.append("config.json has norm_pix_loss false; smnoise's VideoMAE predicts normalised pixels")
    try:
        patch, image = text.get("patch_size", 16), text.get("image_size", 224)
        sides = [image, image] if isinstance(image, int) else image
        height, width = (side // patch for side in sides)
        return {
            "grid": (text.get("num_frames", 16) // text.get("tubelet_size", 2), height, width),
            "heads": text.get("num_attention_heads", 12),
            "decoder_heads": text.get("decoder_num_attention_heads", 6),
        }
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise CheckpointError(f"config.json gives no sizes: {error}") from error
