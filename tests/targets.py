# SPDX-License-Identifier: Apache-2.0
"""Every (backend, device) that can run the ops, and what each must give."""

from __future__ import annotations

import os
from dataclasses import dataclass

import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before smnoise is imported: then its Triton kernels run on the CPU

from smnoise import backends, ops, reference
from smnoise.backends import cpu
from smnoise.backends.outputs import NAMES
from smnoise.spec import signed64


@dataclass(frozen=True)
class Target:
    """One way to run the ops. `isa` is an instruction set of the CPU backend."""

    backend: str
    device: str = "cpu"
    isa: str | None = None

    @property
    def name(self) -> str:
        return self.isa or self.backend

    def why_not(self) -> str | None:
        if self.device == "cuda" and not torch.cuda.is_available():
            return "no GPU"
        why = backends.reason(self.backend, "color_mask", self.device)
        if why is None and self.isa in cpu.ISAS and self.isa not in cpu.isas():
            why = f"this machine has no {self.isa}"
        return why

    def color_mask(self, spec, samples, seed: int = 0, **kw) -> dict[str, torch.Tensor]:
        results = ops.color_mask(*self.tensors(seed, samples), spec.to_json(), self.backend, **kw)
        return dict(zip(backends.outputs.NAMES, (r.cpu() for r in results), strict=True))

    def color_noise(self, spec, samples, seed: int = 0) -> torch.Tensor:
        return ops.color_noise(*self.tensors(seed, samples), spec.to_json(), self.backend).cpu()

    def optim_blue(self, spec, samples, seed: int = 0, **kw) -> dict[str, torch.Tensor]:
        results = ops.optim_blue(*self.tensors(seed, samples), spec.to_json(), self.backend, **kw)
        return dict(zip(backends.outputs.NAMES, (r.cpu() for r in results), strict=True))

    def strategy_mask(self, spec, samples, seed: int = 0, **kw) -> dict[str, torch.Tensor]:
        results = ops.strategy_mask(*self.tensors(seed, samples), spec.to_json(), self.backend, **kw)
        return dict(zip(backends.outputs.NAMES, (r.cpu() for r in results), strict=True))

    def random_words(self, purpose: int, count: int, samples, seed: int = 0) -> torch.Tensor:
        return ops.random_words(*self.tensors(seed, samples), purpose, count, self.backend).cpu()

    def threshold(self, scores, visible: int, groups: int = 1, **kw) -> dict[str, torch.Tensor]:
        results = ops.threshold(scores.to(self.device), visible, groups, self.backend, **kw)
        return dict(zip(backends.outputs.NAMES, (r.cpu() for r in results), strict=True))

    def tensors(self, seed: int, samples) -> tuple[torch.Tensor, torch.Tensor]:
        rows = [signed64(int(s)) for s in samples]
        return (
            torch.tensor(signed64(seed), device=self.device),
            torch.tensor(rows, dtype=torch.int64, device=self.device),
        )


TARGETS = [
    Target("reference"),
    *(Target("cpu", isa=isa) for isa in cpu.CODES),
    Target("cuda", device="cuda"),
    Target("triton", device="cuda" if torch.cuda.is_available() else "cpu"),
]


def skip_without(config, name: str, why: str | None) -> None:
    """Skip with the reason, if there is one; fail with it where --require names this."""
    if why and name in config.getoption("--require"):
        pytest.fail(f"{name} is required, but: {why}")
    if why:
        pytest.skip(why)


def assert_same_as_reference(target, spec, samples, seed=0):
    got, noise = target.color_mask(spec, samples, seed), target.color_noise(spec, samples, seed)
    for i, sample in enumerate(samples):
        field = reference.color_noise(seed, sample, spec)
        assert noise[i].numpy().tobytes() == field.tobytes(), f"noise of sample {sample}"
        want = reference.threshold(field.reshape(spec.groups, -1), spec.visible)
        for name in NAMES:
            assert torch.equal(got[name][i], torch.from_numpy(getattr(want, name))), f"{name} of {sample}"
