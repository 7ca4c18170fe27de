# SPDX-License-Identifier: Apache-2.0
"""Weights in files: read without running anything in them, written whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from ..errors import CheckpointError
from ..files import replace_file, sync
from ..train.run import checkpoint
from . import huggingface, weight_files
from .architecture import AnyConfig, AnyModel, from_json, from_recipe, to_json
from .states import Converted, convert_state, detect, unwrapped

MOST_BYTES = 16 << 30
PICKLED = (".pth", ".pt", ".bin")
OUR_KEY = "smnoise"  # beside "model" in our files of the official layout: the config, which the others do not look at


@dataclass
class Source:
    """What a file or folder holds."""

    state: dict[str, Tensor]
    config: AnyConfig | None = None
    options: dict = field(default_factory=dict)
    """For `convert_state`, from Hugging Face's config.json."""
    leftovers: dict[str, Tensor] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read(path: Path | str, *, max_bytes: int = MOST_BYTES) -> Source:
    """Read the weights of a file (safetensors, or what torch.save wrote: .pth, .pt, .bin, .ckpt), of a folder with
    model.safetensors or pytorch_model.bin (or an index and its parts) and config.json, or of a training run or one of
    its checkpoints.

    Pickled files go through torch.load(weights_only=True) only, which builds tensors and plain containers; settings and
    optimisers beside the weights are not built, and all else is refused.

    Raises CheckpointError for what is unsafe, damaged, too large or of another kind, and OSError for what is not there.
    """
    path = Path(path)
    if (path / checkpoint.FOLDER).is_dir():
        tensors, _, state, wrong = checkpoint.newest(path)
        return Source(tensors, from_recipe(state.get("recipe", {})), notes=wrong)
    if (path / "manifest.json").is_file():
        tensors, _, state = checkpoint.read(path)
        return Source(tensors, from_recipe(state.get("recipe", {})))
    if not path.is_dir():
        state, config, notes = weight_files.of_file(path, max_bytes)
        return Source(state, None if config is None else from_json(config), notes=notes)
    source = Source(weight_files.of_folder(path, max_bytes))
    if (path / "leftovers.safetensors").is_file():
        source.leftovers = weight_files.of_file(path / "leftovers.safetensors", max_bytes)[0]
    if (path / "config.json").is_file():
        text = weight_files.json_of(path / "config.json")
        if "smnoise" in text:
            source.config = from_json(text)
        elif detect(unwrapped(source.state)) == ("videomae", "huggingface"):
            source.options = huggingface.options(text, source.notes)
    return source


def write(converted: Converted, out: Path | str) -> None:
    """Write a new folder with model.safetensors and config.json (and leftovers.safetensors if there are any), or, where
    `out` ends in .pth, a file as the official programs read it.

    Raises CheckpointError if it is there already or cannot be made.
    """
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
                torch.save({"model": converted.state, OUR_KEY: to_json(converted.config)}, temporary)
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
    """Read `source` and write it to `out` in the layout `to`. Options and errors are those of `convert_state`, `read`
    and `write`.
    """
    if Path(out).exists():
        raise CheckpointError(f"{out} exists already; choose another name, or remove it first")
    converted = _convert(source, to, max_bytes, options)
    write(converted, out)
    return converted


def holds_weights(path: Path) -> bool:
    """Whether it is a folder of weights, such as `write` makes, rather than a run or one of its checkpoints."""
    run = (path / checkpoint.FOLDER).is_dir() or (path / "manifest.json").is_file()
    return not run and weight_files.has_weights(path)


def load_model(path: Path | str, *, max_bytes: int = MOST_BYTES, **options) -> AnyModel:
    """Load the model of a file or folder in any layout, with its weights, in float32 on the CPU.

    What was assumed on the way is not told: use `load_model_and_notes` for that, or `convert_state` for its notes. No
    random state is touched. Options and errors are those of `convert_state` and `read`.
    """
    return load_model_and_notes(path, max_bytes=max_bytes, **options)[0]


def load_model_and_notes(
    path: Path | str, *, max_bytes: int = MOST_BYTES, **options
) -> tuple[AnyModel, list[str]]:
    """Load a model as `load_model` does, and return with it what was assumed, checked and left out on the way."""
    converted = _convert(path, "smnoise", max_bytes, options)
    with torch.random.fork_rng(devices=[]):
        model = converted.config.build()
    model.load_state_dict(converted.state)
    return model, converted.notes


def _convert(path: Path | str, to: str, max_bytes: int, options: dict) -> Converted:
    source = read(path, max_bytes=max_bytes)
    given = {name: value for name, value in options.items() if value is not None}
    try:
        converted = convert_state(
            source.state, to, config=source.config, leftovers=source.leftovers, **source.options | given
        )
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except ValueError as error:
        if given or not source.options:
            raise
        raise CheckpointError(f"{path}: its config.json does not fit its weights: {error}") from error
    converted.notes = source.notes + converted.notes
    if odd := [name for name, tensor in converted.state.items() if not tensor.isfinite().all()]:
        converted.notes.append(f"warning: {len(odd)} tensors hold NaN or Inf, for example {odd[0]}")
    return converted


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
