# SPDX-License-Identifier: Apache-2.0
"""How an op is registered, and the checks that several ops share."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

import torch

from ..backends import choose
from ..backends.outputs import NAMES, allocate, wanted_outputs

ALL_OUTPUTS = ",".join(NAMES)
LIBRARY = torch.library.Library("smnoise", "DEF")


def register(schema: str, implementation, fake) -> None:
    """Define smnoise::<schema>. The implementation chooses the backend, so it serves every device."""
    name = schema.split("(", 1)[0]
    # Arguments before the first with a default, which every op has.
    required = schema.split("=", 1)[0].count(",")

    @wraps(implementation)
    def run(*args, **kw):
        if any(a is None for a in args[:required]):  # which torch lets through for a tensor
            raise TypeError(f"{schema}: an argument is None")
        return implementation(*args, **kw)

    LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
    for key in ("CPU", "CUDA", "MPS", "XPU"):  # of the last two `choose` says how masks get there
        LIBRARY.impl(name, run, key)
    torch.library.register_fake(f"smnoise::{name}", fake, lib=LIBRARY)


def register_masks(name: str, spec_type, shape: Callable[..., tuple[int, int, int]]) -> None:
    """Define an op that makes masks of (seed, samples, spec): smnoise::`name`, of which each backend has a function.

    spec_type: of `smnoise.spec`, which the op is given as JSON.
    shape: of a spec (rows of a sample, tokens of a row, visible tokens of a row).
    """

    def masks(seed, samples, spec, backend="auto", outputs=ALL_OUTPUTS):
        check_seed_and_samples(seed, samples)
        wanted = wanted_outputs(outputs)
        run = choose(name, backend, samples.device.type)
        return as_returned(run(seed, samples, spec_type.from_json(spec), wanted), samples.device)

    def fake(seed, samples, spec, backend="auto", outputs=ALL_OUTPUTS):
        check_seed_and_samples(seed, samples)
        rows, tokens, visible = shape(spec_type.from_json(spec))
        tensors = allocate(samples.shape[0] * rows, tokens, visible, wanted_outputs(outputs), samples.device)
        return as_returned(tensors, samples.device)

    register(
        f'{name}(Tensor seed, Tensor samples, str spec, str backend="auto", str outputs="{ALL_OUTPUTS}")'
        " -> (Tensor mask, Tensor ids_keep, Tensor ids_mask, Tensor ids_restore)",
        masks,
        fake,
    )


def as_returned(outputs: dict, device: torch.device) -> tuple[torch.Tensor, ...]:
    """Return all four outputs in order: mask, bool [B, L], and the ids, int64. An output that was not asked for has
    shape [0].
    """
    return tuple(
        outputs[n]
        if n in outputs
        else torch.empty(0, dtype=torch.bool if n == "mask" else torch.int64, device=device)
        for n in NAMES
    )


def check_scores(scores: torch.Tensor) -> None:
    """Raise TypeError or ValueError for scores that are not float32 [B, L]."""
    if scores.dtype != torch.float32:
        raise TypeError(f"scores must be float32, got {scores.dtype}; convert with scores.float()")
    if scores.dim() != 2:
        raise ValueError(f"scores must have shape [B, L], got {tuple(scores.shape)}")
    if scores.shape[1] > 2**31 - 2**16:
        raise ValueError(f"at most {2**31 - 2**16} tokens are supported, got {scores.shape[1]}")


def check_sigma_table(table: torch.Tensor | None, device: torch.device, values: bool) -> None:
    """Raise TypeError or ValueError for a table that is not int64 [31] on that device; None is fine.

    values: look at the numbers too, where no GPU must be waited for.
    """
    if table is None:
        return
    if table.dtype != torch.int64:
        raise TypeError(
            f"sigma_table must be an int64 tensor, got {table.dtype}; make one with smnoise.sigma_table"
        )
    if tuple(table.shape) != (31,):
        raise ValueError(
            f"sigma_table must have shape [31], got {tuple(table.shape)}; make one with smnoise.sigma_table"
        )
    if table.device != device:
        raise ValueError(
            f"sigma_table is on {table.device} but samples are on {device}; put both on one device"
        )
    if values and table.device.type == "cpu":
        numbers = table.tolist()
        if numbers != sorted(numbers) or numbers[0] < 0 or numbers[-1] > 2**32:
            raise ValueError(
                f"sigma_table must hold numbers of 0 .. 2^32 that never fall, got {numbers}; make one with "
                "smnoise.sigma_table"
            )


def check_origin(origin: torch.Tensor | None, samples: torch.Tensor, boundary: str) -> None:
    """Raise TypeError or ValueError for origins that are not int64 [B, 3] beside samples [B], on one device; None is
    fine.
    """
    if origin is None:
        return
    if boundary == "wrap":
        raise ValueError(
            'origin is for windows that continue each other, which each being a torus cannot; take boundary="field"'
        )
    if origin.dtype != torch.int64:
        raise TypeError(f"origin must be an int64 tensor, got {origin.dtype}; convert with origin.long()")
    if origin.dim() != 2 or origin.shape[1] != 3 or origin.shape[0] != samples.shape[0]:
        raise ValueError(
            f"origin must have shape [B, 3], (t, y, x) for each of {samples.shape[0]} samples; got "
            f"{tuple(origin.shape)}"
        )
    if origin.device != samples.device:
        raise ValueError(
            f"origin is on {origin.device} but samples are on {samples.device}; put both on one device"
        )


def given(**tensors: torch.Tensor | None) -> dict[str, torch.Tensor]:
    """Return the tensors, of any shape and dtype, that are not None."""
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}


def check_seed_and_samples(seed: torch.Tensor, samples: torch.Tensor) -> None:
    """Raise TypeError or ValueError for a seed that is not one int64, samples not int64 [B], or two devices."""
    for name, tensor in (("seed", seed), ("samples", samples)):
        if tensor.dtype != torch.int64:
            raise TypeError(
                f"{name} must be an int64 tensor, got {tensor.dtype}; convert with {name}.to(torch.int64)"
            )
    if seed.numel() != 1:
        raise ValueError(f"seed must have one element, got shape {tuple(seed.shape)}")
    if samples.dim() != 1:
        raise ValueError(f"samples must have shape [B], got {tuple(samples.shape)}")
    if seed.device != samples.device:
        raise ValueError(
            f"seed is on {seed.device} but samples are on {samples.device}; put both on one device"
        )
