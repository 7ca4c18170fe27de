# SPDX-License-Identifier: Apache-2.0
"""What every trainer does around its loop: device, number of steps, the run's folder, its recipe, its command line.

A trainer's Config is a frozen dataclass with at least: data, out, resume, epochs, batch_size, accumulate, device,
dtype, log_every, save_every, and the property clips_per_step, the global batch: of all processes that train together.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import signal
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, fields
from pathlib import Path
from typing import NamedTuple

import torch

from ..errors import CheckpointError, DataError
from ..files import make_folder, write_text
from . import checkpoint
from .memory import keep_freed_memory
from .recipes import parse
from .signals import StopOnSignal
from .world import ALONE, World, attempt, processes


class Opened(NamedTuple):
    """A run that is ready for its next step."""

    first_step: int
    """Steps already done."""
    notes: list[str]
    """What a person should be told."""
    recipe: dict
    """That of the checkpoint resumed from; of a new run the wanted one."""


def check_numbers(
    config,
    *,
    at_least_one: Iterable[str] = (),
    not_negative: Iterable[str] = (),
    positive_or_none: Iterable[str] = (),
) -> None:
    """ValueError for the first of the named fields that is out of its range."""
    for name in at_least_one:
        if getattr(config, name) < 1:
            raise ValueError(f"{name} must be at least 1, got {getattr(config, name)}")
    for name in not_negative:
        if not 0 <= getattr(config, name) < math.inf:
            raise ValueError(f"{name} must be a number and not negative, got {getattr(config, name)}")
    for name in positive_or_none:
        if (value := getattr(config, name)) is not None and not value > 0:
            raise ValueError(f"{name} must be positive, or left out; got {value}")


def choose_device(device: str, dtype: str) -> tuple[torch.device, bool]:
    """The device for a Config's `device` and whether its `dtype` means autocast to bfloat16.

    Under torchrun cuda is the GPU of the process's number on its machine. On the CPU, freed memory stays with the
    process from now on.

    Raises ValueError where a GPU is asked for that is not there.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    chosen = torch.device(device)
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device {device} was asked for, but torch sees no GPU; use --device cpu")
    if chosen.type == "cuda" and processes() > 1:
        if (local := int(os.environ["LOCAL_RANK"])) >= (count := torch.cuda.device_count()):
            raise ValueError(f"process {local} of this machine has no GPU of its own, torch sees {count}; "
                             "lower --nproc-per-node")  # fmt: skip
        chosen = torch.device("cuda", local)
        torch.cuda.set_device(chosen)
    if chosen.type == "cpu":
        keep_freed_memory()
    return chosen, dtype == "bfloat16" or (dtype == "auto" and _has_bfloat16(chosen))


def _has_bfloat16(device: torch.device) -> bool:
    """Whether it multiplies in bfloat16; NVIDIA's GPUs before capability 8.0 take longer for that than for float32."""
    if device.type != "cuda":
        return device.type != "cpu"
    return torch.version.cuda is None or torch.cuda.get_device_capability(device) >= (8, 0)


def count_steps(config, clips: int) -> int:
    """Steps of a whole run, of `clips` clips an epoch. Raises DataError where there is none."""
    steps = config.epochs * clips // config.clips_per_step
    if not steps:
        raise DataError(
            f"{config.epochs} epochs of {clips} clips are less than one step of {config.clips_per_step} (batch_size "
            f"{config.batch_size}, accumulate {config.accumulate}); lower one of these, or raise epochs or the clips "
            "drawn from each file"
        )
    return steps


def recipe(config, names: Iterable[str], **more) -> dict:
    """What a checkpoint says of its run, as JSON gives it back: the named settings, and what else is given."""
    return json.loads(json.dumps({name: getattr(config, name) for name in names} | more))


def digest_of_names(data: Path, paths: list[Path]) -> str:
    """Which files a run is of, by their names relative to the folder of `data` (which may move)."""
    folder = data if data.is_dir() else data.parent
    names = "\n".join(os.path.relpath(path, folder) for path in paths)
    return f"{len(paths)} files, sha256 of their names {hashlib.sha256(os.fsencode(names)).hexdigest()[:16]}"


def completed(before: dict, names: Iterable[str], config_type: type) -> dict:
    """A checkpoint's recipe, with those of the names that settings got since: at their defaults, which change nothing.

    clips_per_step stands for batch_size * accumulate, which is what one process had.
    """
    defaults = {field.name: field.default for field in fields(config_type)}
    added = recipe(config_type, (n for n in names if n in defaults and n not in before))
    if "clips_per_step" not in before and "batch_size" in before:
        added["clips_per_step"] = before["batch_size"] * before["accumulate"]
    return before | added


def open_run(config, wanted: dict, model, optimizer, steps: int, world: World = ALONE) -> Opened:
    """Make the run's folder, or with `resume` load its newest checkpoint into model and optimiser.

    A run that torchrun starts anew, since a process died, resumes unasked if there is a checkpoint.

    Raises CheckpointError where there is a run and none was to be resumed; where the checkpoint's recipe is not
    `wanted`, or is of more than `steps` steps; and where there is no whole checkpoint. DataError where the processes
    of a run want different things.
    """
    if len(wishes := world.union([json.dumps(wanted)])) > 1:
        raise DataError(
            "the processes would not train the same run; give all the same settings and the same files:\n  "
            + "\n  ".join(wishes)
        )
    resume = config.resume or (attempt() > 0 and world.first(lambda: bool(checkpoint.steps(config.out))))
    opened = Opened(0, [], wanted)
    if resume:
        folder, state, wrong = world.first(lambda: checkpoint.find(config.out))
        before = completed(state["recipe"], wanted, type(config))
        changed = [
            f"{n}: {before.get(n)} then, {now} now" for n, now in wanted.items() if before.get(n) != now
        ]
        if changed:
            raise CheckpointError(
                f"{config.out} was trained with another recipe; resume with the same one, or start a new run:\n  "
                + "\n  ".join(changed)
            )
        if state["step"] > steps:
            raise CheckpointError(
                f"{config.out} has trained {state['step']} steps already, more than the {steps} asked for"
            )
        checkpoint.resume(folder, model, optimizer)
        notes = [f"unusable checkpoint, going back to an older one: {w}" for w in wrong]
        opened = Opened(state["step"], [*notes, f"resumed after step {state['step']}"], before)
    world.first(lambda: prepare_folder(config, resume))
    return opened


def prepare_folder(config, resume: bool) -> None:
    """The run's folder with its config.json. Raises CheckpointError where a new run finds another one there."""
    make_folder(config.out)
    if not resume and checkpoint.steps(config.out):
        raise CheckpointError(
            f"{config.out} already holds a run; go on with --resume, or choose another --out"
        )
    write_text(config.out / "config.json", json.dumps(asdict(config), indent=2, default=str))


def command(config_type: type, train: Callable, description: str, *, many: bool = False) -> None:
    """A trainer's main(): the command line as a Config, train(config, stop), and errors as one line.

    The exit status is 0 for a run that came to its end, 128 + the signal's number for one that a signal stopped (143
    after SIGTERM, 130 after Ctrl-C), and 1 for an error.

    many: whether several processes can train together.
    """
    stop = StopOnSignal()
    try:
        if processes() > 1 and not many:
            raise ValueError(f"this trainer runs in one process, but torchrun started {processes()}")
        config = parse(config_type, description)
        with stop:
            train(config, stop)
    except (ValueError, OSError, RuntimeError, FloatingPointError) as error:
        raise SystemExit(f"smnoise: {error}") from error
    except KeyboardInterrupt:
        print(
            "smnoise: stopped at once; --resume goes on from the last checkpoint, if there is one",
            file=sys.stderr,
        )
        raise SystemExit(128 + (stop.number or signal.SIGINT)) from None
    if stop.told and stop.number is not None:
        raise SystemExit(128 + stop.number)
