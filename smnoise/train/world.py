# SPDX-License-Identifier: Apache-2.0
"""Several processes that train one model: who they are, and what they have to agree on.

    torchrun --nproc-per-node 8 -m smnoise.train.video ...

Messages between the processes go through the CPU (gloo), so that none waits for a GPU. Whatever ends one process ends
all: the others' next message fails, and torchrun stops them.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

LAUNCHED = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # what torchrun sets


def processes() -> int:
    """How many processes train together: 1, but under torchrun."""
    return int(os.environ["WORLD_SIZE"]) if all(name in os.environ for name in LAUNCHED) else 1


def restarted() -> bool:
    """Whether torchrun runs this command anew, since a process of an earlier attempt died."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) > 0


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
        count = torch.tensor(int(flag))
        dist.all_reduce(count)
        return bool(count)

    def union(self, items: Iterable[str]) -> list[str]:
        """The items of all processes, sorted, each once."""
        if self.size == 1:
            return sorted(set(items))
        gathered: list[Any] = [None] * self.size
        dist.all_gather_object(gathered, list(items))
        return sorted({item for of_rank in gathered for item in of_rank})

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
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
        atexit.register(leave)
    return World(dist.get_rank(), dist.get_world_size())


def leave() -> None:
    """The end of what `join` began."""
    if dist.is_initialized():
        dist.destroy_process_group()


def data_parallel(model: torch.nn.Module, world: World, device: torch.device) -> torch.nn.Module:
    """The model, so that a backward pass averages the gradients of all processes; alone, the model itself."""
    if world.size == 1:
        return model
    return DistributedDataParallel(
        model,
        device_ids=[device] if device.type == "cuda" else None,
        broadcast_buffers=False,  # they are constants
        gradient_as_bucket_view=True,
    )


def averaging(train: torch.nn.Module, last: bool) -> AbstractContextManager:
    """Around each forward and backward pass of a step: only the last one averages gradients over the processes."""
    if isinstance(train, DistributedDataParallel) and not last:
        return train.no_sync()
    return nullcontext()
