# SPDX-License-Identifier: Apache-2.0
"""Several processes that train one model: who they are, and what they have to agree on.

    torchrun --nproc-per-node 8 -m smnoise.train.video ...

Messages between the processes go through the CPU (gloo), so that none waits for a GPU. Whatever ends one process ends
all: the others' next message fails, and torchrun stops them.
"""

from __future__ import annotations

import atexit
import os
import warnings
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from .draws import torch_seeded

LAUNCHED = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # what torchrun sets


def processes() -> int:
    """How many processes train together: 1, but under torchrun."""
    return int(os.environ["WORLD_SIZE"]) if all(name in os.environ for name in LAUNCHED) else 1


def attempt() -> int:
    """How often torchrun started this command before, because a process died."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))


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
        if self.size == 1:
            return number
        value = torch.tensor(number, dtype=torch.float64, device="cpu")
        dist.all_reduce(value, dist.ReduceOp.MAX)
        return value.item()

    def mean(self, value: torch.Tensor) -> float:
        """The mean of a scalar."""
        if self.size > 1:
            value = value.clone()
            dist.all_reduce(value)
        return value.item() / self.size


ALONE = World()


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


def data_parallel(model: torch.nn.Module, world: World, device: torch.device, config) -> torch.nn.Module:
    """The model, compiled if config.compile, so that a backward pass averages the gradients of all processes.

    config.shard: spread weights, gradients and optimiser state over the processes (FSDP2), block by block; the
    optimiser is made behind this. Else each process has them all (DDP). Alone, it is the model itself.

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
        for part in (*blocks, model):
            fully_shard(part, mesh=mesh)
    elif world.size > 1:
        device_ids = [device] if device.type == "cuda" else None
        train = DistributedDataParallel(model, device_ids, gradient_as_bucket_view=True)
        train.broadcast_buffers = False  # they are constants
        return train
    return model


def settle(train: torch.nn.Module, loss: Callable[[], torch.Tensor], device: torch.device) -> None:
    """A first pass, which counts for nothing, where gradients are averaged by DDP.

    DDP puts gradients together anew behind its first pass, by the order in which they came. The order of its sums
    changes with that, and would do so in a resumed run at another step than in one that was not interrupted.
    """
    if isinstance(train, DistributedDataParallel):
        with torch_seeded(0, 0, device):
            loss().backward()
        for parameter in train.parameters():
            parameter.grad = None


def averaging(train: torch.nn.Module, last: bool) -> AbstractContextManager:
    """Around each forward and backward pass of a step: only the last one averages gradients over the processes."""
    if isinstance(train, FSDPModule):
        train.set_requires_gradient_sync(last)
    if isinstance(train, DistributedDataParallel) and not last:
        return train.no_sync()
    return nullcontext()
