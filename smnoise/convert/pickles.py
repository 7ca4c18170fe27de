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
from typing import IO, Any

import torch
from torch import Tensor

from ..errors import CheckpointError
from . import archives
from .stand_ins import TENSORS, full_name, stand_in

SAFE_TORCH = (2, 10)
PROTOCOL = 2  # the one that torch.save uses, and its safe reader knows
LEGACY_PICKLES = 4  # magic number, version, system, and the object
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
        kinds = _stand_ins(path, names)
        with _known(kinds), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Detected pickle protocol")
            loaded = torch.load(path, map_location="cpu", weights_only=True)
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
            return _names(path, io.BytesIO(data)), tensors
        stream.seek(0)
        names: set[str] = set()
        for number in range(LEGACY_PICKLES):
            try:
                names |= _names(path, stream)
            except ValueError as error:
                if number == 0 or stream.tell() < size:
                    raise
                raise _refused(path, "it is a pickle, but not of torch.save; write it with that") from error
            _stand_ins(path, names)  # what a first pickle asks for is said, also where no other follows
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


def _stand_ins(path: Path, names: set[str]) -> list[tuple[Any, str]]:
    """What torch is to take for the names that it does not bring along. Raises CheckpointError for those that no
    checkpoint needs."""
    kinds: list[tuple[Any, str]] = []
    for name in sorted(names):
        if TENSORS.fullmatch(name):
            continue
        kind = stand_in(name)
        if kind is not None:
            kinds.append((kind, name))
        elif name.startswith(("torch.nn.", "torch.jit.", "torch.fx.")):
            raise _refused(
                path,
                f"it asks for {name}: it is a whole pickled model, which is a program; save the model's state_dict() "
                "in the program that made it",
            )
        else:
            raise _refused(path, f"it asks for {name}, of which no weights are made")
    return kinds


@contextmanager
def _known(kinds: list[tuple[Any, str]]) -> Iterator[None]:
    """torch's reader knows these, in place of what else has those names. torch's list is the process's: it is left as it
    was, and two threads do not change it at once."""
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
        return f"it has an instruction of pickle, {found[1]}, that no protocol {PROTOCOL} writes; write it anew there"
    if found := re.search(r"Can only (\w+) (?:for|to) .* but got (.*)", text):
        return f"it has a container of an unknown kind, {found[2]}; save the state_dict alone"
    return type(error).__name__ if "weights_only" in text else text.splitlines()[0]
