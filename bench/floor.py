# SPDX-License-Identifier: Apache-2.0
"""Counts the arithmetic of one mask (csrc/color_block.h), and what it would take at the peak of a GPU.

python bench/floor.py
"""

from __future__ import annotations

from statistics import mean

from smnoise import Green3D, reference
from smnoise.spec import ColorSpec, tables

# Per SM and clock, H100 and H200: 128 float operations (no fused ones, by contract), 64 integer products; both kinds
# share issue slots. A Philox call is 10 rounds of two 32x32 -> 64 products, each counted as two.
FLOATS, PRODUCTS, PHILOX = 128, 64, 40
SMS, CLOCK = 132, 1.98e9


def counts(spec: ColorSpec) -> tuple[float, float]:
    """Mean (Philox calls, float operations) of a mask of a two-sigma colour, over all draws of its sigmas."""
    t = tables(spec)
    grid_t, grid_y, grid_x = spec.grid
    wrap = spec.boundary == "wrap"
    calls, floats = [], []
    for i in range(reference.BANK):
        for j in range(int(t.first[i]), reference.BANK):
            narrow, wide = t.radius[0, i], t.radius[1, j]
            halo = [0, 0, 0] if wrap else [int(r) for r in wide]
            depth, rows = grid_t + 2 * halo[0], grid_y + 2 * halo[1]
            columns = (spec.origin[2] - halo[2]) % 8 + grid_x + 2 * halo[2]
            calls.append(depth * rows * -(-columns // 8))
            inset = [0, 0, 0] if wrap else [int(b - a) for a, b in zip(narrow, wide, strict=True)]
            along_x = depth * rows * grid_x * (2 + 3 * int(wide[2]) + 2 * int(narrow[2]))  # sums are shared
            along_y = sum(
                (depth - 2 * off) * grid_y * grid_x * (1 + 3 * int(r[1]))
                for r, off in ((wide, 0), (narrow, inset[0]))
            )
            along_t = grid_t * grid_y * grid_x * (2 + 3 * int(wide[0]) + 3 * int(narrow[0]))
            floats.append(along_x + along_y + along_t)
    return mean(calls), mean(floats)


def floor_cycles(spec: ColorSpec) -> float:
    """SM-cycles of a mask if every pipe were always full."""
    calls, floats = counts(spec)
    return max((floats + PHILOX * calls) / FLOATS, PHILOX * calls / PRODUCTS)


def floor_seconds(spec: ColorSpec, batch: int, sms: int = SMS, clock: float = CLOCK) -> float:
    return batch * floor_cycles(spec) / (sms * clock)


def main() -> None:
    for boundary in ("field", "wrap"):
        spec = Green3D((8, 14, 14), 0.9, boundary=boundary).spec
        calls, floats = counts(spec)
        print(
            f"{boundary}: {calls:.0f} Philox calls, {floats:.0f} float operations, {floor_cycles(spec):.0f} SM-cycles; "
            f"batch 1024 on {SMS} SMs at {CLOCK / 1e9} GHz: {1e6 * floor_seconds(spec, 1024):.1f} us"
        )


if __name__ == "__main__":
    main()
