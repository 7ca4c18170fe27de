# SPDX-License-Identifier: Apache-2.0
"""How many classes there may be: looked at before anything as long as the highest label is made."""

from __future__ import annotations

MOST = 100_000  # more than any data set of clips has
ENTRIES = 1 << 31  # of a table clips x classes: 8 GiB as float32, twice what AudioSet-2M takes
SPARE = 1000  # classes that a small set may leave without a clip


def check_classes(classes: int, clips: int, where: str, *, guessed: bool = False) -> None:
    """Raise ValueError for more classes than can be meant, or than a table of `clips` rows of them can hold.

    Args:
        classes: number of classes.
        clips: number of labelled clips.
        where: for the message, such as "train.txt".
        guessed: `classes` is one more than the highest label; then it may not be far beyond the number of clips either.
    """
    what = f"{where} has label {classes - 1}" if guessed else f"{where}: {classes} classes"
    if classes > MOST or clips * classes > ENTRIES:
        raise ValueError(
            f"{what}, with {clips} clips; there may be up to {MOST} classes, and {ENTRIES} entries of a table clips "
            "x classes. Is that the label? Number the classes from 0 without a gap"
        )
    if guessed and classes > max(SPARE, 10 * clips):
        raise ValueError(
            f"{what}, with {clips} clips; is that the label? Number the classes from 0 without a gap, or say how "
            "many there are"
        )
