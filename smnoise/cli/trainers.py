# SPDX-License-Identifier: Apache-2.0
"""Commands that are programs of their own: `smnoise pretrain video ...` is `python -m smnoise.train.video ...`, and
`smnoise study ...` is `python -m smnoise.study ...`, with the same flags."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from importlib import import_module
from pathlib import Path

from .. import install
from ..train.media import FINETUNED, MEDIA
from .commands import COMMANDS, FAILED, WRONG_USE

MODULES: dict[tuple[str, ...], str] = {
    **{("pretrain", medium): f"train.{medium}" for medium in MEDIA},
    **{("finetune", medium): f"train.finetune_{medium}" for medium in FINETUNED},
    ("probe",): "train.probe",
    ("study",): "study.__main__",
    ("study", "gate"): "study.gate",
}
LOGGED = ("pretrain", "finetune")  # commands whose --json is what their log ends with


def forward(name: str, arguments: list[str]) -> int:
    """Run the program; its exit code, but that a wrong setting is 2, and 1 a loss that is no number."""
    kinds = [words[1] for words in MODULES if words[0] == name and len(words) > 1]
    words = (name, *arguments[:1])
    if words not in MODULES:
        words = (name,)
    if words not in MODULES:
        print(
            f"usage: smnoise {name} {{{','.join(kinds)}}} ...        smnoise {name} {kinds[0]} --help\n\n"
            f"{COMMANDS[name]}",
            file=(wrong := None if arguments[:1] in (["--help"], ["-h"]) else sys.stderr),
        )
        return WRONG_USE if wrong else 0
    rest = arguments[len(words) - 1 :]
    as_json = "--json" in rest and name in LOGGED
    if as_json:
        rest = [argument for argument in rest if argument != "--json"]
    try:
        module = import_module(f"smnoise.{MODULES[words]}")
    except ModuleNotFoundError as error:
        print(
            f"smnoise {' '.join(words)}: {error.name} is missing: "
            f"{install.command('study' if name == 'study' else 'train')}",
            file=sys.stderr,
        )
        return WRONG_USE
    code = _call(
        module.main,
        f"smnoise {' '.join(words)}",
        rest,
        redirect_stdout(sys.stderr) if as_json else nullcontext(),
    )
    if as_json and code == 0 and not {"--help", "-h"} & set(rest) and os.environ.get("RANK", "0") == "0":
        print(json.dumps(summary(_value(rest, "--out"))))
    return code


def _call(
    main: Callable[[], None], program: str, arguments: list[str], context: AbstractContextManager
) -> int:
    """What a trainer's main() leaves with. It reads its name and its command line from sys.argv."""
    before, sys.argv = sys.argv, [program, *arguments]
    try:
        with context:
            main()
    except SystemExit as leaving:
        if not isinstance(leaving.code, str):
            return leaving.code or 0
        print(leaving.code, file=sys.stderr)
        return FAILED if isinstance(leaving.__cause__, FloatingPointError) else WRONG_USE
    finally:
        sys.argv = before
    return 0


def _value(arguments: list[str], name: str) -> Path:
    """Of an option that the trainer has accepted, and so is there."""
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        if argument == name:
            return Path(following)
        if argument.startswith(f"{name}="):
            return Path(argument[len(name) + 1 :])
    raise ValueError(f"{name} is not among {arguments}")


def summary(out: Path) -> dict:
    """Where a run is, its newest checkpoint, and its last loss and scores."""
    from ..train.run import checkpoint, log

    records = log.read(out)
    numbers = {name: value for r in records for name, value in r.items() if isinstance(value, (int, float))}
    folder, state, _ = checkpoint.find(out)
    return {"out": str(out), "checkpoint": str(folder), "step": state["step"], "last": numbers}
