# SPDX-License-Identifier: Apache-2.0
"""Files that are whole or not there, also after a power cut."""

from __future__ import annotations

import errno
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
    """A temporary name beside `path` to write to; synced and renamed to it at the end, removed after an error. Folders
    that are missing are made.

    Raises NotADirectoryError, IsADirectoryError where `path` cannot be a file, before anything is made for it.
    """
    make_folder(path.parent)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; give the name of a file")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.writing")
    try:
        yield temporary
        sync(temporary)  # or a power cut may leave the new name with nothing behind it
        os.replace(temporary, path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a file under a temporary name, then rename it."""
    with replace_file(path) as temporary:
        temporary.write_text(text)


def sync(path: Path) -> None:
    """Wait until a file's bytes, or a folder's names, are on the disk. Some network file systems sync no folders: there
    it is theirs to keep names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not path.is_dir() or error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)
