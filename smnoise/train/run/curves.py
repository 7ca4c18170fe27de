# SPDX-License-Identifier: Apache-2.0
"""Is my loss normal? Bands of the losses of known recipes over several seeds, and when a run leaves its band.

    python -m smnoise.train.run.curves demo-video RUN RUN RUN > smnoise/train/reference_curves/demo-video.json

A file holds a band: {"name", "recipe", "log_every", "seeds", "steps", "low", "high"}. It is for runs of exactly that
recipe, but for the seed and what is measured by it; settings that trainers got since count as at their defaults. A
trainer that finds a band for its run says once when the run
leaves it.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import NamedTuple

import tyro

from ...errors import DataError
from ...programs import command_line
from ..settings import settings_of_old
from . import checkpoint, log
from .folder import OF_ANY, REVISION, completed

FOLDER = Path(__file__).parents[1] / "reference_curves"
BY_SEED = {"seed", "mean", "std"}  # mean and deviation of sounds are measured on clips that the seed chooses
BY_PROCESS = {"batch_size", "accumulate"}  # in recipes of before there were several processes
DEVIATIONS = 5  # of the seeds' losses, to each side of their mean; few seeds tell it badly, hence
NEIGHBOURS = 5  # the largest deviation of so many log lines to each side, and
AT_LEAST = 0.02  # of the mean
IN_A_ROW = 3  # log lines outside, until it is no accident


@dataclass(frozen=True)
class Curve:
    """The band of a recipe's losses. `steps`, `low` and `high` have an item for each log line, which is the mean loss
    of `log_every` steps."""

    name: str
    recipe: dict
    log_every: int
    seeds: list[int]
    steps: list[int]
    low: list[float]
    high: list[float]

    def __post_init__(self):
        if not len(self.steps) == len(self.low) == len(self.high):
            raise ValueError(
                f"curve {self.name} needs as many steps as low and high values, got {len(self.steps)}, "
                f"{len(self.low)} and {len(self.high)}"
            )

    def is_for(self, recipe: dict, log_every: int, config_type: type) -> bool:
        """Whether a run of this recipe, logged like that, can be compared. config_type: its trainer's Config."""
        names = {field.name for field in fields(config_type)} | OF_ANY
        if log_every != self.log_every or not set(settings_of_old(self.recipe)) - BY_SEED <= names:
            return False  # the second: of another trainer
        known = completed(self.recipe, config_type)
        if REVISION in recipe:
            known = {REVISION: 1} | known
        known = {n: v for n, v in known.items() if n in recipe or n in self.recipe}
        return without(recipe) == without(known)


class Departure(NamedTuple):
    """Where a run leaves a band: the first of `IN_A_ROW` log lines on one side of it."""

    step: int
    loss: float
    low: float
    high: float


def without(recipe: dict) -> dict:
    """A recipe but for what may differ within a band."""
    return {name: value for name, value in recipe.items() if name not in BY_SEED | BY_PROCESS}


def read(path: Path) -> Curve:
    """A band from its file. Raises DataError where it holds none."""
    try:
        return Curve(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path} holds no reference curve: {error}") from None


def find(recipe: dict, log_every: int, config_type: type, folder: Path | None = None) -> Curve | None:
    """The band for a run, if there is one. config_type: its trainer's Config."""
    curves = (read(path) for path in sorted((folder or FOLDER).glob("*.json")))
    return next((curve for curve in curves if curve.is_for(recipe, log_every, config_type)), None)


def lines(records: Iterable[dict], log_every: int) -> dict[int, float]:
    """Losses by step of a log, of the lines that are means of just `log_every` steps."""
    found, last = {}, 0
    for record in records:
        if "loss" in record:
            if record["step"] == last + log_every:
                found[record["step"]] = record["loss"]
            last = record["step"]
    return found


def compare(records: Iterable[dict], curve: Curve) -> Departure | None:
    """Where a run, given as the records of its log, leaves the band; None as long as it does not."""
    found = lines(records, curve.log_every)
    row: list[Departure] = []
    for step, low, high in zip(curve.steps, curve.low, curve.high, strict=True):
        if step not in found:
            continue
        loss = found[step]
        if low <= loss <= high:
            row = []
            continue
        if row and (loss < low) != (row[0].loss < row[0].low):
            row = []
        row.append(Departure(step, loss, low, high))
        if len(row) == IN_A_ROW:
            return row[0]
    return None


class Watch:
    """Tells once when a run leaves the band of its recipe, also over restarts.

    Args:
        recipe: of the run.
        log_every: steps of a log line.
        config_type: of its trainer.
        records: of the run's log so far.
    """

    def __init__(
        self,
        recipe: dict,
        log_every: int,
        config_type: type,
        records: Iterable[dict],
        folder: Path | None = None,
    ):
        self.curve = find(recipe, log_every, config_type, folder)
        self.records = list(records)
        if self.curve and compare(self.records, self.curve):
            self.curve = None  # it was told then

    def __call__(self, record: dict) -> str | None:
        """What to say after a new record of the log, if anything."""
        if self.curve is None:
            return None
        self.records.append(record)
        curve, left = self.curve, compare(self.records, self.curve)
        if left is None:
            return None
        self.curve = None
        return (
            f"warning: since step {left.step} the loss is not what it usually is: {left.loss:.4f} there, where runs of "
            f"just this recipe ({curve.name}, {len(curve.seeds)} seeds) have {left.low:.4f} to {left.high:.4f}. "
            "Chance is unlikely; look at changes of code or data, at dtype, and at the versions of torch and timm"
        )


def make(name: str, runs: Sequence[Path]) -> Curve:
    """The band of finished runs of one recipe with different seeds.

    Raises DataError where they are not that.
    """
    recipes = [checkpoint.find(run)[1]["recipe"] for run in runs]
    intervals = {json.loads((run / "config.json").read_text())["log_every"] for run in runs}
    seeds = [recipe["seed"] for recipe in recipes]
    if len(set(seeds)) < max(len(seeds), 3):
        raise DataError(f"need at least 3 runs, each with another seed; got seeds {seeds}")
    if len(intervals) > 1 or any(without(recipe) != without(recipes[0]) for recipe in recipes):
        raise DataError(f"the runs differ in more than the seed: {', '.join(map(str, runs))}")
    (log_every,) = intervals
    logs = [lines(log.read(run), log_every) for run in runs]
    steps = sorted(set.intersection(*(set(found) for found in logs)))
    means = [statistics.fmean(found[step] for found in logs) for step in steps]
    deviations = [statistics.stdev(found[step] for found in logs) for step in steps]
    widths = [
        max(DEVIATIONS * max(deviations[max(0, i - NEIGHBOURS) : i + NEIGHBOURS + 1]), AT_LEAST * mean)
        for i, mean in enumerate(means)
    ]
    low = [round(mean - width, 6) for mean, width in zip(means, widths, strict=True)]
    high = [round(mean + width, 6) for mean, width in zip(means, widths, strict=True)]
    return Curve(name, without(recipes[0]), log_every, sorted(seeds), steps, low, high)


def main(name: tyro.conf.Positional[str], runs: tyro.conf.Positional[tuple[Path, ...]]) -> None:
    try:
        print(json.dumps(asdict(make(name, runs))))
    except (ValueError, OSError, RuntimeError) as error:
        raise SystemExit(f"smnoise: {error}") from error


if __name__ == "__main__":
    command_line(main, description=__doc__, prog="python -m smnoise.train.run.curves")
