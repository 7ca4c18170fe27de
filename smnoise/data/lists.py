# SPDX-License-Identifier: Apache-2.0
"""List files: a path a line, and behind it what the list is for.

Known forms of a line, relative paths being those below the list's own folder:

    path                          for pretraining; what follows the path is then not looked at
    path 3      path,3            a label
    path 3;17   path 3,17   path,"3,17"     several labels

A first line that names the columns (`filename,fold,target,category` of ESC-50, `path frames label`) makes any others
known; paths and labels are then those of the columns PATHS and LABELS. All else behind a path is an error where labels
are asked for: which of several numbers is meant cannot be guessed.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ..errors import DataError
from . import tars
from .medium import Medium

PATHS = ("path", "file", "filename", "file_name", "filepath", "file_path", "video", "video_path", "clip", "audio",
         "audio_path", "sound", "wav")  # fmt: skip
LABELS = ("label", "labels", "target", "class", "class_id", "label_id")
ESC50 = {"filename", "fold", "target", "esc10"}  # columns; its sounds are in ../audio
NUMBER = r"\d{1,9}"
QUOTED = 300  # characters
COLUMNS = "write `path label`, or name the columns in a first line, for example `path frames label`"


class Listed(NamedTuple):
    """A line of a list, and what it says."""

    number: int
    """Of the line, from 1."""
    line: str
    path: Path | None
    """None for a line that names no file."""
    rest: str
    """What stands behind the path; of a list with named columns the label."""
    split: str
    """What separates both, without blanks: "", "," or ";"."""


def listed_files(data: Path, medium: Medium) -> list[tuple[Path, str]]:
    """The lines of a list file that name a file: the file, and what stands on the line behind it.

    Raises DataError where that leaves no file.
    """
    return [(listed.path, listed.rest) for listed in _found(data, medium) if listed.path]


def lines_without_file(data: Path, medium: Medium) -> list[str]:
    """Lines of a list file that name no file."""
    data = Path(data)
    if not data.is_file() or medium.has(data) or tars.is_tar(data):
        return []
    return [listed.line for listed in _read(data, medium) if listed.path is None]


def label_sets(data: Path, medium: Medium) -> list[list[int]]:
    """The numbers behind the paths of a list file, for each path that `find_files` gives.

    Raises DataError, with the line, for one that has no labels or has more than them, and for a file that is listed
    again with other labels.
    """
    sets: list[list[int]] = []
    before: dict[str, tuple[Listed, list[int]]] = {}
    for listed in _found(data, medium):
        if listed.path is None:
            continue
        labels = _labels(Path(data), listed)
        name = os.path.normpath(listed.path)
        first, known = before.setdefault(name, (listed, labels))
        if sorted(known) != sorted(labels):
            raise DataError(
                f"{data}: {listed.path.name} has other labels in line {first.number} ({quote(first.line)}) than in "
                f"line {listed.number} ({quote(listed.line)}); name it once, several labels as 3;17"
            )
        sets.append(labels)
    return sets


def _labels(data: Path, listed: Listed) -> list[int]:
    assert listed.path is not None
    rest = re.sub(r"(^|\s+)#.*$", "", listed.rest)
    quoted = len(rest) > 1 and rest[0] == rest[-1] and rest[0] in "\"'"
    rest = rest[1:-1].strip() if quoted else rest
    # Between several labels, but not what separates the columns of a CSV: that would be another column.
    between = {",": ";", ";": "(?!)"}.get("" if quoted else listed.split, "[;,]")
    if re.fullmatch(rf"{NUMBER}(\s*{between}\s*{NUMBER})*", rest):
        return [int(number) for number in re.findall(r"\d+", rest)]
    if not rest:
        advice = "a list without labels is for pretraining"
    elif re.fullmatch(r"\d+\s+-1", rest):
        advice = "that is a list for pretraining (`path start frames`), which has no labels"
    elif re.fullmatch(r"-?\d+([\s,;]+\S+)+", rest):
        advice = f"which column is the label? {COLUMNS}; several labels are 3;17"
    elif re.fullmatch(r"\d+", rest):
        advice = "labels have at most 9 digits"
    else:
        advice = "labels are numbers; names of classes can be folders, FOLDER/LABEL/FILE"
    raise DataError(
        f"{data}, line {listed.number}: expected labels (0 or 3;17) behind {listed.path.name}, got "
        f"{quote(listed.rest)}: {advice}. The line is {quote(listed.line)}"
    )


def _found(data: Path, medium: Medium) -> list[Listed]:
    """All lines. Raises DataError where none names a file."""
    lines = _read(Path(data), medium)
    if not any(listed.path for listed in lines):
        example = f", for example {quote(lines[0].line)}" if lines else ""
        raise DataError(f"none of the {len(lines)} lines of {data} names a file{example}")
    return lines


def _read(data: Path, medium: Medium) -> list[Listed]:
    lines = list(_lines(data, medium))
    if lines and (header := _header(lines[0][1], data.parent)):
        delimiter, columns = header
        return [_row(data, number, line, delimiter, columns, medium) for number, line in lines[1:]]
    return [
        Listed(number, line, *(_named_file(line, data.parent) or (None, "", ""))) for number, line in lines
    ]


def _lines(data: Path, medium: Medium) -> Iterator[tuple[int, str]]:
    """Numbers and text of lines that are neither empty nor comments."""
    content = data.read_bytes()
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        text = content.decode("utf-16", "replace")
    elif b"\0" in content:
        raise DataError(f"{data} is neither a {medium.word} ({medium.looked_for}) nor a text list in UTF-8")
    else:
        text = content.decode("utf-8-sig", "surrogateescape")  # as the system gives names of files
    for number, line in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), 1):
        if (line := line.strip()) and not line.startswith("#"):
            yield number, line


def _header(line: str, folder: Path) -> tuple[str, list[str]] | None:
    """The delimiter and the names of the columns, where a line has such."""
    delimiter = next((mark for mark in "\t,;" if mark in line), " ")
    columns = [name.lower() for name in _fields(line, delimiter)]
    named = sum(name in PATHS for name in columns)
    if not named or not all(re.fullmatch(r"[a-z_][a-z0-9_ .-]*", name) for name in columns):
        return None
    return None if _named_file(line, folder) else (delimiter, columns)


def _fields(line: str, delimiter: str) -> list[str]:
    if delimiter == " ":
        return line.split()
    try:
        return [
            field.strip() for field in next(csv.reader([line], delimiter=delimiter, skipinitialspace=True))
        ]
    except csv.Error:  # a field without end
        return [line]


def _row(data: Path, number: int, line: str, delimiter: str, columns: list[str], medium: Medium) -> Listed:
    """A line of a list with named columns. Raises DataError where it has others, and where two columns name different
    files of this medium, or have different numbers for labels."""
    fields = _fields(line, delimiter)
    if len(set(columns)) < len(columns):
        raise DataError(
            f"{data}: its first line names a column twice ({', '.join(columns)}); rename one of them"
        )
    if len(fields) != len(columns):
        raise DataError(
            f"{data}, line {number}: {len(fields)} columns, and the first line names {len(columns)} "
            f"({', '.join(columns)}). The line is {quote(line)}"
        )
    row = dict(zip(columns, fields, strict=True))
    folders = [data.parent, data.parent.parent / "audio"] if row.keys() >= ESC50 else [data.parent]
    named = [folder / row[c] for c in PATHS if row.get(c) for folder in folders]
    paths = list(dict.fromkeys(path for path in named if _is_file(path)))
    if len(paths) > 1:  # the film and the sound of one clip, for example
        paths = [path for path in paths if medium.has(path)] or paths
    labels = [row[column] for column in LABELS if column in row]
    numbers = [int(label) for label in labels if re.fullmatch(NUMBER, label)]
    for what, several in (("file", len(paths) > 1), ("label", len(set(numbers)) > 1)):
        if several:
            raise DataError(
                f"{data}, line {number}: which column is the {what}? Several of {', '.join(columns)} may be; rename "
                f"the others. The line is {quote(line)}"
            )
    return Listed(number, line, paths[0] if paths else None, labels[0] if labels else "", "")


def _named_file(line: str, folder: Path) -> tuple[Path, str, str] | None:
    """The longest beginning of the line that names a file, or one in quotes; the rest, and what separates them."""
    separator = r"\s*[,;]\s*|\s+"
    ends = [(m.start(), m.end()) for m in re.finditer(separator, line)]
    for end, rest in [(len(line), len(line)), *reversed(ends)]:
        if end and _is_file(folder / line[:end]):
            return folder / line[:end], line[rest:], line[end:rest].strip()
    if quoted := re.match(rf"""(["'])(.+?)\1(?:({separator})(.*))?$""", line):
        path = folder / quoted[2]
        if _is_file(path):
            return path, quoted[4] or "", (quoted[3] or "").strip()
    return None


def quote(text: str) -> str:
    """A line in an error, without what is too long to be read there."""
    return repr(text) if len(text) <= QUOTED else f"{text[:QUOTED]!r}..."


def _is_file(path: Path) -> bool:
    try:
        return tars.is_file(path)
    except (OSError, ValueError):  # longer than a name may be
        return False
