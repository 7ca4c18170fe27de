# SPDX-License-Identifier: Apache-2.0
"""What C++ and the kernels are pointed to lives until the call is over, whatever other threads do to the caches."""

import gc
import sys
import threading
from contextlib import suppress

import numpy as np
import pytest
import torch

from smnoise import Green3D, OptimBlue, ops, strategy
from smnoise.backends import cpu
from smnoise.spec import ColorSpec, OptimBlueSpec, StrategySpec
from smnoise.spec.checks import Spec

SEED, SAMPLES = torch.tensor(3), torch.arange(6)
CLIPS = torch.randint(0, 256, (2, 3, 4, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
IDS = torch.tensor([[5, 0, 3], [1, 2, 7]])
WIDE = {"sigma1": (0.7, 1.9), "sigma2": (3.0, 5.0)}
CALLS = {
    "color_mask": (SEED, SAMPLES, ColorSpec("green", (4, 9, 9), 30, **WIDE).to_json()),
    "color_noise": (SEED, SAMPLES, ColorSpec("red", (4, 9, 9), 30, boundary="wrap").to_json()),
    "decoder_tokens": (torch.ones(2, 3, 5), torch.ones(5), torch.ones(9, 5), IDS, 8 - IDS, False),
    "gather_patches": (CLIPS, IDS, [2, 4, 4], torch.ones(3), torch.zeros(3)),
    "gaussian_filter": (torch.ones(2, 9, 9, 9), [0.7, 0.3, 0.5]),
    "optim_blue": (SEED, SAMPLES, OptimBlueSpec((1, 8, 8), 12, steps=8).to_json()),
    "patch_loss": (torch.ones(2, 3, 96), CLIPS, IDS, [2, 4, 4], 1e-6, False, True),
    "random_words": (SEED, SAMPLES, 5, 70),
    "strategy_mask": (SEED, SAMPLES, StrategySpec("blocks", (2, 9, 9), 70).to_json()),
    "threshold": (torch.rand(3, 200, generator=torch.Generator().manual_seed(0)), 4, 2),
}


def forget_everything() -> None:
    """What 257 other specs in other threads do, at its worst: no cache holds anything, and freed memory is used."""
    for name, module in list(sys.modules.items()):
        if name.startswith("smnoise"):
            for value in list(vars(module).values()):
                if hasattr(value, "cache_clear") and value is not cpu._load:
                    value.cache_clear()
    Spec.from_json.cache_clear()
    for spec in gc.get_objects():
        if issubclass(
            type(spec), Spec
        ):  # another thread may compute these at once, and its arrays take the place of ours
            for name, value in list(vars(spec).items()):
                if isinstance(value, (np.ndarray, tuple)) and name not in spec.__dataclass_fields__:
                    with suppress(KeyError):
                        del vars(spec)[name]
    gc.collect()


def take_freed_memory() -> list[np.ndarray]:
    """Arrays of every size up to a few hundred KiB, written over with zeros: tables of zeros give
    wrong masks, but do not crash."""
    sizes = [*range(16, 4096, 16), *range(4096, 400_000, 4096)]
    return [np.full(size, 0, np.uint8) for size in sizes for _ in range(4)]


class Forgetful:
    """The library, before each of whose calls everything is forgotten that nobody holds."""

    def __init__(self, library):
        self._library = library

    def __getattr__(self, name):
        function = getattr(self._library, name)

        def call(*arguments):
            forget_everything()
            taken = take_freed_memory()
            try:
                return function(*arguments)
            finally:
                del taken

        return call


@pytest.mark.parametrize("isa", ["portable", "block"])
@pytest.mark.parametrize("name", CALLS)
def test_what_a_call_points_to_outlives_every_cache(name, isa, monkeypatch):
    monkeypatch.setattr(cpu, "_forced_isa", isa)
    if isa == "block" and name in ("decoder_tokens", "gather_patches", "patch_loss"):
        pytest.skip("the block algorithms are those of masks")
    op = getattr(torch.ops.smnoise, name)
    want = op(*CALLS[name], backend="reference")
    ops.color_mask(*CALLS["color_mask"])  # checks the library, once
    forgetful = Forgetful(cpu._load()[0]), None
    monkeypatch.setattr(cpu, "why_not", lambda: None)
    monkeypatch.setattr(cpu, "_load", lambda: forgetful)
    got = op(*CALLS[name], backend="cpu")
    if isinstance(want, torch.Tensor):
        want, got = [want], [got]
    for w, g in zip(want, got, strict=True):
        assert torch.allclose(g, w, atol=1e-5) if name == "patch_loss" else torch.equal(g, w)


def test_threads_that_use_many_specs_do_not_disturb_each_other(one_thread):
    """One thread makes masks while others use more specs than any cache holds, and collect garbage."""
    samplers = {
        Green3D((16, 32, 32), 0.9, **WIDE): 2000,
        OptimBlue((32, 16), 0.8): 20,
        strategy("block", (8, 16, 16), 0.5): 1000,
    }
    want = {
        s: torch.cat([s(range(i, i + n // 10), outputs="mask").mask for i in range(0, n, n // 10)])
        for s, n in samplers.items()
    }
    others = [
        [Green3D((2, 4, 4), 0.5, boundary="wrap", origin=(i, 0, 0)) for i in range(520)],
        [OptimBlue((4, 4), 0.75, steps=i) for i in range(520)],
        [strategy("block", (1 + i % 5, 6 + i // 100, 6 + i // 5 % 20), 0.5) for i in range(520)],
    ]
    wrong: list[str] = []
    over = threading.Event()

    def use(mine, expected) -> None:
        while not over.is_set():
            wrong.extend(
                str(s) for s, e in zip(mine, expected, strict=True) if not torch.equal(s([7]).ids_keep, e)
            )
            gc.collect()

    for (sampler, n), mine in zip(samplers.items(), others, strict=True):
        over.clear()
        expected = [s([7]).ids_keep for s in mine]
        threads = [threading.Thread(target=use, args=(mine, expected)) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(2):
                bad = int((sampler(range(n), outputs="mask").mask != want[sampler]).any(dim=1).sum())
                wrong += [f"{bad} of {n} masks of {sampler}"] * bool(bad)
        finally:
            over.set()
            for thread in threads:
                thread.join()
    assert not wrong, wrong[:5]
