# SPDX-License-Identifier: Apache-2.0
"""Pools in files: safetensors with one tensor, and a header that says what it is and what it hashes to.

The header is JSON text under the key "pool"; beside it, "sha256" is the hash of that text and of the tensor's bytes.
"""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from pathlib import Path

from ..errors import PoolError
from ..files import replace_file
from .pool import CONTRACT, FORMAT, VERSION, MaskPool, NoisePool, Pool, canonical

MOST_BYTES = 64 << 30
DTYPES = {"masks": "U8", "noise": "F32"}
FIELDS = {"format", "version", "contract", "kind", "patterns", "size", "num_visible", "periodic", "source"}
REBUILD = "fetch the file again, or build the pool anew"


def save(pool: Pool, path: Path | str) -> None:
    """Write a pool to a file, whole or not at all: an older one stays until the new one is complete.

    Raises PoolError where it cannot be written.
    """
    if not isinstance(pool, Pool):
        raise TypeError(f"pool must be a MaskPool or a NoisePool, got {type(pool).__name__}")
    safetensors = _safetensors()
    path = Path(path)
    text = {"pool": canonical(pool.header()), "sha256": pool.sha256}
    try:
        with replace_file(path) as temporary:
            safetensors.torch.save_file({"data": pool.data}, temporary, metadata=text)
            with temporary.open("rb") as stream:
                os.fsync(stream.fileno())
    except (OSError, safetensors.SafetensorError) as error:
        raise PoolError(
            f"cannot write pool {path}: {error}; a file of that name is as it was before"
        ) from error


def load(path: Path | str, *, max_bytes: int = MOST_BYTES) -> Pool:
    """Load the pool of a file that `save` wrote.

    Raises PoolError, with what is wrong and what to do, for a file that is damaged, of another kind, another version,
    or larger than max_bytes; OSError for one that is not there or cannot be opened.
    """
    with _opened(path, max_bytes) as (stored, header, digest):
        data = stored.get_tensor("data").clone()  # what is hashed must not be the file, which may change
        pool: Pool
        try:
            if header["kind"] == "masks":
                pool = MaskPool(
                    data,
                    header["size"],
                    header["num_visible"],
                    periodic=header["periodic"],
                    source=header["source"],
                )
            else:
                pool = NoisePool(data, periodic=header["periodic"], source=header["source"])
        except (KeyError, TypeError, ValueError) as error:
            raise PoolError(f"{path} is damaged: {error}; {REBUILD}") from error
        if pool.header() != header or pool.sha256 != digest:
            raise PoolError(f"{path} is damaged or altered: its sha256 is not the one it names; {REBUILD}")
    return pool


def info(path: Path | str, *, max_bytes: int = MOST_BYTES) -> dict:
    """Return what a file says of its pool: `Pool.header`, with sha256 and bytes, the file's size. The data is not read,
    and so not checked: `load` does that. Errors are those of `load`.
    """
    with _opened(path, max_bytes) as (_, header, digest):
        return {**header, "sha256": digest, "bytes": Path(path).stat().st_size}


@contextmanager
def _opened(path: Path | str, max_bytes: int):
    """The open file, its header and its hash; all but the data checked."""
    safetensors, path = _safetensors(), Path(path)
    with path.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
    if size > max_bytes:
        raise PoolError(f"{path} has {size} bytes, more than the limit of {max_bytes}; raise max_bytes")
    try:
        with safetensors.safe_open(path, framework="pt") as stored:
            header, digest = _header(path, stored.metadata() or {})
            names = sorted(stored.keys())
            if names != ["data"]:
                raise PoolError(f"{path} must hold one tensor, data; it holds {names[:5]}; {REBUILD}")
            data = stored.get_slice("data")
            if data.get_dtype() != DTYPES[header["kind"]] or data.get_shape()[:1] != [header["patterns"]]:
                raise PoolError(
                    f"{path} must hold {header['patterns']} patterns of {DTYPES[header['kind']]}, it holds "
                    f"{data.get_dtype()} {data.get_shape()}; {REBUILD}"
                )
            yield stored, header, digest
    except safetensors.SafetensorError as error:
        raise PoolError(f"{path} is not a whole safetensors file: {error}; {REBUILD}") from error


def _header(path: Path, metadata: dict[str, str]) -> tuple[dict, str]:
    try:
        header, digest = json.loads(metadata["pool"]), metadata["sha256"]
        known = isinstance(header, dict) and header["format"] == FORMAT
        version, contract = header["version"], header["contract"]
    except (KeyError, TypeError, ValueError, RecursionError):
        known = False
    if not known:
        raise PoolError(
            f"{path} is a safetensors file but no pool of smnoise; pools are written by pools.save"
        )
    for what, found, wanted in (("version", version, VERSION), ("contract", contract, CONTRACT)):
        if found != wanted or isinstance(found, bool):
            raise PoolError(
                f"{path} is a pool of {what} {found!r}, and this smnoise reads {wanted}: "
                "use the smnoise that wrote it, or build the pool anew"
            )
    if set(header) != FIELDS or header["kind"] not in tuple(DTYPES):
        raise PoolError(f"{path} is damaged: no header has {header!r:.300}; {REBUILD}")
    return header, digest


def _safetensors():
    try:
        import safetensors.torch
    except ImportError:
        raise ImportError("files of pools need safetensors: pip install safetensors") from None
    return safetensors
