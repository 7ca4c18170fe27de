# SPDX-License-Identifier: Apache-2.0
"""ColorMAE's pools: .npz archives of one stack of noise, [patterns, height, width]. Its code shows the largest values,
as smnoise does."""

from __future__ import annotations

import math
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from .. import zips
from ..errors import PoolError
from .pool import NoisePool

MOST_BYTES = 8 << 30
MOST_ENTRIES = 1000
MOST_LIST_BYTES = 1 << 20
SLICE_BYTES = 1 << 20
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
    """Load the noise of one of ColorMAE's .npz files as a pool of volumes (1, height, width), for grids (1, H, W).

    Args:
        path: the archive. Nothing in it is unpickled.
        name: name of the array; may be left out where there is only one.
        max_bytes: the most that the array may take, in the archive unpacked as in the pool, which has 4 bytes a value.
            No more memory is needed than the pool's own.

    float64 is rounded to float32, which may make ties of values that differ by less.

    Raises PoolError, with what is wrong and what to do, for a file that is damaged, too large, or holds something else;
    OSError for one that is not there or cannot be opened.
    """
    path = Path(path)
    with path.open("rb") as stream:
        try:
            if (length := zips.directory(stream)[1]) > MOST_LIST_BYTES:
                raise PoolError(f"{path} lists entries in {length} bytes; a pool of ColorMAE has one entry")
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
                    stack, dtype = _array(f"{entry.filename} of {path}", member, entry.file_size, max_bytes)
        except PoolError:
            raise
        except DAMAGE as error:
            raise PoolError(f"{path} is no whole .npz file: {error}; fetch it again") from error
    source = {"colormae": path.name, "array": entry.filename.removesuffix(".npy"), "dtype": dtype.name}
    try:
        return NoisePool(torch.from_numpy(stack)[:, None], source=source)
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


def _array(what: str, member, size: int, max_bytes: int) -> tuple[np.ndarray, np.dtype]:
    """The array in float32, [patterns, height, width], and its dtype in the file; read no further than its header where
    that is not one of a stack of numbers, or it would have more than max_bytes."""
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
    if (needed := 4 * math.prod(shape)) > max_bytes:
        raise PoolError(
            f"{what} holds {math.prod(shape)} values, {needed} bytes as float32, more than the limit of {max_bytes}; "
            "raise max_bytes if you trust it"
        )
    stack = np.empty(shape, np.float32)
    # In the order of the file, so that slices of it are slices of this.
    into = stack.T if by_columns else stack
    for begin, end in _slices(into.shape, dtype.itemsize):
        values = np.empty((end - begin, *into.shape[1:]), dtype)
        _fill(what, member, values)
        into[begin:end] = values
    return stack, dtype


def _slices(shape: tuple[int, ...], itemsize: int) -> Iterator[tuple[int, int]]:
    """Begins and ends along the first axis, of so many values that their bytes are few."""
    rows = max(1, SLICE_BYTES // (math.prod(shape[1:]) * itemsize))
    for begin in range(0, shape[0], rows):
        yield begin, min(begin + rows, shape[0])


def _fill(what: str, member, values: np.ndarray) -> None:
    into, at = values.reshape(-1).view(np.uint8).data, 0
    while at < len(into):
        count = member.readinto(into[at : at + SLICE_BYTES])
        if not count:
            raise PoolError(f"{what} ends before its last values; fetch it again")
        at += count
