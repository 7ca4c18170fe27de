# SPDX-License-Identifier: Apache-2.0
"""A whole training step, masks included, as one CUDA graph; where there is no GPU the same step runs eagerly.

    python examples/cuda_graph.py --steps 100

A `MaskStream` counts its steps on the device, so that each replay of the graph trains on the next masks and nothing
waits for the CPU. The masks are those that `sampler(batch_size=..., step=n)` makes anywhere else; the last lines check
that.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch

import smnoise
from smnoise.models.videomae import VideoMAE

GRID, BATCH = (8, 4, 4), 8


def captured(step: Callable[[], None]) -> Callable[[], None]:
    """The step as a graph that was recorded once. What it allocates it owns; its inputs are read where they are."""
    warm = torch.cuda.Stream()
    warm.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(
        warm
    ):  # kernels are compiled, tables uploaded and optimiser states made before the capture
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(warm)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=20)
    given = parser.parse_args()
    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")

    torch.manual_seed(0)
    model = VideoMAE("nano", GRID, tubelet=2, patch=16).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, capturable=on_gpu)
    sampler = smnoise.Green3D(GRID, 0.9, seed=0)
    stream = smnoise.MaskStream(sampler, BATCH, device=device)
    clips = torch.zeros(
        BATCH, 3, 16, 64, 64, dtype=torch.uint8, device=device
    )  # filled anew before each step
    last: dict[str, torch.Tensor] = {}

    def step() -> None:
        masks = stream()
        loss, _ = model(clips, masks)
        optimizer.zero_grad(set_to_none=False)
        loss.backward()
        optimizer.step()
        last.update(loss=loss.detach(), mask=masks.mask)

    run = captured(step) if on_gpu else step
    stream.step = 0  # the steps that warmed up do not count
    for number in range(given.steps):
        clips.copy_(torch.randint(0, 256, clips.shape, dtype=torch.uint8))  # your loader's next batch
        run()
        assert torch.equal(last["mask"].cpu(), sampler(batch_size=BATCH, step=number).mask)
    kind = "replayed a CUDA graph" if on_gpu else "ran eagerly, for want of a GPU"
    print(f"{given.steps} steps: {kind}; loss {last['loss'].item():.4f}; every mask was the one of its step")


if __name__ == "__main__":
    main()
