# SPDX-License-Identifier: Apache-2.0
"""Several processes that train one model: who they are, and what they have to agree on.

    torchrun --nproc-per-node 8 -m smnoise.train.video ...

Messages between the processes go through the CPU (gloo), so that none waits for a GPU. Whatever ends one process ends
all: the others' next message fails, and torchrun stops them.
"""

from __future__ import annotations

import atexit
import time
import warnings
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from ..data.draws import torch_seeded
from ..launched import attempt, processes


@dataclass(frozen=True)
class World:
    """The processes of a run. Its methods are called by all of them, in the same order."""

    rank: int = 0
    size: int = 1

    @property
    def writes(self) -> bool:
        """Whether this is the one process that logs and writes files."""
        return self.rank == 0

    def first(self, work: Callable[[], Any]) -> Any:
        """What work() of rank 0 returns; its error is raised by all."""
        if self.size == 1:
            return work()
        result: list[Any] = [None, None]
        if self.rank == 0:
            try:
                result[0] = work()
            except Exception as error:
                result[1] = error
        dist.broadcast_object_list(result)
        if result[1] is not None:
            raise result[1]
        return result[0]

    def any(self, flag: bool) -> bool:
        """Whether the flag of any process is set."""
        if self.size == 1:
            return flag
        count = torch.tensor(int(flag), device="cpu")
        dist.all_reduce(count)
        return bool(count)

    def union(self, items: Iterable[str]) -> list[str]:
        """The items of all processes, sorted, each once."""
        if self.size == 1:
            return sorted(set(items))
        gathered: list[Any] = [None] * self.size
        dist.all_gather_object(gathered, list(items))
        return sorted({item for of_rank in gathered for item in of_rank})

    def largest(self, number: float) -> float:
        """The largest of the processes' numbers."""
        return self.largest_each(number)[0]

    def largest_each(self, *numbers: float) -> list[float]:
        """Return, for each of several numbers, the largest of all processes, in one message."""
        if self.size == 1:
            return list(numbers)
        values = torch.tensor(numbers, dtype=torch.float64, device="cpu")
        dist.all_reduce(values, dist.ReduceOp.MAX)
        return values.tolist()

    def total(self, counts: torch.Tensor) -> torch.Tensor:
        """Return the sum over the processes of their integers, int64 of any shape on the CPU, for any order."""
        if self.size > 1:
            dist.all_reduce(counts)
        return counts

    def mean(self, value: torch.Tensor) -> float:
        """Return the mean over the processes of a float scalar."""
        if self.size > 1:
            value = value.clone()
            dist.all_reduce(value)
        return value.item() / self.size


ALONE = World()


class Stopping:
    """Whether all processes stop after a step, since one of them was asked to.

    To agree takes a message, for which each step would wait. So they ask one another about once a second, and at least
    every `most` steps: whoever is told to stop gets its checkpoint after a second and the step it was in, or, where
    steps take longer, after the step. A process that is alone looks after every step.

    Args:
        world: the processes, all of which call this after each step.
        stop: says whether this process was asked to.
        first_step: steps done before.
        most: steps from one message to the next, at the most.
    """

    SECONDS = 1.0

    def __init__(self, world: World, stop: Callable[[], bool], first_step: int, most: int):
        self.world, self.stop, self.most = world, stop, most
        self.last, self.due, self.since = first_step, first_step + 1, time.perf_counter()

    def __call__(self, step: int) -> bool:
        if self.world.size == 1:
            return self.stop()
        if step < self.due:
            return False
        now = time.perf_counter()
        stopping, seconds = self.world.largest_each(self.stop(), (now - self.since) / (step - self.last))
        self.last, self.since = step, now
        self.due = step + min(self.most, max(1, int(self.SECONDS / max(seconds, 1e-6))))
        return bool(stopping)


def join(device: torch.device) -> World:
    """The world of this process. Under torchrun the first call waits for all the others."""
    if not dist.is_initialized():
        if processes() == 1:
            return ALONE
        # torchrun's store outlives an attempt; without a name for each, a process may read the address of a dead one.
        store, rank, size = next(rendezvous("env://"))
        store = dist.PrefixStore(f"attempt {attempt()}", store)
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=size)
        atexit.register(leave)
    return World(dist.get_rank(), dist.get_world_size())


def leave() -> None:
    """The end of what `join` began."""
    if dist.is_initialized():
        dist.destroy_process_group()


def data_parallel(
    model: torch.nn.Module, world: World, device: torch.device, config, bfloat16: bool
) -> torch.nn.Module:
    """The model, compiled if config.compile, so that a backward pass averages the gradients of all processes.

    config.shard: spread weights, gradients and optimiser state over the processes (FSDP2), block by block; the
    optimiser is made behind this. Else each process has them all (DDP). Alone, it is the model itself.

    bfloat16: sharded weights, which stay float32, are sent as bfloat16, in which autocast computes; gradients are
    summed as float32.

    Raises ValueError where there is nobody to share with.
    """
    if config.shard and world.size == 1:
        raise ValueError(
            "shard is for several processes; start with torchrun --nproc-per-node, or leave it out"
        )
    blocks = [b for m in model.modules() if isinstance(m, torch.nn.ModuleList) for b in m]
    if config.compile:
        # In place, so that names of weights stay. With others a block at a time: between blocks gradients are sent
        # while the backward pass goes on, and sharded weights come and go.
        for part in blocks if world.size > 1 else [model]:
            part.compile()
    if config.shard:
        warnings.filterwarnings(
            "ignore", "FSDP2-wrapped module .* returned a view"
        )  # nothing is changed in place
        mesh = init_device_mesh(device.type, (world.size,))
        # Inputs stay as they are: the loss is of the float32 pixels.
        policy = MixedPrecisionPolicy(
            param_dtype=torch.bfloat16 if bfloat16 else None,
            reduce_dtype=torch.float32 if bfloat16 else None,
            cast_forward_inputs=False,
        )
        if bfloat16:
            for norm in model.modules():
                if isinstance(norm, torch.nn.LayerNorm):
                    norm.forward = partial(_normed, norm)  # type: ignore[method-assign]
        for part in (*blocks, model):
            fully_shard(part, mesh=mesh, mp_policy=policy)
    elif world.size > 1:
        device_ids = [device] if device.type == "cuda" else None
        train = DistributedDataParallel(model, device_ids, gradient_as_bucket_view=True)
        train.broadcast_buffers = False  # they are constants
        return train
    return model


def _normed(norm: torch.nn.LayerNorm, x: torch.Tensor) -> torch.Tensor:
    """A LayerNorm whose weights came as bfloat16: in the dtype of its input, which autocast sees to on a GPU alone."""
    weight, bias = norm.weight.to(x.dtype), norm.bias.to(x.dtype)
    return torch.nn.functional.layer_norm(x, norm.normalized_shape, weight, bias, norm.eps)


def settle(
    train: torch.nn.Module, loss: Callable[[torch.nn.Module], torch.Tensor], device: torch.device
) -> None:
    """A first pass, which counts for nothing, where gradients are averaged by DDP.

    loss: of the module, on inputs of the size and dtype of training, so that this pass takes the memory of one and
    compiles what training needs; they are freed behind this.

    DDP puts gradients together anew behind its first pass, by the order in which they came. The order of its sums
    changes with that, and would do so in a resumed run at another step than in one that was not interrupted.
    """
    if isinstance(train, DistributedDataParallel):
        with torch_seeded(0, 0, device):
            loss(train).backward()
        for parameter in train.parameters():
            parameter.grad = None


def averaging(train: torch.nn.Module, last: bool) -> AbstractContextManager:
    """Around each forward and backward pass of a step: only the last one averages gradients over the processes."""
    if isinstance(train, FSDPModule):
        train.set_requires_gradient_sync(last)
    if isinstance(train, DistributedDataParallel) and not last:
        return train.no_sync()
    return nullcontext()
