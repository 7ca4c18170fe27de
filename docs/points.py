# SPDX-License-Identifier: Apache-2.0
"""The table and the picture of docs/masks/points.md: what is masked around a masked point. Seconds.

python docs/points.py
"""

from __future__ import annotations

from pathlib import Path

import torch

import smnoise
from smnoise.files import replace_file, write_text

HERE = Path(__file__).parent / "masks"
PAGE, PICTURE = HERE / "points.md", HERE / "pictures" / "points.png"
BEGIN, END = "<!-- points: written by docs/points.py -->", "<!-- points: end -->"
POINTS, NEAR, CLOUDS, MASKS = 64, 6, 3, 40
SHOWN = (None, ("green", 0.25), ("green", 0.4), ("red", 0.25))
ROWS = (
    None,
    ("blue", 0.25),
    ("green", 0.15),
    ("green", 0.25),
    ("green", 0.4),
    ("green", "auto"),
    ("red", 0.25),
)


def sphere(number: int, points: int = POINTS) -> torch.Tensor:
    """Points drawn evenly on spheres of radius 1: float32 [number, points, 3]."""
    drawn = torch.randn(number, points, 3, generator=torch.Generator().manual_seed(0))
    return drawn / drawn.norm(dim=2, keepdim=True)


def name_of(kind) -> str:
    return "random" if kind is None else f"{kind[0]}, step {kind[1]}"


def masks_of(kind, points: torch.Tensor) -> smnoise.MaskBatch:
    samples = range(len(points))
    if kind is None:
        return smnoise.Random((points.shape[1],), 0.6)(samples)
    return smnoise.PointMasks(points.shape[1], 0.6, color=kind[0], step=kind[1])(samples, points=points)


def around(masks: smnoise.MaskBatch, points: torch.Tensor) -> tuple[float, float]:
    """Of the masked points: the share of masked ones among their nearest, and the mean distance to a visible one."""
    apart = (points[:, :, None] - points[:, None]).square().sum(-1).sqrt()
    order = apart.argsort(dim=2, stable=True)[:, :, 1 : NEAR + 1]
    hidden = masks.mask.gather(1, order.flatten(1)).view(order.shape).float().mean(2)
    to_visible = apart.masked_fill(masks.mask[:, None], torch.inf).amin(2)
    return hidden[masks.mask].mean().item(), to_visible[masks.mask].mean().item()


def table() -> str:
    points = sphere(CLOUDS).repeat(MASKS, 1, 1)
    lines = [
        f"| masks | masked among a masked point's {NEAR} nearest | distance to the nearest visible one |",
        "|---|---:|---:|",
    ]
    for kind in ROWS:
        share, apart = around(masks_of(kind, points), points)
        lines.append(f"| {name_of(kind)} | {share:.2f} | {apart:.2f} |")
    return "\n".join(lines)


def picture() -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    points = sphere(1, 400)
    figure = plt.figure(figsize=(12, 3.2))
    for i, kind in enumerate(SHOWN):
        mask = masks_of(kind, points).mask[0]
        axes = figure.add_subplot(1, len(SHOWN), i + 1, projection="3d")
        near = points[0, :, 0] > -0.2  # the front
        for shown, colour in ((near & mask, "0.82"), (near & ~mask, "tab:blue")):
            axes.scatter(*points[0, shown].T, s=16, c=colour)
        axes.view_init(elev=12, azim=0)
        axes.set(title=name_of(kind), xlim=(-0.8, 0.8), ylim=(-0.8, 0.8), zlim=(-0.8, 0.8))
        axes.set_axis_off()
    figure.tight_layout()
    with replace_file(PICTURE) as temporary:
        figure.savefig(temporary, format="png", dpi=80)


def main() -> None:
    text = PAGE.read_text()
    head, rest = text.split(BEGIN)
    write_text(PAGE, f"{head}{BEGIN}\n{table()}\n{END}{rest.split(END)[1]}")
    picture()


if __name__ == "__main__":
    main()
