# SPDX-License-Identifier: Apache-2.0
"""Results of cells, a JSON file each, written whole or not at all."""

from __future__ import annotations

import json
import math
import platform
import subprocess
from dataclasses import MISSING, fields
from datetime import date
from functools import cache
from pathlib import Path

import torch

import smnoise
from smnoise.errors import DataError
from smnoise.files import write_text

from .plan import INPUTS, Cell, Plan

FOLDER = "cells"


def path_of(out: Path, cell: Cell) -> Path:
    """Return the path of a cell's result."""
    return Path(out) / FOLDER / f"{cell.name}.json"


def settings_of(plan: Plan, cell: Cell) -> dict:
    """What decides a cell's result, as JSON gives it back. Not the study's ratios: cells of others stay good."""
    task = vars(plan.task(cell.medium)) | {"ratios": None}
    return json.loads(json.dumps({"size": plan.size, **task, **cell._asdict()}))


def write(out: Path, plan: Plan, cell: Cell, scores: dict[str, float], more: dict) -> None:
    """Keep the result of a cell: its scores by name, and what else is known of it."""
    if bad := [name for name, value in scores.items() if not math.isfinite(value)]:
        raise FloatingPointError(f"{cell.name}: the score {bad[0]} is not finite")
    path = path_of(out, cell)
    path.parent.mkdir(parents=True, exist_ok=True)
    result = {"settings": settings_of(plan, cell), "scores": scores, **more, "made": made()}
    write_text(path, json.dumps(result, indent=2) + "\n")


def read(out: Path, plan: Plan, cell: Cell) -> tuple[dict | None, str | None]:
    """The result of a cell, or None where it has none; and what is wrong with a file that cannot be used.

    Raises DataError for a whole file of other settings: it is of another study. Settings that came after it was written
    count as at their defaults.
    """
    path = path_of(out, cell)
    try:
        result = json.loads(path.read_text())
    except FileNotFoundError:
        return None, None
    except (ValueError, OSError) as error:
        return None, f"{path} is damaged ({error}); its cell is run anew"
    wanted = settings_of(plan, cell)
    if not _whole(result, "linear accuracy" if cell.strategy == INPUTS else plan.task(cell.medium).score):
        return None, f"{path} is damaged (it lacks settings or scores); its cell is run anew"
    task = type(plan.task(cell.medium))
    before = {f.name: f.default for f in fields(task) if f.default is not MISSING} | result["settings"]
    if changed := [name for name in wanted if before.get(name) != wanted[name]]:
        now, then = (side.get(changed[0]) for side in (wanted, before))
        raise DataError(
            f"{path} is of another study: {changed[0]} is {then!r} there, {now!r} here; choose another --out"
        )
    return result, None


def _whole(result, score: str) -> bool:
    try:
        return isinstance(result["settings"], dict) and math.isfinite(result["scores"][score])
    except (KeyError, TypeError):
        return False


def made() -> dict:
    """Where and by what a result is made."""
    return {
        "processor": _processor(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "smnoise": smnoise.__version__,
        "commit": _commit(),
        "date": date.today().isoformat(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


@cache
def _commit() -> str | None:
    """Of the checkout when this process began; with a + where tracked files differ from it."""
    describe = ["describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"]
    command = ["git", "-C", str(Path(__file__).parent), *describe]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
