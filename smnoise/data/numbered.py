# SPDX-License-Identifier: Apache-2.0
"""Clips by global sample number: their order, the turns of broken files, and batches of them.

Nothing here keeps a position: item n is the same in any process, for any number of workers, after any restart.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch.utils.data import DataLoader, Dataset

from ..errors import DataError
from .draws import permutation
from .messages import FileMessage
from .signals import ignore_interrupts

MISSING_NAMED = 5


@dataclass
class NumberedClips(Dataset):
    """Base of the data sets: clip n is place n % len of epoch n // len, and item n is clip n.

    Args:
        paths: the files.
        seed: of the order, and of what a subclass chooses.
        views: items of each clip, which is then decoded once: item n is view n % views of clip n // views.

    A subclass names its medium, says how many clips a file has in an epoch, and reads one. An item is what
    it read, "sample": n and "broken": the messages of the files that this process found broken, or served although
    not all of them decodes (`file_messages`).
    """

    MEDIUM: ClassVar[str]

    paths: list[Path]
    seed: int = field(default=0, kw_only=True)
    views: int = field(default=1, kw_only=True)
    _broken: dict[Path, FileMessage] = field(default_factory=dict, init=False, repr=False)
    _served: dict[Path, FileMessage] = field(default_factory=dict, init=False, repr=False)

    @property
    @abstractmethod
    def clips_per_file(self) -> int:
        """How often each file is drawn from in an epoch."""

    @abstractmethod
    def read_clip(self, index: int, sample: int) -> dict:
        """The item of paths[index] for a sample number. Raises DataError where the file is broken.

        What is decoded may depend on clip number sample // views alone, what is cut of it on the sample number.
        """

    def note(self, index: int) -> str | None:
        """What a person should know of paths[index], of which a clip was read; None where all of it decodes."""
        return None

    def __len__(self) -> int:
        """Clips in an epoch."""
        return len(self.paths) * self.clips_per_file

    def turn(self, clip: int) -> int:
        """Which of the files a clip is of."""
        epoch, place = divmod(clip, len(self))
        return int(permutation(self.seed, epoch, len(self))[place]) // self.clips_per_file

    def __getitem__(self, sample: int) -> dict:
        turn = self.turn(sample // self.views)
        for attempt in range(len(self.paths)):
            # A broken file's turn goes to the next ones in file order: the same ones in every run.
            # A file that fails is asked again for its next clip, so that what a process met before changes nothing.
            index = (turn + attempt) % len(self.paths)
            try:
                clip = self.read_clip(index, sample)
            except DataError as error:
                self._broken[self.paths[index]] = FileMessage(str(error), self.paths[index])
                continue
            if note := self.note(index):
                self._served[self.paths[index]] = FileMessage(note, self.paths[index], served=True)
            said = [*self._broken.values(), *self._served.values()]
            return {**clip, "sample": sample, "broken": said}
        messages = list(self._broken.values())
        raise DataError(
            f"none of the {len(messages)} {self.MEDIUM} decodes:\n  " + "\n  ".join(messages[:MISSING_NAMED])
        )


class EveryItem(Dataset):
    """Base of the data sets that evaluation goes through once, item i being that of place i. For its keys see the
    subclasses."""

    @abstractmethod
    def __len__(self) -> int:
        """How many items."""


def collate(items: list[dict]) -> dict:
    """A batch: tensors stacked, numbers as int64 [B], the messages of broken files."""
    batch: dict[str, Any] = {}
    for name, first in items[0].items():
        values = [item[name] for item in items]
        if name == "broken":
            batch[name] = sorted({message for messages in values for message in messages})
        else:
            batch[name] = (
                torch.stack(values) if torch.is_tensor(first) else torch.tensor(values, device="cpu")
            )
    return batch


@dataclass(frozen=True)
class Share:
    """The global sample numbers that one process reads, in order.

    The batches of a run are numbered: batch n is samples n * batch_size to (n + 1) * batch_size - 1. The processes take
    turns, so that a step sees the same samples for any number of processes and of batches that each
    accumulates, as long as their product is the same.

    Args:
        batches: of all processes.
        batch_size: samples of a batch.
        rank, size: which of how many processes.
    """

    batches: range
    batch_size: int
    rank: int = 0
    size: int = 1

    def __len__(self) -> int:
        return len(self.batches[self.rank :: self.size]) * self.batch_size

    def __iter__(self) -> Iterator[int]:
        for batch in self.batches[self.rank :: self.size]:
            yield from range(batch * self.batch_size, (batch + 1) * self.batch_size)


def loader(
    clips: Dataset,
    samples: Sequence[int] | Share,
    batch_size: int,
    workers: int,
    device: torch.device | str = "cpu",
    *,
    drop_last: bool = True,
) -> DataLoader:
    """Batches of the given global sample numbers, in order, on the CPU; drop_last: without a last one that is smaller.

    device: where they are going. For a GPU they lie in pinned memory, which takes a context on it, so not for others.
    """
    return DataLoader(
        clips,
        batch_size=batch_size,
        sampler=samples,
        num_workers=workers,
        collate_fn=collate,
        drop_last=drop_last,
        worker_init_fn=ignore_interrupts,
        generator=torch.Generator("cpu"),  # or it draws a seed for its workers from the caller's
        pin_memory=torch.device(device).type == "cuda",
        prefetch_factor=4 if workers else None,
    )
