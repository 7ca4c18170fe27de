# SPDX-License-Identifier: Apache-2.0
"""ColorMAE's pools: .npz archives of one stack of noise, [patterns, height, width]. Its code shows the largest values,
as smnoise does."""

from __future__ import annotations

import math
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch

from ..errors import PoolError
from .pool import NoisePool

MOST_BYTES = 8 << 30
MOST_ENTRIES = 1000
DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    ValueError,
    RuntimeError,
)  # by zipfile
EXACT = ("f2", "f4", "u1", "i1", "u2", "i2")  # what float32 holds without rounding


def load_colormae(path: Path | str, name: str | None = None, *, max_bytes: int = MOST_BYTES) -> NoisePool:
    """The noise of an .npz file as a pool of volumes (1, height, width), for grids (1, H, W).

    path: the archive. Nothing in it is unpickled.
    name: of the array; may be left out where there is only one.
    max_bytes: the most that the array, unpacked, may take.

    float64 is rounded to float32, which may make ties of values that differ by less.

    Raises PoolError, with what is wrong and what to do, for a file that is damaged, too large, or holds something else;
    OSError for one that is not there or cannot be opened.
    """
    path = Path(path)
    with path.open("rb") as stream:
        try:
            with zipfile.ZipFile(stream) as archive:
                entry = _entry(path, archive, name)
                if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise PoolError(
                        f"{entry.filename} of {path} is packed in a way that NumPy does not write"
                    )
                if entry.file_size > max_bytes:
                    raise PoolError(
                        f"{entry.filename} of {path} unpacks to {entry.file_size} bytes, more than the limit of "
                        f"{max_bytes}; raise max_bytes if you trust it"
                    )
                with archive.open(entry) as member:
                    stack = _array(f"{entry.filename} of {path}", member, entry.file_size)
        except PoolError:
            raise
        except DAMAGE as error:
            raise PoolError(f"{path} is no whole .npz file: {error}; fetch it again") from error
    source = {"colormae": path.name, "array": entry.filename.removesuffix(".npy"), "dtype": stack.dtype.name}
    try:
        return NoisePool(torch.from_numpy(stack.astype(np.float32))[:, None], source=source)
    except ValueError as error:
        raise PoolError(f"{path} holds no usable noise: {error}") from error


def _entry(path: Path, archive: zipfile.ZipFile, name: str | None) -> zipfile.ZipInfo:
    arrays = {e.filename.removesuffix(".npy"): e for e in archive.infolist() if e.filename.endswith(".npy")}
    some = ", ".join(sorted(arrays)[:8]) or "none"
    if len(archive.infolist()) > MOST_ENTRIES:
        raise PoolError(f"{path} has {len(archive.infolist())} entries; a pool of ColorMAE has one")
    if name is None and len(arrays) != 1:
        raise PoolError(f"{path} must hold one array, or give its name; it has: {some}")
    if name is not None and name not in arrays:
        raise PoolError(f"{path} has no array {name!r}; it has: {some}")
    return arrays[name] if name is not None else next(iter(arrays.values()))


def _array(what: str, member, size: int) -> np.ndarray:
    """The array, read no further than its header where that is not one of a stack of numbers."""
    try:
        version = np.lib.format.read_magic(member)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        shape, by_columns, dtype = read_header[version](member)
    except (
        Exception
    ) as error:  # the header is a Python literal, of which ast and tokenize refuse in many ways
        raise PoolError(f"{what} is no array: {error}; fetch it again") from error
    if dtype.str[1:] not in (*EXACT, "f8"):
        raise PoolError(f"{what} must hold floats or 8 or 16 bit integers, not {dtype}")
    if len(shape) != 3 or min(shape) < 1:
        raise PoolError(f"{what} must have shape [patterns, height, width], not {list(shape)}")
    if math.prod(shape) * dtype.itemsize != size - member.tell():
        raise PoolError(f"{what} claims {list(shape)} of {dtype}, but has {size} bytes; fetch it again")
    values = np.empty(math.prod(shape), dtype)
    into, at = values.view(np.uint8).data, 0
    while count := member.readinto(into[at : at + (1 << 20)]):
        at += count
    if at != values.nbytes:
        raise PoolError(f"{what} ends after {at} of {values.nbytes} bytes; fetch it again")
    return values.reshape(shape[::-1]).T if by_columns else values.reshape(shape)
