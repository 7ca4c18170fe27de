# SPDX-License-Identifier: Apache-2.0
"""Masks made by the workers of a DataLoader, for loops that want them in the batch.

    >>> import torch, smnoise
    >>> from torch.utils.data import DataLoader, RandomSampler
    >>> clips = torch.utils.data.TensorDataset(torch.rand(6, 3))
    >>> sampler = smnoise.Green3D(grid=(8, 14, 14), mask_ratio=0.9)
    >>> order = EpochNumbers(RandomSampler(clips), len(clips))
    >>> loader = DataLoader(Numbered(clips), batch_size=2, sampler=order, collate_fn=MaskCollate(sampler))
    >>> for epoch in range(2):
    ...     for (batch,), masks in loader:
    ...         assert masks.mask.shape == (2, 1568)

A clip's sample number is epoch * len(dataset) + index. Its mask depends on nothing else: neither on the number of
workers, nor on the order, the batch or the rank that it is in; and the next epoch gives it another mask.

In training loops of your own, masks made in the loop (`sampler(batch_size=..., step=step)`) are as quick and simpler.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any

from torch.utils.data import Dataset, Sampler, default_collate

from ..masks import MaskBatch
from ..ops import ALL_OUTPUTS
from ..samplers import Sampler as MaskSampler


class EpochNumbers(Sampler[int]):
    """The sample numbers of an epoch, epoch * size + index, in the order of another sampler.

    It runs in the main process, so that workers need not know the epoch. Each pass is the next epoch; after a restart
    `set_epoch` says which one comes next. The other sampler's own `set_epoch` is called for every pass, if it has one.

    Args:
        order: a sampler or sequence of indices below size, such as RandomSampler or DistributedSampler.
        size: items of the whole data set, on all ranks.
        epoch: number of the first pass.
    """

    def __init__(self, order: Iterable[int], size: int, epoch: int = 0):
        self.order, self.size, self.epoch = order, size, epoch

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch the next pass is."""
        self.epoch = epoch

    def __len__(self) -> int:
        if not isinstance(self.order, Sized):
            raise TypeError(f"{type(self.order).__name__} has no length")
        return len(self.order)

    def __iter__(self) -> Iterator[int]:
        first = self.epoch * self.size
        if hasattr(self.order, "set_epoch"):
            self.order.set_epoch(self.epoch)
        self.epoch += 1
        for index in self.order:
            if not 0 <= index < self.size:
                raise ValueError(f"indices must be in 0..{self.size - 1}, below the given size; got {index}")
            yield first + index


class Numbered(Dataset):
    """A data set by sample number: item n is (n, item n % len of the other one)."""

    def __init__(self, dataset: Dataset):
        if not isinstance(dataset, Sized):
            raise TypeError(
                f"{type(dataset).__name__} has no length: an iterable data set does not number its items"
            )
        self.dataset, self.size = dataset, len(dataset)

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, number: int) -> tuple[int, Any]:
        return number, self.dataset[number % self.size]


class MaskCollate:
    """collate_fn for items of `Numbered`: (the batch, its masks, a MaskBatch on the CPU).

    Args:
        sampler: any sampler of smnoise.
        collate: makes a batch of the other data set's items.
        outputs: as in `smnoise.ops.color_mask`; what is not needed need not travel between processes.
    """

    def __init__(
        self,
        sampler: MaskSampler,
        collate: Callable[[list], Any] = default_collate,
        outputs: str = ALL_OUTPUTS,
    ):
        self.sampler, self.collate, self.outputs = sampler, collate, outputs

    def __call__(self, items: list[tuple[int, Any]]) -> tuple[Any, MaskBatch]:
        numbers, values = zip(*items, strict=True)
        return self.collate(list(values)), self.sampler(numbers, outputs=self.outputs)
