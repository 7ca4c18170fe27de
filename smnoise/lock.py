# SPDX-License-Identifier: Apache-2.0
"""One process at a time writes into a folder: an operating system's lock on a file in it, which ends with the process.

Of several processes that train together the first one holds it for all. A lock that a killed process left holds nobody
up: it is the system's, not the file's, and a file alone is none.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from pathlib import Path

from .errors import FolderInUseError
from .files import make_folder
from .launched import processes

NAME = ".lock"
NONE_HERE = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL)  # of a file system without locks


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep all other processes, of this machine or, where the file system is shared and knows locks, of another one,
    out of such a block for the same folder. A folder that is missing is made, and taken away again if nothing came into
    it.

    Where the file system knows no locks, that is said on standard error and nothing is held.

    Raises FolderInUseError where another process holds the folder, NotADirectoryError where a file is in the way.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    make_folder(folder)
    path = folder / NAME
    descriptor = _opened(path)
    _open_here.add(descriptor)
    try:
        yield
    finally:
        _open_here.discard(descriptor)
        with suppress(OSError):  # of a folder that somebody removed
            path.unlink()  # before the lock is given up: whoever opened it meanwhile sees that it is another one's
        os.close(descriptor)
        with suppress(OSError):  # not empty
            for made in missing:
                made.rmdir()


def one_at_a_time(train: Callable) -> Callable:
    """A trainer's function train(config, ...) that holds config.out. Of several processes the first one does."""

    @wraps(train)
    def alone(config, *rest, **more):
        if processes() > 1 and int(os.environ["RANK"]) > 0:
            return train(config, *rest, **more)
        with held(config.out):
            return train(config, *rest, **more)

    return alone


def _opened(path: Path) -> int:
    """An open file that has the lock, or is on a file system without. Raises FolderInUseError."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(descriptor, 1024).decode(errors="replace").strip()
            if error.errno in NONE_HERE:
                print(
                    f"smnoise: warning: the file system of {path.parent} has no locks ({error.strerror}), so nothing "
                    "keeps a second process from writing there; start one only",
                    file=sys.stderr,
                )
                return descriptor
            os.close(descriptor)
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
            raise FolderInUseError(
                f"{path.parent} is in use by {holder or 'another process'}; wait until it ends, stop it, or choose "
                "another --out"
            ) from None
        if _is_still(path, descriptor):
            break
        os.close(descriptor)  # its holder ended and took the file away between the two calls
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
    except OSError:  # of a full disk
        os.close(descriptor)
        raise
    return descriptor


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


_open_here: set[int] = set()


def _not_in_children() -> None:
    """A forked process, such as a loader's worker, would hold the lock as long as it lives, after its parent too."""
    for descriptor in _open_here:
        os.close(descriptor)
    _open_here.clear()


os.register_at_fork(after_in_child=_not_in_children)
