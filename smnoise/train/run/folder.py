# SPDX-License-Identifier: Apache-2.0
"""What every trainer does around its loop: device, number of steps, the run's folder, its recipe, its command line.

A trainer's Config inherits `settings.Run`.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ... import pools
from ...data.signals import StopOnSignal
from ...errors import CheckpointError, DataError, PoolError
from ...files import make_folder, write_text
from ...samplers import Sampler
from ...strategies import from_json, sampler_of
from ..recipes import parse, required, tuples
from ..settings import Run, as_json, recipe_fields, settings_of_old
from ..world import ALONE, World, attempt, processes
from . import checkpoint
from .memory import keep_freed_memory

# In the recipe of a trainer of which a step no longer is what it was: raised then, so that no run goes on as another.
REVISION = "trainer_revision"
# In a recipe, but found in the run and not wanted: the statistics that were measured.
FOUND = {"mean", "std"}
# In recipes beside what their trainer names: which files, and how a step is made up.
OF_ANY = {
    REVISION,
    "medium",
    "videos",
    "sounds",
    "clips_per_step",
    "batch_size",
    "accumulate",
    "sampler",
    "audio_sampler",
    "decoder_sampler",
    "contrast_clips",
    "teacher",
}
# Samplers of which a recipe does not hold all: a pool's file, a function.
ELSEWHERE = ("PoolSampler", "Custom")
ABSENT = "(no such setting)"


class Opened(NamedTuple):
    """A run that is ready for its next step."""

    first_step: int
    """Steps already done."""
    notes: list[str]
    """What a person should be told."""
    recipe: dict
    """That of the checkpoint resumed from; of a new run the wanted one."""
    state: dict
    """All that the checkpoint resumed from holds beside tensors; of a new run nothing."""


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


def count_steps(config: Run, clips: int) -> int:
    """Steps of a whole run, of `clips` clips an epoch. Raises DataError where there is none."""
    steps = config.epochs * clips // config.clips_per_step
    if not steps:
        raise DataError(
            f"{config.epochs} epochs of {clips} clips are less than one step of {config.clips_per_step} (batch_size "
            f"{config.batch_size}, accumulate {config.accumulate}); lower one of these, or raise epochs or the clips "
            "drawn from each file"
        )
    return steps


def digest_of_names(data: Path, paths: list[Path]) -> str:
    """Which files a run is of, by their names relative to the folder of `data` (which may move)."""
    folder = data if data.is_dir() else data.parent
    names = "\n".join(os.path.relpath(path, folder) for path in paths)
    return f"{len(paths)} files, sha256 of their names {hashlib.sha256(os.fsencode(names)).hexdigest()[:16]}"


def completed(before: dict, config_type: Any) -> dict:
    """A checkpoint's recipe as this version would have written it: with the settings that there are since, at their
    defaults, which change nothing, and its masks as samplers' JSON.

    clips_per_step stands for batch_size * accumulate, which is what one process had. A recipe without a revision of its
    trainer is of the first one.
    """
    before = settings_of_old(before)
    settings = {f.name: f for f in fields(config_type)}
    if "mask" in before:  # of before recipes held samplers
        given = {name: value for name, value in before.items() if name in settings}
        config = config_type(**dict.fromkeys(required(config_type), Path()), **tuples(given))
        before = {n: v for n, v in before.items() if n in recipe_fields(config_type) or n not in settings}
        before |= config.samplers()
    if "sampler" in before and "clips_per_step" not in before and "batch_size" in before:
        before["clips_per_step"] = before["batch_size"] * before["accumulate"]
    if "sampler" in before:
        before = {n: v for n, v in before.items() if n not in ("batch_size", "accumulate")}
    before.setdefault("medium", config_type.MEDIUM)
    defaults = {n: settings[n].default for n in recipe_fields(config_type) if n not in before}
    return as_json({n: v for n, v in defaults.items() if v is not MISSING}) | before


def check_settings(recipe: Mapping, known: Iterable[str], where: Path | str) -> None:
    """CheckpointError where a recipe has settings that this version does not know: it would read what was trained by
    them as something else."""
    if unknown := sorted(set(recipe) - {*known, *FOUND, *OF_ANY}):
        raise CheckpointError(
            f"{where} was trained with settings that this version of smnoise does not know: {', '.join(unknown)}; a "
            "newer one wrote it, use that"
        )


def config_of_recipe(run: Path, recipe: dict, config_type: Any, needed: Iterable[str] = ()):
    """The settings of the run in a folder, by its checkpoint's recipe. Its masks are those of the recipe, but where
    they came from a pool or a function, which the recipe names alone: see `sampler_of_run`.

    needed: what a recipe of this trainer tells, by which it is known.

    Raises CheckpointError for a recipe of another trainer, and for settings that this version does not know.
    """
    if missing := [name for name in needed if name not in recipe]:
        raise CheckpointError(
            f"{run} is no run of smnoise.train.{config_type.MEDIUM}: its recipe has no {missing[0]}"
        )
    before = completed(recipe, config_type)
    names = recipe_fields(config_type)
    check_settings(before, names, run)
    masks = {}
    for name, key in (
        ("mask", "sampler"),
        ("audio_mask", "audio_sampler"),
        ("decoder_mask", "decoder_sampler"),
    ):
        if (sampler := before.get(key)) is not None and sampler["sampler"] not in ELSEWHERE:
            masks[name] = json.dumps(sampler)
    return config_type(data=run, out=run, **masks, **tuples({n: before[n] for n in names if n in before}))


def sampler_of_run(config) -> Sampler:
    """What made the masks of the run that `config_of_recipe` gave these settings of.

    Raises CheckpointError where they were drawn from a pool that is no longer where the run found it, or made by a
    function that cannot be imported.
    """
    recipe = checkpoint.find(config.out)[1]["recipe"]
    kind = recipe.get("sampler", {}).get("sampler")
    if kind not in ELSEWHERE:
        return config.sampler()
    if kind == "Custom":
        try:
            return sampler_of(json.dumps({"seed": config.seed, **recipe["sampler"]}))
        except ValueError as error:
            raise CheckpointError(f"{config.out} was trained with masks of a function: {error}") from error
    named = json.loads((config.out / "config.json").read_text())["mask"]
    try:
        pool = pools.load(named)
        return from_json(json.dumps({"seed": config.seed, **recipe["sampler"]}), pool=pool)
    except (OSError, ValueError, PoolError) as error:
        raise CheckpointError(f"{config.out} drew its masks from the pool {named}, but: {error}") from error


def differences(before: dict, wanted: dict) -> list[str]:
    """In which settings a checkpoint's recipe is another one than the wanted, a line each. A setting that only one of
    them has is a difference: it may come from a newer smnoise, which trained by it."""
    found = []
    for name in (*wanted, *(name for name in before if name not in wanted and name not in FOUND)):
        one, other = before.get(name, ABSENT), wanted.get(name, ABSENT)
        if one == other:
            continue
        if isinstance(one, dict) and isinstance(other, dict):  # such as a sampler: which of its parameters
            found += [f"{name}, {part}" for part in differences(one, other)]
        else:
            found.append(f"{name}: {one} then, {other} now")
    return found


def open_run(config: Run, wanted: dict, model, optimizer, steps: int, world: World = ALONE) -> Opened:
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
    opened = Opened(0, [], wanted, {})
    if resume:
        folder, state, wrong = world.first(lambda: checkpoint.find(config.out))
        before = {REVISION: 1} | completed(state["recipe"], type(config))
        if REVISION not in wanted:
            del before[REVISION]
        if changed := differences(before, wanted):
            raise CheckpointError(
                f"{config.out} was trained with another recipe; resume with the same one, or start a new run:\n  "
                + "\n  ".join(changed)
            )
        if state["step"] > steps:
            raise CheckpointError(
                f"{config.out} has trained {state['step']} steps already, more than the {steps} asked for"
            )
        checkpoint.resume(folder, model, optimizer)
        notes = changed_since(config)
        notes += [f"unusable checkpoint, going back to an older one: {w}" for w in wrong]
        opened = Opened(state["step"], [f"resumed after step {state['step']}", *notes], before, state)
    world.first(lambda: prepare_folder(config, resume))
    return opened


def changed_since(config: Run) -> list[str]:
    """What a person should be told of the settings that are others than the run's config.json says, a line each. Those
    of the recipe are equal, or the run is not resumed."""
    try:
        before = settings_of_old(json.loads((config.out / "config.json").read_text()))
    except (OSError, ValueError):
        return []
    now = json.loads(json.dumps(asdict(config), default=str))
    names = [n for n in now if n in before and before[n] != now[n] and n not in ("out", "resume", "recipe")]
    return [f"{name}: {before[name]} then, {now[name]} now" for name in names]


def prepare_folder(config: Run, resume: bool) -> None:
    """The run's folder with its config.json. Raises CheckpointError where a new run finds another one there."""
    make_folder(config.out)
    if not resume and checkpoint.steps(config.out):
        raise CheckpointError(
            f"{config.out} already holds a run; go on with --resume, or choose another --out"
        )
    write_text(config.out / "config.json", json.dumps(asdict(config), indent=2, default=str))


def command(config_type: type, train: Callable, description: str) -> None:
    """A trainer's main(): the command line as a Config, train(config, stop), and errors as one line.

    The exit status is 0 for a run that came to its end, 128 + the signal's number for one that a signal stopped (143
    after SIGTERM, 130 after Ctrl-C), and 1 for an error.
    """
    stop = StopOnSignal()
    try:
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
