# SPDX-License-Identifier: Apache-2.0
"""The Triton backend: kernels/, on any GPU that torch and Triton know; or, for tests, in Triton's interpreter.

With TRITON_INTERPRET=1 set before smnoise is imported, it runs on CPU tensors, thousands of times slower.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import numpy as np
import torch

from ..errors import BackendError
from ..spec import ColorSpec, OptimBlueSpec, StrategySpec, point_tables, signed64, tables
from . import once, outside_capture, outside_pools
from .outputs import allocate, filtered_shape, padded_outputs

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


def _upload(array: np.ndarray, device: torch.device) -> torch.Tensor:
    """A copy on a device; the same one for the same values."""
    return _uploaded(array.tobytes(), array.dtype.str, array.shape, device)


@once
def _uploaded(data: bytes, dtype: str, shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
    if device.type == "cuda":
        outside_capture("uploading the tables of a sampler")
    table = torch.from_numpy(np.frombuffer(bytearray(data), dtype).reshape(shape))
    return outside_pools(lambda: table.to(device))


@once
def _tables(spec: ColorSpec, device: torch.device) -> tuple[torch.Tensor | None, ...]:
    t = tables(spec)
    return tuple(None if a is None else _upload(a, device) for a in (t.taps, t.radius, t.first))


@contextmanager
def _on(device: torch.device) -> Iterator[None]:
    """Triton launches on the current device, whatever the tensors' own; and it compiles and loads at the first launch,
    which a capture does not allow. The interpreter's NumPy need not warn of floats that a GPU makes without a word."""
    if device.type != "cuda":
        with np.errstate(all="ignore"):
            yield
        return
    with torch.cuda.device(device):
        capturing = torch.cuda.is_current_stream_capturing()
        try:
            yield
        except BackendError:
            raise
        except RuntimeError as error:
            if not capturing:
                raise
            raise BackendError(
                f"backend triton could not launch in a CUDA graph ({error}): what it has not run before is compiled "
                "and loaded, which cannot be captured; make one batch of masks of this size before capture"
            ) from error


def color_noise(
    seed: torch.Tensor, samples: torch.Tensor, spec: ColorSpec, *given: torch.Tensor | None
) -> torch.Tensor:
    """given: tables of sigmas (extension 12), and of origins (13)."""
    from ..kernels import color

    if not len(samples):
        return torch.empty(0, *spec.grid, dtype=torch.float32, device=samples.device)
    with _on(samples.device):
        tables = _tables(spec, samples.device)
        own = (None if v is None else v.contiguous() for v in given)
        return color.color_noise(seed, samples.contiguous(), spec, *tables, *own)


def color_mask(
    seed: torch.Tensor, samples: torch.Tensor, spec: ColorSpec, wanted, *given: torch.Tensor | None
) -> dict:
    scores = color_noise(seed, samples, spec, *given).flatten(1)
    return threshold(scores, spec.visible, spec.groups, wanted)


def threshold(scores: torch.Tensor, visible: int, groups: int, wanted) -> dict:
    from ..kernels import threshold as kernels

    scores = scores.contiguous()
    batch, tokens = scores.shape
    outputs = allocate(batch, tokens, groups * visible, wanted, scores.device)
    if batch and outputs:
        with _on(scores.device):
            kernels.threshold(scores, visible, groups, outputs)
    return outputs


def add_bias(scores: torch.Tensor, bias: torch.Tensor, weight: float) -> torch.Tensor:
    from ..kernels import add_bias as kernels

    with _on(scores.device):
        return kernels.add_bias(scores.contiguous(), bias.contiguous(), weight)


def slot_threshold(scores: torch.Tensor, counts: tuple[int, ...], rank: torch.Tensor | None, wanted) -> dict:
    from ..kernels import threshold as kernels

    scores = scores.contiguous()
    batch, tokens = scores.shape
    outputs = allocate(batch, tokens, sum(counts), wanted, scores.device)
    table = _upload(np.array([counts], np.int32), scores.device)
    if batch and outputs:
        own = table if rank is None else table[0][rank.long()]
        with _on(scores.device):
            kernels.threshold(scores, sum(counts), len(counts), outputs, own)
    return outputs


def ragged_threshold(
    scores: torch.Tensor, lengths: torch.Tensor, visible: torch.Tensor, keep: int, hide: int, wanted
) -> dict:
    from ..kernels import ragged_threshold as kernels

    scores, lengths, visible = scores.contiguous(), lengths.contiguous(), visible.contiguous()
    batch, tokens = scores.shape
    outputs = padded_outputs(batch, tokens, keep, hide, wanted, scores.device)
    if len(scores) and outputs:
        with _on(scores.device):
            kernels.ragged_threshold(scores, lengths, visible, keep, hide, outputs)
    return outputs


@once
def _point_tables(spec: ColorSpec, device: torch.device) -> tuple[torch.Tensor | None, ...]:
    t = point_tables(spec)
    return tuple(None if a is None else _upload(a, device) for a in (t.taps, t.radius, t.first))


def noise_at(
    seed: torch.Tensor, samples: torch.Tensor, places: torch.Tensor, spec: ColorSpec, sigma_table=None
) -> torch.Tensor:
    from ..kernels import points

    with _on(samples.device):
        tables = _point_tables(spec, samples.device)
        table = None if sigma_table is None else sigma_table.contiguous()
        return points.noise_at(seed, samples.contiguous(), places.contiguous(), spec, *tables, table)


def gaussian_filter(volume: torch.Tensor, taps, radius: tuple[int, int, int], wrap: bool) -> torch.Tensor:
    from ..kernels import color

    if not volume.numel():
        return torch.empty(
            filtered_shape(volume.shape, radius, wrap), dtype=torch.float32, device=volume.device
        )
    if (values := volume[0].numel()) > color.MAX_VALUES:
        raise BackendError(
            f"backend triton filters volumes of up to {color.MAX_VALUES} values, got {values} in "
            f"{list(volume.shape[1:])}; use backend cuda, or cut the volume"
        )
    with _on(volume.device):
        weights = _upload(taps, volume.device), _upload(np.array(radius, np.int32), volume.device)
        v = color.gaussian_filter(volume, *weights)
    if wrap:
        return v
    # Away from its ends a torus is an ordinary volume.
    t, y, x = (slice(r, n - r) for r, n in zip(radius, volume.shape[1:], strict=True))
    return v[:, t, y, x].contiguous()


@once
def _blue_tables(spec: OptimBlueSpec, device: torch.device) -> tuple[torch.Tensor, ...]:
    return tuple(_upload(array, device) for array in (spec.table, spec.base, spec.ring))


def optim_blue(seed: torch.Tensor, samples: torch.Tensor, spec: OptimBlueSpec, wanted) -> dict:
    from ..kernels import optim_blue as kernels

    block, masks = kernels.sides(spec)
    if block > kernels.MAX_BLOCK or block * masks > kernels.MAX_NUMBERS:
        raise BackendError(
            f"backend triton keeps {spec.num_masks} masks of {spec.tokens} tokens in registers, both brought to a "
            f"power of two: at most {kernels.MAX_BLOCK} tokens and {kernels.MAX_NUMBERS} numbers fit; use backend cuda "
            "or cpu"
        )
    if not len(samples):
        return allocate(0, spec.tokens, spec.visible, wanted, samples.device)
    with _on(samples.device):
        tables = _blue_tables(spec, samples.device)
        scores = kernels.optim_blue(seed, samples.contiguous(), spec, *tables)
    return threshold(scores, spec.visible, 1, wanted)


@once
def _boxes(spec: StrategySpec, device: torch.device) -> tuple[torch.Tensor, ...]:
    return tuple(_upload(array, device) for array in spec.boxes)


def strategy_mask(seed: torch.Tensor, samples: torch.Tensor, spec: StrategySpec, wanted) -> dict:
    from ..kernels import strategy

    if not len(samples):
        return allocate(0, spec.tokens, spec.visible, wanted, samples.device)
    with _on(samples.device):
        boxes = _boxes(spec, samples.device)
        scores = strategy.strategy_scores(seed, samples.contiguous(), spec, *boxes)
    return threshold(scores, spec.visible, 1, wanted)


def random_words(seed: torch.Tensor, samples: torch.Tensor, purpose: int, count: int) -> torch.Tensor:
    from ..kernels import random

    with _on(samples.device):
        return random.random_words(seed, samples.contiguous(), purpose, count)


def gather_patches(pixels, ids, patch, scale, shift) -> torch.Tensor:
    from ..kernels import gather_patches as kernels

    with _on(pixels.device):
        return kernels.gather_patches(
            *(v.contiguous() for v in (pixels, ids)), patch, scale.contiguous(), shift.contiguous()
        )


def patch_loss(prediction, pixels, ids, patch, eps, eps_inside, normalise) -> torch.Tensor:
    from ..kernels import patch_loss as kernels

    sums = torch.empty(ids.numel(), dtype=torch.float32, device=ids.device)
    tensors = (v.contiguous() for v in (prediction, pixels, ids))
    with _on(pixels.device):
        kernels.run(*tensors, patch, eps, eps_inside, normalise, sums=sums)
    return (sums.double().sum() / prediction.numel()).float()


def patch_loss_backward(gradient, prediction, pixels, ids, patch, eps, eps_inside, normalise) -> torch.Tensor:
    from ..kernels import patch_loss as kernels

    out = torch.empty_like(prediction, memory_format=torch.contiguous_format)
    scale = (gradient.float() * (2 / prediction.numel())).reshape(1)
    tensors = (v.contiguous() for v in (prediction, pixels, ids))
    with _on(pixels.device):
        kernels.run(*tensors, patch, eps, eps_inside, normalise, scale=scale, gradient=out)
    return out


def decoder_tokens(visible, mask_token, positions, ids_keep, ids_mask, in_grid) -> torch.Tensor:
    from ..kernels import decoder_tokens as kernels

    tensors = (v.contiguous() for v in (visible, mask_token, positions, ids_keep, ids_mask))
    with _on(visible.device):
        return kernels.decoder_tokens(*tensors, in_grid)


def philox(counter: list[int], seed: int) -> list[int]:
    """Contract section 1, for the conformance check."""
    from ..kernels import random

    words = torch.tensor(counter, dtype=torch.int64, device=DEVICES[0])
    random.philox_kernel[(1,)](torch.tensor([signed64(seed)], device=DEVICES[0]), words)
    return words.tolist()


def draw_sigmas(
    seed: int, sample: int, first: list[int] | None, table: list[int] | None = None
) -> tuple[int, int]:
    """Contract section 3 and extension 12, for the conformance check."""
    from ..kernels import random

    key, samples = (torch.tensor([signed64(v)], device=DEVICES[0]) for v in (seed, sample))
    firsts = torch.tensor([0] if first is None else first, dtype=torch.int32, device=DEVICES[0])
    index = torch.empty(1, 2, dtype=torch.int32, device=DEVICES[0])
    entries = torch.tensor([0] if table is None else table, dtype=torch.int64, device=DEVICES[0])
    which = {"TWO": first is not None, "TABLE": table is not None}
    random.sigma_kernel[(1,)](key, samples, firsts, entries, index, 1, **which, BLOCK=16)
    i, j = index[0].tolist()
    return i, j
