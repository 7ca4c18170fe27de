# SPDX-License-Identifier: Apache-2.0
"""Masks of any strategy, drawn with letters, as JSON, or in a file.

    smnoise sample green-3d                                    # one mask of a 16-frame clip
    smnoise sample optim-blue --grid 64 8 --count 5 --json     # the five masks of a partition
    smnoise sample random --count 1000 --out masks.npz         # or .safetensors

A mask is a pure function of (seed, sample index, parameters): the same here as in a training loop.

Strategies: random, tube, frame, block, multiblock, inverse-block, grid, running-cell, time-bars, frequency-bars, bars,
optim-blue; white-, red-, blue-, green- and purple-, each with 3d, 2d, 2d-tube (one mask in all frames) or 1d.
With a published recipe's counts: videomae-tube, videomaev2-decoder, mae-st, mgmae, mae, audiomae, audiomae-2d, cav-mae,
cav-mae-image, beit, ijepa, vjepa-short, vjepa-long, data2vec2, eat,
paper-video, paper-audio.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tyro.conf import Positional

from .strategies import Budget

if TYPE_CHECKING:
    from ..masks import MaskBatch
    from ..samplers.base import Sampler

VISIBLE, MASKED = "#", "."
LARGEST_TEXT = 1 << 20  # letters


@dataclass(frozen=True)
class Options:
    """Masks of a strategy."""

    strategy: Positional[str] = "green-3d"
    """Short name, such as green-3d or optim-blue; a sampler's JSON or .json file; or a pool's .safetensors."""
    budget: Budget = field(default_factory=Budget)
    first: int = 0
    """Index of the first sample."""
    count: int = 1
    """Number of masks."""
    out: Path | None = None
    """Write mask, ids_keep, ids_mask and ids_restore to this .npz or .safetensors, with the sampler's JSON, instead of
    printing them."""
    json: bool = False
    """Print JSON: the sampler, and the visible tokens of each sample."""


def run(options: Options) -> int:
    from .output import print_json

    if options.count < 1:
        raise ValueError(f"count must be at least 1, got {options.count}")
    if options.out is not None and options.out.suffix not in (".npz", ".safetensors"):
        raise ValueError(f"out must end with .npz or .safetensors, got {options.out}")
    sampler = options.budget.sampler(options.strategy)
    if options.out is None and options.count * sampler.num_tokens > LARGEST_TEXT:
        raise ValueError(f"{options.count} masks are much text; give --out masks.npz")
    masks = sampler(range(options.first, options.first + options.count))
    if options.out is not None:
        write(masks, sampler, options.first, options.out)
    shape = {"grid": masks.grid, "num_visible": masks.num_visible, "num_tokens": masks.num_tokens}
    about = {
        "sampler": json.loads(sampler.to_json()),
        **shape,
        "first": options.first,
        "count": options.count,
    }
    if options.json and options.out is not None:
        print_json({**about, "out": str(options.out)})
    elif options.json:
        ids_keep = masks.need("ids_keep").tolist()
        rows = zip(range(options.first, options.first + options.count), ids_keep, strict=True)
        print_json({**about, "samples": [{"sample": n, "ids_keep": ids} for n, ids in rows]}, indent=None)
    elif options.out is not None:
        print(
            f"{options.out}: {options.count} masks, {masks.num_visible} of {masks.num_tokens} tokens visible"
        )
    else:
        print(as_text(masks, options.first))
    return 0


def as_text(masks: MaskBatch, first: int) -> str:
    """Masks drawn with letters, the time steps of each side by side as far as a line of 120 reaches."""
    parts = []
    for n, volume in enumerate(masks.volume().tolist()):
        parts.append(
            f"sample {first + n}: {masks.num_visible} of {masks.num_tokens} tokens visible ({VISIBLE}), "
            f"grid {' x '.join(map(str, masks.grid))}"
        )
        planes = [
            ["".join(MASKED if hidden else VISIBLE for hidden in row) for row in plane] for plane in volume
        ]
        in_a_row = max(1, 122 // (masks.grid[2] + 2))
        for at in range(0, len(planes), in_a_row):
            side = planes[at : at + in_a_row]
            if masks.grid[0] > 1:
                parts.append(
                    "  ".join(f"t = {at + i}".ljust(masks.grid[2]) for i in range(len(side))).rstrip()
                )
            parts.extend("  ".join(rows) for rows in zip(*side, strict=True))
    return "\n".join(parts)


def write(masks: MaskBatch, sampler: Sampler, first: int, path: Path) -> None:
    """The four outputs as arrays, with the sampler's JSON and the first sample's index."""
    import numpy as np

    from ..files import replace_file

    tensors = {name: masks.need(name) for name in masks._fields[:4]}
    if path.suffix == ".npz":
        arrays: dict[str, Any] = {name: tensor.numpy() for name, tensor in tensors.items()}
        with replace_file(path) as temporary, temporary.open("wb") as stream:
            np.savez_compressed(stream, **arrays, sampler=np.array(sampler.to_json()), first=np.array(first))
        return
    try:
        from safetensors.torch import save_file
    except ModuleNotFoundError as error:
        raise ImportError("safetensors is missing: pip install safetensors") from error
    with replace_file(path) as temporary:
        save_file(tensors, temporary, metadata={"sampler": sampler.to_json(), "first": str(first)})
