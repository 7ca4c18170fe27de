# SPDX-License-Identifier: Apache-2.0
"""How a block of threads fits a sample into its shared memory (csrc/color_block.h).

The whole grid at once where it fits, with the scores beside it: one launch does everything. Else the grid is cut
into tiles, along y first, since a tile makes its own halo of noise and x is the cheapest axis to keep whole. Where
even the scores do not fit, each tile goes to a block of its own and its scores to global memory, and a second
launch thresholds them.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

from ..spec import ColorSpec

SCRATCH_BYTES = 1024  # csrc/block.h
THREADS = 256  # csrc/kernels.cu
SHARED_BYTES = 99 * 1024  # what every GPU from sm_80 on gives a block, and two blocks of an H100 at once
TURING_BYTES = 64 * 1024  # what sm_75 gives one
TWO_BLOCKS_BYTES = 81 * 1024  # what lets two blocks run on a multiprocessor of sm_80
# Where just one block of a field fits a multiprocessor, and so has more threads.
SMALL_MULTIPROCESSORS, SMALL_MULTIPROCESSOR_BYTES = (86, 89, 120), 100 * 1024
RESERVED_BYTES = 1024  # of each block's shared memory
SLICES = (4, 2, 1)
# csrc/clip_block.h: tokens along y and x, a run along t, floats of a line, and the largest radius
CLIP_SIDE, CLIP_STEPS, CLIP_LINE, CLIP_LINE_OF_TORUS, CLIP_RADIUS = 14, 8, 50, 30, 12
CLIP_SLICES = (4, 3, 2)


class Layout(NamedTuple):
    """Mirrors smn_layout of csrc/plan.h."""

    threads: int
    torus: bool
    tile: tuple[int, int, int]
    slices: int
    halo: tuple[tuple[int, int, int], tuple[int, int, int]]
    pitch: int
    clip: bool
    fused: bool
    bytes: int

    def tiles(self, grid: tuple[int, int, int]) -> int:
        return math.prod(-(-n // tile) for n, tile in zip(grid, self.tile, strict=True))

    def kernel(self, spec: ColorSpec) -> str:
        """Its name in csrc/kernels.cu."""
        return (
            f"{'clip' if self.clip else 'color'}_{'torus' if self.torus else 'window'}_"
            f"{'two' if spec.two_sigmas else 'one'}"
        )


@lru_cache(maxsize=256)
def layout(
    spec: ColorSpec, taps_stride: int, shared_bytes: int = SHARED_BYTES, architecture: int = 90
) -> Layout:
    """The best layout that fits, on that architecture. Raises ValueError where not even a token with its halo does."""
    if (clip := _clip(spec, taps_stride, shared_bytes)) is not None:
        alone = 2 * (clip.bytes + RESERVED_BYTES) > SMALL_MULTIPROCESSOR_BYTES
        return clip._replace(threads=2 * THREADS) if alone and architecture in SMALL_MULTIPROCESSORS else clip
    best = None
    for tile in _tiles(spec.grid):
        for slices in SLICES:
            for fused in (True, False):
                candidate = _layout(spec, tile, slices, fused, taps_stride)
                if candidate.bytes <= shared_bytes:
                    if fused:
                        return candidate
                    best = best or candidate
    if best is None:
        raise ValueError(
            f"filter radii {spec.max_radius} need {candidate.bytes} bytes of shared memory for a single token; "
            f"{shared_bytes} are supported: lower sigma or truncate, or make these masks on the CPU"
        )
    return best


def _clip(spec: ColorSpec, taps_stride: int, shared_bytes: int) -> Layout | None:
    """Of csrc/clip_block.h: for two blocks a multiprocessor of sm_80 if it can be; None where that has nothing."""
    steps, *side = spec.grid
    torus = spec.boundary == "wrap"
    if spec.color == "white" or side != [CLIP_SIDE, CLIP_SIDE] or steps % CLIP_STEPS:
        return None
    if torus and steps > 2 * CLIP_STEPS:
        return None
    banks = range(2 if spec.two_sigmas else 1)
    first, second = ((0, 0, 0) if torus or b not in banks else spec.radius_of(b) for b in (0, 1))
    wide = (first, second)[len(banks) - 1]
    if max(max(spec.radius_of(b)) for b in banks) > CLIP_RADIUS:
        return None
    plane = CLIP_SIDE * CLIP_SIDE
    candidates = []
    for slices in (steps,) if torus else CLIP_SLICES:
        if torus:
            floats = steps * CLIP_SIDE * CLIP_LINE_OF_TORUS + steps * plane
        else:
            floats = max(slices * (CLIP_SIDE + 2 * wide[1]) * CLIP_LINE, steps * plane)
            floats += sum((steps + 2 * (first, second)[b][0]) * plane for b in banks)
        size = SCRATCH_BYTES + 4 * (6 * taps_stride + floats)
        pitch = CLIP_LINE_OF_TORUS if torus else CLIP_LINE
        candidates.append(Layout(THREADS, torus, spec.grid, slices, (first, second), pitch, True, True, size))
    for limit in (TWO_BLOCKS_BYTES, shared_bytes):
        for candidate in candidates:
            if candidate.bytes <= min(limit, shared_bytes):
                return candidate
    return None


def _tiles(grid: tuple[int, int, int]):
    """The whole grid, then ever smaller tiles: y is halved first, then x, then t."""
    t, y, x = grid
    yield grid
    for axis in (1, 2, 0):
        while (t, y, x)[axis] > 1:
            t, y, x = (-(-n // 2) if i == axis else n for i, n in enumerate((t, y, x)))
            yield t, y, x


def _layout(spec: ColorSpec, tile, slices: int, fused: bool, taps_stride: int) -> Layout:
    filters = 0 if spec.color == "white" else 2 if spec.two_sigmas else 1
    torus = spec.boundary == "wrap" and tile == spec.grid
    first, second = ((0, 0, 0) if torus or bank >= filters else spec.radius_of(bank) for bank in (0, 1))
    halo = first, second
    wide = halo[filters == 2]
    rows = tile[1] + 2 * wide[1]
    pitch = -(-(tile[2] + 2 * wide[2] + 7) // 8) * 8 + 1
    floats = math.prod(spec.grid) if fused else 0
    if filters:
        slices = min(slices, tile[0] + 2 * wide[0])
        floats += 6 * taps_stride + slices * rows * (pitch + filters * (tile[2] | 1))
        floats += sum((tile[0] + 2 * halo[b][0]) * tile[1] * tile[2] for b in range(filters))
    return Layout(THREADS, torus, tile, slices, halo, pitch, False, fused, SCRATCH_BYTES + 4 * floats)
