# SPDX-License-Identifier: Apache-2.0
"""How evenly masks are spread, and what Optim Blue's parameters do: bench/results/spread/ from hundreds of masks each.

python -m bench.spread            # about a minute: spread.json, strategies.png, sweep.png
"""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib
import torch

from . import baselines

matplotlib.use("Agg")
import matplotlib.pyplot as plt

import smnoise
from smnoise.files import write_text
from smnoise.measures.spread import radial_spectrum, spread

FOLDER = Path(__file__).parent / "results" / "spread"
GRID, RATIO, COUNT = (64, 8), 0.8, 500
SWEEPS = {
    "delta": [1, 2, 3, 4, 5, 6, 8],
    "weights": [0.0, 0.25, 0.5, 0.7, 1.0, 1.4, 2.0],  # of the diagonals
    "decay": [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0],
    "steps": [0, 16, 32, 64, 128, 256, 512, 1024],
}
SHOWN = {
    "nearest": "distance to the nearest visible token",
    "touching8": "share with a visible 8-neighbour",
    "void": "largest void",
}


def void_and_cluster() -> smnoise.MaskBatch:
    sampler = smnoise.White3D((1, *GRID), RATIO)
    mask = baselines.void_and_cluster(COUNT, sampler.grid, sampler.visible_per_sample, seed=0)
    outputs = smnoise.ops.threshold((~mask).float(), sampler.visible_per_sample)
    return smnoise.MaskBatch(*outputs, sampler.grid, sampler.visible_per_sample)


def strategies() -> dict[str, smnoise.MaskBatch]:
    plane = (1, *GRID)
    return {
        "random": smnoise.White3D(plane, RATIO)(range(COUNT)),
        "blue, high-pass filter": smnoise.Blue3D(plane, RATIO)(range(COUNT)),
        "void and cluster": void_and_cluster(),
        "Optim Blue, independent": smnoise.OptimBlue(GRID, RATIO, masks="independent")(range(COUNT)),
        "Optim Blue, complementary": smnoise.OptimBlue(GRID, RATIO)(range(COUNT)),
    }


def swept(name: str, value) -> smnoise.OptimBlue:
    changed = (1.0, 1.0, value, value) if name == "weights" else value
    return smnoise.OptimBlue(GRID, RATIO, **{name: changed})


def draw_strategies(masks: dict[str, smnoise.MaskBatch], path: Path) -> None:
    figure, axes = plt.subplots(
        1, len(masks) + 1, figsize=(2.0 * len(masks) + 6, 5.4), width_ratios=[1] * len(masks) + [3.4]
    )
    for axis, (name, batch) in zip(axes, masks.items(), strict=False):
        axis.imshow(~batch.volume()[1, 0], cmap="gray_r", interpolation="nearest", aspect="equal")
        axis.set(title=name.replace(", ", ",\n"), xticks=[], yticks=[])
    axes[0].set(ylabel="time", xlabel="frequency")
    for name, batch in masks.items():
        axes[-1].plot(*radial_spectrum(batch, 12), label=name, marker=".")
    axes[-1].axhline(1, color="gray", linewidth=0.5)
    axes[-1].set(
        xlabel="cycles a token",
        ylabel="power, random masks = 1",
        title=f"radial spectrum, {COUNT} masks each",
        ylim=0,
    )
    axes[-1].legend()
    figure.suptitle(f"Visible tokens (black), grid {GRID[0]} x {GRID[1]}, ratio {RATIO}")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_sweep(sweep: dict, chosen: dict, path: Path) -> None:
    figure, axes = plt.subplots(len(SHOWN), len(sweep), figsize=(13, 7.5), sharey="row")
    labels = {"weights": "weight of the diagonals", "delta": "delta, tokens", "steps": "swap steps"}
    for column, (name, rows) in enumerate(sweep.items()):
        values = [row["value"] for row in rows]
        for axis, (measure, text) in zip(axes[:, column], SHOWN.items(), strict=True):
            axis.plot(range(len(values)), [row[measure] for row in rows], marker="o")
            axis.axvline(values.index(chosen[name]), color="tab:orange", linestyle="--")
            axis.set_xticks(range(len(values)), [f"{v:g}" for v in values])
            if not column:
                axis.set_ylabel(text.replace(" visible", "\nvisible"))
        axes[-1, column].set_xlabel(labels.get(name, name))
    figure.suptitle(
        f"Optim Blue, one parameter changed at a time (dashed: the default); {GRID[0]} x {GRID[1]}, ratio {RATIO}, "
        f"{COUNT} masks each"
    )
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    masks = strategies()
    measured = {name: spread(batch)._asdict() for name, batch in masks.items()}
    chosen = {"delta": 4, "weights": 0.7, "decay": 2.0, "steps": 256}
    sweep = {
        name: [{"value": v, **spread(swept(name, v)(range(COUNT)))._asdict()} for v in values]
        for name, values in SWEEPS.items()
    }
    rounded = json.loads(
        json.dumps({"strategies": measured, "sweep": sweep}), parse_float=lambda s: round(float(s), 4)
    )
    results = {
        "what": f"{COUNT} masks each, grid {GRID}, ratio {RATIO}",
        "torch": torch.__version__,
        **rounded,
    }
    write_text(FOLDER / "spread.json", json.dumps(results, indent=2) + "\n")
    draw_strategies(masks, FOLDER / "strategies.png")
    draw_sweep(sweep, chosen, FOLDER / "sweep.png")
    for name, row in results["strategies"].items():
        print(f"{name:<28}", "  ".join(f"{k} {v:.4f}" for k, v in row.items()))


if __name__ == "__main__":
    main()
