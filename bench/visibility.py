# SPDX-License-Identifier: Apache-2.0
"""What keeps Optim Blue's masks fair, and what it costs: bench/results/spread/visibility.json.

Section 7 lets a swap take a token of the rest only for one at a place like it. Here masks are made with that rule and
without: the CPU library is given a table by which all places are alike.

python -m bench.visibility        # two or three minutes
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

import smnoise
from smnoise.backends import cpu
from smnoise.backends.plan import blue_plan_of
from smnoise.files import write_text
from smnoise.measures.spread import spread

PATH = Path(__file__).parent / "results" / "spread" / "visibility.json"
CASES = [
    ((14, 14), 0.7, "complementary", 20_000),
    ((14, 14), 0.7, "independent", 80_000),
    ((14, 14), 0.4, "independent", 40_000),  # one mask a partition: complementary ones are the same
    ((10, 20), 0.72, "complementary", 20_000),
    ((10, 20), 0.72, "independent", 80_000),
    ((64, 8), 0.8, "complementary", 10_000),
    ((64, 8), 0.8, "independent", 40_000),
]
SPREAD = 2000  # masks that the spread is measured of


def masks_of(sampler: smnoise.OptimBlue, samples: torch.Tensor, alike: bool) -> smnoise.MaskBatch:
    """alike: all places are, so that a swap may take any token of the rest."""
    spec = sampler.spec
    rings = np.zeros_like(spec.ring) if alike else spec.ring
    plan = blue_plan_of(spec, spec.stamp.ctypes.data, rings.ctypes.data, 0, spec.table.ctypes.data)
    masks = cpu.Masks("optim_blue", spec, ("mask", "ids_keep"))
    masks.use(plan)
    return smnoise.MaskBatch(*masks(sampler.seed, samples, 0, len(samples)), spec.grid, spec.visible)


def regions(height: int, width: int) -> dict[str, torch.Tensor]:
    """Which tokens, bool [L]; the border without its corners."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    across, down = (y == 0) | (y == height - 1), (x == 0) | (x == width - 1)
    parts = {"corners": across & down, "border": across ^ down, "inside": ~(across | down)}
    return {name: part.flatten() for name, part in parts.items()}


def energy(sampler: smnoise.OptimBlue, masks: smnoise.MaskBatch) -> float:
    """Crowding of the pairs of visible tokens, the mean of a mask."""
    spec = sampler.spec
    weights = spec.table.flat[spec.centre + spec.base[None, :] - spec.base[:, None]]
    shown = (~masks.need("mask")).double()
    return ((shown @ torch.from_numpy(weights).double()) * shown).sum().item() / 2 / len(shown)


def measure(sampler: smnoise.OptimBlue, partitions: int, alike: bool) -> dict:
    rows = partitions * (sampler.num_masks if sampler.masks == "complementary" else 1)
    seen = torch.zeros(sampler.num_tokens, dtype=torch.float64)
    for samples in torch.arange(rows).split(6000):
        seen += (~masks_of(sampler, samples, alike).need("mask")).sum(0)
    seen /= seen.mean()
    masks = masks_of(sampler, torch.arange(SPREAD), alike)
    found = spread(masks)
    return {
        **{name: seen[part].mean().item() for name, part in regions(*sampler.grid[1:]).items()},
        "least": seen.min().item(),
        "most": seen.max().item(),
        **{name: getattr(found, name) for name in ("nearest", "touching8", "void")},
        "energy": energy(sampler, masks),
    }


def main() -> None:
    rows = []
    for grid, ratio, masks, partitions in CASES:
        sampler = smnoise.OptimBlue(grid, ratio, masks=masks)
        # A partition shows a token with that chance.
        share = sampler.visible_per_sample / sampler.num_tokens
        share *= sampler.num_masks if masks == "complementary" else 1
        row = {
            **{"grid": grid, "mask_ratio": ratio, "masks": masks, "partitions": partitions},
            **{"K": sampler.num_masks, "rest": sampler.rest},
            "standard error of a token": ((1 - share) / share / partitions) ** 0.5,
            "without": measure(sampler, partitions, True),
            "with": measure(sampler, partitions, False),
        }
        rows.append(json.loads(json.dumps(row), parse_float=lambda s: round(float(s), 4)))
        print(json.dumps(rows[-1]), flush=True)
    write_text(PATH, json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
