# SPDX-License-Identifier: Apache-2.0
"""Videos packed in tar files, as WebDataset lays them out, read in place like those of a folder.

    python -m smnoise.data.tars SHARDS        # write down once what is where: shard-0000.tar.index.json, ...

A video in a tar has a path: that of the tar, and its name in it, "shards/shard-0000.tar/clip-17.mp4". So clip n is a
function of n as it is for files, in any order, and nothing is unpacked. Where its bytes lie is known from the headers
of the tar, which are read once in each process, or from the index beside it, which spares that: a header is a seek.

Of labels there is what WebDataset keeps beside a sample: of clip-17.mp4 the text of clip-17.cls.
"""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import tyro

from ..errors import DataError
from ..files import write_text
from ..programs import command_line

SUFFIX, INDEX, VERSION = ".tar", ".index.json", 1
MOST_LABEL_BYTES = 1 << 10


@dataclass(frozen=True)
class Place:
    """Where the bytes of a file in a tar lie."""

    tar: Path
    begin: int
    size: int

    @property
    def address(self) -> str:
        """The address by which FFmpeg opens the file, with its protocol subfile."""
        return f"subfile,,start,{self.begin},end,{self.begin + self.size},,:{self.tar}"


def is_tar(path: Path) -> bool:
    """Whether a path is that of a tar file."""
    return path.suffix.lower() == SUFFIX


def members(tar: Path) -> dict[str, Place]:
    """The files in a tar by their names, in its order; a name that comes again is the last one, as in unpacking.

    Raises DataError for what is no plain tar, or one that breaks off.
    """
    try:
        status = os.stat(tar)
    except OSError as error:
        raise DataError(f"{tar}: {error.strerror}") from None
    return _members(tar, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=1024)
def _members(tar: Path, size: int, changed: int) -> dict[str, Place]:
    entries = _indexed(tar, size)
    if entries is None:
        entries = _scanned(tar, size)
    return {name: Place(tar, begin, count) for name, begin, count in entries}


def _indexed(tar: Path, size: int) -> list[tuple[str, int, int]] | None:
    """What the index beside a tar says; None where there is none, or it is of another tar."""
    try:
        index = json.loads(_index_of(tar).read_text())
        if index["version"] != VERSION or index["size"] != size:
            return None
        found = [(str(name), int(begin), int(count)) for name, begin, count in index["files"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    inside = all(0 <= begin <= begin + count <= size for _, begin, count in found)
    return found if inside else None


def _scanned(tar: Path, size: int) -> list[tuple[str, int, int]]:
    found = []
    try:
        with tarfile.open(tar, "r:") as archive:
            for member in archive:
                if member.isreg() and not member.issparse():
                    found.append((member.name.removeprefix("./"), member.offset_data, member.size))
    except (tarfile.TarError, OSError, ValueError, OverflowError) as error:
        hint = "; a compressed one cannot be read in place: unpack it" if _is_compressed(tar) else ""
        raise DataError(f"{tar} is no whole tar ({error}){hint}") from None
    if found and found[-1][1] + found[-1][2] > size:
        raise DataError(f"{tar} breaks off in {found[-1][0]}; fetch it again")
    return found


def _is_compressed(tar: Path) -> bool:
    try:
        with open(tar, "rb") as stream:
            head = stream.read(6)
    except OSError:
        return False
    return head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"))


def _index_of(tar: Path) -> Path:
    return tar.with_name(tar.name + INDEX)


def paths_in(tar: Path) -> Iterator[Path]:
    """The paths of the files in a tar."""
    return (tar / name for name in members(tar))


def place_of(path: Path) -> Place | None:
    """Where a path leads that goes into a tar; None for any other. Raises DataError where the tar has no such file."""
    for tar in path.parents:
        if is_tar(tar) and tar.is_file():
            name = path.relative_to(tar).as_posix()
            if (place := members(tar).get(name)) is None:
                raise DataError(f"{tar} has no {name}")
            return place
    return None


def is_file(path: Path) -> bool:
    """Whether there is a file of that path, in a tar or by itself. A tar itself is none: it is a folder of files."""
    try:
        return place_of(path) is not None or path.is_file()
    except (DataError, OSError):
        return False


def size_of(path: Path) -> int:
    """Bytes of a file, in a tar or by itself. Raises OSError or DataError where there is none."""
    place = place_of(path)
    return os.path.getsize(path) if place is None else place.size


def label_of(path: Path) -> str | None:
    """The text of the .cls file beside a file in a tar; None for a file that is in none.

    Raises DataError where there is no label.
    """
    if (place := place_of(path)) is None:
        return None
    name = path.relative_to(place.tar)
    beside = name.with_name(name.name.split(".", 1)[0] + ".cls").as_posix()
    label = members(place.tar).get(beside)
    if label is None or label.size > MOST_LABEL_BYTES:
        raise DataError(
            f"{path} has no label: {place.tar.name} holds no {beside}"
            + (" of a text's size" if label else "")
        )
    with open(place.tar, "rb") as stream:
        stream.seek(label.begin)
        text = stream.read(label.size).decode("utf-8", "replace").strip()
    if not text:
        raise DataError(f"{path} has no label: {beside} of {place.tar.name} is empty")
    return text


def write_index(tar: Path) -> int:
    """Write down where the files of a tar lie; how many there are. Raises DataError for what is no whole tar."""
    size = tar.stat().st_size
    files = _scanned(tar, size)
    write_text(_index_of(tar), json.dumps({"version": VERSION, "size": size, "files": files}))
    return len(files)


@dataclass(frozen=True)
class Config:
    """Write an index beside each tar file of a folder."""

    shards: tyro.conf.Positional[Path]
    """Folder with tar files, or one of them."""


def main() -> None:
    try:
        shards = command_line(Config, description=__doc__, prog="python -m smnoise.data.tars").shards
        tars = (
            [shards]
            if shards.is_file()
            else sorted(p for p in shards.rglob("*") if is_tar(p) and p.is_file())
        )
        if not tars:
            raise DataError(f"no .tar in {shards}")
        for tar in tars:
            print(f"{tar}: {write_index(tar)} files")
    except (ValueError, OSError, RuntimeError) as error:
        raise SystemExit(f"smnoise: {error}") from error


if __name__ == "__main__":
    main()
