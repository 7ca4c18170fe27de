# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of models that are spread over processes: each writes what it holds, in safetensors, nothing pickled.

A file tells which part of each tensor it has, so that any number of processes, also a single one, can read them.
Tensors are named model.NAME, and optimizer.NUMBER.NAME by the parameter's number in the optimiser.
"""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp
from safetensors import SafetensorError
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.tensor import DTensor, distribute_tensor

from ...errors import CheckpointError


def is_sharded(model: torch.nn.Module) -> bool:
    """Whether each process holds a part of the weights."""
    return any(isinstance(p, DTensor) for p in model.parameters())


def local(tensor: torch.Tensor) -> torch.Tensor:
    """Return the part of a tensor, of any shape and dtype, that this process holds."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """Return all of a tensor, of any shape and dtype, in all processes."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def placed(tensor: torch.Tensor, target: torch.Tensor | None) -> torch.Tensor:
    """Spread a whole tensor, of any shape and dtype, which all processes have, as `target` is, if that is."""
    if not isinstance(target, DTensor) or tensor.shape != target.shape:
        return tensor
    return distribute_tensor(tensor.to(target.device), target.device_mesh, target.placements)


def write(folder: Path, model: torch.nn.Module, optimizer) -> None:
    """All processes write their parts into a folder. Raises CheckpointError in all where one cannot."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for number, values in optimizer.state_dict()["state"].items():
        tensors.update({f"optimizer.{number}.{name}": tensor for name, tensor in values.items()})
    try:
        dcp.save(tensors, storage_writer=dcp.HuggingFaceStorageWriter(str(folder), save_distributed=True))
    except CheckpointException as error:
        raise CheckpointError(_told(error)) from None


def load(folder: Path, model: torch.nn.Module, optimizer) -> None:
    """All processes read their parts. Raises CheckpointError where the checkpoint is of another model."""
    reader = dcp.HuggingFaceStorageReader(str(folder))
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, found in _described(reader).items():
        part, number, name = key.split(".", 2) if key.startswith("optimizer.") else ("model", "0", key)
        if part == "optimizer" and int(number) < len(parameters):
            like = parameters[int(number)]
            blank = (
                torch.zeros_like(like) if found.size == like.shape else torch.zeros(found.size, device="cpu")
            )
            tensors[key] = state.setdefault(int(number), {})[name] = blank.detach()
    try:
        dcp.load(tensors, storage_reader=reader)
    except CheckpointException as error:
        raise CheckpointError(f"the checkpoint is of another model: {_told(error)}") from None
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def gather(folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """The whole model tensors and optimiser tensors, on the CPU of this process alone."""
    reader = dcp.HuggingFaceStorageReader(str(folder))
    found = _described(reader).items()
    tensors = {key: torch.empty(data.size, dtype=data.properties.dtype, device="cpu") for key, data in found}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled")  # as it should be
        dcp.load(tensors, storage_reader=reader, no_dist=True)
    model, optimizer = (
        {key.removeprefix(part): tensor for key, tensor in tensors.items() if key.startswith(part)}
        for part in ("model.", "optimizer.")
    )
    return model, optimizer


def _described(reader: dcp.HuggingFaceStorageReader) -> dict[str, TensorStorageMetadata]:
    """What a checkpoint says of its tensors, of which alone its files can be. Raises CheckpointError where the parts of
    one do not fill it: the rest would be whatever the memory held."""
    try:
        described = reader.read_metadata().state_dict_metadata
    except (SafetensorError, OSError, ValueError, LookupError, TypeError, RuntimeError) as error:
        raise CheckpointError(
            f"the files of the checkpoint do not say which parts they are: {error!r}"
        ) from error
    found = {key: data for key, data in described.items() if isinstance(data, TensorStorageMetadata)}
    for key, data in found.items():
        # Parts do not overlap, so that their sizes add up; who has the whole of a small tensor is one or many.
        parts: dict[tuple[int, ...], int] = {}
        for chunk in data.chunks:
            at = tuple(chunk.offsets)
            parts[at] = max(math.prod(chunk.sizes), parts.get(at, 0))
        if sum(parts.values()) != math.prod(data.size) or min((0, *data.size)) < 0:
            raise CheckpointError(
                f"the parts of {key} do not fill its shape {list(data.size)}; a file is missing"
            )
    return found


def _told(error: CheckpointException) -> str:
    return "; ".join(f"process {rank}: {failure}" for rank, (failure, _) in sorted(error.failures.items()))
