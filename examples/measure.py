# SPDX-License-Identifier: Apache-2.0
"""Masks in numbers: how far apart their visible tokens lie, how long they stay, and how often each token is seen.

    python examples/measure.py tube random green-3d red-3d
    python examples/measure.py random optim-blue --grid 64 8 --mask-ratio 0.8

`smnoise report NAME` draws a page of the same and more.
"""

from __future__ import annotations

import argparse
import sys

from rich.console import Console
from rich.table import Table

import smnoise
from smnoise.measures.spread import spread


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("masks", nargs="+", help="anything that smnoise.sampler_of takes")
    parser.add_argument("--grid", nargs="+", type=int, default=[8, 14, 14])
    parser.add_argument("--mask-ratio", type=float, default=0.9)
    parser.add_argument("--count", type=int, default=200)
    given = parser.parse_args()

    table = Table(
        "masks", "visible", "nearest", "with a neighbour", "stays a step", "least seen", "most seen"
    )
    for name in given.masks:
        sampler = smnoise.sampler_of(name, tuple(given.grid), given.mask_ratio)
        masks = sampler(range(given.count))
        shown = ~masks.volume()  # bool [B, T, H, W], True = visible
        stays = (
            (shown[:, 1:] & shown[:, :-1]).sum() / shown[:, :-1].sum() if shown.shape[1] > 1 else float("nan")
        )
        apart = spread(masks)
        table.add_row(
            name,
            f"{masks.num_visible} of {masks.num_tokens}",
            f"{apart.nearest:.2f}",
            f"{apart.touching4:.3f}",
            f"{float(stays):.3f}",
            f"{apart.seen_least:.3f}",
            f"{apart.seen_most:.3f}",
        )
    Console(width=None if sys.stdout.isatty() else 100).print(table)


if __name__ == "__main__":
    main()
