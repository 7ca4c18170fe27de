# SPDX-License-Identifier: Apache-2.0
"""The Triton backend: kernels/, on any GPU that torch and Triton know; or, for tests, in Triton's interpreter.

With TRITON_INTERPRET=1 set before smnoise is imported, it runs on CPU tensors, thousands of times slower.
"""

from __future__ import annotations

import os
from functools import lru_cache

import torch

from ..spec import ColorSpec, tables
from .outputs import allocate

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICES = ("cpu",) if INTERPRETED else ("cuda",)


@lru_cache(maxsize=1)
def why_not() -> str | None:
    if not INTERPRETED and not torch.cuda.is_available():
        return "torch sees no GPU"
    try:
        import triton  # noqa: F401
    except ImportError as error:
        return f"needs Triton 3.6 or later: pip install triton ({error})"
    return None


@lru_cache(maxsize=256)
def _tables(spec: ColorSpec, device: torch.device) -> tuple[torch.Tensor | None, ...]:
    t = tables(spec)
    return tuple(None if a is None else torch.from_numpy(a).to(device) for a in (t.taps, t.radius, t.first))


def color_noise(seed: torch.Tensor, samples: torch.Tensor, spec: ColorSpec) -> torch.Tensor:
    from ..kernels import color

    if not len(samples):
        return torch.empty(0, *spec.grid, dtype=torch.float32, device=samples.device)
    with torch.device(samples.device):
        return color.color_noise(seed, samples.contiguous(), spec, *_tables(spec, samples.device))


def color_mask(seed: torch.Tensor, samples: torch.Tensor, spec: ColorSpec, wanted) -> dict:
    scores = color_noise(seed, samples, spec).flatten(1)
    return threshold(scores, spec.visible, spec.groups, wanted)


def threshold(scores: torch.Tensor, visible: int, groups: int, wanted) -> dict:
    from ..kernels import threshold as kernels

    scores = scores.contiguous()
    batch, tokens = scores.shape
    outputs = allocate(batch, tokens, groups * visible, wanted, scores.device)
    if batch and outputs:
        kernels.threshold(scores, visible, groups, outputs)
    return outputs
