# SPDX-License-Identifier: Apache-2.0
"""The zip archives that torch.save writes, checked before torch opens them: nothing is compressed, so that no file can
unpack to more than it has."""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path
from typing import IO, NamedTuple

from .. import zips
from ..errors import CheckpointError

MAGIC = b"PK\x03\x04"
LOCAL = struct.Struct("<4s5H3L2H")  # the record before each entry's bytes
MOST_PICKLE_BYTES = 64 << 20
MOST_LIST_BYTES = 64 << 20  # some 100 for each tensor
NEVER = "; torch.save writes no such file, so it is damaged, or was packed by another program: write it anew there"


class Place(NamedTuple):
    """Where the bytes of an entry lie in the file."""

    begin: int
    size: int
    checksum: int


def pickle_of(path: Path, max_bytes: int) -> tuple[bytes, int]:
    """The pickle of an archive, and how many bytes its tensors have. Raises CheckpointError where the archive is not as
    torch.save writes them."""
    try:
        with path.open("rb") as stream:
            start, length = zips.directory(stream)
        if length > MOST_LIST_BYTES:
            raise CheckpointError(
                f"{path} lists entries in {length} bytes, more than {MOST_LIST_BYTES} for weights"
            )
        with zipfile.ZipFile(path) as archive:
            if archive.start_dir != start:
                raise CheckpointError(f"{path} has two lists of entries{NEVER}")
            entries, names = archive.infolist(), archive.namelist()
            if not entries:
                raise CheckpointError(f"{path} is an empty zip archive; fetch it again")
            if (unpacked := sum(entry.file_size for entry in entries)) > max_bytes:
                raise CheckpointError(
                    f"{path}: unpacked it has {unpacked} bytes, more than the limit of {max_bytes}"
                )
            folder = names[0].partition("/")[0]
            name = f"{folder}/data.pkl"
            if f"{folder}/constants.pkl" in names:
                raise CheckpointError(
                    f"{path} is a TorchScript archive, a program; save the model's state_dict() with torch.save"
                )
            if name not in names:
                raise CheckpointError(
                    f"{path} is a zip archive, but none of torch.save: it holds {', '.join(names[:5])}; unpack it, and "
                    "name what is in it"
                )
            places = _places(path, archive, entries)
            if (size := places[name].size) > MOST_PICKLE_BYTES:
                raise CheckpointError(
                    f"{path} holds a pickle of {size} bytes, more than {MOST_PICKLE_BYTES} that any weights need"
                )
        with path.open("rb") as stream:
            if any(place.checksum for place in places.values()):  # torch can be told to write none
                _check_sums(path, stream, places)
            stream.seek(places[name].begin)
            tensors = sum(place.size for at, place in places.items() if at.startswith(f"{folder}/data/"))
            return stream.read(size), tensors
    except CheckpointError:
        raise
    except Exception as error:  # bytes of strangers can fail in any way
        raise CheckpointError(
            f"{path} begins as a zip archive, but is not a whole one: {error}; fetch it again"
        ) from error


def _places(path: Path, archive: zipfile.ZipFile, entries: list[zipfile.ZipInfo]) -> dict[str, Place]:
    """Where each entry is. Raises CheckpointError unless all are stored, one after the other, before the list."""
    places: dict[str, Place] = {}
    with path.open("rb") as stream:
        end = 0
        for entry in sorted(entries, key=lambda e: e.header_offset):
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
                raise CheckpointError(f"{path} has a compressed entry, {entry.filename}{NEVER}")
            if entry.flag_bits & 1:
                raise CheckpointError(f"{path} has an encrypted entry, {entry.filename}{NEVER}")
            if entry.filename in places:
                raise CheckpointError(f"{path} has two entries of one name, {entry.filename}{NEVER}")
            stream.seek(entry.header_offset)
            begin = entry.header_offset + LOCAL.size + sum(LOCAL.unpack(stream.read(LOCAL.size))[-2:])
            if entry.header_offset < end or begin + entry.file_size > archive.start_dir:
                raise CheckpointError(f"{path} has entries that overlap, at {entry.filename}{NEVER}")
            end = begin + entry.file_size
            places[entry.filename] = Place(begin, entry.file_size, entry.CRC)
    return places


def _check_sums(path: Path, stream: IO[bytes], places: dict[str, Place]) -> None:
    """torch does not look at the checksums, and would take altered bytes for weights."""
    for name, (begin, size, wanted) in places.items():
        stream.seek(begin)
        found, left = 0, size
        while left and (block := stream.read(min(left, 1 << 22))):
            found, left = zlib.crc32(block, found), left - len(block)
        if found != wanted or left:
            raise CheckpointError(
                f"{path} is damaged: the checksum of {name} is not that of its bytes; fetch it again"
            )
