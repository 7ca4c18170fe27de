# SPDX-License-Identifier: Apache-2.0
"""The table and the picture of docs/masks/context.md: how far targets lie from what the encoder sees. Half a minute.

python docs/separation.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

import smnoise
from smnoise.files import replace_file, write_text

HERE = Path(__file__).parent / "masks"
PAGE, PICTURE = HERE / "context.md", HERE / "pictures" / "context.png"
BEGIN, END = "<!-- separation: written by docs/separation.py -->", "<!-- separation: end -->"
GRID, MASKS = (8, 16, 16), 256
SHOWN = ("random", "green", "green-band", "green-coarse")


def blocks(number: int, scale: float, masks: int = MASKS) -> np.ndarray:
    """V-JEPA 2's blocks before its sets are cut to the smallest of a batch: bool [masks, T, H, W], True where a token
    is predicted. Each block covers `scale` of the frame in all time steps, its aspect drawn evenly from 0.75 to 1.5."""
    generator = np.random.default_rng(0)
    t, h, w = GRID
    found = np.zeros((masks, t, h, w), bool)
    for mask in found:
        aspect = generator.uniform(0.75, 1.5)
        height = min(h, round((scale * h * w * aspect) ** 0.5))
        width = min(w, round((scale * h * w / aspect) ** 0.5))
        for _ in range(number):
            y, x = generator.integers(0, h - height + 1), generator.integers(0, w - width + 1)
            mask[:, y : y + height, x : x + width] = True
    return found


def of_blocks(number: int, scale: float) -> tuple[float, float, str]:
    targets = torch.from_numpy(blocks(number, scale))
    targets = targets[~targets.flatten(1).all(1)]  # a context of nothing has no distance
    apart, counts = smnoise.distance_to(~targets)[targets], targets.flatten(1).sum(1).double()
    tokens = targets[0].numel()
    sizes = f"{tokens - counts.mean():.0f} ± {counts.std():.0f}, {counts.mean():.0f} ± {counts.std():.0f}"
    return (apart == 1).double().mean().item(), apart.double().mean().item(), sizes


def table() -> str:
    lines = [
        "| masks | targets that touch the context | mean distance | tokens of context, of targets |",
        "|---|---:|---:|---|",
    ]
    rows = {
        f"V-JEPA 2's {n} blocks of {scale:.0%}, before its cut": of_blocks(n, scale)
        for n, scale in ((8, 0.15), (2, 0.7))
    }
    for name, made in smnoise.context_presets.items():
        sampler = made(GRID)
        found = sampler.sets(range(MASKS)).separation()
        rows[f"`{name}`"] = (*found, f"{sampler.num_context}, {sampler.num_target}")
    lines += [f"| {name} | {near:.2f} | {far:.1f} | {sizes} |" for name, (near, far, sizes) in rows.items()]
    return "\n".join(lines)


def picture() -> None:
    """Rows: presets. Columns: time steps of sample 4, the sigmas of which (0.93, 1.78) are of the middle."""
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure

    from smnoise.viz.style import BLUE, GREEN, HIDDEN, ORANGE, PINK

    colors = ListedColormap([HIDDEN, "white", GREEN, ORANGE, BLUE, PINK])  # context, band, four target sets
    figure = Figure(figsize=(9.6, 5.4), dpi=100, layout="constrained")
    axes = figure.subplots(len(SHOWN), GRID[0])
    for name, row in zip(SHOWN, axes, strict=True):
        sets = smnoise.context_presets[name](GRID, target_sets=4).sets([4])
        label = torch.ones(1, sets.context.num_tokens)
        label.scatter_(1, sets.context.ids_keep, 0)
        for j, ids in enumerate(sets.masks_pred()):
            label.scatter_(1, ids, 2.0 + j)
        for t, axis in enumerate(row):
            axis.imshow(label.view(GRID)[t], cmap=colors, vmin=0, vmax=5)
            axis.set(xticks=[], yticks=[], title=f"t = {t}" if name == SHOWN[0] else "")
        row[0].set_ylabel(name)
    with replace_file(PICTURE) as temporary:
        figure.savefig(temporary, format="png")


def main() -> None:
    before, rest = PAGE.read_text().split(BEGIN)
    write_text(PAGE, f"{before}{BEGIN}\n{table()}\n{END}{rest.split(END)[1]}")
    picture()


if __name__ == "__main__":
    main()
