# SPDX-License-Identifier: Apache-2.0
"""The state dict of a file, or of a folder of such files; and what they are where they hold none."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..errors import CheckpointError
from . import looks
from .pickles import unpickled

MOST_TENSORS = 100_000
MOST_CONFIG_BYTES = 1 << 20
MOST_HEADER_BYTES = 32 << 20  # of safetensors and of an index; some 300 for each tensor
SUFFIXES = (
    ".safetensors",
    ".pth",
    ".pt",
    ".bin",
    ".ckpt",
    ".tar",
)  # the content decides; .tar is for .pth.tar
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
# What official checkpoints and trainers keep the weights under, one within the other at times.
CONTAINERS = ("model", "module", "state_dict", "model_state_dict", "model_ema")
DEPTH = 4
PLAIN_NAME = re.compile(r"[\w-][\w.-]*")  # of a file in the same folder


def of_file(path: Path, max_bytes: int) -> tuple[dict[str, Tensor], dict | None, list[str]]:
    """The tensors of a file, the config that smnoise wrote beside them, and which of several weights they are.

    Raises CheckpointError for what is unsafe, damaged, too large or without weights, OSError for what is not there.
    """
    if (size := path.stat().st_size) > max_bytes:
        raise CheckpointError(f"{path} has {size} bytes, more than the limit of {max_bytes}; raise the limit")
    if not path.is_file() or path.suffix not in SUFFIXES:
        raise CheckpointError(f"{path} must be a folder, or end in {', '.join(SUFFIXES)}")
    config, notes = None, list[str]()
    if looks.form_of(path) == "safetensors":
        state = _safetensors(path)
    else:
        loaded = unpickled(path, max_bytes)
        state, notes = _contained(loaded, path)
        if isinstance(loaded, dict) and isinstance(loaded.get("smnoise"), dict):
            config = loaded["smnoise"]
    tensors = [value for value in state.values() if isinstance(value, Tensor)]
    # A tensor can claim to be larger than its memory by strides of 0; joining it would make it so.
    claimed = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    if len(tensors) > MOST_TENSORS or claimed > max_bytes:
        raise CheckpointError(
            f"{path} claims {len(tensors)} tensors of {claimed} bytes, more than {MOST_TENSORS} or {max_bytes}"
        )
    if any(tensor.device.type != "cpu" for tensor in tensors):
        raise CheckpointError(f"{path} has tensors without values (meta tensors); save the trained weights")
    return state, config, notes


def has_weights(folder: Path) -> bool:
    """Whether `of_folder` finds files there."""
    return any((folder / name).is_file() or (folder / f"{name}.index.json").is_file() for name in WEIGHTS)


def of_folder(path: Path, max_bytes: int) -> dict[str, Tensor]:
    """The tensors of a folder's weights, in one file or in the parts of an index. Errors are those of `of_file`."""
    for name in WEIGHTS:
        if (path / name).is_file():
            return of_file(path / name, max_bytes)[0]
        if (path / f"{name}.index.json").is_file():
            return _of_parts(path, path / f"{name}.index.json", max_bytes)
    raise CheckpointError(f"{path} has neither {' nor '.join(WEIGHTS)}{_other_folder(path)}")


def json_of(path: Path, most: int = MOST_CONFIG_BYTES) -> dict:
    """The object in a file of JSON. Raises CheckpointError where there is none, or it is larger than any config."""
    if path.stat().st_size > most:
        raise CheckpointError(f"{path} has more than {most} bytes, which no config has")
    try:
        text = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        what = looks.like(path.read_bytes()[:512], path.stat().st_size)
        detail = f"it is {what}" if what else error
        raise CheckpointError(f"{path} is not JSON: {detail}") from error
    if not isinstance(text, dict):
        raise CheckpointError(f"{path} must hold an object, holds a {type(text).__name__}")
    return text


def _safetensors(path: Path) -> dict[str, Tensor]:
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
    if length > MOST_HEADER_BYTES:
        raise CheckpointError(
            f"{path} is not a whole safetensors file: its header has {length} bytes, more than {MOST_HEADER_BYTES}"
        )
    try:
        return load_file(path)
    except (SafetensorError, ValueError, LookupError, RuntimeError, MemoryError) as error:
        raise CheckpointError(f"{path} is not a whole safetensors file: {error}; fetch it again") from error


def _of_parts(folder: Path, index: Path, max_bytes: int) -> dict[str, Tensor]:
    """All tensors of an index, each from the file that it is listed under. Nothing outside the folder is opened."""
    places = json_of(index, MOST_HEADER_BYTES).get("weight_map")
    if not isinstance(places, dict) or not places or not all(isinstance(v, str) for v in places.values()):
        raise CheckpointError(f"{index} has no weight_map of names and files")
    names = sorted(set(places.values()))
    for name in names:
        if not PLAIN_NAME.fullmatch(name):
            raise CheckpointError(f"{index} lists {name!r}, which is no name of a file in its folder")
    if absent := [name for name in names if not (folder / name).is_file()]:
        raise CheckpointError(
            f"{index} lists {len(names)} files, of which {', '.join(absent[:5])} are not there"
        )
    if (size := sum((folder / name).stat().st_size for name in names)) > max_bytes:
        raise CheckpointError(
            f"the files of {index} have {size} bytes, more than the limit of {max_bytes}; raise the limit"
        )
    found: dict[str, Tensor] = {}
    for name in names:
        state, wanted = of_file(folder / name, max_bytes)[0], {k for k, v in places.items() if v == name}
        if state.keys() != wanted:
            odd = ", ".join(sorted(map(str, state.keys() ^ wanted))[:5])
            raise CheckpointError(
                f"{folder / name} is not the file that {index.name} lists: they differ in {odd}"
            )
        found |= state
    return found


def _contained(loaded: Any, path: Path) -> tuple[dict, list[str]]:
    """The state dict within what was loaded, and a note where there are several. Raises CheckpointError,
    with what it is, where there is none."""
    top, notes = loaded, []
    for _ in range(DEPTH):
        inner = [
            name for name in CONTAINERS if isinstance(loaded, dict) and isinstance(loaded.get(name), dict)
        ]
        if not inner:
            break
        if others := [name for name in inner[1:] if loaded[name]]:
            notes.append(f"read from {inner[0]!r}; the file also has {', '.join(map(repr, others))}")
        loaded = loaded[inner[0]]
    if not isinstance(loaded, dict):
        raise CheckpointError(f"{path} holds a {type(loaded).__name__}, not a dict of tensors")
    tensors = [value for value in loaded.values() if isinstance(value, Tensor)]
    if not tensors:
        raise CheckpointError(f"{path} holds no weights: {_without_weights(top)}")
    if not any(tensor.numel() for tensor in tensors):
        raise CheckpointError(
            f"{path} holds names without weights, as DeepSpeed's ZeRO stage 3 leaves them, which spreads the weights "
            "over other files; join them with the zero_to_fp32.py beside it"
        )
    return loaded, notes


def _without_weights(top: dict) -> str:
    keys = set(top)
    if {"state", "param_groups"} <= keys:
        return "it is the state of an optimiser; name the file of the model"
    if "optimizer_state_dict" in keys:
        return "it is an optimiser's part of a DeepSpeed checkpoint; name the mp_rank_00_model_states.pt beside it"
    if {"encoder", "predictor"} <= keys:
        return "it is of a V-JEPA or I-JEPA, of which none can be converted"
    if "optimizer" in keys:
        return "it has an optimiser, but no model; name the file of the model"
    some = ", ".join(sorted(map(str, keys))[:8]) or "nothing"
    return f"they are looked for under {', '.join(CONTAINERS)}, and it has {some}"


def _other_folder(path: Path) -> str:
    """What a folder without weights is, as the rest of a sentence."""
    names = sorted(entry.name for entry in path.iterdir())
    parts = [name for name in names if name.endswith("_model_states.pt")]
    if [name for name in parts if name.startswith("zero_pp_rank")]:
        return "; it is a DeepSpeed checkpoint of ZeRO stage 3: join it with its zero_to_fp32.py, and name the file"
    if parts:
        return f"; it is a DeepSpeed checkpoint: name {path / parts[0]}"
    if steps := [name for name in names if (path / name).is_dir() and re.fullmatch(r"global_step\d+", name)]:
        return f"; it holds DeepSpeed checkpoints: name one of them, such as {path / steps[-1]}"
    if any(name.endswith(".distcp") for name in names):
        return (
            "; it is a checkpoint of torch.distributed: join it with python -m "
            "torch.distributed.checkpoint.format_utils dcp_to_torch, and name the file"
        )
    if any(name.startswith("shard-") for name in names):
        return "; it looks as a checkpoint of smnoise without its manifest.json, so it is not whole: fetch it again"
    for other in ("tf_model.h5", "flax_model.msgpack", "saved_model.pb"):
        if other in names:
            return f"; {other} is of another framework, and weights of PyTorch are needed"
    if "log.jsonl" in names:
        return "; it is a run that has no checkpoint yet"
    if files := [name for name in names if name.endswith(SUFFIXES)]:
        return f"; name a file of it, such as {path / files[0]}"
    return f"; it holds {', '.join(names[:5]) or 'nothing'}"
