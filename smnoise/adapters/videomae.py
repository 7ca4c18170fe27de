# SPDX-License-Identifier: Apache-2.0
"""Our masks in the place of VideoMAE's mask generators, whose data sets call `generator()` without an argument.

    >>> import smnoise
    >>> generator = MaskingGenerator(window_size=(8, 14, 14), mask_ratio=0.9)
    >>> mask = generator()
    >>> mask.shape, mask.dtype, int(mask.sum())
    ((1568,), dtype('float64'), 1412)

A call without an argument cannot know which clip it is for. Left to count its own calls, a generator would be copied
into each worker with its counter: all workers would make the same masks, the next epoch the same ones again, and
another number of workers would give a clip another mask. So it counts in the main process alone, and in a worker
wants to be told the number of the sample. `NumberedMasks` does that, with the data set left as it is:

    generator = MaskingGenerator(window_size, mask_ratio)   # in DataAugmentationForVideoMAE
    numbered = NumberedMasks(dataset, generator)            # dataset[i] calls generator() somewhere inside
    order = EpochNumbers(DistributedSampler(dataset), len(dataset))
    loader = DataLoader(numbered, sampler=order, num_workers=10, ...)

with EpochNumbers of smnoise.adapters.dataloader. A mask is then a function of seed, epoch and clip. Where you may edit
the data set, `generator(number)` is the same without a wrapper.
"""

from __future__ import annotations

from collections.abc import Sized
from typing import Any

import numpy as np
from torch.utils.data import Dataset, get_worker_info

from ..samplers import Color3D, Green3D, Sampler
from ..spec import as_int


class MaskingGenerator:
    """Stands for VideoMAE's TubeMaskingGenerator.

    Args:
        window_size: tokens along (T, H, W), or a sampler of your own, which then has the ratio.
        mask_ratio: share of tokens that is masked. VideoMAE rounds per frame (160 visible tokens of 1568 at 0.9),
            smnoise per clip (156); its models take any count.
        kind: class of the masks.
        seed: of the masks.
        masks_per_sample: calls for each sample, such as the views of a clip.
    """

    def __init__(
        self,
        window_size: tuple[int, int, int] | Sampler,
        mask_ratio: float | None = None,
        *,
        kind: type[Color3D] = Green3D,
        seed: int = 0,
        masks_per_sample: int = 1,
    ):
        if isinstance(window_size, Sampler):
            if mask_ratio is not None:
                raise ValueError("a sampler has its own ratio: leave mask_ratio out")
            self.sampler = window_size
        else:
            self.sampler = kind(window_size, mask_ratio, seed=seed)
        self.masks_per_sample = as_int("masks_per_sample", masks_per_sample, 1, 2**31)
        self._next = 0  # number of the next mask
        self._end: int | None = None  # and of the first that is not of the sample it was told

    def tell(self, number: int) -> None:
        """Say for which sample the next calls are."""
        self._next = number * self.masks_per_sample
        self._end = self._next + self.masks_per_sample

    def __call__(self, number: int | None = None) -> np.ndarray:
        """float64 [L], 1 = masked, 0 = visible: of mask `number`, or of the next one.

        Raises RuntimeError in a worker process that was told no number, or after the last mask of a sample.
        """
        if number is None:
            number = self._next
            if self._end is None and get_worker_info() is not None:
                raise RuntimeError(
                    "in a worker process the generator must be told its sample, or all workers make the same masks: "
                    "wrap the data set in smnoise.adapters.videomae.NumberedMasks, or call generator(number)"
                )
            if number == self._end:
                raise RuntimeError(
                    f"a sample has masks_per_sample={self.masks_per_sample} masks, and this was asked for one more"
                )
            self._next += 1
        return self.sampler([number], outputs="mask").need("mask")[0].numpy().astype(np.float64)

    def __repr__(self) -> str:
        return f"MaskingGenerator({self.sampler})"


class NumberedMasks(Dataset):
    """A data set by sample number n: tells the generator n, then gives item n % len of the other data set."""

    def __init__(self, dataset: Dataset, generator: MaskingGenerator):
        if not isinstance(dataset, Sized):
            raise TypeError(
                f"{type(dataset).__name__} has no length: an iterable data set does not number its items"
            )
        self.dataset, self.generator, self.size = dataset, generator, len(dataset)

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, number: int) -> Any:
        self.generator.tell(number)
        return self.dataset[number % self.size]
