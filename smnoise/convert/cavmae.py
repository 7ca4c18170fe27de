# SPDX-License-Identifier: Apache-2.0
"""Weights of CAV-MAE's layout as a `CAVMAE` and back, and a `CAVMAE` that begins with runs of one modality each.

Source of the names: the list of keys and shapes of the official model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..errors import CheckpointError
from ..models.audiomae import AudioMAE, sinusoid_2d
from ..models.cavmae import CAVMAE
from ..models.common import Size
from ..models.videomae import VideoMAE
from .architecture import JointConfig, shapes
from .infer import MEL_BINS
from .tables import TOLERANCE

# Our prefix: theirs. Where a block's number follows, what comes after it is called the same.
PREFIXES = {
    "audio_modality": "modality_a",
    "video_modality": "modality_v",
    "audio_decoder_modality": "decoder_modality_a",
    "video_decoder_modality": "decoder_modality_v",
    "mask_token": "mask_token",
    "audio_embed.": "patch_embed_a.proj.",
    "video_embed.": "patch_embed_v.proj.",
    "audio_blocks.": "blocks_a.",
    "video_blocks.": "blocks_v.",
    "joint_blocks.": "blocks_u.",
    "norm.": "norm.",
    "norm_a.": "norm_a.",
    "norm_v.": "norm_v.",
    "bridge.": "decoder_embed.",
    "decoder.": "decoder_blocks.",
    "decoder_norm.": "decoder_norm.",
    "audio_head.": "decoder_pred_a.",
    "video_head.": "decoder_pred_v.",
}
TABLES = ("pos_embed_a", "pos_embed_v", "decoder_pos_embed_a", "decoder_pos_embed_v")
# Their blocks all have three sets of norms, of which those of one modality, and the decoder's, use the first alone.
UNUSED = re.compile(r"(blocks_[av]|decoder_blocks)\.\d+\.norm[12]_[av]\.(weight|bias)")


def theirs(name: str) -> str:
    """Return the name that CAV-MAE has for a weight of ours."""
    own = max((prefix for prefix in PREFIXES if name.startswith(prefix)), key=len)
    return PREFIXES[own] + name[len(own) :]


class Read(NamedTuple):
    """Weights in CAV-MAE's layout as ours, of the same dtype."""

    config: JointConfig
    state: dict[str, Tensor]
    leftovers: dict[str, Tensor]
    """What ours has not, where it is not as `to_cavmae` would make it."""


def read_cavmae(weights: Mapping[str, Tensor], heads: int, decoder_heads: int) -> Read:
    """Arguments and errors as of `from_cavmae`."""
    weights = {name.removeprefix("module."): tensor for name, tensor in weights.items()}
    try:
        width, audio_tokens = weights["pos_embed_a"].shape[2], weights["pos_embed_a"].shape[1]
        video_tokens, patch = weights["pos_embed_v"].shape[1], weights["patch_embed_v.proj.weight"].shape[3]
        depth = 1 + max(int(n.split(".")[1]) for n in weights if n.startswith("blocks_a."))
        joint = 1 + max(int(n.split(".")[1]) for n in weights if n.startswith("blocks_u."))
        decoder_width = weights["mask_token"].shape[2]
        decoder_depth = 1 + max(int(n.split(".")[1]) for n in weights if n.startswith("decoder_blocks."))
    except (KeyError, ValueError, IndexError) as error:
        raise CheckpointError(
            f"these are no weights of CAV-MAE's pretraining model: {error!r} is missing"
        ) from None
    side, mels = round(video_tokens**0.5), MEL_BINS // patch if 0 < patch <= MEL_BINS else 1
    if side * side != video_tokens or audio_tokens % mels or width % heads or decoder_width % decoder_heads:
        raise CheckpointError(
            f"{video_tokens} tokens of a picture must be a square, {audio_tokens} of a sound a multiple of {mels}, and "
            f"widths {width} and {decoder_width} multiples of {heads} and {decoder_heads} heads"
        )
    size = Size(width, depth + joint, heads, decoder_width, decoder_depth, decoder_heads)
    grids = (1, side, side), (audio_tokens // mels, mels)
    try:
        config = JointConfig(size, *grids, tubelet=1, patch=patch, layout="cavmae", joint_depth=joint)
    except ValueError as error:
        raise CheckpointError(f"these weights of CAV-MAE are of no model that can be: {error}") from None
    shapes_of = shapes(config)
    wanted = {theirs(name): (name, shape) for name, shape in shapes_of.items()}
    rest = {
        name for name in weights if name not in wanted and name not in TABLES and not UNUSED.fullmatch(name)
    }
    if missing := sorted({*wanted, *TABLES} - set(weights)) or sorted(rest):
        what = "lack" if set(missing) - rest else "have an unknown"
        raise CheckpointError(f"these weights of CAV-MAE {what} {', '.join(missing[:5])}")
    state = {}
    for name, (own, shape) in wanted.items():
        found = weights[name]
        flat = found.flatten(1) if "patch_embed" in name and found.dim() == 4 else found
        if flat.shape != shape:
            raise CheckpointError(f"{name} has shape {tuple(found.shape)}, expected {tuple(shape)}")
        if not torch.isfinite(flat).all():
            raise CheckpointError(f"{name} holds values that are not finite: the file is damaged")
        state[own] = flat.clone()
    made = _beside(config, state)
    for name in TABLES:
        if weights[name].shape != made[name].shape or not torch.allclose(
            weights[name].float(), made[name], rtol=0, atol=TOLERANCE
        ):
            raise CheckpointError(
                f"{name} holds other positions than CAV-MAE's, which this model cannot have"
            )
    leftovers = {
        name: weights[name].clone()
        for name, tensor in made.items()
        if name in weights
        and not (weights[name].dtype == tensor.dtype and torch.equal(weights[name], tensor))
    }
    return Read(config, state, leftovers)


def written_cavmae(
    config: JointConfig, state: Mapping[str, Tensor], leftovers: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """Weights of a model of layout "cavmae" as CAV-MAE's pretraining model has them, bit for bit; the norms that it
    never uses are ones and zeros, and positions are computed, unless leftovers has them.

    Raises ValueError for another layout, CheckpointError for leftovers of another model.
    """
    if config.layout != "cavmae":
        raise ValueError(
            f"a model of layout {config.layout} numbers tokens otherwise, and CAV-MAE's model has no name for that"
        )
    found = {theirs(name): tensor.detach().clone() for name, tensor in state.items()}
    for name, channels in (("patch_embed_a.proj.weight", 1), ("patch_embed_v.proj.weight", 3)):
        found[name] = found[name].unflatten(1, (channels, config.patch, config.patch))
    made = _beside(config, state)
    if unknown := sorted(set(leftovers or {}) - set(made)):
        raise CheckpointError(f"leftovers of another model: {', '.join(unknown)}")
    return found | made | dict(leftovers or {})


def _beside(config: JointConfig, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What CAV-MAE's model has beside ours: norms that it never uses, and tables of positions, float32."""
    made = {}
    for name, tensor in state.items():
        unused = re.fullmatch(r"((?:blocks_[av]|decoder_blocks)\.\d+\.norm[12])\.(weight|bias)", theirs(name))
        for modality in "av" if unused else ():
            like = torch.ones_like if unused[2] == "weight" else torch.zeros_like  # type: ignore[index]
            made[f"{unused[1]}_{modality}.{unused[2]}"] = like(tensor)  # type: ignore[index]
    for prefix, width in (("", config.size.width), ("decoder_", config.size.decoder_width)):
        made[f"{prefix}pos_embed_a"] = sinusoid_2d(config.audio_grid[::-1], width)[None]
        made[f"{prefix}pos_embed_v"] = sinusoid_2d(config.grid[1:], width)[None]
    return made


def from_cavmae(weights: Mapping[str, Tensor], heads: int = 12, decoder_heads: int = 16, **options) -> CAVMAE:
    """The model of weights in CAV-MAE's layout, of layout "cavmae"; sizes and grids are read from the shapes.

    Args:
        weights: tensors by name, also with the "module." that DataParallel puts before names.
        heads, decoder_heads: which no shape tells; those of the published model.
        options: others of `CAVMAE`'s.

    Raises CheckpointError for weights that are not of that layout, of other positions, or not finite.
    """
    config, state, _ = read_cavmae(weights, heads, decoder_heads)
    shape: dict[str, Any] = {
        "tubelet": 1,
        "patch": config.patch,
        "layout": "cavmae",
        "joint_depth": config.joint_depth,
    }
    model = CAVMAE(config.size, config.grid, config.audio_grid, **shape, **options)
    model.load_state_dict(state)
    return model


def to_cavmae(model: CAVMAE) -> dict[str, Tensor]:
    """Return the weights of a model of layout "cavmae" as CAV-MAE's pretraining model has them, bit for bit; the norms
    that it never uses are ones and zeros.

    Raises ValueError for another layout.
    """
    return written_cavmae(config_of(model), model.state_dict())


def config_of(model: CAVMAE) -> JointConfig:
    """What a model is built from, but for what only its loss needs."""
    shape = model.size, model.grid, model.audio_grid, model.tubelet, model.patch
    return JointConfig(*shape, model.layout, model.joint_depth, model.normalise_target)


def begin_with(model: CAVMAE, video: VideoMAE, audio: AudioMAE) -> None:
    """Give a model of layout "own" the weights of two models that were pretrained by themselves.

    The own blocks of each modality get the first blocks of its encoder, and its embedding. The shared blocks get the
    last blocks of the *picture's* encoder, with the norms of sound from the sound's; the decoder stays as it is, since
    neither has one of both.

    Raises ValueError where grids, patches or widths differ.
    """
    if model.layout != "own":
        raise ValueError(
            f"only layout own has the positions of VideoMAE and AudioMAE here, not {model.layout}"
        )
    size = model.size
    for name, own, other in (
        ("video's grid", model.grid, video.grid),
        ("audio's grid", model.audio_grid, audio.grid),
        ("video's cube", model.cube, video.cube),
        ("audio's patch", model.patch, audio.patch),
        *((f"{name}'s {n}", getattr(size, n), getattr(other.size, n))
          for name, other in (("video", video), ("audio", audio)) for n in ("width", "depth", "heads")),
    ):  # fmt: skip
        if own != other:
            raise ValueError(f"{name} is {other}, the joint model's {own}; they must be equal")
    if audio.encoder.positions.transposed:
        raise ValueError('audio has positions "published", of which the joint model has none; take "right"')
    depth = size.depth - model.joint_depth
    with torch.no_grad():
        model.video_embed.load_state_dict(video.embed.state_dict())
        model.audio_embed.load_state_dict(audio.encoder.embed.state_dict())
        for n in range(depth):
            model.video_blocks[n].load_state_dict(_with_one_bias(video.encoder[n].state_dict()))
            model.audio_blocks[n].load_state_dict(audio.encoder.blocks[n].state_dict())
        for n in range(model.joint_depth):
            seen = _with_one_bias(video.encoder[depth + n].state_dict())
            heard = audio.encoder.blocks[depth + n].state_dict()
            for norm in ("norm1", "norm2"):
                for part in ("weight", "bias"):
                    seen[f"{norm}_v.{part}"] = seen[f"{norm}.{part}"]
                    seen[f"{norm}_a.{part}"] = heard[f"{norm}.{part}"]
            model.joint_blocks[n].load_state_dict(seen)
        model.norm.load_state_dict(video.encoder_norm.state_dict())
        model.norm_v.load_state_dict(video.encoder_norm.state_dict())
        model.norm_a.load_state_dict(audio.encoder_norm.state_dict())
        nn.init.zeros_(model.video_modality)  # which neither encoder has
        nn.init.zeros_(model.audio_modality)


def _with_one_bias(block: dict[str, Tensor]) -> dict[str, Tensor]:
    """VideoMAE's block, whose keys have no bias, with one bias of zero for them."""
    rest = {n: t for n, t in block.items() if n not in ("attn.q_bias", "attn.v_bias", "attn.k_bias")}
    query, value = block["attn.q_bias"], block["attn.v_bias"]
    return rest | {"attn.qkv.bias": torch.cat([query, torch.zeros_like(query), value])}
