# SPDX-License-Identifier: Apache-2.0
"""Zip archives of strangers, before they are opened: Python's zipfile reads the whole list of entries at once."""

from __future__ import annotations

import struct
from typing import IO

END = struct.Struct("<4s4H2LH")
END64 = struct.Struct("<4sQ2H2L4Q")
LOCATOR = struct.Struct("<4sLQL")


def directory(stream: IO[bytes]) -> tuple[int, int]:
    """Where an archive's list of entries begins, and how many bytes it has, as the records at the end tell.

    Raises ValueError where the file does not end with such a record (a comment after it is none that NumPy or torch
    writes).
    """
    size = stream.seek(0, 2)
    stream.seek(max(0, size - END.size - LOCATOR.size - END64.size))
    tail = stream.read()
    if len(tail) < END.size:
        raise ValueError("it is too short for a zip archive")
    mark, *_, length, start, comment = END.unpack(tail[-END.size :])
    if mark != b"PK\x05\x06" or comment:
        raise ValueError("it does not end with a list of entries")
    rest = tail[: -END.size]
    if rest[-LOCATOR.size :].startswith(b"PK\x06\x07") and len(rest) == LOCATOR.size + END64.size:
        mark, *_, length, start = END64.unpack(rest[: END64.size])
        if mark != b"PK\x06\x06":
            raise ValueError("the list of entries is not where it says")
    return start, length
