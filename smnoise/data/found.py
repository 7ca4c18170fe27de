# SPDX-License-Identifier: Apache-2.0
"""Media files found in a folder or in a list file, in a fixed order."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from ..errors import DataError
from . import tars
from .lists import lines_without_file, listed_files
from .medium import Medium

SUFFIXES_NAMED = 8


def find_files(data: Path, medium: Medium) -> list[Path]:
    """The files of a folder (searched recursively, also through links to folders, and of videos in tar files) or of a
    list file, in a fixed order.

    A list has a path a line, relative to the list's own folder or absolute, which may contain spaces; what
    else stands on the line behind it (a label, frame numbers) is not read. Empty lines and lines that begin
    with # are ignored. For its other forms see `lists`.

    Raises DataError where that leaves no file.
    """
    data = Path(data)
    if data.is_dir():
        found = sorted(path for path in _below(data, [], medium.in_tars) if medium.has(path))
        if not found:
            others = "".join(f"; {note}" for note in left_out(data, medium))
            raise DataError(f"no {medium.word} in folder {data}: looked for {medium.looked_for}{others}")
        return found
    if not data.is_file():
        raise DataError(f"{data} is neither a folder of {medium.word}s nor a list file")
    if medium.has(data):
        return [data]
    if medium.in_tars and tars.is_tar(data):
        found = sorted(path for path in tars.paths_in(data) if medium.has(path))
        if not found:
            raise DataError(f"no {medium.word} in {data}: looked for {medium.looked_for}")
        return found
    return [path for path, _ in listed_files(data, medium)]


def labels_by_folder(paths: list[Path], root: Path) -> tuple[list[int], list[str]]:
    """Labels of files by the first folder below `root` that they are in: a number for each path, and the names
    of the folders by number, sorted. Of files in a tar the labels are what lies beside them there, see `tars`. Raises
    DataError for a file that is in no such folder, or has no label."""
    folders = []
    for path in paths:
        if (label := tars.label_of(path)) is not None:
            folders.append(label)
            continue
        if not path.is_relative_to(root) or len(path.relative_to(root).parts) < 2:
            raise DataError(f"{path} is in no folder below {root}; expected {root}/LABEL/FILE")
        folders.append(path.relative_to(root).parts[0])
    names = sorted(set(folders))
    return [names.index(folder) for folder in folders], names


def left_out(data: Path, medium: Medium) -> list[str]:
    """What a person should be told of a folder: how many of its files `find_files` leaves out, by suffix (those whose
    names begin with a dot go unmentioned), and folders that may not be read."""
    data = Path(data)
    if not data.is_dir():
        return []
    notes: list[str] = []
    closed: list[Path] = []
    others = [
        p for p in _below(data, closed, medium.in_tars) if not medium.has(p) and not p.name.startswith(".")
    ]
    if suffixes := Counter(path.suffix.lower() or "no suffix" for path in others):
        found = ", ".join(
            f"{suffix} {count}" for suffix, count in sorted(suffixes.most_common(SUFFIXES_NAMED))
        )
        rest = "" if len(suffixes) <= SUFFIXES_NAMED else f" and {len(suffixes) - SUFFIXES_NAMED} more"
        many = "1 file" if len(others) == 1 else f"{len(others)} files"
        notes.append(f"skipped: {many} of {data}, not of a {medium.word}'s suffix ({found}{rest})")
    if closed:
        notes.append(f"skipped: {len(closed)} folders that may not be read, for example {closed[0]}")
    return notes


def file_notes(data: Path, medium: Medium) -> list[str]:
    """What a person should be told of a folder or a list file: lines that name no file, and what is left out."""
    missing = lines_without_file(data, medium)
    return [f"skipped: {line!r} of {data} names no file" for line in missing] + left_out(data, medium)


def _below(folder: Path, closed: list[Path], in_tars: bool, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """The files of a folder and of those in it; a link back to a folder that it is in leads nowhere, and a folder that
    may not be read is added to `closed`. in_tars: whether a tar file is as good as a folder."""
    real = folder.resolve()
    if real in above:
        return
    try:
        entries = list(os.scandir(folder))
    except PermissionError:
        closed.append(folder)
        return
    for entry in entries:
        path = folder / entry.name
        try:
            is_folder, is_file = entry.is_dir(), entry.is_file()
        except OSError:  # a link to itself
            continue
        if is_folder:
            yield from _below(path, closed, in_tars, (*above, real))
        elif is_file and in_tars and tars.is_tar(path):
            yield from tars.paths_in(path)
        elif is_file:
            yield path
