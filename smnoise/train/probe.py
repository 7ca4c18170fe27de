# SPDX-License-Identifier: Apache-2.0
"""Linear probe: how well do a frozen model's features tell classes apart?

    python -m smnoise.train.probe --run runs/audio --train TRAIN --test TEST            # folders TRAIN/LABEL/FILE
    python -m smnoise.train.probe --run runs/audio --train train.txt --test test.txt    # lists: path label

As a library:

    train = features_of(model, EveryFile(paths, rate, samples), inputs)      # the whole set, nothing drawn
    probe = linear_probe(train.features, labels, test.features, test_labels, groups=tracks)
    print(probe.accuracy, probe.mean_average_precision, probe.strength)

The classifier is logistic regression (`logistic`). How strongly it is held back is chosen on the training set
alone: it is dealt into four parts, whole groups at a time, and of STRENGTHS the one with the lowest
cross-entropy on the parts left out in turn is used. Cross-entropy, since accuracies of few clips are often equal.
The test set is looked at once, after that. Nothing is drawn: the same features give the same scores.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
import tyro
from rich.console import Console
from rich.table import Table
from torch import Tensor

from ..errors import DataError
from ..metrics import MeanAveragePrecision, accuracy, mean_average_precision
from .audio import trained
from .audio_data import EveryFile, loader, missing_from_list
from .draws import permutation
from .labels import labelled_sounds
from .logistic import Labelled, Linear, choose_strength, fit
from .run import choose_device

STRENGTHS = (1.0, 1e-1, 1e-2, 1e-3, 1e-4)
FEW = 1e-2  # of few_shot: a handful of labels does not tell strengths apart


class Features(NamedTuple):
    """What a frozen model makes of a data set."""

    features: Tensor
    """float32 [N, width], on the CPU, in the order of the files."""
    places: list[int]
    """Which file each row is of: those that decode."""
    broken: list[str]
    """What was wrong with the others."""


def features_of(
    model: torch.nn.Module,
    clips: EveryFile,
    inputs: Callable[[Tensor, Tensor], Tensor],
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 32,
    workers: int = 0,
) -> Features:
    """The features of one clip of each file, nothing drawn.

    Args:
        model: has `features`, as `AudioMAE` has; is moved to the device and put in evaluation mode.
        inputs: makes of waveforms [B, samples] and lengths [B], on the device, what the model reads.
        batch_size, workers: change the speed, and features by no more than rounding.

    Raises DataError where no file decodes.
    """
    model.to(device).eval()
    return Features(*outputs_of(model.features, clips, inputs, device, batch_size, workers))


@torch.no_grad()
def outputs_of(
    function: Callable[[Tensor], Tensor],
    clips: EveryFile,
    inputs: Callable[[Tensor, Tensor], Tensor],
    device: torch.device | str,
    batch_size: int,
    workers: int,
) -> tuple[Tensor, list[int], list[str]]:
    """What a function makes of spectrograms, float32 [N, ...] on the CPU, for each file that decodes; their places;
    and what was wrong with the others. Arguments and errors are those of `features_of`."""
    rows, places, broken = [], [], []
    for batch in loader(clips, range(len(clips)), batch_size, workers, drop_last=False):
        spectrograms = inputs(batch["wave"].to(device), batch["length"].to(device))
        rows.append(function(spectrograms).float().cpu()[batch["decodes"]])
        places += batch["place"][batch["decodes"]].tolist()
        broken += batch["broken"]
    if not places:
        raise DataError(f"none of the {len(clips)} sound files decodes:\n  " + "\n  ".join(broken[:5]))
    return torch.cat(rows), places, broken


class Probe(NamedTuple):
    """A linear probe's scores on the test set."""

    accuracy: float
    """NaN for several labels a clip."""
    mean_average_precision: float
    """Over the classes that the test set has; see `smnoise.metrics`."""
    strength: float
    """Of the L2 penalty, as chosen."""
    left_out: list[int]
    """Classes that the test set has none of."""
    classifier: Linear


class FewShot(NamedTuple):
    """Means over draws of a few labelled clips."""

    accuracy: float
    mean_average_precision: float
    accuracies: list[float]
    """Of each draw."""


def linear_probe(
    train_x: Tensor,
    train_y: Tensor | Sequence[int],
    test_x: Tensor,
    test_y: Tensor | Sequence[int],
    *,
    groups: Sequence[Hashable] | None = None,
    strengths: Sequence[float] = STRENGTHS,
) -> Probe:
    """Fit on the training set, score on the test set.

    Computed in float64 where the features are. The same numbers come out for any order of the rows.

    Args:
        train_x, test_x: features, floats [N, D] and [M, D].
        train_y, test_y: class numbers, integers [N] and [M]; or for several labels a clip 0 and 1, [N, C] and
            [M, C].
        groups: what each training clip was cut from (a track, a speaker). Clips of one group are never both
            fitted and left out while the strength is chosen; by default each clip is its own.
        strengths: those to choose from. With just one nothing is left out and it is used.

    Raises ValueError for sets that are empty or of different lengths, features that are NaN or infinite, less than
    two classes, and test labels that the training set lacks; TypeError for labels that are no integers.
    """
    train = Labelled.checked("train", train_x, train_y)
    test = Labelled.checked("test", test_x, test_y, classes=train.y.shape[1])
    train.check_test(test)
    if groups is not None and len(groups) != len(train.x):
        raise ValueError(f"need a group for each of {len(train.x)} training clips, got {len(groups)}")
    strength = choose_strength(train, groups, strengths)
    classifier = fit(train, [strength])[0]
    logits = classifier(test.x)
    right, precision = scores_of(logits, test.y, train.several)
    return Probe(right, precision.value, strength, precision.left_out, classifier)


def scores_of(logits: Tensor, targets: Tensor, several: bool) -> tuple[float, MeanAveragePrecision]:
    """Accuracy (NaN for several labels a clip) and mAP of logits [N, C] for targets [N, C], 0 or 1."""
    if several:
        return math.nan, mean_average_precision(logits, targets)
    return accuracy(logits, targets.argmax(dim=1)), mean_average_precision(logits.log_softmax(dim=1), targets)


def few_shot(
    train_x: Tensor,
    train_y: Tensor | Sequence[int],
    test_x: Tensor,
    test_y: Tensor | Sequence[int],
    *,
    per_class: int = 4,
    draws: int = 20,
    seed: int = 0,
) -> FewShot:
    """The mean of probes that see just `per_class` training clips of each class, drawn anew `draws` times as
    functions of (seed, draw). The strength is FEW. Arguments and errors as in `linear_probe`, with one label a
    clip; ValueError too where a class has fewer clips.
    """
    train_x, labels = torch.as_tensor(train_x), torch.as_tensor(train_y)
    if Labelled.checked("train", train_x, labels).several:
        raise ValueError(f"few_shot needs one label a clip, class numbers [N]; got {tuple(labels.shape)}")
    counts = Counter(labels.tolist())
    scarce = min(counts, key=counts.get)
    if per_class < 1 or draws < 1 or counts[scarce] < per_class:
        raise ValueError(
            "need at least 1 draw of at least 1 clip a class, and as many clips as that in each; got "
            f"draws={draws}, per_class={per_class}, and {counts[scarce]} clips of class {scarce}"
        )
    probes = []
    for draw in range(draws):
        order = torch.from_numpy(permutation(seed, draw, len(labels))).to(labels.device)
        rows = torch.cat([order[labels[order] == label][:per_class] for label in sorted(counts)])
        probes.append(
            linear_probe(train_x[rows.to(train_x.device)], labels[rows], test_x, test_y, strengths=[FEW])
        )
    accuracies = [probe.accuracy for probe in probes]
    precisions = [probe.mean_average_precision for probe in probes]
    return FewShot(sum(accuracies) / draws, sum(precisions) / draws, accuracies)


@dataclass(frozen=True)
class Config:
    """Score the features of a pretraining run by a linear probe."""

    run: Path
    """Folder of a run of smnoise.train.audio; its newest whole checkpoint is read."""
    train: Path
    """Folder with a folder a class, or list file with `path label` (or `path label;label`) a line."""
    test: Path
    """Likewise."""
    groups: str | None = None
    """Regular expression for the names of training files; those whose first bracket matches the same text are of one
    source, and are kept together. For pieces track-001.wav: '(.*)-'."""
    per_class: int | None = None
    """Train on so many clips of each class instead, the mean of `draws` choices."""
    draws: int = 20
    seed: int = 0
    """Of these choices; nothing else is drawn."""
    device: str = "auto"
    """auto: cuda where there is one, else cpu."""
    batch_size: int = 32
    workers: int = 0
    """Processes that read files; 0: read in this process."""
    json: bool = False
    """Print JSON instead of a table."""


def probe_run(config: Config) -> dict:
    """The scores by name, as the command prints them. Raises CheckpointError, DataError or ValueError."""
    device, _ = choose_device(config.device, "float32")
    train, test = labelled_sounds(config.train, config.test)
    groups = None if config.groups is None else [_group(config.groups, path.name) for path in train.paths]
    model, inputs = trained(config.run)
    inputs.to(device)
    features = [
        features_of(
            model,
            EveryFile(side.paths, inputs.log_mel.sample_rate, inputs.samples),
            inputs,
            device=device,
            batch_size=config.batch_size,
            workers=config.workers,
        )
        for side in (train, test)
    ]
    several = train.several or test.several
    labels = [
        (side.targets if several else side.numbers())[found.places]
        for side, found in zip((train, test), features, strict=True)
    ]
    sets = (features[0].features, labels[0], features[1].features, labels[1])
    missing = [
        f"{line!r} names no file" for data in (config.train, config.test) for line in missing_from_list(data)
    ]
    scores = {
        "train_clips": len(labels[0]),
        "test_clips": len(labels[1]),
        "classes": train.names,
        "skipped": [*missing, *features[0].broken, *features[1].broken],
    }
    if config.per_class is None:
        kept = groups and [groups[place] for place in features[0].places]
        probe = linear_probe(*sets, groups=kept)
        scores |= {"strength": probe.strength, "left_out": [train.names[c] for c in probe.left_out]}
    else:
        probe = few_shot(*sets, per_class=config.per_class, draws=config.draws, seed=config.seed)
        scores |= {"per_class": config.per_class, "draws": config.draws, "accuracies": probe.accuracies}
    right = None if math.isnan(probe.accuracy) else probe.accuracy  # JSON has no NaN
    return scores | {"accuracy": right, "mean_average_precision": probe.mean_average_precision}


def _group(pattern: str, name: str) -> str:
    try:
        found = re.search(pattern, name)
        if found:
            return found[1]
    except (re.error, IndexError) as error:
        raise ValueError(
            f"groups must be a regular expression with a bracket, got {pattern!r}: {error}"
        ) from None
    raise DataError(f"{name} does not match groups {pattern!r}; each training file must")


def main() -> None:
    try:
        config = tyro.cli(Config, description=__doc__)
        scores = probe_run(config)
    except (ValueError, OSError, RuntimeError) as error:
        raise SystemExit(f"smnoise: {error}") from error
    if config.json:
        print(json.dumps(scores))
        return
    table = Table("score", "value")
    for name, value in scores.items():
        if isinstance(value, list):
            value = ", ".join(f"{v:.4f}" if isinstance(v, float) else str(v) for v in value) or "none"
        table.add_row(name.replace("_", " "), f"{value:.4f}" if isinstance(value, float) else str(value))
    Console().print(table)


if __name__ == "__main__":
    main()
