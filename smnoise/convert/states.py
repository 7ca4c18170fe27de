# SPDX-License-Identifier: Apache-2.0
"""One state dict into another, by way of smnoise's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError
from . import cavmae, others, tables
from .architecture import AnyConfig, JointConfig
from .infer import HEADS, heads_of, infer
from .names import entries

LAYOUTS = ("smnoise", "huggingface", "official")
# The patch embedding that only this model in this layout has, its axes, and how names in the decoder begin.
MARKS = {
    "videomae.embeddings.patch_embeddings.projection.weight": ("videomae", "huggingface", 5, "decoder."),
    "encoder.patch_embed.proj.weight": ("videomae", "official", 5, "decoder."),
    "patch_embed.proj.weight": ("audiomae", "official", 4, "decoder_"),
    "embed.weight": ("videomae", "smnoise", 2, "decoder."),
    "encoder.embed.weight": ("audiomae", "smnoise", 2, "decoder."),
    "patch_embed_v.proj.weight": ("cavmae", "official", 4, "decoder_"),
    "video_embed.weight": ("cavmae", "smnoise", 2, "decoder."),
}
WRAPPERS = ("module.", "_orig_mod.")  # of DistributedDataParallel and torch.compile
# Query, key and value in one tensor, or under earlier names: (joined, apart), the key's bias being always zero.
ATTENTION = {
    ("videomae", "huggingface"): (".attention.attention.", "query.bias", "key.bias", "value.bias"),
    ("videomae", "official"): (".attn.", "q_bias", "k_bias", "v_bias"),
}


@dataclass
class Converted:
    """A state dict in another layout, and what to know about it."""

    state: dict[str, Tensor]
    config: AnyConfig
    layout: str
    notes: list[str] = field(default_factory=list)
    """What was assumed, checked and left out, in sentences."""
    leftovers: dict[str, Tensor] = field(default_factory=dict)
    """Tables of positions of an official AudioMAE or CAV-MAE that are ours but for rounding, and norms that CAV-MAE has
    and never uses; hand them in again for the way back to give the same bits. Empty for the others."""


def convert_state(
    state: Mapping[str, Tensor],
    to: str,
    *,
    config: AnyConfig | None = None,
    leftovers: Mapping[str, Tensor] | None = None,
    grid: tuple[int, ...] | None = None,
    heads: int | None = None,
    decoder_heads: int | None = None,
    positions: str | None = None,
) -> Converted:
    """Convert a state dict of a pretraining model into another layout.

    Args:
        state: tensors by name, in any of the layouts, which its keys and shapes tell; `module.` and `_orig_mod.` before
            the names are cut off, and so is another name that is in front of all, as Lightning's modules have it.
        to: "smnoise", "huggingface" or "official".
        config: what the model is built from; needed for smnoise's layout, else inferred from the shapes.
        leftovers: those of an earlier conversion from "official"; without them the tensors are made anew.
        grid: tokens of the usual input, (T, H, W) or (time, frequency); by default the published one.
        heads, decoder_heads: attention heads, needed where the widths are not published ones.
        positions: "right" or "published", for an AudioMAE without a table of positions.

    Returns:
        The converted state, of new tensors whose dtype is kept, and what to know about it.

    Raises:
        CheckpointError: where there is no such layout, or keys are missing, unknown or of another shape; all are
            listed.
        ValueError: where an option does not fit.
    """
    if to not in LAYOUTS:
        raise ValueError(f"to must be one of {', '.join(LAYOUTS)}; got {to!r}")
    state = unwrapped(state)
    model, layout = detect(state)
    if model != "videomae" and to == "huggingface":
        name = {"audiomae": "AudioMAE", "cavmae": "CAV-MAE"}[model]
        raise ValueError(f"transformers has no {name} to convert to; choose smnoise or official")
    notes = [f"read as {model} in the {layout} layout"]
    options: dict[str, Any] = {
        "grid": grid,
        "heads": heads,
        "decoder_heads": decoder_heads,
        "positions": positions,
    }
    if model == "cavmae" and layout == "official":
        return _joint(state, to, config, options, leftovers, notes)
    state = _parted(state, model, layout, notes)
    if config is None:
        if layout == "smnoise":
            raise ValueError("smnoise's layout does not tell frames from pixels of a cube: give its config")
        config = infer(state, model, layout, notes, **options)
    elif named := [name for name, value in options.items() if value is not None]:
        raise ValueError(f"{named[0]} is given by the config already")
    elif config.model != model:
        raise CheckpointError(f"the config is of {config.model}, the weights are of {model}")

    ours, found = _to_ours(state, config, layout, notes)
    leftovers = found or dict(leftovers or {})
    if to == "smnoise":
        return Converted(ours, config, to, notes, leftovers)
    if isinstance(config, JointConfig):
        return Converted(cavmae.written_cavmae(config, ours, leftovers), config, to, notes)
    theirs = {
        name: part for entry in entries(config, to) for name, part in entry.split(ours[entry.ours]).items()
    }
    theirs |= _made(config, to, leftovers, notes)
    if to == "huggingface":
        notes.append(
            "transformers fixes the eps of the decoder's last norm at 1e-5; for smnoise's numbers "
            "set model.decoder.norm.eps = 1e-6"
        )
    return Converted(theirs, config, to, notes)


def _joint(
    state: dict[str, Tensor], to: str, config: AnyConfig | None, options: dict[str, Any],
    leftovers: Mapping[str, Tensor] | None, notes: list[str],
) -> Converted:  # fmt: skip
    """Of CAV-MAE's layout, whose shapes tell all but the heads."""
    if named := [name for name in ("grid", "positions") if options[name] is not None]:
        raise ValueError(f"{named[0]} is told by the weights of a CAV-MAE: leave it out")
    known = {}
    for name, table in (("heads", "pos_embed_a"), ("decoder_heads", "decoder_pos_embed_a")):
        own = None if config is None else getattr(config.size, name)
        if table not in state or state[table].dim() != 3:
            raise CheckpointError(f"there is no {table} [1, tokens, width], of CAV-MAE's pretraining model")
        width = state[table].shape[2]
        known[name] = options[name] or own or heads_of(HEADS["cavmae"], name, width, notes)
    found = cavmae.read_cavmae(state, **known)
    if config is not None and config != found.config:
        raise CheckpointError(f"the config is of {config}, the weights are of {found.config}")
    notes.append(f"grids {found.config.grid} and {found.config.audio_grid}, from the tables of positions")
    beside = {**(leftovers or {}), **found.leftovers}
    if to == "smnoise":
        return Converted(found.state, found.config, to, notes, beside)
    return Converted(cavmae.written_cavmae(found.config, found.state, beside), found.config, to, notes)


def detect(state: Mapping[str, Tensor]) -> tuple[str, str]:
    """Tell the model and the layout of a state dict. Raises CheckpointError, with what else it is, where it is none of
    them.
    """
    found = _known(state)
    if len(found) != 1:
        raise CheckpointError(
            f"these are no weights of VideoMAE, AudioMAE or CAV-MAE with a decoder; they are {others.name_of(state)}"
        )
    return found[0]


def _known(state: Mapping[str, Tensor]) -> list[tuple[str, str]]:
    found = []
    for name, (model, layout, axes, decoder) in MARKS.items():
        if name not in state or not any(key.startswith(decoder) for key in state):
            continue
        shape = state[name].shape
        if len(shape) == axes and (model, layout, shape[1]) != ("audiomae", "official", 3):
            found.append((model, layout))
    return found


def unwrapped(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors by their names without wrappers' prefixes. Raises CheckpointError for anything that is no
    dense tensor of floats, and for two of one name.
    """
    plain: dict[str, Tensor] = {}
    wrong = []
    for name, tensor in state.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            wrong.append(f"{name!r} is a {type(tensor).__name__}, not a tensor with a name")
            continue
        if tensor.layout != torch.strided or not tensor.is_floating_point():
            wrong.append(f"{name} is not a dense tensor of floats ({tensor.layout}, {tensor.dtype})")
        short = name
        while short.startswith(WRAPPERS):
            short = short.removeprefix("module.").removeprefix("_orig_mod.")
        if short in plain:
            wrong.append(f"{name} is there twice, with and without a prefix")
        plain[short] = tensor.detach()
    if wrong:
        raise CheckpointError("not a state dict:\n  " + "\n  ".join(wrong))
    return _without_prefix(plain)


def _without_prefix(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a module that keeps the model under a name, as those of Lightning do: that name is cut off where it is
    before all of them, and a known model follows."""
    if _known(state):
        return state
    first = next(iter(state), "")
    places = [place for place, letter in enumerate(first) if letter == "."]
    for place in places:
        prefix = first[: place + 1]
        if not all(name.startswith(prefix) for name in state):
            break
        short = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
        if _known(short):
            return short
    return state


def _parted(state: dict[str, Tensor], model: str, layout: str, notes: list[str]) -> dict[str, Tensor]:
    """Earlier and joined forms of query, key and value under the names of today."""
    if (model, layout) not in ATTENTION:
        return state
    attention, *biases = ATTENTION[model, layout]
    parted = {}
    zeros = []
    for name, tensor in state.items():
        block, found, inside = name.partition(attention)
        start = block + attention
        if not found:
            parted[name] = tensor
        elif inside == "qkv.weight" and layout == "huggingface" and len(tensor) % 3 == 0:
            parts = (start + f"{part}.weight" for part in ("query", "key", "value"))
            parted |= dict(zip(parts, tensor.chunk(3), strict=True))
        elif inside == "qkv.bias" and len(tensor) % 3 == 0:
            parted |= dict(zip([start + bias for bias in biases], tensor.chunk(3), strict=True))
        elif inside in ("q_bias", "k_bias", "v_bias"):
            parted[start + biases["qkv".index(inside[0])]] = tensor
        else:
            parted[name] = tensor
    for name in [n for n in parted if n.endswith(attention + biases[1])]:
        if not parted[name].any():  # else it stays, and is reported as unknown
            zeros.append(parted.pop(name))
    if zeros:
        notes.append(f"{len(zeros)} biases of keys left out: all are zero, as VideoMAE has them")
    return parted


def _to_ours(
    state: dict[str, Tensor], config: AnyConfig, layout: str, notes: list[str]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Our state dict and the leftovers. Raises CheckpointError for what is missing, unknown or of another shape."""
    table = entries(config, layout)
    wanted = {name: entry.part for entry in table for name in entry.theirs}
    computed = tables.computed(config, layout)
    if layout == "smnoise":
        state = _with_last_biases(state, wanted, notes)
    wrong = [f"missing: {name} {list(shape)}" for name, shape in wanted.items() if name not in state]
    for name, tensor in state.items():
        expected = wanted.get(name, tensor.shape)
        if tensor.shape != expected:
            wrong.append(f"wrong shape: {name} is {list(tensor.shape)}, not {list(expected)}")
        elif not (name in wanted or name in computed):
            wrong.append(f"unknown: {name} {list(tensor.shape)}")
    if wrong:
        raise CheckpointError(
            f"{len(wrong)} keys do not fit {config.model} in the {layout} layout, {config.size}:\n  "
            + "\n  ".join(wrong)
        )

    leftovers = {}
    for (name, made), width in zip(
        computed.items(), (config.size.width, config.size.decoder_width), strict=False
    ):
        if name in state:
            tables.check(state[name], name, config, width)
            notes.append(f"{name} is the table that smnoise computes")
            if config.model == "audiomae" and not torch.equal(state[name], made):
                leftovers[name] = state[name]  # equal but for rounding
    return {entry.ours: entry.join([state[name] for name in entry.theirs]) for entry in table}, leftovers


def _with_last_biases(
    state: dict[str, Tensor], wanted: Mapping[str, torch.Size], notes: list[str]
) -> dict[str, Tensor]:
    """With zeros for the biases at the end of position networks, which runs of AudioMAE had not at first: the same
    function, but for dropout in training."""
    made = {}
    for name, shape in wanted.items():
        weight = state.get(f"{name.removesuffix('bias')}weight")
        if name.endswith(".position_bias.3.bias") and name not in state and weight is not None:
            made[name] = weight.new_zeros(shape)
    if made:
        notes.append(f"{len(made)} biases at the end of position networks are zero: the run had none")
    return state | made


def _made(config, to: str, leftovers: dict[str, Tensor], notes: list[str]) -> dict[str, Tensor]:
    """What an official AudioMAE has and ours has not: from the leftovers, else computed."""
    if config.model != "audiomae":
        return {}
    made = tables.computed(config, to)
    if unknown := [name for name in leftovers if name not in made]:
        raise CheckpointError(f"leftovers of another model: {', '.join(unknown)}")
    if absent := [name for name in made if name not in leftovers]:
        notes.append(f"made anew: {', '.join(absent[:3])}" + (" and so on" if len(absent) > 3 else ""))
    return made | leftovers
