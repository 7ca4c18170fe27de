# SPDX-License-Identifier: Apache-2.0
"""Pickled checkpoints, read by torch.load(weights_only=True) alone, after a look at what they ask for."""

from __future__ import annotations

import io
import pickletools
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import IO, Any

import torch
from torch import Tensor

from ..errors import CheckpointError
from . import archives
from .stand_ins import TENSORS, Inert, Keyed, Listed, full_name, is_value, stand_in

SAFE_TORCH = (2, 10)
PROTOCOL = 2  # the one that torch.save uses, and its safe reader knows
LEGACY_PICKLES = 4  # magic number, version, system, and the object
# torch's errors where it is to fill what is no plain dict or list.
FILLED = re.compile(
    r"Can only (SETITEM|append|extend).*but got <class 'smnoise\.convert\.stand_ins\.([^']+)'>"
)
_lock = threading.Lock()


def unpickled(path: Path, max_bytes: int) -> object:
    """What torch.save wrote to a file: tensors, plain containers, and stand-ins for all else.

    Raises CheckpointError for what is unsafe, damaged, or of another program.
    """
    version = tuple(int(n) for n in re.findall(r"\d+", torch.__version__)[:2])
    if version < SAFE_TORCH:
        raise CheckpointError(
            f"{path} is a pickle, which torch {torch.__version__} does not read safely: weights_only=True could run "
            "code before 2.6 (CVE-2025-32434) and corrupt memory before 2.10 (CVE-2026-24747); update torch"
        )
    try:
        names, tensors = _asked_for(path, max_bytes)
        loaded = _loaded(path, {name: stand_in(name) for name in names if not TENSORS.fullmatch(name)})
    except CheckpointError:
        raise
    except Exception as error:  # bytes of strangers can fail in any way
        raise _refused(path, _reason(error)) from error
    _check_bytes(path, loaded, tensors)
    return loaded


def _asked_for(path: Path, max_bytes: int) -> tuple[set[str], int]:
    """The names in a file's pickles, and how many bytes its tensors can have."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        if stream.read(4) == archives.MAGIC:
            data, tensors = archives.pickle_of(path, max_bytes)
            names = _names(path, io.BytesIO(data))
            _check_names(path, names)
            return names, tensors
        stream.seek(0)
        names = set()
        for number in range(LEGACY_PICKLES):
            try:
                names |= _names(path, stream)
            except ValueError as error:
                if number == 0 or stream.tell() < size:
                    raise
                raise _refused(path, "it is a pickle, but not of torch.save; write it with that") from error
            _check_names(path, names)  # what a first pickle asks for is said, also where no other follows
        return names, size - stream.tell()


def _names(path: Path, stream: IO[bytes]) -> set[str]:
    """The globals of one pickle. Nothing of it is run."""
    names, begin = set(), stream.tell()
    for opcode, argument, _ in pickletools.genops(stream):
        if opcode.proto > PROTOCOL:
            raise _refused(
                path,
                f"it is written in pickle's protocol {opcode.proto} or later, and torch reads {PROTOCOL} safely; in "
                "the program that wrote it leave torch.save's pickle_protocol as it is",
            )
        if opcode.name in ("GLOBAL", "INST"):
            names.add(full_name(*str(argument).split(" ", 1)))
        if stream.tell() - begin > archives.MOST_PICKLE_BYTES:
            raise _refused(path, f"its pickle has more than {archives.MOST_PICKLE_BYTES} bytes")
    return names


def _check_names(path: Path, names: set[str]) -> None:
    """Raises CheckpointError for names that no checkpoint needs."""
    for name in sorted(names):
        if TENSORS.fullmatch(name) or is_value(name):
            continue
        if name.startswith(("torch.nn.", "torch.jit.", "torch.fx.")):
            raise _refused(
                path,
                f"it asks for {name}: it is a whole pickled model, which is a program; save the model's state_dict() "
                "in the program that made it",
            )
        raise _refused(path, f"it asks for {name}, of which no weights are made")


def _loaded(path: Path, kinds: dict[str, type]) -> object:
    """What torch reads, with those classes for names that it does not bring along. Which of them are dicts and lists it
    tells when it is to fill them."""
    for _ in range(2 * len(kinds) + 1):
        try:
            known = [(kind, name) for name, kind in kinds.items()]
            # As a stream, since torch takes a path's suffix for what the file is.
            with path.open("rb") as stream, _known(known), warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Detected pickle protocol")
                return torch.load(stream, map_location="cpu", weights_only=True)
        except UnpicklingError as error:
            found = FILLED.search(str(error))
            if not found or found[2] not in kinds or not issubclass(kinds[found[2]], Inert):
                raise
            kinds[found[2]] = stand_in(found[2], Keyed if found[1] == "SETITEM" else Listed)
    raise _refused(path, "it holds containers of unknown kinds; save the state_dict alone")


@contextmanager
def _known(kinds: list[tuple[Any, str]]) -> Iterator[None]:
    """torch's reader knows these, in place of what else has those names. torch's list is the process's: it is left as
    it was, and two threads do not change it at once."""
    names = {name for _, name in kinds}
    with _lock:
        before = torch.serialization.get_safe_globals()
        others = [known for known in before if _name_of(known) not in names]
        _set_known([*others, *kinds])
        try:
            yield
        finally:
            added = [known for known in torch.serialization.get_safe_globals() if known not in kinds]
            _set_known(list({*before, *added}))


def _set_known(known: list) -> None:
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals(known)


def _name_of(known: Any) -> str:
    return known[1] if isinstance(known, tuple) else f"{known.__module__}.{known.__qualname__}"


def _check_bytes(path: Path, loaded: object, tensors: int) -> None:
    """Whether the tensors have no more memory than the file gave: torch makes up, from nothing, what a shape claims
    beyond the bytes that there are."""
    memory = {}
    for tensor in _tensors_in(loaded):
        if tensor.layout == torch.strided and tensor.device.type == "cpu":
            storage = tensor.untyped_storage()
            memory[storage.data_ptr()] = storage.nbytes()
    if sum(memory.values()) > tensors:
        raise CheckpointError(
            f"{path} claims tensors of {sum(memory.values())} bytes, but holds {tensors}; fetch it again"
        )


def _tensors_in(loaded: object) -> Iterator[Tensor]:
    seen, left = set(), [loaded]
    while left:
        item = left.pop()
        if isinstance(item, Tensor):
            yield item
        elif isinstance(item, (dict, list, tuple)) and id(item) not in seen:
            seen.add(id(item))
            left.extend(item.values() if isinstance(item, dict) else item)


def _refused(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(f"{path} was refused or is damaged; nothing in it was run: {reason}")


def _reason(error: Exception) -> str:
    """One line of an error of torch.load, without its advice to switch the protection off."""
    text = str(error) or repr(error)
    if found := re.search(r"Unsupported operand (\d+)", text):
        return (
            f"it has an instruction of pickle, {found[1]}, that torch does not read safely; in the program that wrote "
            f"it leave pickle_protocol as it is ({PROTOCOL})"
        )
    if "Can only" in text:
        return "it holds containers of unknown kinds; save the state_dict alone"
    return type(error).__name__ if "weights_only" in text else text.splitlines()[0]
