# SPDX-License-Identifier: Apache-2.0
"""The plain way as a backend: masks by the NumPy contract, a Python loop over samples; training ops in plain torch."""

from __future__ import annotations

import numpy as np
import torch

from .. import reference, reference_points
from ..spec import ColorSpec, OptimBlueSpec, StrategySpec
from .outputs import allocate, padded_outputs

DEVICES = ("cpu",)
philox = reference.philox
white = reference.white
draw_sigmas = reference.draw_sigmas


def why_not() -> str | None:
    return None


def color_noise(
    seed: torch.Tensor,
    samples: torch.Tensor,
    spec: ColorSpec,
    sigma_table: torch.Tensor | None = None,
    origin: torch.Tensor | None = None,
) -> torch.Tensor:
    noise = torch.empty(len(samples), *spec.grid, dtype=torch.float32, device="cpu")
    table = None if sigma_table is None else sigma_table.tolist()
    origins = [(0, 0, 0)] * len(samples) if origin is None else origin.tolist()
    for row, sample, place in zip(noise, samples.tolist(), origins, strict=True):
        found = reference.color_noise(int(seed) & 2**64 - 1, sample, spec, table=table, origin=place)
        row[:] = torch.from_numpy(found)
    return noise


def color_mask(
    seed: torch.Tensor, samples: torch.Tensor, spec: ColorSpec, wanted, *tables: torch.Tensor | None
) -> dict:
    scores = color_noise(seed, samples, spec, *tables).flatten(1)
    return threshold(scores, spec.visible, spec.groups, wanted)


def threshold(scores: torch.Tensor, visible: int, groups: int, wanted) -> dict:
    batch, tokens = scores.shape
    outputs = allocate(batch, tokens, groups * visible, wanted)
    for i, row in enumerate(scores.detach().numpy()):
        result = reference.threshold(row.reshape(groups, -1), visible)
        for name, tensor in outputs.items():
            tensor[i] = torch.from_numpy(getattr(result, name))
    return outputs


def add_bias(scores: torch.Tensor, bias: torch.Tensor, weight: float) -> torch.Tensor:
    return torch.from_numpy(reference.add_bias(scores.detach().numpy(), bias.detach().numpy(), weight))


def ragged_threshold(
    scores: torch.Tensor, lengths: torch.Tensor, visible: torch.Tensor, keep: int, hide: int, wanted
) -> dict:
    outputs = padded_outputs(len(scores), scores.shape[1], keep, hide, wanted)
    rows = zip(scores.detach().numpy(), lengths.tolist(), visible.tolist(), strict=True)
    for i, (row, length, count) in enumerate(rows):
        result = reference.ragged_threshold(row, length, count, keep, hide)
        for name, tensor in outputs.items():
            tensor[i] = torch.from_numpy(getattr(result, name))
    return outputs


def noise_at(seed, samples, places: torch.Tensor, spec: ColorSpec, sigma_table=None) -> torch.Tensor:
    table = None if sigma_table is None else sigma_table.tolist()
    points = (places.double() / reference_points.PHASES).numpy()
    rows = zip(samples.tolist(), points, strict=True)
    found = [reference_points.noise_at(int(seed) & 2**64 - 1, s, own, spec, table) for s, own in rows]
    return torch.from_numpy(np.array(found, np.float32).reshape(places.shape[:2]))


def slot_threshold(scores: torch.Tensor, counts: tuple[int, ...], rank: torch.Tensor | None, wanted) -> dict:
    batch, tokens = scores.shape
    outputs = allocate(batch, tokens, sum(counts), wanted)
    own = np.tile(np.array(counts), (batch, 1)) if rank is None else np.array(counts)[rank.numpy()]
    for i, row in enumerate(scores.detach().numpy()):
        result = reference.threshold(row.reshape(len(counts), -1), own[i])
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


def strategy_mask(seed: torch.Tensor, samples: torch.Tensor, spec: StrategySpec, wanted) -> dict:
    outputs = allocate(len(samples), spec.tokens, spec.visible, wanted)
    for i, sample in enumerate(samples.tolist()):
        result = reference.strategy_mask(int(seed) & 2**64 - 1, sample, spec)
        for name, tensor in outputs.items():
            tensor[i] = torch.from_numpy(getattr(result, name))
    return outputs


def random_words(seed: torch.Tensor, samples: torch.Tensor, purpose: int, count: int) -> torch.Tensor:
    out = torch.empty(len(samples), count, dtype=torch.int64, device="cpu")
    for row, sample in zip(out, samples.tolist(), strict=True):
        words = reference.random_words(int(seed) & 2**64 - 1, sample, purpose, count)
        row[:] = torch.from_numpy(words.astype("int64"))
    return out


def gather_patches(pixels, ids, patch, scale, shift) -> torch.Tensor:
    return _picked(pixels, ids, patch).float() * scale[:, None] + shift[:, None]


def _picked(pixels: torch.Tensor, ids: torch.Tensor, patch) -> torch.Tensor:
    """[B, N, C, P]: all patches cut first, then picked."""
    (b, c, *size), (t, h, w) = pixels.shape, patch
    grid = [n // p for n, p in zip(size, patch, strict=True)]
    x = pixels.reshape(b, c, grid[0], t, grid[1], h, grid[2], w)
    x = x.permute(0, 2, 4, 6, 1, 3, 5, 7).reshape(b, grid[0] * grid[1] * grid[2], c, t * h * w)
    return x.gather(1, ids[..., None, None].expand(-1, -1, *x.shape[2:]))


def _patch_errors(prediction, pixels, ids, patch, eps, eps_inside, normalise) -> torch.Tensor:
    target = _picked(pixels, ids, patch).float() / (255 if pixels.dtype == torch.uint8 else 1)
    if normalise:
        variance, mean = torch.var_mean(target, dim=-1, keepdim=True, correction=1)
        target = (target - mean) / ((variance + eps).sqrt() if eps_inside else variance.sqrt() + eps)
    return prediction.float() - target.transpose(-1, -2).flatten(2)


def patch_loss(prediction, pixels, ids, patch, eps, eps_inside, normalise) -> torch.Tensor:
    return _patch_errors(prediction, pixels, ids, patch, eps, eps_inside, normalise).square().mean()


def patch_loss_backward(gradient, prediction, pixels, ids, patch, eps, eps_inside, normalise) -> torch.Tensor:
    errors = _patch_errors(prediction, pixels, ids, patch, eps, eps_inside, normalise)
    return (2 / errors.numel() * gradient * errors).to(prediction.dtype)


def decoder_tokens(visible, mask_token, positions, ids_keep, ids_mask, in_grid) -> torch.Tensor:
    x = torch.cat([visible + positions[ids_keep], mask_token + positions[ids_mask]], dim=1).float()
    if not in_grid:
        return x
    return x.gather(1, torch.cat([ids_keep, ids_mask], dim=1).argsort(dim=1)[..., None].expand_as(x))
