# SPDX-License-Identifier: Apache-2.0
"""What runs on the compiled kernels of clips with 14 x 14 tokens a time step, as in workloads.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from smnoise.backends.outputs import NAMES
from smnoise.spec import ColorSpec

from .workloads import GREEN, TABLE, WANTED, Case, _inputs, mask_of, noise_of, samples_of


def clips(quick: bool) -> Iterator[Case]:
    """Of the kernels for frames of 14 x 14 tokens."""
    one, far = samples_of(2**64 - 1), (3, -5, 2**18 + 13)
    for i, boundary in enumerate(("field", "wrap")):
        for j, color in enumerate(("red", "blue", "green", "purple")):
            spec = ColorSpec(color, (8, 14, 14), 157, boundary=boundary, origin=far if j % 2 else (0, 0, 0))
            yield Case(f"{color}, {boundary}", mask_of("color_mask", spec, i + j, WANTED[j], samples=one))
        # Rankings of all lengths that have code of their own, by both kernels.
        for color in ("red", "green") if quick else ("red", "blue", "green", "purple"):
            long = ColorSpec(color, (16, 14, 14), 314, boundary=boundary)
            yield Case(f"long {color}, {boundary}", mask_of("color_mask", long, i, samples=one))
            flat = {"anisotropy": (0, 1, 1), "sigma1": (0.3, 0.5), "sigma2": (2.9, 3.0), "boundary": boundary}
            frames = ColorSpec(color, (8, 14, 14), 20, per="frame", **flat)
            yield Case(f"frames, {color}, {boundary}", mask_of("color_mask", frames, i, samples=one))
            # Fewer threads make a ranking longer for each.
            run = mask_of(
                "color_mask", ColorSpec(color, (8, 14, 14), 157, boundary=boundary), i + 1, samples=one
            )
            yield Case(f"few warps, {color}, {boundary}", run, threads=64)
            # Nothing filtered, all scores of band-pass noise equal: ties of every length.
            for steps, threads in ((8, 256), (8, 64), (16, 256)):
                flat = ColorSpec(color, (steps, 14, 14), 157, boundary=boundary, truncate=0.01)
                run = mask_of("color_mask", flat, i, samples=one)
                yield Case(f"flat {color}, {boundary}, {steps} of {threads}", run, threads=threads)
            if boundary == "field":
                longest = ColorSpec(color, (24, 14, 14), 500)
                yield Case(f"longest {color}", mask_of("color_mask", longest, i, samples=one))
        if not quick:
            for chance in range(2):
                spec = ColorSpec("green", (8, 14, 14), 157, boundary=boundary)
                run = mask_of("color_mask", spec, chance, samples=one)
                yield Case(f"{boundary}, hostile {chance}", run, hostile=chance)
    for color, boundary in (("purple", "field"), ("blue", "wrap"), ("purple", "wrap"), ("red", "field")):
        yield Case(
            f"noise alone, {color}, {boundary}",
            noise_of(ColorSpec(color, (8, 14, 14), 1, boundary=boundary), 3),
        )
    yield Case("a table of sigmas", mask_of("color_mask", GREEN, 2, table=TABLE))
    places = torch.tensor([[2**40 + 3, -(2**16) - 9, 2**62]])
    moved = ColorSpec("green", (8, 14, 14), 157, origin=(-3, 2, 1))
    yield Case("origins", lambda b: b.color_mask(*_inputs(1, 1), moved, NAMES, None, places))


GROUPS: dict[str, tuple[Callable[[bool], Iterator[Case]], tuple[str, ...]]] = {
    "clips": (clips, ("clip_window_one", "clip_window_two", "clip_torus_one", "clip_torus_two")),
}
