# SPDX-License-Identifier: Apache-2.0
"""Settings by name: --recipe videomae-base-k400-8gpu, or --recipe @FILE for settings of your own.

A file holds settings as a run's config.json does, which is such a file itself: --recipe @runs/video/config.json is that
run again, but for where it is and the device. What else is on the command line goes before the recipe.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import tyro

from ..programs import command_line
from .settings import settings_of_old
from .world import processes

# Published numbers of VideoMAE (its scripts for ViT-B) and AudioMAE (AudioSet). Masks are this package's
# defaults; --mask random (audio) or white (video) is plain random masking.
KINETICS = {
    "model": "base",
    "frames": 16,
    "stride": 4,
    "size": 224,
    "tubelet": 2,
    "patch": 16,
    "mask_ratio": 0.9,
    "epochs": 800,
    "warmup_epochs": 40.0,
    "base_lr": 1.5e-4,
    "min_lr": 1e-5,
    "weight_decay": 0.05,
    "betas": (0.9, 0.95),
}
AUDIOSET = {
    "model": "base",
    "decoder": "local",
    "rate": 16000,
    "frames": 1024,
    "mels": 128,
    "patch": 16,
    "statistics": "audioset",
    "mask_ratio": 0.8,
    "epochs": 33,
    "warmup_epochs": 3.0,
    "base_lr": 2e-4,
    "min_lr": 0.0,
    "weight_decay": 1e-4,
    "betas": (0.9, 0.95),
}
# CAV-MAE's numbers for AudioSet (its scale++ model) with its one frame and random masks; the learning rate follows this
# package's cosine where CAV-MAE halves it every 5 epochs from the tenth on.
CAVMAE = {
    "model": "base",
    "layout": "cavmae",
    "frames": 1,
    "size": 224,
    "tubelet": 1,
    "patch": 16,
    "rate": 16000,
    "audio_frames": 1024,
    "seconds": 10.0,
    "mels": 128,
    "statistics": (-5.081, 2.24245),
    "contrast_weight": 0.01,
    "mask": "random",
    "mask_ratio": 0.75,
    "audio_mask": "random",
    "audio_ratio": 0.75,
    "epochs": 25,
    "warmup_epochs": 0.0,
    "base_lr": 2e-4,
    "min_lr": 0.0,
    "weight_decay": 5e-7,
    "betas": (0.95, 0.999),
}


class Recipe(NamedTuple):
    """Settings for so many processes."""

    trainer: str | None
    """Its module's last name; None for any."""
    settings: dict
    clips_per_step: int | None = None
    """The published global batch."""
    gpus: int | None = None


def _for_gpus(name: str, trainer: str, settings: dict, clips: int, splits: dict) -> dict[str, Recipe]:
    """A recipe for each number of GPUs, split into (batch_size, accumulate)."""
    return {
        f"{name}-{gpus}gpu": Recipe(trainer, settings | dict(zip(("batch_size", "accumulate"), split, strict=True)),
                                    clips, gpus)
        for gpus, split in splits.items()
    }  # fmt: skip


RECIPES = (
    _for_gpus("videomae-base-k400", "video", KINETICS, 2048, {1: (64, 32), 8: (64, 4), 64: (32, 1)})
    | _for_gpus("videomae-base-ssv2", "video", KINETICS | {"stride": 2}, 2048, {1: (64, 32), 8: (64, 4), 64: (32, 1)})
    | _for_gpus("audiomae-base-audioset", "audio", AUDIOSET, 512, {1: (64, 8), 8: (64, 1), 64: (8, 1)})
    | _for_gpus("cavmae-base-audioset", "audiovisual", CAVMAE, 256, {1: (64, 4), 8: (32, 1), 64: (4, 1)})
)  # fmt: skip
# Of a run's config.json, besides what has no default.
ELSEWHERE = {"resume", "recipe", "device", "frames_cache", "test", "knn_every", "knn_train", "knn_test"}


def required(config_type: type) -> list[str]:
    """The settings without a default."""
    return [field.name for field in fields(config_type) if field.default is MISSING]


def tuples(settings: dict) -> dict:
    """Settings as JSON holds them, with tuples for its lists."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}


def module_of(config_type: type) -> str:
    """The trainer's module as it is imported, also where it is the program: python -m smnoise.train.video."""
    started = sys.modules["__main__"].__spec__
    return started.name if config_type.__module__ == "__main__" and started else config_type.__module__


def program(config_type: type) -> str:
    """What a trainer was started as, for its usage: a command such as `smnoise pretrain video`, or python -m."""
    if sys.argv[0].startswith("smnoise "):
        return sys.argv[0]
    started = sys.modules["__main__"].__spec__
    if started is not None and started.name.startswith("smnoise.train."):
        return f"python -m {started.name}"
    return f"python -m {config_type.__module__}"


def find(name: str, config_type: type) -> Recipe:
    """The recipe of that name for a trainer's Config, or that of a file, @FILE.

    Raises ValueError where there is none, or it has settings that the trainer does not know.
    """
    trainer = module_of(config_type).rsplit(".", 1)[-1]
    if name.startswith("@"):
        settings = read(Path(name[1:]), f"recipe {name}", config_type)
        kept = [name for name in settings if name not in {*ELSEWHERE, *required(config_type)}]
        settings = tuples({name: settings[name] for name in kept})
        check_kinds(settings, config_type, f"recipe {name}")
        return Recipe(None, settings)
    if name not in RECIPES or RECIPES[name].trainer != trainer:
        mine = ", ".join(n for n, r in RECIPES.items() if r.trainer == trainer) or "none"
        raise ValueError(f"recipe must be a file, @FILE, or one for this trainer ({mine}); got {name!r}")
    return RECIPES[name]


def read(path: Path, what: str, config_type: type) -> dict:
    """The settings in a file such as a run's config.json. Raises ValueError where it holds none, or others than the
    trainer's."""
    try:
        settings = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{what} cannot be read: {error}") from None
    if not isinstance(settings, dict):
        raise ValueError(f"{what} must be a JSON object of settings, got {type(settings).__name__}")
    settings = settings_of_old(settings)
    if unknown := sorted(set(settings) - {field.name for field in fields(config_type)}):
        raise ValueError(f"{what} has settings that this trainer has not: {', '.join(unknown)}")
    return settings


def check_kinds(settings: dict, config_type: type, what: str) -> None:
    """ValueError for the first setting that is of another kind than the trainer's: a text where a number belongs."""
    hints = get_type_hints(config_type)
    for name, value in settings.items():
        if not _is_of(value, hints[name]):
            wanted = getattr(hints[name], "__name__", None) if isinstance(hints[name], type) else None
            wanted = wanted or str(hints[name]).replace("typing.", "")
            raise ValueError(f"{what}: {name} must be {wanted}, got {value!r}")


def _is_of(value, hint) -> bool:
    """Whether a value as JSON holds it is of this type of a setting; a path is a text there."""
    kinds = get_args(hint)
    if get_origin(hint) is Literal:
        return any(value == kind and type(value) is type(kind) for kind in kinds)
    if get_origin(hint) is tuple:
        return isinstance(value, tuple) and len(value) == len(kinds) and all(map(_is_of, value, kinds))
    if kinds:  # one of several
        return any(_is_of(value, kind) for kind in kinds)
    if hint in (int, float):
        return isinstance(value, (int, hint)) and not isinstance(value, bool)
    return isinstance(value, str if hint is Path else hint)


def of_run(out: Path, config_type: type):
    """The settings of the run in a folder, as its config.json holds them.

    Raises ValueError where there are none, or they are not this trainer's.
    """
    path = out / "config.json"
    if not path.is_file():
        raise ValueError(
            f"there is no run to resume in {out}: it has no config.json; leave out --resume to begin one"
        )
    settings = tuples(read(path, str(path), config_type))
    check_kinds(settings, config_type, str(path))
    hints = get_type_hints(config_type)
    paths = [n for n, v in settings.items() if isinstance(v, str) and Path in (hints[n], *get_args(hints[n]))]
    return config_type(
        **settings | {name: Path(settings[name]) for name in paths} | {"out": out, "resume": True}
    )


def parse(config_type: type, description: str, arguments: Sequence[str] | None = None):
    """The Config of a command line, which may name a recipe whose settings then are the defaults; and so are, with
    --resume, those of the run.

    Raises ValueError where the recipe is for another number of processes and the command line does not say how to
    share the work out.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--recipe")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--resume", action="store_true")
    trainer = module_of(config_type).rsplit(".", 1)[-1]
    if mine := [name for name, recipe in RECIPES.items() if recipe.trainer == trainer]:
        description += (
            f"\nRecipes (--recipe NAME): {', '.join(mine)}; or @FILE, such as another run's config.json."
        )
    shown: dict[str, Any] = {"description": description, "prog": program(config_type)}
    given = list(sys.argv[1:] if arguments is None else arguments)
    named, _ = parser.parse_known_args(given)
    resumed = named.resume and named.out is not None and not {"-h", "--help"} & set(given)
    if named.recipe is None and resumed:
        return command_line(config_type, **shown, args=given, default=of_run(named.out, config_type))
    if named.recipe is None:
        return command_line(config_type, **shown, args=given)
    recipe = find(named.recipe, config_type)
    missing = dict.fromkeys(required(config_type), tyro.MISSING)
    default = config_type(**missing, **recipe.settings, recipe=named.recipe)
    config = command_line(config_type, **shown, args=given, default=default)
    shared_out = [(c.batch_size, c.accumulate) for c in (default, config)]
    if recipe.clips_per_step not in (None, config.clips_per_step) and shared_out[0] == shared_out[1]:
        raise ValueError(
            f"recipe {named.recipe} sees {recipe.clips_per_step} clips a step on {recipe.gpus} GPUs; {processes()} x "
            f"{config.batch_size} x {config.accumulate} are {config.clips_per_step}. Start {recipe.gpus} processes, "
            "take the recipe for so many GPUs, or choose --batch-size and --accumulate"
        )
    return config
