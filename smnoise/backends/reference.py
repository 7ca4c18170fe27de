# SPDX-License-Identifier: Apache-2.0
"""The NumPy contract as a backend: torch tensors in and out, a Python loop over samples."""

from __future__ import annotations

import torch

from .. import reference
from ..spec import ColorSpec, OptimBlueSpec
from .outputs import allocate

DEVICES = ("cpu",)
philox = reference.philox
white = reference.white
draw_sigmas = reference.draw_sigmas


def why_not() -> str | None:
    return None


def color_noise(seed: torch.Tensor, samples: torch.Tensor, spec: ColorSpec) -> torch.Tensor:
    noise = torch.empty(len(samples), *spec.grid, dtype=torch.float32, device="cpu")
    for row, sample in zip(noise, samples.tolist(), strict=True):
        row[:] = torch.from_numpy(reference.color_noise(int(seed) & 2**64 - 1, sample, spec))
    return noise


def color_mask(seed: torch.Tensor, samples: torch.Tensor, spec: ColorSpec, wanted) -> dict:
    scores = color_noise(seed, samples, spec).flatten(1)
    return threshold(scores, spec.visible, spec.groups, wanted)


def threshold(scores: torch.Tensor, visible: int, groups: int, wanted) -> dict:
    batch, tokens = scores.shape
    outputs = allocate(batch, tokens, groups * visible, wanted)
    for i, row in enumerate(scores.detach().numpy()):
        result = reference.threshold(row.reshape(groups, -1), visible)
        for name, tensor in outputs.items():
            tensor[i] = torch.from_numpy(getattr(result, name))
    return outputs


def gaussian_filter(volume: torch.Tensor, taps, radius: tuple[int, int, int], wrap: bool) -> torch.Tensor:
    v = volume.detach().numpy()
    for axis in (2, 1, 0):  # x, y, t
        v = reference.filter_axis(v, taps[axis, : radius[axis] + 1], axis + 1, wrap)
    return torch.from_numpy(v.copy())


def optim_blue(seed: torch.Tensor, samples: torch.Tensor, spec: OptimBlueSpec, wanted) -> dict:
    outputs = allocate(len(samples) * spec.rows_per_sample, spec.tokens, spec.visible, wanted)
    row, known = 0, None
    for sample in samples.tolist():
        number, labels = reference.masks_of(sample, spec)
        if number != known:
            known, label = number, reference.partition(int(seed) & 2**64 - 1, number, spec)
        for k in labels:
            result = reference.outputs_of(label != k)
            for name, tensor in outputs.items():
                tensor[row] = torch.from_numpy(getattr(result, name))
            row += 1
    return outputs
