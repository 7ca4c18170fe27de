# SPDX-License-Identifier: Apache-2.0
"""Convert weights of VideoMAE, AudioMAE or CAV-MAE into another layout, decoder included, bit for bit there and back.

    smnoise convert SOURCE OUT --to huggingface

SOURCE is a file, a folder or a training run; its keys and shapes tell its layout. What had to be assumed is said. OUT
can take the place of a run in smnoise finetune, probe and viz reconstruct.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional


@dataclass(frozen=True)
class Options:
    """Weights."""

    source: Positional[Path]
    """File, folder or training run."""
    out: Positional[Path]
    """New folder; for the official layout also a .pth file."""
    to: str = "smnoise"
    """smnoise, huggingface or official."""
    grid: tuple[int, ...] | None = None
    """Tokens of the usual input: T H W, or time frequency."""
    heads: int | None = None
    """Of the encoder, where its width is not a published one."""
    decoder_heads: int | None = None
    """Likewise of the decoder."""
    positions: str | None = None
    """right or published, for an AudioMAE without a table of positions."""
    max_gib: int = 16
    """Refuse larger files."""
    json: bool = False
    """Print what the weights are as JSON."""


def run(options: Options) -> int:
    from ..convert import convert_files
    from ..convert.architecture import to_json
    from .output import print_json

    converted = convert_files(
        options.source,
        options.out,
        options.to,
        max_bytes=options.max_gib << 30,
        grid=options.grid,
        heads=options.heads,
        decoder_heads=options.decoder_heads,
        positions=options.positions,
    )
    config = to_json(converted.config)
    if options.json:
        print_json({"config": config, "tensors": len(converted.state), "notes": converted.notes})
        return 0
    print(f"{options.out}: {len(converted.state)} tensors in the {options.to} layout")
    print("\n".join(f"  {name}: {value}" for name, value in config.items()))
    print("\n".join(converted.notes))
    return 0
