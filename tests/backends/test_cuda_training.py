# SPDX-License-Identifier: Apache-2.0
"""On a GPU: whole training steps, compiled, captured and over NCCL. (Their numbers: test_training_dtypes.py.)"""

import copy

import pytest
import torch
from targets import Target, skip_without

from smnoise import Green3D, MaskStream
from smnoise.models.videomae import VideoMAE

GRID = (4, 4, 4)


@pytest.fixture(params=["cuda", "triton"])
def gpu(request) -> str:
    """The name of a GPU backend."""
    skip_without(request.config, "cuda", Target(request.param, device="cuda").why_not())
    return request.param


@pytest.fixture
def any_gpu(request) -> None:
    skip_without(request.config, "cuda", None if torch.cuda.is_available() else "no GPU")


def video_model() -> VideoMAE:
    torch.manual_seed(0)
    return VideoMAE("nano", GRID, tubelet=2, patch=8)


def clips(count: int = 4) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, 8, 32, 32), dtype=torch.uint8, generator=torch.manual_seed(1))


class TestReduceOverhead:
    def test_masks_are_new_in_every_step_and_no_graph_is_skipped(self, gpu):
        from torch._dynamo.utils import counters

        torch._dynamo.reset()
        counters.clear()
        sampler = Green3D(GRID, 0.75)
        stream = MaskStream(sampler, 4, device="cuda", backend=gpu)
        sampler([0], device="cuda", backend=gpu)  # tables and kernels before anything is captured

        @torch.compile(fullgraph=True, mode="reduce-overhead")
        def train():
            return stream().mask.float() * 2

        for step in range(6):  # warm-up, record, replays
            torch.compiler.cudagraph_mark_step_begin()
            assert torch.equal(train().cpu(), sampler(batch_size=4, step=step).mask.float() * 2)
        assert counters["inductor"]["cudagraph_skips"] == 0


class TestCapturedStep:
    def test_each_replay_trains_on_the_next_masks(self, gpu):
        """The whole step in one graph: masks, forward, backward, AdamW; beside the same steps made eagerly."""
        sampler, batch = Green3D(GRID, 0.75), clips().cuda()
        stream = MaskStream(sampler, 4, device="cuda", backend=gpu)
        model, seen = video_model().cuda(), {}
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, capturable=True)
        twin = copy.deepcopy(model)
        other = torch.optim.AdamW(twin.parameters(), lr=1e-3, capturable=True)

        def step(model, optimizer, masks):
            optimizer.zero_grad(set_to_none=False)
            loss, _ = model(batch, masks)
            loss.backward()
            optimizer.step()
            return loss

        for module, adam in (
            (model, optimizer),
            (twin, other),
        ):  # states and gradients exist before the capture
            step(module, adam, sampler(batch_size=4, step=10**6, device="cuda", backend=gpu))
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            seen["masks"] = stream()
            seen["loss"] = step(model, optimizer, seen["masks"])
        for number in range(4):
            graph.replay()
            want = sampler(batch_size=4, step=number)
            assert torch.equal(seen["masks"].mask.cpu(), want.mask)
            assert torch.equal(seen["masks"].ids_keep.cpu(), want.ids_keep)
            loss = step(twin, other, want.to("cuda"))
            torch.testing.assert_close(seen["loss"], loss, rtol=1e-5, atol=1e-6)

    def test_make_graphed_callables(self, gpu):
        model = video_model().cuda()
        sampler = Green3D(GRID, 0.75)
        masks = sampler(range(4), device="cuda", backend=gpu)
        pixels = clips().cuda()

        class Step(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.model = model

            def forward(self, pixels):
                return self.model(pixels, masks)[0]

        want = Step()(pixels)
        graphed = torch.cuda.make_graphed_callables(Step(), (pixels,), allow_unused_input=True)
        torch.testing.assert_close(graphed(pixels), want, rtol=1e-5, atol=1e-6)


def test_one_process_joins_over_nccl(any_gpu, tmp_path):
    import torch.distributed as dist

    if not dist.is_nccl_available():
        pytest.skip("torch has no NCCL")
    dist.init_process_group("nccl", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    try:
        model = torch.nn.parallel.DistributedDataParallel(video_model().cuda(), device_ids=[0])
        loss, _ = model(clips().cuda(), Green3D(GRID, 0.75)(range(4), device="cuda"))
        loss.backward()
        assert loss.isfinite()
    finally:
        dist.destroy_process_group()
