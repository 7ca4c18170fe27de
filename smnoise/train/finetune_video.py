# SPDX-License-Identifier: Apache-2.0
"""Fine-tune VideoMAE's encoder to classify videos, and score it after every epoch.

    python -m smnoise.train.finetune_video --run runs/video --train TRAIN --test TEST --out runs/classes
    python -m smnoise.train.finetune_video ... --preset ssv2-800 --train train.txt --test test.txt
    python -m smnoise.train.finetune_video ... --from-scratch          # without pretraining, to compare
    python -m smnoise.train.finetune_video ... --resume                # go on after a stop

TRAIN and TEST are two folders with a folder a class, or two list files with `path label` a line. The folder of the
run then holds config.json, log.jsonl with the scores, checkpoints/ (the newest) and best/checkpoints/ (the one with
the best accuracy). Each epoch is scored on the middle of each test video; after the last one also on the
recipe's segments x crops, probabilities averaged: views_accuracy.

Presets are the published scripts' recipes for Kinetics-400 and Something-Something v2 (each by the epochs of
pretraining before) and UCF101; any number of theirs can be given instead. A script's many GPUs are accumulated passes
here: on a larger GPU raise --batch-size and lower --accumulate alike. docs/finetuning.md lists what differs from the
released programs.

Besides first weights all that is random is a function of (seed, sample number), or of (seed, pass) for mixing and
dropout, so a checkpoint needs to hold just the number of steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from ..data.draws import torch_seeded
from ..data.labels import LabelledFiles, labelled_videos
from ..data.video.augment import LabelledClips, mixed
from ..data.video.cache import FrameStore
from ..data.video.clips import VIDEO
from ..data.video.views import EveryVideo, over_views
from ..errors import CheckpointError
from ..lock import one_at_a_time
from ..models.classifier import VideoClassifier, VideoEncoder
from ..models.common import Size
from ..models.videomae import IMAGENET_MEAN, IMAGENET_STD, VideoMAE
from ..probes.features import outputs_of
from ..probes.knn import KnnProbe
from ..probes.linear import scores_of
from . import video
from .finetune import OF_JOB, check_finite, check_labels, recipe, title, within_an_epoch
from .finetune import notes as notes_of_files
from .finetune_video_config import SCRATCH, Config
from .job import Job
from .loop import train
from .optim import layer_groups
from .pretrained import find as pretraining
from .pretrained import video as video_runs
from .pretrained.video import VideoPretrained
from .run import checkpoint
from .run.folder import check_settings, choose_device, command
from .settings import recipe_fields
from .world import join


@one_at_a_time
def finetune(config: Config, stop: Callable[[], bool] = lambda: False) -> VideoClassifier:
    """Train, and return the trained classifier. Files and errors are those of the module's head.

    stop: asked after each step; when it says so, a checkpoint is saved and training ends early.

    Raises DataError, CheckpointError, ValueError or OSError before the first step for what can be known then;
    FloatingPointError when the loss stops being finite.
    """
    device, bfloat16 = choose_device(config.device, config.dtype)
    world = join(device)
    config, made = job(config, device, bfloat16)
    train(config, made, world, device, bfloat16, stop)
    return made.model


def job(config: Config, device: torch.device, bfloat16: bool) -> tuple[Config, Job[VideoClassifier]]:
    """What the loop trains, and the settings with as many passes a step as the files are enough for."""
    files, test = labelled_videos(config.train, config.test, config.classes)
    notes = check_labels(config, config.loss, files, test)
    with torch_seeded(config.seed, 0, torch.device("cpu")):  # the caller's generator stays as it is
        encoder, views, told = _pretrained(config)
        model = VideoClassifier(
            encoder, len(files.names), drop_path=config.drop_path, head_drop=config.head_drop
        )
    store, kept = video.cached(config.frames_cache, config.train, files.paths)
    model, clips = model.to(device), clips_of(config, files, views, store)
    clips[0]  # a data set that cannot be read is found out here, not in a worker
    config, few = within_an_epoch(config, clips)

    def loss(train: torch.nn.Module, batch: dict, step: int, number: int) -> Tensor:
        with torch_seeded(config.seed, 1 + number, device):
            return loss_of(config, train, model.head.out_features, batch, number, device, bfloat16)

    def blank(train: torch.nn.Module) -> Tensor:
        shape = config.batch_size * config.views, 3, views.frames, views.size, views.size
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            return train(torch.zeros(shape, dtype=torch.uint8, device=device)).float().mean()

    probe = None
    if config.knn_every:
        seen = partial(EveryVideo, frames=views.frames, stride=views.stride, size=views.size)
        probe = KnnProbe(config, VIDEO, seen, lambda clips: clips, over_views, device)
    parts = {
        "size": list(encoder.size.numbers().values()),
        "grid": encoder.grid,
        "tubelet": encoder.tubelet,
        "patch": encoder.patch,
        **normalisation_of(encoder),
    }
    inputs = {name: getattr(views, name) for name in ("frames", "stride", "size")}
    return config, Job(
        title=title(model, grid_of(views, encoder), files, test, VIDEO),
        model=model,
        groups=partial(layer_groups, model, config.weight_decay, config.layer_decay),
        clips=clips,
        loss=loss,
        blank=blank,
        recipe=recipe(config, files, test, VIDEO, parts, inputs),
        notes=few + notes + kept + told + notes_of_files(config, VIDEO),
        advice=f"raise --workers ({config.workers} now) or --views",
        probe=probe,
        evaluate=lambda last: evaluate(config, model, views, test, device, last),
    )


def pretrained(config: Config) -> tuple[VideoEncoder, EveryVideo]:
    """The encoder, on the CPU, and how test videos are viewed, yet without any.

    Raises CheckpointError where the run holds none, ValueError where it is not as the config says, or clips do not
    fit its cubes.
    """
    return _pretrained(config)[:2]


def _pretrained(config: Config) -> tuple[VideoEncoder, EveryVideo, list[str]]:
    """The same, and what was assumed of converted weights."""
    if config.run is None:  # from_scratch
        scratch = video.Config(
            data=config.train,
            out=config.out,
            mask_ratio=0.5,
            seed=config.seed,
            **{name: getattr(config, name) for name in SCRATCH},
        )
        shape = (scratch.frames, scratch.stride, scratch.size)
        usual = VideoPretrained(video_runs.untrained(scratch), *shape, [], scratch)
        model = usual.model
    else:
        usual = pretraining.pretrained(config.run, "video")
        model = usual.model
        for name, found in (
            ("model", usual.architecture),
            ("tubelet", model.tubelet),
            ("patch", model.patch),
        ):
            if getattr(config, name) not in (None, found):
                raise ValueError(
                    f"{config.run} is another architecture: its {name} is not the one asked for "
                    f"({found or model.size}, not {getattr(config, name)}); leave it out"
                )
    asked = {name: getattr(config, name) or getattr(usual, name) for name in ("frames", "stride", "size")}
    views = EveryVideo([], **asked, sampling=config.sampling)
    if views.frames % model.tubelet or views.size % model.patch:
        raise ValueError(
            f"frames must be a multiple of the tubelet of {model.tubelet} and size of the patch of "
            f"{model.patch}, got {views.frames} and {views.size}"
        )
    return VideoEncoder(model, checkpoint_blocks=config.checkpoint_blocks), views, usual.notes


def normalisation_of(encoder: VideoEncoder) -> dict[str, list[float]]:
    """mean and std of its input, by name, where they are not the usual ones."""
    usual = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}
    own = {name: getattr(encoder, name).tolist() for name in usual}
    same = all(torch.equal(getattr(encoder, name).cpu(), torch.tensor(usual[name])) for name in usual)
    return {} if same else own


def grid_of(views: EveryVideo, encoder: VideoEncoder) -> tuple[int, int, int]:
    """Tokens of a clip; `encoder.grid` is that of pretraining."""
    side = views.size // encoder.patch
    return views.frames // encoder.tubelet, side, side


def clips_of(
    config: Config, train: LabelledFiles, views: EveryVideo, store: FrameStore | None = None
) -> LabelledClips:
    """The training clips by sample number."""
    return LabelledClips(
        train.paths,
        seed=config.seed,
        labels=train.numbers(),
        frames=views.frames,
        stride=views.stride,
        size=views.size,
        sampling=config.sampling,
        views=config.views,
        flip=config.flip,
        randaugment=config.randaugment,
        erasing=config.erasing,
        short_side=config.short_side,
        store=store,
    )


def loss_of(
    config: Config,
    train: torch.nn.Module,
    classes: int,
    batch: dict,
    number: int,
    device: torch.device,
    bfloat16: bool,
) -> Tensor:
    """Compute the loss of a training batch, of pass `number`: a float32 scalar. Views become clips of their own."""
    pixels = batch["clip"].to(device, non_blocking=True).flatten(0, 1)
    labels = batch["label"].to(device, non_blocking=True).repeat_interleave(config.views)
    targets, smoothing = labels, config.smoothing
    if config.mixes:
        pixels, targets = mixed(
            pixels.float().div_(255),
            labels,
            classes,
            seed=config.seed,
            number=number,
            mixup=config.mixup,
            cutmix=config.cutmix,
            smoothing=config.smoothing,
        )
        smoothing = 0.0  # the targets are smooth already
    with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
        logits = train(pixels)
    return cross_entropy(logits.float(), targets, label_smoothing=smoothing)


def evaluate(
    config: Config,
    model: VideoClassifier,
    views: EveryVideo,
    test: LabelledFiles,
    device: torch.device,
    many: bool,
) -> tuple[dict[str, float], list[str]]:
    """Accuracy and mAP of the middle of each test video, in float32, and "score", the accuracy, by which checkpoints
    are ranked; with `many` also of the config's segments and crops; and what was wrong with files left out.

    Raises DataError where none decodes, FloatingPointError where the model's answer is no number.
    """
    model.eval()
    once = replace(views, paths=test.paths)
    scores, broken = score(config, model, once, test, device)
    found = {**scores, "score": scores["accuracy"]}
    if many and config.segments * config.crops > 1:
        scores, _ = score(
            config, model, replace(once, segments=config.segments, crops=config.crops), test, device
        )
        found |= {f"views_{name}": value for name, value in scores.items()}
    return found, broken


def score(
    config: Config, model: VideoClassifier, clips: EveryVideo, test: LabelledFiles, device: torch.device
) -> tuple[dict[str, float], list[str]]:
    """Accuracy and mAP of the mean probability over views, and what was wrong with files left out."""
    function = over_views(lambda pixels: model(pixels).softmax(dim=1))
    batch_size = max(1, config.batch_size // (clips.segments * clips.crops))
    found, places, broken = outputs_of(
        function, clips, lambda pixels: pixels, device, batch_size, config.workers
    )
    check_finite(found, config)
    right, precision = scores_of(found.log(), test.targets[places], several=False)
    return {"accuracy": right, "mean_average_precision": precision.value}, broken


def classifier_of(run: Path) -> tuple[VideoClassifier, EveryVideo, list[str]]:
    """The classifier of a run's newest whole checkpoint (or of its best one: run / "best"), on the CPU and in
    evaluation mode, how videos are viewed (`replace(views, paths=...)`), and the names of its classes.

    Raises CheckpointError where there is none, or it is not of this trainer.
    """
    tensors, _, state, _ = checkpoint.newest(run)
    before = state["recipe"]
    if missing := [name for name in ("classes", "encoder", "inputs", "views") if name not in before]:
        raise CheckpointError(
            f"{run} is no run of smnoise.train.finetune_video: its recipe has no {missing[0]}"
        )
    check_settings(before, (*recipe_fields(Config), *OF_JOB), run)
    parts = before["encoder"]
    model = VideoMAE(
        Size(*parts["size"]),
        tuple(parts["grid"]),
        tubelet=parts["tubelet"],
        patch=parts["patch"],
        mean=tuple(parts.get("mean", IMAGENET_MEAN)),
        std=tuple(parts.get("std", IMAGENET_STD)),
    )
    classifier = VideoClassifier(VideoEncoder(model), len(before["classes"]))
    classifier.load_state_dict(tensors)
    return (
        classifier.eval(),
        EveryVideo([], **before["inputs"], sampling=before["sampling"]),
        before["classes"],
    )


def main() -> None:
    command(Config, finetune, __doc__)


if __name__ == "__main__":
    main()
