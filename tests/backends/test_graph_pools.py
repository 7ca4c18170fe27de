# SPDX-License-Identifier: Apache-2.0
"""What the triton backend keeps on a device does not lie in the memory of a CUDA graph, which is taken back. Without a
GPU: as torch.cuda.use_mem_pool says, and a compiled function's warm-up does, what the thread allocates that uses a pool
comes from it, and what other threads allocate does not."""

import threading
import weakref
from contextlib import contextmanager

import pytest
import torch
from targets import Target, skip_without

from smnoise.backends import reference
from smnoise.backends import triton as backend
from smnoise.backends.outputs import NAMES
from smnoise.spec import ColorSpec, OptimBlueSpec, StrategySpec, tables


@pytest.fixture
def pool(monkeypatch):
    """pool(): a pool is in use within. Returns weak references to the tensors that came to lie in it."""
    real = torch.Tensor.to

    @contextmanager
    def using():
        user, inside = threading.get_ident(), []

        def to(tensor, *args, **more):
            made = real(tensor, *args, **more)
            if threading.get_ident() == user:
                inside.append(weakref.ref(made))
            return made

        with monkeypatch.context() as patch:
            patch.setattr(torch.Tensor, "to", to)
            yield inside

    return using


COLOR = ColorSpec("green", (1, 3, 4), 5, sigma1=(0.43, 1.45))
CALLS = {
    "color_mask": lambda b, *given: b.color_mask(*given, COLOR, NAMES),
    "optim_blue": lambda b, *given: b.optim_blue(*given, OptimBlueSpec((1, 5), 2, delta=2, steps=2), NAMES),
    "strategy_mask": lambda b, *given: b.strategy_mask(*given, StrategySpec("blocks", (1, 3, 4), 7), NAMES),
    "slot_threshold": lambda b, *given: b.slot_threshold(
        torch.arange(60.0).sin()[None], (7, 4, 19), None, NAMES
    ),
    "gaussian_filter": lambda b, *given: {
        "volume": b.gaussian_filter(
            torch.arange(60.0).cos().reshape(1, 3, 4, 5), tables(COLOR).taps[0, 2], (1, 1, 1), True
        )
    },
}


@pytest.mark.parametrize("op", CALLS)
def test_nothing_that_is_kept_lies_in_the_pool(op, pool, pytestconfig):
    skip_without(pytestconfig, "triton", Target("triton").why_not())
    given = torch.tensor(3), torch.tensor([5, 6])
    caches = backend._uploaded, backend._tables, backend._blue_tables, backend._boxes
    for cached in caches:
        cached.cache_clear()
    with pool() as inside:
        got = CALLS[op](backend, *given)
    assert backend._uploaded.cache_info().currsize > 0
    want = CALLS[op](reference, *given)
    assert all(torch.equal(got[name], want[name]) for name in want)
    del got
    assert not [ref for ref in inside if ref() is not None]


def test_what_is_kept_in_the_pool_is_seen(pool):
    table = torch.ones(3, dtype=torch.float64)
    with pool() as inside:
        kept, _ = table.to(torch.float32), table.to(torch.float16)
    del _
    assert [ref() is kept for ref in inside if ref() is not None] == [True]


def test_torch_s_compiled_functions_allocate_by_thread():
    """Else a thread would be no way out."""
    import inspect

    from torch._inductor import cudagraph_trees

    assert "_cuda_beginAllocateCurrentThreadToPool" in inspect.getsource(cudagraph_trees)
