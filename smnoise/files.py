# SPDX-License-Identifier: Apache-2.0
"""Files that are whole or not there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def make_folder(folder: Path) -> None:
    """Make a folder, and those that it is in, where they are missing. Raises NotADirectoryError where a file is in the
    way."""
    there = next((path for path in (folder, *folder.parents) if path.exists()), None)
    if there is not None and not there.is_dir():
        raise NotADirectoryError(f"{there} is a file, and cannot be a folder to write to; give another name")
    folder.mkdir(parents=True, exist_ok=True)


@contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` to write to; renamed to it at the end, removed after an error. Folders that are
    missing are made.

    Raises NotADirectoryError, IsADirectoryError where `path` cannot be a file, before anything is made for it.
    """
    make_folder(path.parent)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; give the name of a file")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.writing")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a file under a temporary name, then rename it."""
    with replace_file(path) as temporary:
        temporary.write_text(text)
