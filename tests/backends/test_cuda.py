# SPDX-License-Identifier: Apache-2.0
"""What only a GPU can show: capture and replay, streams, no waiting. (Equal bits are tested where the others' are.)"""

import threading

import numpy as np
import pytest
import torch
from targets import Target, skip_without

from smnoise import BackendError, Green3D, MaskStream, OptimBlue, ops, strategy
from smnoise.backends.outputs import NAMES

SAMPLER = Green3D((4, 7, 9), 0.9)
LARGE = Green3D((16, 40, 40), 0.9)  # its scores do not fit into shared memory: two launches
BLUE = OptimBlue((16, 8), 0.8)
TUBE = strategy("green-2d-tube", (4, 7, 9), 0.9)
BLOCK = strategy("block", (4, 7, 9), 0.5)
LARGE_BLOCK = strategy("block", (4, 128, 128), 0.5)  # its scores do not fit into shared memory
LARGE_BLUE = OptimBlue((64, 64), 0.95, steps=20)  # its arrays do not fit into shared memory


@pytest.fixture(params=["cuda", "triton"])
def gpu(request) -> str:
    """The name of a GPU backend."""
    skip_without(request.config, "cuda", Target(request.param, device="cuda").why_not())
    return request.param


def want(sampler, step, batch_size=8):
    return sampler(batch_size=batch_size, step=step)


@pytest.mark.parametrize(
    "sampler",
    [SAMPLER, LARGE, BLUE, TUBE, BLOCK, LARGE_BLOCK],
    ids=["fused", "two launches", "Optim Blue", "tube", "block", "large block"],
)
def test_replays_of_a_captured_graph_give_the_next_masks(gpu, sampler):
    stream = MaskStream(sampler, 8, device="cuda", backend=gpu)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        masks = stream()
    for step in range(3):
        graph.replay()
        for name in NAMES:
            assert torch.equal(getattr(masks, name).cpu(), getattr(want(sampler, step), name)), (name, step)


def test_a_graph_goes_on_with_the_batch_that_it_is_told(gpu):
    stream = MaskStream(SAMPLER, 8, device="cuda", backend=gpu)
    out = SAMPLER(batch_size=8, step=0, device="cuda", backend=gpu)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        SAMPLER(stream.samples, backend=gpu, out=out)
        stream()
    for step in (0, 1):
        graph.replay()
        assert torch.equal(out.ids_restore.cpu(), want(SAMPLER, step).ids_restore)
    stream.step = 7
    graph.replay()
    assert torch.equal(out.ids_restore.cpu(), want(SAMPLER, 7).ids_restore)
    assert stream.state_dict() == {"step": 8}


def test_masks_made_ahead(gpu):
    """Each is taken while a kernel before it still runs, and read after that."""
    stream = MaskStream(SAMPLER, 8, device="cuda", backend=gpu, ahead=1)
    taken = []
    for _ in range(4):
        torch.cuda._sleep(10_000_000)
        taken.append(stream().mask.clone())
    for step, mask in enumerate(taken):
        assert torch.equal(mask.cpu(), want(SAMPLER, step).mask)
    assert stream.step == 4
    with pytest.raises(BackendError, match="ahead=1"), torch.cuda.graph(torch.cuda.CUDAGraph()):
        stream()


def test_a_sampler_that_was_never_called_cannot_be_captured(gpu):
    fresh = Green3D((3, 5, 11), 0.9, sigma1=(0.41, 1.43))
    samples, seed = torch.arange(4, device="cuda"), torch.zeros((), dtype=torch.int64, device="cuda")
    with pytest.raises(BackendError, match="before capture"), torch.cuda.graph(torch.cuda.CUDAGraph()):
        fresh(samples, seed=seed, backend=gpu)


def test_what_a_sampler_keeps_is_not_in_the_pool_that_is_in_use(gpu):
    """As when a compiled function warms up, whose pool is taken back."""
    fresh = Green3D((3, 5, 13), 0.9, sigma1=(0.42, 1.44))
    pool = torch.cuda.MemPool()
    with torch.cuda.use_mem_pool(pool):
        masks = fresh(batch_size=8, step=0, device="cuda", backend=gpu)
    assert torch.equal(masks.mask.cpu(), want(fresh, 0).mask)
    del masks, pool
    torch.cuda.empty_cache()
    others = [torch.full((1 << 20,), 77, dtype=torch.int32, device="cuda") for _ in range(16)]
    assert torch.equal(
        fresh(batch_size=8, step=1, device="cuda", backend=gpu).mask.cpu(), want(fresh, 1).mask
    )
    assert others[0][0] == 77


def test_on_a_side_stream(gpu):
    SAMPLER([0], device="cuda", backend=gpu)
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        samples = torch.arange(64, device="cuda")
        torch.cuda._sleep(10_000_000)
        samples.add_(5)  # the kernel must wait for this, in its stream
        masks = SAMPLER(samples, backend=gpu)
    side.synchronize()
    assert torch.equal(masks.mask.cpu(), SAMPLER(range(5, 69)).mask)


@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
@pytest.mark.parametrize(
    "sampler", [SAMPLER, BLUE, TUBE, BLOCK], ids=["colour", "Optim Blue", "tube", "block"]
)
def test_nothing_waits_for_the_device(gpu, sampler):
    stream = MaskStream(sampler, 8, device="cuda", backend=gpu)
    try:
        torch.cuda.set_sync_debug_mode("error")
        masks = [stream() for _ in range(3)]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(masks[2].mask.cpu(), want(sampler, 2).mask)


def test_compiled(gpu):
    torch._dynamo.reset()
    stream = MaskStream(SAMPLER, 8, device="cuda", backend=gpu)

    @torch.compile(fullgraph=True)
    def train():
        return stream().mask.float() * 2

    for step in range(3):
        assert torch.equal(train().cpu(), want(SAMPLER, step).mask.float() * 2)


def test_reduce_overhead_keeps_its_graphs(gpu):
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    stream = MaskStream(SAMPLER, 8, device="cuda", backend=gpu)

    @torch.compile(mode="reduce-overhead", fullgraph=True)
    def train():
        return stream().mask.float() * 2

    for step in range(5):  # warm-up, recording, replays
        torch.compiler.cudagraph_mark_step_begin()
        assert torch.equal(train().cpu(), want(SAMPLER, step).mask.float() * 2)
    assert torch._dynamo.utils.counters["inductor"]["cudagraph_skips"] == 0


def test_a_prepared_sampler_can_be_captured(gpu):
    fresh = Green3D((3, 5, 11), 0.9, sigma1=(0.42, 1.44))
    samples, seed = torch.arange(6, device="cuda"), torch.zeros((), dtype=torch.int64, device="cuda")
    fresh.prepare("cuda", backend=gpu)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        masks = fresh(samples, seed=seed, backend=gpu)
    graph.replay()
    assert torch.equal(masks.ids_restore.cpu(), fresh(range(6)).ids_restore)


def test_tables_are_none_of_the_memory_that_torch_may_take_back(gpu):
    if gpu != "cuda":
        pytest.skip("Triton's tables are tensors")
    from smnoise.backends import driver

    before = torch.cuda.memory_allocated()
    address = driver.upload(np.arange(1 << 20), torch.cuda.current_device())
    assert address
    assert torch.cuda.memory_allocated() == before


def test_large_batches_and_grids(gpu):
    for sampler, batch in ((SAMPLER, 5000), (LARGE, 40), (BLOCK, 5000), (LARGE_BLOCK, 40)):
        got = sampler(torch.arange(batch, device="cuda"), backend=gpu)
        assert torch.equal(got.ids_restore.cpu(), sampler(range(batch)).ids_restore)


def test_optim_blue_in_large_batches_and_beyond_shared_memory(gpu):
    got = BLUE(torch.arange(5000, device="cuda"), backend=gpu)
    assert torch.equal(got.ids_restore.cpu(), BLUE(range(5000)).ids_restore)
    if gpu == "cuda":
        got = LARGE_BLUE(torch.arange(700, device="cuda"), backend=gpu)
        assert torch.equal(got.ids_restore.cpu(), LARGE_BLUE(range(700)).ids_restore)


def test_random_words_in_a_captured_graph(gpu):
    seed, samples = torch.tensor(7, device="cuda"), torch.arange(700, device="cuda")
    ops.random_words(seed, samples, 5, 1001, gpu)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        words = ops.random_words(seed, samples, 5, 1001, gpu)
    samples.add_(9)
    graph.replay()
    assert torch.equal(words.cpu(), ops.random_words(seed.cpu(), samples.cpu(), 5, 1001))


def test_auto_is_the_cuda_kernel(gpu, monkeypatch):
    from smnoise import backends

    assert backends.choose("color_mask", "auto", "cuda").__module__ == "smnoise.backends.cuda"


def test_in_a_thread_that_has_not_used_the_gpu_before(gpu):
    samples, seed = torch.arange(8, device="cuda"), torch.zeros((), dtype=torch.int64, device="cuda")
    found = []
    thread = threading.Thread(
        target=lambda: found.append(SAMPLER(samples, seed=seed, backend=gpu).mask.cpu())
    )
    thread.start()
    thread.join()
    assert torch.equal(found[0], want(SAMPLER, 0).mask)


def test_a_small_sampler_after_a_large_one_leaves_the_large_one_its_memory(gpu):
    large, small = Green3D((8, 14, 14), 0.9), Green3D((2, 12, 12), 0.9)
    for sampler in (large, small, large):
        assert torch.equal(sampler([1], device="cuda", backend=gpu).mask.cpu(), sampler([1]).mask)
