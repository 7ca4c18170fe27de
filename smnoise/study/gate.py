# SPDX-License-Identifier: Apache-2.0
"""The gate of the study of ego-motion: is there anything that masks could be compared by?

    smnoise study gate --data data/ego-motion --out runs/gate     # stop it and start it again as you like
    smnoise study gate --out runs/gate --table                    # only the table, of the cells that are there

Small models are pretrained under random masks alone, at four lengths, and fine-tuned with 300 labels; beside them stand
models that are fine-tuned from first weights. Masks are compared only if pretraining is better by more than three
points at one length. All sizes, the rule and the hypotheses are in ego_motion.json and docs/study-plan.md, which were
written before the first cell; a cell holds the plan's checksum, and cells of another plan are refused.

A cell is one model: a length and a seed. Models of one seed have the same first weights, clips, order, crops and
labels. Its result is a small file in --cells, written whole or not at all; --share K N lets machines share the cells.
Data are made by `smnoise data ego-motion`.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from ..data.draws import permutation
from ..data.installed import freedoom
from ..data.labels import LabelledFiles, labelled_videos
from ..data.video import cache
from ..data.video.clips import find_videos
from ..data.video.store import INDEX
from ..data.video.views import EveryVideo
from ..errors import DataError
from ..files import write_text
from ..train import finetune_video, video
from ..train.run import checkpoint, log
from . import cells
from .program import program, read_result
from .verdict import table
from .video import PLAIN

PLAN = "ego_motion.json"
SCRATCH = 0  # epochs of pretraining


class Cell(NamedTuple):
    """One model."""

    epochs: int
    """Of pretraining; 0: none."""
    seed: int

    @property
    def name(self) -> str:
        """The name of its file."""
        kind = f"random-{self.epochs:03}" if self.epochs else "scratch"
        return f"{kind}-{self.seed}"


@dataclass(frozen=True)
class Plan:
    """The plan file as it is read; see `ego_motion.json` and docs/study-plan.md."""

    settings: dict[str, Any]
    digest: str
    """The first digits of the file's SHA-256."""

    @classmethod
    def read(cls) -> Plan:
        """Read the plan that comes with the package."""
        text = (files(__package__) / PLAN).read_bytes()
        return cls(json.loads(text), hashlib.sha256(text).hexdigest()[:16])

    def cells(self) -> list[Cell]:
        """The shorter ones first, so that a study that was stopped has whole comparisons."""
        return [
            Cell(epochs, seed)
            for epochs in (SCRATCH, *self.settings["lengths"])
            for seed in range(self.settings["seeds"])
        ]


@dataclass(frozen=True)
class Gate:
    """Pretrain under random masks at four lengths, fine-tune with few labels, and say whether that helps."""

    out: Path = Path("runs/gate")
    """Folder of the models and of a cache of frames."""
    data: Path | None = None
    """Clips of `smnoise data ego-motion`; by default OUT/data, where they are made if they are missing."""
    cells: Path | None = None
    """Folder of the results, by default OUT/cells. Cells that it holds are not run again."""
    share: tuple[int, int] = (0, 1)
    """Run part K of N (numbered from 0): N processes or machines can work on one folder, each with a K of its own."""
    table: bool = False
    """Only write the table, of the cells that are there."""
    workers: int = 0
    """Processes that read clips."""
    device: str = "auto"
    """auto: cuda where there is one, else cpu."""

    def __post_init__(self):
        part, parts = self.share
        if not 0 <= part < parts:
            raise ValueError(f"share must be K N with K from 0 to N - 1, got {part} {parts}")

    @property
    def results(self) -> Path:
        """The folder of the cells' results."""
        return self.cells or self.out / "cells"


def read_cell(folder: Path, plan: Plan, cell: Cell) -> dict | None:
    """The result of a cell, or None where it has none.

    Raises DataError for a file that is damaged, or of another plan.
    """
    result = read_result(path := folder / f"{cell.name}.json", "accuracy")
    if result is not None and result.get("plan") != plan.digest:
        raise DataError(
            f"{path} is of the plan {result.get('plan')}, and this is {plan.digest}; choose another folder of cells"
        )
    return result


def read_cells(folder: Path, plan: Plan) -> dict[tuple[int, int], dict]:
    """The results that are there, by epochs and seed. Errors are those of `read_cell`."""
    found = {cell: read_cell(folder, plan, cell) for cell in plan.cells()}
    return {(cell.epochs, cell.seed): result for cell, result in found.items() if result}


def prepare(gate: Gate, plan: Plan) -> Path:
    """The folder of the clips, with the list of all test clips and the lists of a few labelled ones, of each seed."""
    data = gate.data or gate.out / "data"
    if gate.data is None:
        freedoom.write(data, tuple(chosen for chosen in freedoom.SETS if chosen.name in ("train", "test")))
    settings, lists = plan.settings, gate.out / "lists"
    found = {side: labelled(data / side) for side in ("train", "test")}
    for side, clips in found.items():
        if len(clips) != settings["data"][side]:
            raise DataError(f"{data / side} has {len(clips)} clips, and the plan {settings['data'][side]}")
    write_list(lists / "test.txt", found["test"])
    classes = settings["data"]["classes"]
    write_list(lists / "watched.txt", [next(c for c in found["test"] if c[1] == k) for k in range(classes)])
    for seed in range(settings["seeds"]):
        write_list(lists / f"labels-{seed}.txt", few(found["train"], settings["labels"] // classes, seed))
    return data


def labelled(folder: Path) -> list[tuple[Path, int]]:
    """The clips of a set and the numbers of their actions, in the order of their paths."""
    return [(p.resolve(), freedoom.ACTIONS.index(p.parent.name)) for p in find_videos(folder)]


def few(clips: list[tuple[Path, int]], each: int, seed: int) -> list[tuple[Path, int]]:
    """Draw `each` clips of each class, by the seed."""
    drawn = []
    for label in range(1 + max(label for _, label in clips)):
        members = [clip for clip in clips if clip[1] == label]
        drawn += [members[i] for i in permutation(seed, label, len(members))[:each]]
    return drawn


def write_list(path: Path, clips: list[tuple[Path, int]]) -> None:
    """Write a list file with a line `path label` for each clip."""
    write_text(path, "".join(f"{clip} {label}\n" for clip, label in clips))


def run_cell(gate: Gate, plan: Plan, cell: Cell, data: Path, stop: Callable[[], bool]) -> dict | None:
    """What is found of a cell; None after a stop: training may have ended early, with a checkpoint to go on from."""
    out, settings, found = gate.out / "runs" / cell.name, plan.settings, {}
    begin: dict[str, Any] = {"from_scratch": True, "stride": 1}
    begin |= {name: settings[name] for name in ("model", "tubelet", "patch", "frames", "size")}
    if cell.epochs:
        video.pretrain(pretraining(gate, plan, cell, data, out), stop)
        if stop():
            return None
        losses = [record["loss"] for record in log.read(out) if "loss" in record]
        found = {"first loss": losses[0], "last loss": losses[-1]}
        begin = {"run": out}
    begin["frames_cache"] = frames_of(gate, data)
    accuracy = tuned(gate, plan, cell, begin, out.with_name(f"{cell.name}-tuned"), stop)
    return None if stop() else {"accuracy": accuracy, **found}


def frames_of(gate: Gate, data: Path) -> Path:
    """The folder of the training clips' decoded frames, which is made if it is missing."""
    folder = gate.out / "frames"
    if not (folder / INDEX).exists():
        cache.make(data / "train", folder, None)
    return folder


def pretraining(gate: Gate, plan: Plan, cell: Cell, data: Path, out: Path) -> video.Config:
    """The run of a cell."""
    names = ("model", "frames", "size", "tubelet", "patch", "mask", "mask_ratio", "batch_size", "base_lr")
    return video.Config(
        data=data / "train",
        out=out,
        resume=bool(checkpoint.steps(out)),
        **{name: plan.settings[name] for name in names},
        stride=1,
        epochs=cell.epochs,
        warmup_epochs=cell.epochs / 10,
        seed=cell.seed,
        frames_cache=frames_of(gate, data),
        workers=gate.workers,
        device=gate.device,
    )


def tuned(
    gate: Gate, plan: Plan, cell: Cell, begin: dict[str, Any], out: Path, stop: Callable[[], bool]
) -> float:
    """Accuracy on all test clips after the last epoch of fine-tuning with the seed's few labels."""
    lists, tune = gate.out / "lists", plan.settings["tune"]
    # After each epoch a few clips are scored, as no choice hangs on it; all of them once, at the end.
    config = finetune_video.Config(
        train=lists / f"labels-{cell.seed}.txt",
        test=lists / "watched.txt",
        out=out,
        resume=bool(checkpoint.steps(out)),
        **begin,
        **PLAIN,
        **tune,
        warmup_epochs=tune["epochs"] / 10,
        accumulate=1,
        seed=cell.seed,
        device=gate.device,
        workers=gate.workers,
    )
    model = finetune_video.finetune(config, stop).eval()
    _, test = labelled_videos(config.train, lists / "test.txt")
    return scored(config, model, test, plan.settings)


def scored(config: finetune_video.Config, model, test: LabelledFiles, settings: dict[str, Any]) -> float:
    """Accuracy on the middle of each test clip."""
    clips = EveryVideo(test.paths, frames=settings["frames"], stride=1, size=settings["size"])
    device = next(model.parameters()).device
    scores, broken = finetune_video.score(config, model, clips, test, device)
    if broken:
        raise OSError(f"{broken[0]}; delete the folder of clips, and it is made anew")
    return scores["accuracy"]


def report(gate: Gate, plan: Plan) -> str:
    """Write table.md beside the cells, and return it."""
    text = table(plan.settings, plan.digest, read_cells(gate.results, plan))
    write_text(gate.results.parent / "table.md", text)
    return text


def run(gate: Gate, stop: Callable[[], bool] = lambda: False) -> None:
    """All cells of the share that have no result, then the table."""
    plan, made = Plan.read(), cells.made()  # now, as the checkout may change while cells are made
    part, parts = gate.share
    wanted = [] if gate.table else plan.cells()[part::parts]
    missing = [cell for cell in wanted if read_cell(gate.results, plan, cell) is None]
    data = prepare(gate, plan) if missing else gate.out
    for cell in missing:
        print(f"\n{cell.name}", flush=True)
        began, cpu = time.perf_counter(), time.process_time()
        found = run_cell(gate, plan, cell, data, stop)
        if found is None:
            print("stopped; the same command goes on from here")
            break
        spent = {
            "seconds": round(time.perf_counter() - began, 1), "cpu seconds": round(time.process_time() - cpu, 1),
        }  # fmt: skip
        result = {"plan": plan.digest, "cell": cell._asdict(), **found, **spent, "made": made}
        write_text(gate.results / f"{cell.name}.json", json.dumps(result, indent=2) + "\n")
        report(gate, plan)
    print(f"\n{report(gate, plan)}")


def main(arguments: list[str] | None = None) -> None:
    """The command line, by default that of the program."""
    program(Gate, run, "study gate", __doc__, arguments=arguments)
