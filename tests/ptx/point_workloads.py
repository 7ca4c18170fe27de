# SPDX-License-Identifier: Apache-2.0
"""What runs on the compiled kernels of rows of several lengths and of noise at points, as in workloads.py."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from importlib import import_module

import numpy as np
import torch

from smnoise.backends.outputs import NAMES
from smnoise.spec import ColorSpec

from .workloads import TABLE, WANTED, Case, _inputs, ties


def ragged(quick: bool) -> Iterator[Case]:
    """Rows whole, short, empty, shown whole and not at all; what no host could look at; ties; in some schedules."""
    g = np.random.default_rng(8)
    scores = g.standard_normal((6, 700)).astype(np.float32)
    lengths, visible = [700, 0, 1, 333, 333, 640], [200, 0, 1, 333, 0, 5]

    def case(name, scores, lengths, visible, keep, hide, wanted=NAMES, **more):
        tensors = (torch.from_numpy(scores), *(torch.tensor(v) for v in (lengths, visible)))
        run = lambda b: implementation_of(b, "ragged_threshold")(*tensors, keep, hide, wanted)  # noqa: E731
        return Case(name, run, **more)

    for i, wanted in enumerate(WANTED):
        yield case(f"ragged, {wanted}", scores, lengths, visible, 340, 640 + i, wanted)
    # Fewer threads: each has more keys, as of longer rows.
    yield case("ragged, one warp", scores[:5, :500], [500, 400, 200, 60, 450], [100, 90, 70, 20, 450], 450, 400,
               threads=32)  # fmt: skip
    mixed = g.permutation(ties(), axis=1)
    yield case("ragged ties", np.repeat(mixed, 2, axis=0), [1040, 500], [400, 400], 400, 640)
    coarse = np.round(scores[:4, :500])
    yield case("ragged ties, one warp", coarse, [500, 400, 200, 60], [100, 90, 70, 20], 450, 400, threads=32)
    for chance in range(3):
        yield case(f"ragged, hostile {chance}", scores[:2, :150], [150, 70], [40, 9], 40, 110, hostile=chance)


def points_of(spec: ColorSpec, number: int, places, table=None) -> Callable:
    seed, samples = _inputs(number, len(places))
    at = torch.tensor(places, dtype=torch.int32)
    return lambda b: {"noise": implementation_of(b, "noise_at")(seed, samples, at, spec, table)}


def noise_at(quick: bool) -> Iterator[Case]:
    """At lattice places, between them, with an axis that is not filtered; most radii are 2 and 3, which cost less."""
    small = {"sigma1": (0.4, 0.6), "sigma2": (0.7, 0.9), "truncate": 3.0}
    g = random.Random(4)
    for i, color in enumerate(("green", "red", "blue", "purple", "white")):
        places = [[[g.randrange(-400, 400) for _ in range(3)] for _ in range(2)] for _ in range(2)]
        places[0][0] = [16 * v for v in (-3, 7, 0)]
        for more in ({}, {"anisotropy": (1.0, 0.5, 0.0)}):
            spec = ColorSpec(color, (1, 1, 2), 1, **small, **more)
            yield Case(f"{color} at points, {more}", points_of(spec, i, places))
    far = [[[(1 << 23) - 1, -(1 << 19), (1 << 22) - 1]]]
    spec = ColorSpec("green", (1, 1, 2), 1, **small)
    yield Case("green at far points, a table of sigmas", points_of(spec, 2, far, TABLE))
    # Loops over an axis are unrolled: eight and sixteen rows at a time for compute_100.
    wide = ColorSpec("green", (1, 1, 2), 1, sigma1=(1.9, 1.9), sigma2=(2.2, 2.2))
    yield Case("green of radii 8 and 9 at a point", points_of(wide, 3, [[[5, -9, 100]]]))
    yield Case("green of radii 8 and 9 at a place", points_of(wide, 3, [[[48, -32, 16]]]))
    yield Case(
        "green at points, hostile", points_of(ColorSpec("red", (1, 1, 2), 1, **small), 1, far), hostile=1
    )


def implementation_of(backend, op: str) -> Callable:
    """The function of a backend's module for an op, which may be in a module beside it."""
    module = backend if hasattr(backend, op) else import_module(f"{backend.__name__}_{op}")
    return getattr(module, op)


GROUPS: dict[str, tuple[Callable[[bool], Iterator[Case]], tuple[str, ...]]] = {
    "ragged": (ragged, ("ragged_threshold",)),
    "noise_at": (noise_at, ("noise_at",)),
}
