# SPDX-License-Identifier: Apache-2.0
"""Weights of CAV-MAE's layout as a `CAVMAE` and back, and a `CAVMAE` that begins with runs of one modality each.

Source of the names: the list of keys and shapes of the official model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..errors import CheckpointError
from ..models.audiomae import AudioMAE
from ..models.cavmae import CAVMAE
from ..models.common import Size
from ..models.videomae import VideoMAE

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
TABLES = {
    "pos_embed_a": "audio_positions",
    "pos_embed_v": "video_positions",
    "decoder_pos_embed_a": "audio_decoder_positions",
    "decoder_pos_embed_v": "video_decoder_positions",
}
# Their blocks all have three sets of norms, of which those of one modality, and the decoder's, use the first alone.
UNUSED = re.compile(r"(blocks_[av]|decoder_blocks)\.\d+\.norm[12]_[av]\.(weight|bias)")


def theirs(name: str) -> str:
    """Return the name that CAV-MAE has for a weight of ours."""
    own = max((prefix for prefix in PREFIXES if name.startswith(prefix)), key=len)
    return PREFIXES[own] + name[len(own) :]


def from_cavmae(weights: Mapping[str, Tensor], heads: int = 12, decoder_heads: int = 16, **options) -> CAVMAE:
    """Build the model of weights in CAV-MAE's layout, of layout "cavmae"; sizes and grids are read from the shapes.

    Args:
        weights: tensors by name, also with the "module." that DataParallel puts before names.
        heads, decoder_heads: attention heads, which no shape tells; by default those of the published model.
        options: other arguments of `CAVMAE`.

    Raises CheckpointError for weights that are not of that layout, of other positions, or not finite.
    """
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
    side, mels = round(video_tokens**0.5), 128 // patch
    if side * side != video_tokens or audio_tokens % mels or width % heads or decoder_width % decoder_heads:
        raise CheckpointError(
            f"{video_tokens} tokens of a picture must be a square, {audio_tokens} of a sound a multiple of {mels}, and "
            f"widths {width} and {decoder_width} multiples of {heads} and {decoder_heads} heads"
        )
    size = Size(width, depth + joint, heads, decoder_width, decoder_depth, decoder_heads)
    grids = (1, side, side), (audio_tokens // mels, mels)
    model = CAVMAE(size, *grids, tubelet=1, patch=patch, layout="cavmae", joint_depth=joint, **options)
    wanted = {theirs(name): (name, tensor) for name, tensor in model.state_dict().items()}
    rest = {
        name for name in weights if name not in wanted and name not in TABLES and not UNUSED.fullmatch(name)
    }
    if missing := sorted({*wanted, *TABLES} - set(weights)) or sorted(rest):
        what = "lack" if set(missing) - rest else "have an unknown"
        raise CheckpointError(f"these weights of CAV-MAE {what} {', '.join(missing[:5])}")
    state = {}
    for name, (own, tensor) in wanted.items():
        found = weights[name]
        flat = found.flatten(1) if "patch_embed" in name and found.dim() == 4 else found
        if flat.shape != tensor.shape:
            raise CheckpointError(f"{name} has shape {tuple(found.shape)}, expected {tuple(tensor.shape)}")
        if not torch.isfinite(flat).all():
            raise CheckpointError(f"{name} holds values that are not finite: the file is damaged")
        state[own] = flat
    for name, own in TABLES.items():
        table = getattr(model, own)
        if weights[name].shape[1:] != table.shape or not torch.allclose(
            weights[name][0].float(), table, atol=1e-5
        ):
            raise CheckpointError(
                f"{name} holds other positions than CAV-MAE's, which this model cannot have"
            )
    model.load_state_dict(state)
    return model


def to_cavmae(model: CAVMAE) -> dict[str, Tensor]:
    """Return the weights of a model of layout "cavmae" as CAV-MAE's pretraining model has them, bit for bit; the norms
    that it never uses are ones and zeros.

    Raises ValueError for another layout.
    """
    if model.layout != "cavmae":
        raise ValueError(
            f"a model of layout {model.layout} numbers tokens otherwise, and CAV-MAE's model has no name for that"
        )
    found = {theirs(name): tensor.detach().clone() for name, tensor in model.state_dict().items()}
    for name, channels in (("patch_embed_a.proj.weight", 1), ("patch_embed_v.proj.weight", model.channels)):
        found[name] = found[name].unflatten(1, (channels, model.patch, model.patch))
    for name in list(found):
        unused = re.fullmatch(r"((?:blocks_[av]|decoder_blocks)\.\d+\.norm[12])\.(weight|bias)", name)
        for modality in "av" if unused else ():
            made = torch.ones_like if unused[2] == "weight" else torch.zeros_like  # type: ignore[index]
            found[f"{unused[1]}_{modality}.{unused[2]}"] = made(found[name])  # type: ignore[index]
    return found | {name: getattr(model, own)[None].clone() for name, own in TABLES.items()}


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
