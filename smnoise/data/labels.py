# SPDX-License-Identifier: Apache-2.0
"""The labelled files of a training and a test set: folders named by what is in them, or lists with numbers."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch

from ..errors import DataError
from .audio.clips import SOUND
from .classes import check_classes
from .found import find_files, labels_by_folder
from .lists import label_sets
from .medium import Medium
from .video.clips import VIDEO


class LabelledFiles(NamedTuple):
    """Files and their labels."""

    paths: list[Path]
    targets: torch.Tensor
    """float32 [N, C], 0 or 1."""
    names: list[str]
    """Of the classes: folders, or numbers."""

    @property
    def several(self) -> bool:
        """Whether a file has more labels than one."""
        return bool((self.targets.sum(dim=1) > 1).any())

    def numbers(self) -> torch.Tensor:
        """The class of each file that has one label: int64 [N]."""
        return self.targets.argmax(dim=1)


def labelled_sounds(
    train: Path, test: Path, classes: int | None = None
) -> tuple[LabelledFiles, LabelledFiles]:
    """Find the sound files of both sets; arguments and errors are those of `labelled_files`."""
    return labelled_files(train, test, SOUND, classes)


def labelled_videos(
    train: Path, test: Path, classes: int | None = None
) -> tuple[LabelledFiles, LabelledFiles]:
    """Find the videos of both sets; arguments and errors are those of `labelled_files`."""
    return labelled_files(train, test, VIDEO, classes)


def labelled_files(
    train: Path, test: Path, medium: Medium, classes: int | None = None
) -> tuple[LabelledFiles, LabelledFiles]:
    """Find the files of both sets, with the same numbers for the same classes.

    Args:
        train, test: both a folder of folders (FOLDER/LABEL/.../FILE), whose classes are those of `train`; or both a
            list file with `path label` or `path label;label` a line.
        medium: which files are looked for.
        classes: number of classes of lists; by default one more than the highest label of `train`.

    Raises DataError for files without a label, test labels that are no class, one class only, and labels far beyond the
    number of files; ValueError for a number of classes that cannot be.
    """
    train, test = Path(train), Path(test)
    if train.is_dir() != test.is_dir():
        raise DataError(
            f"{train} and {test}: expected two folders or two lists, which name labels differently"
        )
    if train.is_dir():
        if classes is not None:
            raise DataError(f"{train} is a folder, whose folders are the classes; leave the number out")
        paths = find_files(train, medium), find_files(test, medium)
        (train_labels, names), (test_labels, test_names) = map(labels_by_folder, paths, (train, test))
        if strange := sorted(set(test_names) - set(names)):
            raise DataError(
                f"{test} has a class {strange[0]!r}; the classes of {train} are {', '.join(names)}"
            )
        numbers = [names.index(name) for name in test_names]
        sets = [[label] for label in train_labels], [[numbers[label]] for label in test_labels]
    else:
        sets = label_sets(train, medium), label_sets(test, medium)
        paths = find_files(train, medium), find_files(test, medium)
        count = classes
        if count is None:
            count = 1 + max(map(max, sets[0]))
            try:
                check_classes(count, len(sets[0]), str(train), guessed=True)
            except ValueError as error:
                raise DataError(str(error)) from None
        if count < 1:
            raise ValueError(f"expected a positive number of classes, got {count}")
        for data, labels in zip((train, test), sets, strict=True):
            check_classes(count, len(labels), str(data))
            if (highest := max(map(max, labels))) >= count:
                raise DataError(f"{data} has label {highest}; expected 0 to {count - 1}")
        names = [str(number) for number in range(count)]
    if len(names) < 2:
        raise DataError(f"{train} has one class only, {names[0]!r}; need two or more")
    first, second = (
        LabelledFiles(files, _targets(labels, len(names)), names)
        for files, labels in zip(paths, sets, strict=True)
    )
    return first, second


def _targets(sets: list[list[int]], classes: int) -> torch.Tensor:
    targets = torch.zeros(len(sets), classes, device="cpu")
    for row, labels in zip(targets, sets, strict=True):
        row[labels] = 1
    return targets
