# SPDX-License-Identifier: Apache-2.0
"""Does the mask matter for sound? Tiny AudioMAEs pretrained under Optim Blue and under random masks, then probed.

    python -m smnoise.demos.audio --out runs/demo-audio     # what `make demo-audio` runs; 10 minutes on 2 cores

The sounds are speech and music from Debian packages, which `make .venv/sounds` fetches. Models of the same seed
begin with the same weights and see the same clips; only their masks differ. Then each is frozen, and a linear
probe on its features tells speech from music on a voice (and language) and an artist that neither pretraining nor
the probe has met; a model that was not trained is the control.

The folder then holds demo.json (all figures), loss.png, reconstruction.png and scores.png, beside the pieces of
sound and the runs. It is a small experiment on one easy question: read it with its spread over seeds.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from ..data.audio.clips import EveryFile
from ..data.audio.inputs import Spectrograms
from ..data.installed.sounds import LABELS, MUSIC, SPEECH, Sound, corpus, prepare, split
from ..files import write_text
from ..lock import one_at_a_time
from ..models.audiomae import AudioMAE
from ..train.audio import Config, pretrain, untrained
from ..train.pretrained.audio import trained
from ..train.probe import features_of, few_shot, linear_probe
from ..train.run import log
from . import audio_pictures
from .folder import claim, program, write_summary

NAME = "smnoise.demos.audio"
PIECES, RUNS, LIST = "pieces", "runs", "pretraining.txt"
PICTURES = ("loss.png", "reconstruction.png", "scores.png")
MODELS = {"optim-blue": "Optim Blue", "random": "random", "untrained": "untrained"}
PRETRAINED = ("optim-blue", "random")
SCORES = ("accuracy", "mAP", "few-label accuracy", "few-label mAP")
SECONDS = 2.0  # of a piece; a clip is 1.3 s of one
UNUSED = 10**9  # a sample number that no run reaches: a mask that it has not seen


@dataclass(frozen=True)
class Demo:
    """Pretrain tiny AudioMAEs under two kinds of masks and probe them."""

    out: Path = Path("runs/demo-audio")
    """Folder of the results; an earlier demo there is replaced, anything else is left alone."""
    sounds: Path = Path(".venv/sounds")
    """The unpacked packages of `make .venv/sounds`."""
    epochs: int = 12
    """Of about 25 steps each."""
    seeds: int = 3
    """Models for each kind of mask."""
    few: int = 4
    """Labelled pieces a class of the probe with few labels; the mean of 20 choices."""

    def __post_init__(self):
        if self.epochs < 1 or self.seeds < 1 or self.few < 1:
            raise ValueError(
                f"need at least 1 epoch, 1 seed and 1 label a class, got {self.epochs}, {self.seeds}, {self.few}"
            )


def config_of(demo: Demo, mask: str, seed: int) -> Config:
    """128 frames of 64 mel bins in patches of 8 x 8: a grid of 16 x 8, of which 25 are visible. Patches are
    smaller than AudioMAE's as the clips are shorter, and 64 bins are what 8 kHz can fill."""
    return Config(
        data=demo.out / LIST,
        out=demo.out / RUNS / f"{mask}-{seed}",
        model="tiny",
        rate=8000,
        frames=128,
        mels=64,
        patch=8,
        statistics="auto",
        mask=mask,
        epochs=demo.epochs,
        warmup_epochs=demo.epochs / 10,
        batch_size=32,
        accumulate=1,
        base_lr=0.004,
        seed=seed,
        workers=1,
        log_every=5,
        device="cpu",
    )


def score(
    model: AudioMAE, inputs: Spectrograms, train: list[Sound], test: list[Sound], few: int
) -> dict[str, float]:
    """SCORES of linear probes on a frozen model."""
    features = [
        features_of(
            model,
            EveryFile([s.path for s in side], inputs.log_mel.sample_rate, inputs.samples),
            inputs,
        ).features
        for side in (train, test)
    ]
    labels = [torch.tensor([s.label for s in side], device="cpu") for side in (train, test)]
    sets = features[0], labels[0], features[1], labels[1]
    full = linear_probe(*sets, groups=[s.group for s in train])
    scarce = few_shot(*sets, per_class=few)
    found = full.accuracy, full.mean_average_precision, scarce.accuracy, scarce.mean_average_precision
    return dict(zip(SCORES, found, strict=True))


def summarise(runs: list[dict]) -> dict[str, dict[str, dict[str, float]]]:
    """Mean and standard deviation over seeds of each score, by model, and of the difference: what Optim Blue has more
    than random with the same seed."""
    by_model = {
        model: {name: [r[name] for r in runs if r["model"] == model] for name in SCORES} for model in MODELS
    }
    blue, random = (by_model[model] for model in PRETRAINED)
    by_model["difference"] = {
        name: [a - b for a, b in zip(blue[name], random[name], strict=True)] for name in SCORES
    }
    return {
        model: {
            name: {"mean": statistics.mean(v), "std": statistics.stdev(v) if len(v) > 1 else 0.0}
            for name, v in found.items()
        }
        for model, found in by_model.items()
    }


@one_at_a_time
def run(demo: Demo) -> None:
    claim(demo.out, NAME, (PIECES, RUNS, LIST, *PICTURES))
    train, test = split(prepare(corpus(demo.sounds), demo.out / PIECES, SECONDS))
    lines = [str(sound.path.relative_to(demo.out)) for sound in train]
    write_text(demo.out / LIST, "\n".join(lines) + "\n")
    print(
        f"{len(train)} pieces of {SECONDS:g} s to pretrain and probe, {len(test)} of another voice and artist to test"
    )

    started, runs = time.perf_counter(), []
    for seed in range(demo.seeds):
        for mask in PRETRAINED:
            print(f"\n{MODELS[mask]}, seed {seed}")
            config, since = config_of(demo, mask, seed), time.perf_counter()
            pretrain(config)
            seconds = round(time.perf_counter() - since)
            model, inputs = trained(config.out)
            logged = [r["loss"] for r in log.read(config.out) if "loss" in r]
            loss = {"first loss": logged[0], "last loss": logged[-1], "seconds": seconds}
            runs.append({"model": mask, "seed": seed, **loss, **score(model, inputs, train, test, demo.few)})
        # The control has the inputs of the others: the same statistics, as they are of the same clips.
        scores = score(untrained(config), inputs, train, test, demo.few)
        runs.append({"model": "untrained", "seed": seed, **scores})

    draw(demo, runs, test)
    summary = summarise(runs)
    results = {
        "pieces to train": len(train),
        "pieces to test": len(test),
        "held out": sorted({s.group for s in test}),
        "few labels": f"{demo.few} pieces a class, mean of 20 choices",
        "seconds": round(time.perf_counter() - started),
        "mean and standard deviation over seeds": summary,
        "runs": runs,
    }
    write_summary(demo.out, NAME, results)
    show(summary, demo)
    print(f"Look at {', '.join(PICTURES)} in {demo.out}; all figures are in demo.json there")


def draw(demo: Demo, runs: list[dict], test: list[Sound]) -> None:
    """The pictures; sounds and models of the first seed in the reconstruction."""
    loss, reconstruction, scores = (demo.out / name for name in PICTURES)
    folders = {
        MODELS[mask]: [config_of(demo, mask, seed).out for seed in range(demo.seeds)] for mask in PRETRAINED
    }
    audio_pictures.losses(folders, loss)

    models, sounds = {}, {}
    for mask in PRETRAINED:
        config = config_of(demo, mask, 0)
        model, inputs = trained(config.out)
        models[MODELS[mask]] = model, config.sampler()([UNUSED])
    for label in (SPEECH, MUSIC):
        shown = next(s for s in test if s.label == label)
        wave = EveryFile([shown.path], inputs.log_mel.sample_rate, inputs.samples)[0]["wave"]
        sounds[f"{LABELS[label]} ({shown.group})"] = inputs(wave[None])
    audio_pictures.reconstructions(sounds, models, reconstruction)

    panels = {f"{demo.few} labels a class": "few-label accuracy", "all labels": "accuracy"}
    audio_pictures.scores(
        {
            title: {label: [r[name] for r in runs if r["model"] == model] for model, label in MODELS.items()}
            for title, name in panels.items()
        },
        0.5,
        scores,
    )


def show(summary: dict, demo: Demo) -> None:
    """The summary as a table on the terminal."""
    table = Table(
        "model",
        *SCORES,
        title=f"Linear probe, mean ± standard deviation of {demo.seeds} seeds\n(difference: Optim Blue less random, "
        "seed by seed)",
    )
    for model, found in summary.items():
        table.add_row(
            MODELS.get(model, model), *(f"{v['mean']:.3f} ± {v['std']:.3f}" for v in found.values())
        )
    Console().print(table)


def main() -> None:
    program(Demo, run, NAME, __doc__)


if __name__ == "__main__":
    main()
