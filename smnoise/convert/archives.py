# SPDX-License-Identifier: Apache-2.0
"""The zip archives that torch.save writes, checked before torch opens them: nothing is compressed, so that no file can
unpack to more than it has."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

from ..errors import CheckpointError

MAGIC = b"PK\x03\x04"
END = struct.Struct("<4s4H2LH")  # the end record of a zip file
LOCAL = struct.Struct("<4s5H3L2H")  # the record before each entry's bytes
MOST_PICKLE_BYTES = 64 << 20
NEVER = "; torch.save writes no such file, so it is damaged, or was packed by another program: write it anew there"


def pickle_of(path: Path, max_bytes: int) -> tuple[bytes, int]:
    """The pickle of an archive, and how many bytes its tensors have. Raises CheckpointError where the archive is not as
    torch.save writes them."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries, names = archive.infolist(), archive.namelist()
            if not entries:
                raise CheckpointError(f"{path} is an empty zip archive; fetch it again")
            if (unpacked := sum(entry.file_size for entry in entries)) > max_bytes:
                raise CheckpointError(f"{path}: unpacked it has {unpacked} bytes, more than the limit of {max_bytes}")
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
            _check(path, archive, entries)
            size = archive.getinfo(name).file_size
            if size > MOST_PICKLE_BYTES:
                raise CheckpointError(
                    f"{path} holds a pickle of {size} bytes, more than {MOST_PICKLE_BYTES} that any weights need"
                )
            tensors = sum(e.file_size for e in entries if e.filename.startswith(f"{folder}/data/"))
            return archive.read(name), tensors
    except CheckpointError:
        raise
    except Exception as error:  # bytes of strangers can fail in any way
        raise CheckpointError(
            f"{path} begins as a zip archive, but is not a whole one: {error}; fetch it again"
        ) from error


def _check(path: Path, archive: zipfile.ZipFile, entries: list[zipfile.ZipInfo]) -> None:
    """Stored entries alone, one after the other, each inside the file; and one directory, at its end, which is the one
    that torch reads too."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        stream.seek(-END.size, 2)
        mark, *_, start, comment = END.unpack(stream.read())
        if mark != b"PK\x05\x06" or comment or start not in (archive.start_dir, 0xFFFFFFFF):
            raise CheckpointError(f"{path} does not end with its list of entries{NEVER}")
        end = 0
        for entry in sorted(entries, key=lambda e: e.header_offset):
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
                raise CheckpointError(f"{path} has a compressed entry, {entry.filename}{NEVER}")
            if entry.flag_bits & 1:
                raise CheckpointError(f"{path} has an encrypted entry, {entry.filename}{NEVER}")
            stream.seek(entry.header_offset)
            local = LOCAL.unpack(stream.read(LOCAL.size))
            begin = entry.header_offset + LOCAL.size + local[-2] + local[-1]
            if entry.header_offset < end or begin + entry.file_size > archive.start_dir:
                raise CheckpointError(f"{path} has entries that overlap, at {entry.filename}{NEVER}")
            end = begin + entry.file_size
    names = {entry.filename for entry in entries}
    if len(names) < len(entries) or sum(entry.file_size for entry in entries) > size:
        raise CheckpointError(f"{path} has entries of one name{NEVER}")
