# SPDX-License-Identifier: Apache-2.0
"""Files that are whole or not there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` to write to; renamed to it at the end, removed after an error.

    Raises FileNotFoundError, IsADirectoryError where `path` cannot be a file, before anything is made for it.
    """
    if not path.parent.is_dir():
        raise FileNotFoundError(f"no folder {path.parent} to write {path.name} to; make it first")
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
