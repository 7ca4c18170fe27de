# SPDX-License-Identifier: Apache-2.0
"""The architecture of a state dict, from the shapes of its tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import cast

from torch import Tensor

from ..errors import CheckpointError
from ..models.common import Size
from . import tables
from .architecture import AudioConfig, VideoConfig
from .names import INSIDE, PREFIXES

FRAMES, SIDE, MEL_BINS = 16, 224, 128  # of every published recipe
# Heads leave no trace in the shapes of standard blocks; the published sizes by model and width. Our own small ones are
# not among them: files of others have other heads at those widths, and ours name theirs.
HEADS: dict[str, dict[str, dict[int, int]]] = {
    "videomae": {
        "heads": {384: 6, 768: 12, 1024: 16, 1280: 16, 1408: 16},
        "decoder_heads": {192: 3, 384: 6, 512: 8, 640: 8},
    },
    "audiomae": {"heads": {384: 6, 768: 12, 1024: 16, 1280: 16}, "decoder_heads": {512: 16}},
    "cavmae": {"heads": {768: 12}, "decoder_heads": {512: 16}},
}


def infer(
    state: Mapping[str, Tensor],
    model: str,
    layout: str,
    notes: list[str],
    *,
    grid: tuple[int, ...] | None = None,
    heads: int | None = None,
    decoder_heads: int | None = None,
    positions: str | None = None,
) -> VideoConfig | AudioConfig:
    """The config of an "official" or "huggingface" state dict; what was assumed is added to notes.

    The options are those of `convert_state`. Raises CheckpointError where the shapes fit no such model.
    """
    prefix = PREFIXES[model, layout]
    if model == "videomae":
        if positions is not None:
            raise ValueError("positions is for AudioMAE; VideoMAE has one kind")
        kernel = _shape(state, prefix["embed."] + "weight", 5)
        width, channels, tubelet, patch, across = kernel
        blocks = prefix["encoder."]
    else:
        kernel = _shape(state, prefix["encoder.embed."] + "weight", 4)
        width, channels, patch, across = kernel
        if channels != 1:
            raise CheckpointError(f"AudioMAE reads spectrograms of 1 channel, this model reads {channels}")
        blocks = prefix["encoder.blocks."]
    if patch != across:
        raise CheckpointError(f"patches of {patch} x {across} are not square, which smnoise's models need")
    decoder_width = _shape(state, prefix["bridge."] + "weight", 2)[0]
    local = model == "audiomae" and f"{prefix['decoder.']}0.attn.tau" in state
    if local:
        found = _shape(state, f"{prefix['decoder.']}0.attn.tau", 1)[0]
        if decoder_heads not in (None, found):
            raise ValueError(f"decoder_heads is {decoder_heads}, but the decoder has {found}")
        decoder_heads = found
    size = Size(
        width,
        _depth(state, blocks),
        heads or heads_of(HEADS[model], "heads", width, notes),
        decoder_width,
        _depth(state, prefix["decoder."]),
        decoder_heads or heads_of(HEADS[model], "decoder_heads", decoder_width, notes),
        **({"mlp_ratio": _mlp_ratio(state, blocks, layout, width)} if model == "videomae" else {}),
    )
    if model == "videomae":
        statistics = {} if channels == 3 else {"mean": (0.0,) * channels, "std": (1.0,) * channels}
        if statistics:
            notes.append(
                f"{channels} channels: the input is not normalised; change mean and std in config.json"
            )
        if grid is None:
            grid = FRAMES // tubelet, SIDE // patch, SIDE // patch
            notes.append(
                f"grid {grid} assumed, of {FRAMES} frames of {SIDE} x {SIDE}; any other works at run time"
            )
        clip = cast("tuple[int, int, int]", grid)  # else VideoConfig says so
        return VideoConfig(size, clip, tubelet, patch, channels, **statistics)
    places, positions = _audio_places(state, size, patch, grid, positions, notes)
    notes.append("the target of AudioMAE was taken as normalised, the published default; a file cannot tell")
    return AudioConfig(size, places, patch, "local" if local else "global", positions)


def _audio_places(
    state, size: Size, patch: int, grid, positions: str | None, notes: list[str]
) -> tuple[tuple[int, int], str]:
    """Grid and kind of positions, from the table in the file if it has one."""
    name = tables.NAMES["audiomae", "official"][0]
    table = state.get(name)
    if table is None:
        if grid is None or positions is None:
            raise CheckpointError(
                f"the file has no {name}, which tells the order of its positions and the length of its input: "
                "name grid (time, frequency) and positions, 'published' for the released weights"
            )
        return grid, positions
    if grid is None:
        across = MEL_BINS // patch
        tokens = table.shape[1] // across * across if table.dim() == 3 else 0  # without the class token
        if not across or not tokens:
            raise CheckpointError(
                f"{name} {list(table.shape)} fits no input of {MEL_BINS} mel bins; name the grid"
            )
        grid = tokens // across, across
        notes.append(f"grid {grid} (time, frequency), from {name} and {MEL_BINS} mel bins")
    found = tables.positions_kind(table, grid, size.width)
    if found is None:
        raise CheckpointError(
            f"{name} {list(table.shape)} is not the fixed table of grid {grid}, neither in the right order nor in "
            "the published one; name the grid if it is another, learned tables cannot be used"
        )
    if positions not in (None, found) and grid[0] != grid[1]:
        raise ValueError(f"positions is {positions!r}, but the table in the file is of the {found!r} kind")
    notes.append(f"positions {found!r}, told from {name}")
    return grid, found


def _shape(state: Mapping[str, Tensor], name: str, dims: int) -> tuple[int, ...]:
    if name not in state:
        raise CheckpointError(
            f"there is no {name}: a checkpoint of pretraining is needed, with its decoder (encoders alone and "
            "fine-tuned models are not converted)"
        )
    shape = tuple(state[name].shape)
    if len(shape) != dims:
        raise CheckpointError(f"{name} must have {dims} axes, has shape {list(shape)}")
    return shape


def _depth(state: Mapping[str, Tensor], prefix: str) -> int:
    pattern = re.compile(re.escape(prefix) + r"(\d{1,4})\.")
    numbers = [int(found[1]) for name in state if (found := pattern.match(name))]
    if not numbers:
        raise CheckpointError(f"there are no blocks {prefix}0, {prefix}1 and so on")
    return max(numbers) + 1


def _mlp_ratio(state: Mapping[str, Tensor], blocks: str, layout: str, width: int) -> float:
    """Of the encoder's first block; the decoder's have the same, as in VideoMAEv2."""
    inside = INSIDE["videomae", layout].get("mlp.fc1.", ("mlp.fc1.",))[0]
    weight = state.get(f"{blocks}0.{inside}weight")
    if weight is None or weight.dim() != 2 or not len(weight) or not width:
        return 4.0  # what is missing or of another shape is told with all the others
    return len(weight) / width


def heads_of(published: dict[str, dict[int, int]], name: str, width: int, notes: list[str]) -> int:
    """Return how many heads a published model of this width has, or else one for each 64 of the width, which is then
    noted. name: of the setting that tells it. Raises CheckpointError where neither fits.
    """
    heads = published[name].get(width)
    if heads is None and width % 64 == 0:
        heads = width // 64
    if heads is None:
        raise CheckpointError(
            f"weights do not tell how many heads they are of, and a width of {width} is none of the published: "
            f"name {name}"
        )
    notes.append(f"{name} {heads} assumed, of the width {width}")
    return heads
