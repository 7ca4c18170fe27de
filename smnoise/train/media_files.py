# SPDX-License-Identifier: Apache-2.0
"""Media files found in a folder or in a list file, in a fixed order."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError


@dataclass(frozen=True)
class Medium:
    """What is looked for: its word in messages ("video") and the suffixes of its files, in lower case."""

    word: str
    suffixes: frozenset[str]

    @property
    def looked_for(self) -> str:
        return ", ".join(sorted(self.suffixes))

    def has(self, path: Path) -> bool:
        """Whether a path's suffix is one of this medium."""
        return path.suffix.lower() in self.suffixes


def find_files(data: Path, medium: Medium) -> list[Path]:
    """The files of a folder (searched recursively, also through links to folders) or of a list file, in a fixed order.

    A list has a path a line, relative to the list's own folder or absolute, which may contain spaces; what
    else stands on the line behind it (a label, frame numbers) is not read. Empty lines and lines that begin
    with # are ignored.

    Raises DataError where that leaves no file.
    """
    data = Path(data)
    if data.is_dir():
        found = sorted(path for path in _below(data) if medium.has(path))
        if not found:
            raise DataError(f"no {medium.word} in folder {data}: looked for {medium.looked_for}")
        return found
    if not data.is_file():
        raise DataError(f"{data} is neither a folder of {medium.word}s nor a list file")
    if medium.has(data):
        return [data]
    return [path for path, _ in listed_files(data, medium)]


def listed_files(data: Path, medium: Medium) -> list[tuple[Path, str]]:
    """The lines of a list file that name a file: the file, and what stands on the line behind it.

    Raises DataError where that leaves no file.
    """
    data = Path(data)
    try:
        lines = _lines(data)
    except UnicodeDecodeError:
        raise DataError(
            f"{data} is neither a {medium.word} ({medium.looked_for}) nor a text list in UTF-8"
        ) from None
    found = [entry for entry in (_named_file(line, data.parent) for line in lines) if entry is not None]
    if not found:
        example = f", for example {lines[0]!r}" if lines else ""
        raise DataError(f"none of the {len(lines)} lines of {data} names a file{example}")
    return found


def lines_without_file(data: Path, medium: Medium) -> list[str]:
    """Lines of a list file that name no file."""
    data = Path(data)
    if not data.is_file() or medium.has(data):
        return []
    return [line for line in _lines(data) if _named_file(line, data.parent) is None]


def file_notes(data: Path, medium: Medium) -> list[str]:
    """What a person should be told of a folder or a list file: lines that name no file, and how many files of other
    suffixes are left out of a folder (those whose names begin with a dot go unmentioned)."""
    data = Path(data)
    notes = [f"skipped: {line!r} of {data} names no file" for line in lines_without_file(data, medium)]
    if data.is_dir():
        others = [p for p in _below(data) if not medium.has(p) and not p.name.startswith(".")]
        suffixes = Counter(path.suffix.lower() or "no suffix" for path in others)
        if suffixes:
            found = ", ".join(f"{suffix} {count}" for suffix, count in sorted(suffixes.items()))
            many = "1 file" if len(others) == 1 else f"{len(others)} files"
            notes.append(f"skipped: {many} of {data}, not of a {medium.word}'s suffix ({found})")
    return notes


def labels_by_folder(paths: list[Path], root: Path) -> tuple[list[int], list[str]]:
    """Labels of files by the first folder below `root` that they are in: a number for each path, and the names
    of the folders by number, sorted. Raises DataError for a file that is in no such folder."""
    folders = []
    for path in paths:
        if not path.is_relative_to(root) or len(path.relative_to(root).parts) < 2:
            raise DataError(f"{path} is in no folder below {root}; expected {root}/LABEL/FILE")
        folders.append(path.relative_to(root).parts[0])
    names = sorted(set(folders))
    return [names.index(folder) for folder in folders], names


def label_sets(data: Path, medium: Medium) -> list[list[int]]:
    """The numbers behind the paths of a list file, 3 or 3;17 or 3,17, for each path that `find_files` gives. Raises
    DataError for a line without one."""
    sets = []
    for path, rest in listed_files(data, medium):
        numbers = re.match(r"\d+(\s*[;,]\s*\d+)*(?=\s|$)", rest)
        if not numbers:
            raise DataError(f"{data}: expected labels (0 or 3;17) behind {path.name}, got {rest!r}")
        sets.append([int(number) for number in re.findall(r"\d+", numbers[0])])
    return sets


def _below(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """The files of a folder and of those in it; a link back to a folder that it is in leads nowhere, and a
    folder that may not be read is left out."""
    real = folder.resolve()
    if real in above:
        return
    try:
        entries = list(os.scandir(folder))
    except PermissionError:
        return
    for entry in entries:
        path = folder / entry.name
        try:
            is_folder, is_file = entry.is_dir(), entry.is_file()
        except OSError:  # a link to itself
            continue
        if is_folder:
            yield from _below(path, (*above, real))
        elif is_file:
            yield path


def _lines(data: Path) -> list[str]:
    lines = [line.strip() for line in data.read_text(encoding="utf-8-sig").splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def _named_file(line: str, folder: Path) -> tuple[Path, str] | None:
    """The longest beginning of the line that names a file, and the rest."""
    ends = [len(line), *(m.start() for m in reversed(list(re.finditer(r"[\s,]+", line))))]
    for end in ends:
        try:
            if line[:end] and (folder / line[:end]).is_file():
                return folder / line[:end], line[end:].strip(", \t")
        except OSError:  # longer than a name may be
            continue
    return None
