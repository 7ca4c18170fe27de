# SPDX-License-Identifier: Apache-2.0
"""Weights in files: read without running anything in them, written whole or not at all."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..errors import CheckpointError
from ..files import replace_file, sync
from ..train import checkpoint
from . import huggingface
from .architecture import AudioConfig, VideoConfig, from_json, from_recipe, to_json
from .states import Converted, convert_state, detect, unwrapped

MOST_BYTES = 16 << 30
MOST_TENSORS = 100_000
MOST_CONFIG_BYTES = 1 << 20
PICKLED = {".pth", ".pt", ".bin"}
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
CONTAINERS = (
    "model",
    "module",
    "state_dict",
)  # what official checkpoints and trainers keep the weights under
SAFE_TORCH = (2, 10)


@dataclass
class Source:
    """What a file or folder holds."""

    state: dict[str, Tensor]
    config: VideoConfig | AudioConfig | None = None
    options: dict = field(default_factory=dict)
    """For `convert_state`, from Hugging Face's config.json."""
    leftovers: dict[str, Tensor] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read(path: Path | str, *, max_bytes: int = MOST_BYTES) -> Source:
    """Weights of a file (.safetensors, .pth, .pt, .bin), of a folder with model.safetensors or pytorch_model.bin and
    config.json, or of a training run or one of its checkpoints.

    Pickled files go through torch.load(weights_only=True) only, which builds tensors and plain containers and refuses
    all else. Raises CheckpointError for what is unsafe, damaged or too large, OSError for what is not there.
    """
    path = Path(path)
    if (path / checkpoint.FOLDER).is_dir():
        tensors, _, state, wrong = checkpoint.newest(path)
        return Source(tensors, from_recipe(state.get("recipe", {})), notes=wrong)
    if (path / "manifest.json").is_file():
        tensors, _, state = checkpoint.read(path)
        return Source(tensors, from_recipe(state.get("recipe", {})))
    if not path.is_dir():
        return Source(_tensors(path, max_bytes))
    files = [path / name for name in WEIGHTS if (path / name).is_file()]
    if not files:
        raise CheckpointError(f"{path} has neither {' nor '.join(WEIGHTS)}")
    source = Source(_tensors(files[0], max_bytes))
    if (path / "leftovers.safetensors").is_file():
        source.leftovers = _tensors(path / "leftovers.safetensors", max_bytes)
    if (path / "config.json").is_file():
        text = _json(path / "config.json")
        if "smnoise" in text:
            source.config = from_json(text)
        elif detect(unwrapped(source.state)) == ("videomae", "huggingface"):
            source.options = huggingface.options(text, source.notes)
    return source


def write(converted: Converted, out: Path | str) -> None:
    """A new folder with model.safetensors and config.json (and leftovers.safetensors if there are any), or, where out
    ends in .pth, a file as the official programs read it. Raises CheckpointError if it is there or cannot be made."""
    out = Path(out)
    if out.exists():
        raise CheckpointError(f"{out} exists already; choose another name, or remove it first")
    if out.suffix in PICKLED and converted.layout != "official":
        raise CheckpointError(f"only the official layout is written as {out.suffix}; name a folder for {out}")
    # Of the two kinds of config, that layout has one alone.
    config: Callable[[Any], dict] = huggingface.config if converted.layout == "huggingface" else to_json
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        if out.suffix in PICKLED:
            with replace_file(out) as temporary:
                torch.save({"model": converted.state}, temporary)
            return
        with _new_folder(out) as folder:
            # transformers refuses files that do not say which framework wrote them.
            save_file(converted.state, folder / "model.safetensors", {"format": "pt"})
            (folder / "config.json").write_text(json.dumps(config(converted.config), indent=2) + "\n")
            if converted.leftovers:
                save_file(_apart(converted.leftovers), folder / "leftovers.safetensors", {"format": "pt"})
    except (OSError, SafetensorError, RuntimeError) as error:
        raise CheckpointError(f"cannot write {out}: {error}") from error


def convert_files(
    source: Path | str, out: Path | str, to: str = "smnoise", *, max_bytes: int = MOST_BYTES, **options
) -> Converted:
    """Read source, write out in layout `to`; options and errors are those of `convert_state`, `read` and `write`."""
    if Path(out).exists():
        raise CheckpointError(f"{out} exists already; choose another name, or remove it first")
    converted = _convert(source, to, max_bytes, options)
    write(converted, out)
    return converted


def load_model(path: Path | str, *, max_bytes: int = MOST_BYTES, **options) -> torch.nn.Module:
    """The VideoMAE or AudioMAE of a file or folder in any layout, with its weights, in float32 on the CPU.

    What was assumed on the way is not told: use `convert_files`, or `convert_state` for its notes. No random state
    is touched. Options and errors are those of `convert_state` and `read`.
    """
    converted = _convert(path, "smnoise", max_bytes, options)
    with torch.random.fork_rng(devices=[]):
        model = converted.config.build()
    model.load_state_dict(converted.state)
    return model


def _convert(path: Path | str, to: str, max_bytes: int, options: dict) -> Converted:
    source = read(path, max_bytes=max_bytes)
    given = {name: value for name, value in options.items() if value is not None}
    converted = convert_state(
        source.state, to, config=source.config, leftovers=source.leftovers, **source.options | given
    )
    converted.notes = source.notes + converted.notes
    return converted


def _tensors(path: Path, max_bytes: int) -> dict[str, Tensor]:
    size = path.stat().st_size
    if size > max_bytes:
        raise CheckpointError(f"{path} has {size} bytes, more than the limit of {max_bytes}; raise the limit")
    if path.suffix == ".safetensors":
        try:
            state = load_file(path)
        except SafetensorError as error:
            raise CheckpointError(f"{path} is not a whole safetensors file: {error}") from error
    elif path.suffix in PICKLED:
        state = _contained(_unpickled(path, max_bytes), path)
    else:
        raise CheckpointError(
            f"{path} must be a folder, or end in .safetensors or {', '.join(sorted(PICKLED))}"
        )
    tensors = [value for value in state.values() if isinstance(value, Tensor)]
    # A tensor can claim to be larger than its memory by strides of 0; joining it would make it so.
    claimed = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    if len(tensors) > MOST_TENSORS or claimed > max_bytes:
        raise CheckpointError(
            f"{path} claims {len(tensors)} tensors of {claimed} bytes, more than {MOST_TENSORS} or {max_bytes}"
        )
    return state


def _unpickled(path: Path, max_bytes: int) -> object:
    version = tuple(int(n) for n in re.findall(r"\d+", torch.__version__)[:2])
    if version < SAFE_TORCH:
        raise CheckpointError(
            f"{path} is a pickle, which torch {torch.__version__} does not read safely: weights_only=True could run "
            "code before 2.6 (CVE-2025-32434) and corrupt memory before 2.10 (CVE-2026-24747); update torch"
        )
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                unpacked = sum(entry.file_size for entry in archive.infolist())
            if unpacked > max_bytes:
                raise CheckpointError(f"unpacked it has {unpacked} bytes, more than the limit of {max_bytes}")
        # Official checkpoints keep their command line beside the weights: a Namespace only holds values.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # bytes of strangers can fail in any way
        raise CheckpointError(
            f"{path} was refused or is damaged; nothing in it was run: {_reason(error)}"
        ) from error


def _reason(error: Exception) -> str:
    """One line of an error of torch.load, without its advice to switch the protection off."""
    text = str(error) or repr(error)
    if found := re.search(r"GLOBAL ([\w.]+)", text):
        return f"it asks for {found[1]}, of which no weights are made"
    return type(error).__name__ if "weights_only" in text else text.splitlines()[0]


def _contained(loaded: object, path: Path) -> dict:
    for name in CONTAINERS:
        if isinstance(loaded, dict) and isinstance(loaded.get(name), dict):
            loaded = loaded[name]
    if not isinstance(loaded, dict):
        raise CheckpointError(f"{path} holds a {type(loaded).__name__}, not a dict of tensors")
    return loaded


def _json(path: Path) -> dict:
    if path.stat().st_size > MOST_CONFIG_BYTES:
        raise CheckpointError(f"{path} has more than {MOST_CONFIG_BYTES} bytes, which no config has")
    try:
        text = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not JSON: {error}") from error
    if not isinstance(text, dict):
        raise CheckpointError(f"{path} must hold an object, holds a {type(text).__name__}")
    return text


@contextmanager
def _new_folder(path: Path) -> Iterator[Path]:
    """A folder under a temporary name; synced and renamed to `path` at the end, removed after an error."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.writing")
    temporary.mkdir()
    try:
        yield temporary
        for file in (*temporary.iterdir(), temporary):
            sync(file)
        temporary.rename(path)
        sync(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _apart(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous copies; safetensors refuses tensors that share memory."""
    return {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
