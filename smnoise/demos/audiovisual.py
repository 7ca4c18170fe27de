# SPDX-License-Identifier: Apache-2.0
"""Should the masks of a picture and of its sound know of each other? Small CAV-MAEs on a whole film.

    python -m smnoise.demos.audiovisual --out runs/demo-av     # what `make demo-av` runs; 10 minutes on 2 idle cores

The film is Big Buck Bunny with its sound, which `make .venv/film` fetches. It is cut into pieces of 15 s, of which
every fourth is left for tests. Models of the same seed begin with the same weights and see the same clips; only their
masks differ: a coupled pair of rho -1, 0 and 1 (Green3D for the picture, Optim Blue for the sound), or random ones,
independent. A model that was not trained is the control. What was expected is in docs/audiovisual-plan.md, written
down before.

The folder then holds demo.json (all figures), scores.png, loss.png, masks.gif, masks.png, reconstruction-picture.png
and reconstruction-sound.png, beside the pieces, their cache and the runs.
"""

from __future__ import annotations

import io
import math
import multiprocessing
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from ..data.audio.inputs import Spectrograms, Statistics
from ..data.audiovisual import EveryPair
from ..data.installed.film import CREDIT, cut, film_of
from ..data.numbered import loader
from ..data.video.cache import make
from ..data.video.store import FrameStore
from ..files import write_text
from ..lock import one_at_a_time
from ..models.cavmae import CAVMAE
from ..probes.linear import FEW, linear_probe
from ..probes.pairs import pair_scores
from ..samplers import Coupled, Green3D, OptimBlue
from ..train.audiovisual import Config, pretrain, untrained
from ..train.pretrained.audiovisual import of_run
from ..train.run import log
from ..viz.media import read_pair
from . import audiovisual_pictures
from .folder import claim, program, write_summary

NAME = "smnoise.demos.audiovisual"
PIECES, CACHE, RUNS, LIST = "pieces", "cache", "runs", "pretraining.txt"
PICTURES = ("scores.png", "loss.png", "masks.gif", "masks.png", "reconstruction-picture.png",
            "reconstruction-sound.png")  # fmt: skip
RHO = {"rho -1": -1.0, "rho 0": 0.0, "rho 1": 1.0}
PRETRAINED = (*RHO, "random")
MODELS = (*PRETRAINED, "untrained")
SECONDS = 15.0  # of a piece; a clip is 2.56 s of one
PARTS = 6  # of the film, that the probe tells apart
CLIPS = 5  # of each piece, for scores
RATE, SIDE, SHORT_SIDE = 8000, 32, 36
SHOWN_FROM = 150.0  # seconds of the film, of the picture of masks
PROCESSES = 2
UNUSED = 10**9  # a sample number that no run reaches: a mask that it has not seen
STUDENT = (
    12.706,
    4.303,
    3.182,
    2.776,
    2.571,
    2.447,
    2.365,
    2.306,
    2.262,
)  # t of 95 %, by degrees of freedom from 1


@dataclass(frozen=True)
class Demo:
    """Pretrain small CAV-MAEs under coupled and under random masks and score what they hear."""

    out: Path = Path("runs/demo-av")
    """Folder of the results; an earlier demo there is replaced, anything else is left alone."""
    film: Path = Path(".venv/film")
    """The unpacked archive of `make .venv/film`."""
    epochs: int = 5
    """Of 30 steps each."""
    seeds: int = 3
    """Models for each kind of masks."""

    def __post_init__(self):
        if self.epochs < 1 or not 1 <= self.seeds <= len(STUDENT) + 1:
            raise ValueError(
                f"need at least 1 epoch and 1 to {len(STUDENT) + 1} seeds, got {self.epochs} and {self.seeds}"
            )


def config_of(demo: Demo, model: str, seed: int) -> Config:
    """16 frames of 32 pixels in cubes of 2 x 8 x 8 beside 256 frames of 32 mel bins in patches of 8 x 8: grids of
    (8, 4, 4) and (32, 4), 32 of 128 tokens visible of each."""
    rho = RHO.get(model)
    return Config(
        data=demo.out / LIST,
        out=demo.out / RUNS / f"{model.replace(' ', '')}-{seed}",
        model="nano",
        frames=16,
        size=SIDE,
        patch=8,
        rate=RATE,
        audio_frames=256,
        mels=32,
        mask="random" if rho is None else "green-3d",
        audio_mask="random" if rho is None else "optim-blue",
        mask_ratio=0.75,
        audio_ratio=0.75,
        rho=rho,
        contrast_weight=0.1,
        epochs=demo.epochs,
        warmup_epochs=demo.epochs / 10,
        batch_size=16,
        base_lr=0.048,
        clips_per_video=16,
        short_side=SHORT_SIDE,
        frames_cache=demo.out / CACHE,
        seed=seed,
        workers=0,
        log_every=5,
        device="cpu",
    )


def split(pieces: list[Path]) -> tuple[list[Path], list[Path]]:
    """Pieces to train and to test on: every fourth."""
    return [p for n, p in enumerate(pieces) if n % 4 != 3], [p for n, p in enumerate(pieces) if n % 4 == 3]


def run_one(demo: Demo, name: str, seed: int, pieces: list[Path]) -> list[dict]:
    """Pretrain a model, and score it; also, beside the first one of a seed, the weights that all of them began with."""
    torch.set_num_threads(1)
    config, since = config_of(demo, name, seed), time.perf_counter()
    with redirect_stdout(io.StringIO()):  # two write at a time
        pretrain(config)
    seconds = round(time.perf_counter() - since)
    model, inputs = trained(config)
    store = FrameStore(demo.out / CACHE)
    train, test = (every(paths, config, inputs, store) for paths in split(pieces))
    sides = train, test
    labels = {path: n * PARTS // len(pieces) for n, path in enumerate(pieces)}
    logged = [r["loss"] for r in log.read(config.out) if "loss" in r]
    told = {"first loss": logged[0], "last loss": logged[-1], "seconds": seconds}
    found = [{"model": name, "seed": seed, **told, **score(model, config, inputs, sides, labels)}]
    if name == PRETRAINED[0]:
        # The control has the inputs of the others: the same statistics, as they are of the same clips.
        scores = score(untrained(config).eval(), config_of_random(config), inputs, sides, labels)
        found.insert(0, {"model": "untrained", "seed": seed, **scores})
    return found


def every(paths: list[Path], config: Config, inputs: Spectrograms, store: FrameStore) -> EveryPair:
    return EveryPair(
        paths, config.frames, config.size, config.clip_seconds, config.rate, inputs.samples,
        clips=CLIPS, short_side=config.short_side, store=store,
    )  # fmt: skip


def score(
    model: CAVMAE,
    config: Config,
    inputs: Spectrograms,
    sides: tuple[EveryPair, EveryPair],
    labels: dict[Path, int],
) -> dict[str, float]:
    """What a frozen model knows of test clips: the gap under its own masks and under random ones, retrieval, and linear
    probes on both, on the sound alone and on the picture alone."""
    cpu = torch.device("cpu")
    test = sides[1]
    found: dict[str, float] = {}
    for name, masks in {"own": config.masks(), "random": config_of_random(config).masks()}.items():
        batches = loader(test, test.apart, len(test), 0, drop_last=False)
        scores, _ = pair_scores(model, batches, inputs, masks, cpu)
        found |= {
            f"{key}, {name} masks": scores[key]
            for key in ("audio_gap", "video_gap", "audio_error", "video_error")
        }
        found[f"gap, {name} masks"] = (scores["audio_gap"] + scores["video_gap"]) / 2
    found |= {key: value for key, value in scores.items() if "_to_" in key}
    for k in (1, 5):
        found[f"R@{k}"] = (scores[f"video_to_audio_r{k}"] + scores[f"audio_to_video_r{k}"]) / 2
    seen = [features(model, inputs, side) for side in sides]
    targets = [torch.tensor([labels[side.paths[n // CLIPS]] for n in range(len(side))]) for side in sides]
    for name in ("both", "sound", "picture"):
        # One strength, since to choose among several takes longer than to pretrain.
        probe = linear_probe(seen[0][name], targets[0], seen[1][name], targets[1], strengths=[FEW])
        found[f"accuracy, {name}"] = probe.accuracy
    return found


def config_of_random(config: Config) -> Config:
    """The same with masks that all models are scored under."""
    return Config(**{**vars(config), "mask": "random", "audio_mask": "random", "rho": None})


@torch.no_grad()
def features(model: CAVMAE, inputs: Spectrograms, side: EveryPair) -> dict[str, Tensor]:
    """Features of all clips of both together, of the sound alone and of the picture alone: [clips, width] each."""
    parts: dict[str, list[Tensor]] = {"both": [], "sound": [], "picture": []}
    for batch in loader(side, range(len(side)), 50, 0, drop_last=False):
        spectrograms = inputs(batch["wave"], batch["length"])
        parts["both"].append(model.features(batch["clip"], spectrograms))
        parts["sound"].append(model.features(None, spectrograms))
        parts["picture"].append(model.features(batch["clip"], None))
    return {name: torch.cat(found) for name, found in parts.items()}


def trained(config: Config) -> tuple[CAVMAE, Spectrograms]:
    """The model of a run's newest checkpoint, and what makes its inputs."""
    found = of_run(config.out)
    return found.model.eval(), found.inputs.spectrograms


def interval(values: list[float]) -> dict[str, float | None]:
    """Mean, and half of its 95 % interval by Student's t; None of one value."""
    mean, count = statistics.mean(values), len(values)
    if count == 1:
        return {"mean": mean, "half": None}
    return {"mean": mean, "half": STUDENT[count - 2] * statistics.stdev(values) / math.sqrt(count)}


def summarise(runs: list[dict]) -> dict[str, dict[str, dict]]:
    """Each score by model, and the differences that docs/audiovisual-plan.md asks for, seed by seed."""
    names = [name for name in runs[0] if name not in ("model", "seed", "seconds", "first loss", "last loss")]
    by = {m: {name: [r[name] for r in runs if r["model"] == m] for name in names} for m in MODELS}

    def less(first: str, second: str) -> dict[str, list[float]]:
        return {n: [a - b for a, b in zip(by[first][n], by[second][n], strict=True)] for n in names}

    compared = {"rho -1 less rho 1": less("rho -1", "rho 1"), "rho -1 less random": less("rho -1", "random"),
                "rho 0 less rho 1": less("rho 0", "rho 1")}  # fmt: skip
    return {
        model: {name: interval(values) for name, values in found.items()}
        for model, found in {**by, **compared}.items()
    }


@one_at_a_time
def run(demo: Demo) -> None:
    claim(demo.out, NAME, (PIECES, CACHE, RUNS, LIST, *PICTURES))
    started, film, runs = time.perf_counter(), film_of(demo.film), []
    print("The film is cut into pieces and decoded once")
    pieces = cut(film, demo.out / PIECES, SECONDS, SHORT_SIDE, RATE, every=2, threads=2)
    make(demo.out / PIECES, demo.out / CACHE, SHORT_SIDE, rate=RATE)
    train, test = split(pieces)
    write_text(demo.out / LIST, "".join(f"{path.relative_to(demo.out)}\n" for path in train))
    prepared = time.perf_counter() - started
    print(
        f"{len(train)} pieces of {SECONDS:g} s to pretrain and probe, {len(test)} to test; {prepared:.0f} s"
    )

    # Two at a time, each with one thread: models as small as these gain nothing by a second one.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(PROCESSES, mp_context=context) as pool:
        jobs = [(name, seed) for seed in range(demo.seeds) for name in PRETRAINED]
        made = [pool.submit(run_one, demo, name, seed, pieces) for name, seed in jobs]
        for done in made:
            runs += done.result()
            told = ", ".join(f"{runs[-1][name]:.3f}" for name in ("gap, own masks", "R@5"))
            write_summary(demo.out, NAME, {"runs": runs})  # what there is if the demo is stopped
            print(f"{runs[-1]['model']}, seed {runs[-1]['seed']}: gap and R@5 {told}")
    summary = summarise(runs)
    draw(demo, film, summary, runs, pieces)
    results = {
        "pieces to train": len(train),
        "pieces to test": len(test),
        "test pairs": CLIPS * len(test),
        "views": demo.epochs * len(train) * config_of(demo, "random", 0).clips_per_video,
        "seconds": round(time.perf_counter() - started),
        "mean and half of the 95 % interval over seeds": summary,
        "runs": runs,
    }
    write_summary(demo.out, NAME, results)
    show(summary, demo)
    print(f"Look at {', '.join(PICTURES)} in {demo.out}; all figures are in demo.json there")


def draw(demo: Demo, film: Path, summary: dict, runs: list[dict], pieces: list[Path]) -> None:
    folders = {name: [config_of(demo, name, s).out for s in range(demo.seeds)] for name in PRETRAINED}
    audiovisual_pictures.losses(folders, demo.out / "loss.png")
    config = config_of(demo, "rho -1", 0)
    model, inputs = trained(config)
    test = every(split(pieces)[1], config, inputs, FrameStore(demo.out / CACHE))
    audiovisual_pictures.scores(summary, runs, MODELS, len(test), PARTS, demo.out / "scores.png")
    item = test[CLIPS // 2]
    spectrogram = inputs(item["wave"][None], torch.tensor([item["length"]]))
    masks = config.masks()(torch.tensor([UNUSED]))
    audiovisual_pictures.filled_in(
        model, item["clip"][None], spectrogram, masks, demo.out / "reconstruction", CREDIT
    )
    draw_masks(film, demo.out / "masks")


def draw_masks(film: Path, stem: Path) -> None:
    """Masks of the published sizes over 10.24 s of the film."""
    frames, side, patch, rate = 32, 196, 14, 16000
    inputs = Spectrograms(rate, 1024, 128, Statistics(0.0, 0.5))
    clip, wave, length = read_pair(film, frames, side, 10.24, rate, inputs.samples, SHOWN_FROM)
    spectrogram = inputs(wave[None], length)[0].numpy()
    grid = frames // 4, side // patch, side // patch
    pairs = {
        f"rho = {rho:g}": Coupled(Green3D(grid, num_visible=160), OptimBlue((64, 8), 0.8), rho=rho)([1])
        for rho in RHO.values()
    }
    audiovisual_pictures.masks(pairs, clip.permute(1, 2, 3, 0).numpy(), spectrogram, stem, CREDIT)


def show(summary: dict, demo: Demo) -> None:
    """The summary as a table on the terminal."""
    names = ("gap, own masks", "gap, random masks", "R@1", "R@5", "accuracy, both", "accuracy, sound",
             "accuracy, picture")  # fmt: skip
    table = Table("", *names, title=f"Mean and half of the 95 % interval of {demo.seeds} seeds")
    for model, found in summary.items():
        cells = (found[name] for name in names)
        table.add_row(
            model,
            *(f"{c['mean']:.3f}" + (f" ± {c['half']:.3f}" if c["half"] is not None else "") for c in cells),
        )
    Console().print(table)


def main() -> None:
    program(Demo, run, NAME, __doc__)


if __name__ == "__main__":
    main()
