# SPDX-License-Identifier: Apache-2.0
"""A training step of VideoMAE on a GPU with masks made in it, and without: what do masks cost where it counts?

ViT-B, 32 clips, bfloat16 autocast, AdamW; eager, compiled, compiled with reduce-overhead, and as one captured graph.
With masks made on the same stream, on a side stream one step ahead, and made beforehand. Run by bench/gpu; minutes.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator

import torch

import smnoise
from smnoise.models.videomae import VideoMAE

from .gpu_masks import FIELD, Row

CLIPS, WARM, COUNTED = 32, 5, 20


def rows() -> Iterator[Row]:
    """Milliseconds a step of each way, as soon as it is known."""
    at = "VideoMAE ViT-B, 32 clips, bf16: milliseconds a step"
    for program, make in PROGRAMS.items():
        for source, masks in SOURCES.items():
            if program == "captured" and source == "side stream":
                continue  # a graph of its own stream's work only
            try:
                yield (at, program, source), milliseconds(make(masks()))
            except Exception as error:  # of a compiler or a capture: the others are still measured
                yield (
                    ("not timed", f"step, {program}, {source}"),
                    f"{type(error).__name__}: {str(error)[:200]}",
                )
            torch._dynamo.reset()
            torch.cuda.empty_cache()


def beforehand() -> Callable[[], smnoise.MaskBatch]:
    """The same masks in every step: what a step costs without making any."""
    masks = FIELD(torch.arange(CLIPS, device="cuda"))
    return lambda: masks


def same_stream() -> Callable[[], smnoise.MaskBatch]:
    return smnoise.MaskStream(FIELD, CLIPS, device="cuda")


def side_stream() -> Callable[[], smnoise.MaskBatch]:
    """The next step's masks, made on a stream of their own while this step trains."""
    stream, masks = torch.cuda.Stream(), smnoise.MaskStream(FIELD, CLIPS, device="cuda")
    ready: list[smnoise.MaskBatch] = []

    def make() -> None:
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            ready.append(masks())

    def take() -> smnoise.MaskBatch:
        torch.cuda.current_stream().wait_stream(stream)
        found = ready.pop()
        for tensor in found.tensors:
            tensor.record_stream(torch.cuda.current_stream())
        make()
        return found

    make()
    return take


SOURCES = {"masks made beforehand": beforehand, "masks in the step": same_stream, "side stream": side_stream}


class Program:
    """Model, optimiser and clips; `step` trains."""

    def __init__(self, masks: Callable[[], smnoise.MaskBatch], **options):
        torch.manual_seed(0)
        self.masks, self.model = masks, VideoMAE("base").cuda()
        self.loss = torch.compile(self.model, **options) if options else self.model
        self.optimizer = torch.optim.AdamW(self.model.parameters(), fused=True, capturable=True)
        self.clips = torch.randint(0, 256, (CLIPS, 3, 16, 224, 224), dtype=torch.uint8, device="cuda")

    def step(self) -> None:
        with torch.autocast("cuda", torch.bfloat16):
            loss, _ = self.loss(self.clips, self.masks())
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def captured(masks: Callable[[], smnoise.MaskBatch]) -> Callable[[], None]:
    """The whole step as one graph, replayed."""
    program = Program(masks)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            program.step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        program.step()
    return graph.replay


PROGRAMS: dict[str, Callable[[Callable[[], smnoise.MaskBatch]], Callable[[], None]]] = {
    "eager": lambda masks: Program(masks).step,
    "compiled": lambda masks: Program(masks, fullgraph=True).step,
    "compiled, reduce-overhead": lambda masks: Program(masks, fullgraph=True, mode="reduce-overhead").step,
    "captured": captured,
}


def milliseconds(step: Callable[[], None]) -> float:
    """Median time of a step, by CUDA events."""
    times = []
    for _ in range(WARM + COUNTED):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        step()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end))
    return round(statistics.median(times[WARM:]), 3)
