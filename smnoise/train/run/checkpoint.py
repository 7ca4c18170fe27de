# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: a folder per step, written under a temporary name, synced, then renamed. No pickle.

    checkpoints/step-00000400/model.safetensors  optimizer.safetensors  state.json  manifest.json

Of a model that is spread over processes there is a file from each instead of the first two; see `shards`. The
manifest holds the sha256 of the other files, so that a truncated or altered checkpoint is told from a good one. A
process killed while saving leaves the previous checkpoint as it was.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ...errors import CheckpointError
from ...files import sync
from ..world import ALONE, World
from . import shards

FOLDER = "checkpoints"
TEMPORARY = ".writing-"
NAME = re.compile(r"step-(\d{8}|[1-9]\d{8,})")
FILES = {"model.safetensors", "optimizer.safetensors", "state.json"}
MOST_JSON_BYTES = 64 << 20
KEPT = "kept for good"  # in state.json
SHARD = re.compile(r"shard-[0-9a-z-]+\.safetensors")  # no slash: a name in the same folder


def save(
    run: Path,
    step: int,
    model: torch.nn.Module,
    optimizer,
    state: dict,
    keep: int = 2,
    world: World = ALONE,
    *,
    for_good: bool = False,
) -> Path:
    """Write checkpoint `step` of a run and delete all older ones but `keep - 1` and those kept for good. Returns its
    folder.

    All processes of `world` call it; the first one writes, or of a sharded model each its part.

    Args:
        state: anything JSON can hold.
        for_good: never delete this one. It says so itself, so that a run resumed with other settings keeps it too.

    Raises CheckpointError where it cannot be written.
    """
    folder = run / FOLDER
    final = folder / f"step-{step:08d}"
    temporary = folder / f"{TEMPORARY}{step:08d}"

    def begin() -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for stale in folder.glob(f"{TEMPORARY}*"):
            shutil.rmtree(stale)
        temporary.mkdir()

    def write() -> None:
        save_file(_contiguous(model.state_dict()), temporary / "model.safetensors")
        save_file(_flat(optimizer), temporary / "optimizer.safetensors")

    def finish() -> None:
        kept = {KEPT: True} if for_good else {}
        (temporary / "state.json").write_text(json.dumps({"step": step, **state, **kept}, indent=2))
        manifest = {file.name: _sha256(file) for file in sorted(temporary.iterdir())}
        (temporary / "manifest.json").write_text(json.dumps(manifest, indent=2))
        for file in temporary.iterdir():
            sync(file)
        sync(temporary)
        if final.exists():
            shutil.rmtree(final)
        temporary.rename(final)
        sync(folder)
        for old in [f for f in steps(run) if number(f) < step][keep - 1 :]:
            if not _is_kept(old):
                shutil.rmtree(old)

    try:
        world.first(begin)
        if shards.is_sharded(model):
            shards.write(temporary, model, optimizer)
        else:
            world.first(write)
        world.first(finish)
    except (OSError, SafetensorError, CheckpointError) as error:
        raise CheckpointError(
            f"cannot write checkpoint {final}: {error}; older ones are untouched"
        ) from error
    finally:
        if world.writes:
            shutil.rmtree(temporary, ignore_errors=True)
    return final


def steps(run: Path) -> list[Path]:
    """The checkpoint folders of a run, newest first; whether they are whole is not checked."""
    found = (f for f in (run / FOLDER).glob("step-*") if NAME.fullmatch(f.name))
    return sorted(found, key=number, reverse=True)


def number(folder: Path) -> int:
    """The step of a checkpoint folder, from its name."""
    return int(folder.name.removeprefix("step-"))


def check(folder: Path) -> dict:
    """The state of a checkpoint. Raises CheckpointError if it is not whole."""
    try:
        for name in ("manifest.json", "state.json"):
            if (size := (folder / name).stat().st_size) > MOST_JSON_BYTES:
                raise CheckpointError(
                    f"{folder / name} has {size} bytes, more than {MOST_JSON_BYTES} of any run"
                )
        manifest = json.loads((folder / "manifest.json").read_text())
        if set(manifest) != FILES and not _of_shards(manifest):
            raise CheckpointError(
                f"{folder}: its manifest lists {sorted(manifest)}, not {sorted(FILES)}, nor a file from each process"
            )
        others = {file.name for file in folder.glob("*.safetensors")} - set(manifest)
        if others and set(manifest) != FILES:  # shards are read as what lies there
            raise CheckpointError(f"{folder}: its manifest does not list {sorted(others)}, which lie there")
        for name, digest in manifest.items():
            if _sha256(folder / name) != digest:
                raise CheckpointError(
                    f"{folder / name} is truncated or altered: its sha256 is not the manifest's"
                )
        return json.loads((folder / "state.json").read_text())
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{folder} is not a whole checkpoint: {error}") from error


def tensors(folder: Path) -> tuple[dict, dict]:
    """The model tensors and optimiser tensors of a checkpoint that `check` found whole."""
    try:
        if _has_shards(folder):
            return shards.gather(folder)
        return load_file(folder / "model.safetensors"), load_file(folder / "optimizer.safetensors")
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot read {folder}: {error}") from error


def read(folder: Path) -> tuple[dict, dict, dict]:
    """A checkpoint's model tensors, optimiser tensors and state. Raises CheckpointError if it is not whole."""
    state = check(folder)
    return *tensors(folder), state


def find(run: Path) -> tuple[Path, dict, list[str]]:
    """The newest whole checkpoint of a run, its state, and what was wrong with newer ones.

    Raises CheckpointError where there is none.
    """
    wrong: list[str] = []
    for folder in steps(run):
        try:
            return folder, check(folder), wrong
        except CheckpointError as error:
            wrong.append(str(error))
    detail = "\n  ".join(wrong) or "it has none"
    raise CheckpointError(f"no whole checkpoint in {run / FOLDER}:\n  {detail}")


def newest(run: Path) -> tuple[dict, dict, dict, list[str]]:
    """The newest whole checkpoint of a run as in `read`, and what was wrong with newer ones.

    Raises CheckpointError where there is none.
    """
    folder, state, wrong = find(run)
    return *tensors(folder), state, wrong


def resume(folder: Path, model: torch.nn.Module, optimizer) -> None:
    """Put back the tensors of a checkpoint that `check` found whole; all processes call it.

    Raises CheckpointError if they belong to another model.
    """
    if shards.is_sharded(model) and _has_shards(folder):
        shards.load(folder, model, optimizer)
    else:
        restore(model, optimizer, *tensors(folder))


def restore(model: torch.nn.Module, optimizer, model_tensors: dict, optimizer_tensors: dict) -> None:
    """Put a checkpoint's tensors back. Raises CheckpointError if they belong to another model."""
    targets = model.state_dict()
    try:
        model.load_state_dict({n: shards.placed(t, targets.get(n)) for n, t in model_tensors.items()})
    except RuntimeError as error:
        raise CheckpointError(f"the checkpoint is of another model: {error}") from error
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, tensor in optimizer_tensors.items():
        number, name = key.split(".", 1)
        state.setdefault(int(number), {})[name] = shards.placed(tensor, parameters[int(number)])
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _is_kept(folder: Path) -> bool:
    try:
        return json.loads((folder / "state.json").read_text())[KEPT] is True
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _of_shards(names) -> bool:
    """Whether these are the files of a sharded checkpoint."""
    others = set(names) - {"state.json"}
    return bool(others) and "state.json" in names and all(map(SHARD.fullmatch, others))


def _has_shards(folder: Path) -> bool:
    return not (folder / "model.safetensors").exists()


def _flat(optimizer) -> dict[str, torch.Tensor]:
    state = optimizer.state_dict()["state"]
    return _contiguous(
        {f"{i}.{name}": value for i, values in state.items() for name, value in values.items()}
    )


def _contiguous(tensors: dict) -> dict:
    return {name: tensor.detach().contiguous() for name, tensor in tensors.items()}


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with open(file, "rb") as stream:
        while block := stream.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()
