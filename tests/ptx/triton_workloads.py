# SPDX-License-Identifier: Apache-2.0
"""What runs on the compiled Triton kernels: the masks of workloads.py, and the training ops.

run_group is called in a process of its own (test_triton_kernels.py), where Triton compiles.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import torch

from smnoise.backends.layout import SHARED_BYTES, THREADS

from . import point_workloads, run, workloads
from .counts import Counts
from .device import Device
from .workloads import Case

VIDEO = (2, 3, 4, 32, 32), (2, 16, 16)  # pixels, patch
SPECTROGRAM = (1, 1, 1, 32, 48), (1, 16, 16)
ODD = (2, 2, 3, 12, 15), (3, 4, 5)
TRAINING = ("gather_patches", "patch_loss", "decoder_tokens")


def _pixels(size, dtype, seed: int = 0) -> torch.Tensor:
    made = torch.randint(0, 256, size, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return made if dtype == torch.uint8 else made.float() / 50 - 2


def _ids(batch: int, tokens: int, picked: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(5)
    return torch.stack([torch.randint(0, tokens, (picked,), generator=g) for _ in range(batch)])


def _normal(*size, dtype=torch.float32) -> torch.Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(1)).to(dtype)


def _clips() -> Iterator[tuple]:
    """Pixels, ids, patch: of all sides and types, 1, 3 and 16 picked."""
    for (size, patch), picked in ((VIDEO, 3), (SPECTROGRAM, 1), (ODD, 16)):
        tokens = (size[2] // patch[0]) * (size[3] // patch[1]) * (size[4] // patch[2])
        for dtype in (torch.uint8, torch.float32):
            yield _pixels(size, dtype), _ids(size[0], tokens, picked), patch


def gather_patches(quick: bool) -> Iterator[Case]:
    for pixels, ids, patch in _clips():
        scale, shift = _normal(pixels.shape[1]), torch.linspace(-1, 1, pixels.shape[1])
        arguments = pixels, ids, patch, scale, shift
        yield Case(
            f"{tuple(pixels.shape)} {pixels.dtype}", lambda b, a=arguments: {"patches": b.gather_patches(*a)}
        )


def patch_loss(quick: bool) -> Iterator[Case]:
    """Cases whose sums may have another order: compared by run.close."""
    for i, (pixels, ids, patch) in enumerate(_clips()):
        values = pixels.shape[1] * patch[0] * patch[1] * patch[2]
        for j, (inside, normalise) in enumerate(((False, True), (True, True), (False, False))):
            if quick and (i + j) % 2:
                continue
            dtype = (torch.float32, torch.bfloat16, torch.float16)[(i + j) % 3]
            arguments = _normal(*ids.shape, values, dtype=dtype), pixels, ids, patch, 1e-6, inside, normalise
            name = f"{tuple(pixels.shape)} {pixels.dtype} {dtype} {inside} {normalise}"
            yield Case(f"loss, {name}", lambda b, a=arguments: b.patch_loss(*a))
            yield Case(
                f"gradient, {name}", lambda b, a=arguments: b.patch_loss_backward(torch.tensor(0.7), *a)
            )


def decoder_tokens(quick: bool) -> Iterator[Case]:
    sizes = ((384, 3, 5, torch.float32), (24, 1, 16, torch.bfloat16), (512, 16, 1, torch.float16))
    for width, kept, hidden, dtype in sizes:
        order = torch.stack(
            [torch.randperm(kept + hidden, generator=torch.Generator().manual_seed(i)) for i in (0, 1)]
        )
        for in_grid in (False, True):
            arguments = (
                _normal(2, kept, width, dtype=dtype), _normal(width, dtype=dtype), _normal(kept + hidden, width),
                order[:, :kept].contiguous(), order[:, kept:].contiguous(), in_grid,
            )  # fmt: skip
            yield Case(f"{width} {dtype} {in_grid}", lambda b, a=arguments: {"tokens": b.decoder_tokens(*a)})


def unknown_ids(backend) -> list[str]:
    """Nobody can refuse them without a wait: they come out as NaN, and nothing outside is read."""
    said = []
    for pixels, ids, patch in _clips():
        ids[0, 0], ids[-1, -1] = 2**40, -1
        bad = (ids == 2**40) | (ids == -1)
        channels, how = pixels.shape[1], (1e-6, False, True)
        prediction = _normal(*ids.shape, channels * patch[0] * patch[1] * patch[2])
        patches = backend.gather_patches(pixels, ids, patch, torch.ones(channels), torch.zeros(channels))
        gradient = backend.patch_loss_backward(torch.tensor(1.0), prediction, pixels, ids, patch, *how)
        for name, found in (("patches", patches.flatten(2)), ("gradients", gradient)):
            if not torch.equal(found.isnan().all(-1), bad) or not torch.equal(found.isnan().any(-1), bad):
                said.append(f"{name} of unknown ids are not NaN, or others are: {tuple(pixels.shape)}")
    return said


GROUPS = {name: cases for name, (cases, _) in (workloads.GROUPS | point_workloads.GROUPS).items()} | {
    "gather_patches": gather_patches, "patch_loss": patch_loss, "decoder_tokens": decoder_tokens,
}  # fmt: skip


@cache
def driver_of(architecture: int):
    from .triton_driver import install

    return install(architecture)


def run_group(group: str, architecture: int, quick: bool) -> tuple[list[str], dict[str, run.Reached], int]:
    """What is wrong, what was reached of each kernel, all its variants together, and how many cases ran."""
    from smnoise.backends import reference
    from smnoise.backends import triton as backend

    torch.set_num_threads(1)
    driver, counts, said, kernels, number = driver_of(architecture), Counts(), [], {}, 0
    for case in GROUPS[group](quick):
        if case.shared != SHARED_BYTES or case.workspace or case.threads != THREADS:
            continue  # about the CUDA kernels' memory and blocks
        device = Device(hostile=case.hostile)
        device.counts = counts
        driver.use(device)
        got, want = case.run(backend), case.run(reference)
        said += run.wrong(case.name, got, want, device, run.close if group == "patch_loss" else run.same)
        kernels |= device.kernels
        number += 1
    if group == "gather_patches":
        device = Device()
        device.counts = counts
        driver.use(device)
        said += unknown_ids(backend) + [str(fault) for fault in device.faults]
    loose = {n: k.code.loose[0].text for n, k in kernels.items() if k.code.loose and group not in TRAINING}
    said += [f"{name}: an assembler might fuse {text}" for name, text in loose.items()]
    return said, run.reached(counts, kernels.values()), number


def known_answers(architecture: int, quick: bool) -> list[str]:
    """Of the contract and its extensions, through smnoise.ops; quick: without the Optim Blue masks of 64 x 8."""
    from smnoise import conformance
    from smnoise.backends import triton as backend

    torch.set_num_threads(1)
    device = Device()
    driver_of(architecture).use(device)
    backend.DEVICES = ("cpu",)
    known = conformance.shipped()
    if quick:
        known["optim_blue"] = [e for e in known["optim_blue"] if e["grid"] == [7, 9]]
    failed = [r.entry for r in conformance.run(known, "triton") if not r.passed]
    return failed + [str(fault) for fault in device.faults]
