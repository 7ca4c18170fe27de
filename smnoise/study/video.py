# SPDX-License-Identifier: Apache-2.0
"""A cell of a study on videos: pretrain on clips of the motion task, and ask the frozen features for the motion.

The clips are cut once (smnoise.data.video.motion: real pixels, exact labels, test clips from videos of other scenes)
and kept as small lossless videos, train/LABEL/CLIP.mkv, which the trainer and the probe then read as they read any
videos.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import avg_pool3d

from smnoise.data.labels import LabelledFiles, labelled_videos
from smnoise.data.video.lossless import write_lossless
from smnoise.data.video.motion import MOTIONS, MotionClips
from smnoise.data.video.views import EveryVideo, over_views
from smnoise.files import write_text
from smnoise.probes.features import outputs_of
from smnoise.probes.linear import FEW, linear_probe
from smnoise.probes.nearest import nearest_probe
from smnoise.train import finetune_video, video
from smnoise.train.run import checkpoint, log
from smnoise.train.run.folder import choose_device

from .plan import INPUTS, UNTRAINED, Cell, Video

DONE = "done.txt"
# Of fine-tuning: what would blur a comparison is left out: mixing, erasing, flips (which swap left and right), dropout.
PLAIN: dict[str, Any] = {
    "views": 1,
    "flip": False,
    "randaugment": "",
    "erasing": 0.0,
    "mixup": 0.0,
    "cutmix": 0.0,
    "smoothing": 0.0,
    "drop_path": 0.0,
    "head_drop": 0.0,
    "short_side": None,
    "segments": 1,
    "crops": 1,
}


def config_of(task: Video, cell: Cell, data: Path, out: Path, workers: int, device: str) -> video.Config:
    """The run of a cell; a baseline's has the first weights of its seed."""
    return video.Config(
        data=data / "train",
        out=out,
        resume=bool(checkpoint.steps(out)),
        model=task.model,
        frames=task.frames,
        stride=1,
        size=task.size,
        tubelet=task.tubelet,
        patch=task.patch,
        mask="random" if cell.visible is None else cell.strategy,
        num_visible=cell.visible or 1,
        epochs=task.epochs,
        warmup_epochs=task.epochs / 10,
        batch_size=task.batch_size,
        base_lr=task.base_lr,
        seed=cell.seed,
        workers=workers,
        cache_mib=1024,
        device=device,
    )


def prepare(task: Video, videos: tuple[list[Path], list[Path]], folder: Path) -> None:
    """Write the task's clips to folder/train and folder/test, unless they are there."""
    for name, paths, count in zip(("train", "test"), videos, (task.clips, task.test_clips), strict=True):
        blocks = -(-count // len(MOTIONS))
        clips = MotionClips(
            paths, frames=task.frames, size=task.kept, blocks_per_video=-(-blocks // len(paths))
        )
        what = f"{clips!r}, {blocks} blocks\n"
        done = folder / name / DONE
        if done.exists() and done.read_text() == what:
            continue
        for sample in range(blocks * len(MOTIONS)):
            item = clips[sample]
            label = folder / name / MOTIONS[item["label"]]
            label.mkdir(parents=True, exist_ok=True)
            write_lossless(label / f"{sample // len(MOTIONS):05}.mkv", item["clip"])
        write_text(done, what)


def run(
    task: Video, cell: Cell, data: Path, out: Path, workers: int, device: str, stop: Callable[[], bool]
) -> tuple[dict[str, float], dict] | None:
    """Scores of a cell, and what else is known of it. None after a stop: training may have ended early, with a
    checkpoint to go on from."""
    config = config_of(task, cell, data, out, workers, device)
    more = {}
    function: Callable[[Tensor], Tensor] | torch.nn.Module
    if cell.strategy == INPUTS:
        function = partial(means, cube=(task.tubelet, task.patch, task.patch))
    elif cell.strategy == UNTRAINED:
        function = video.untrained(config)
    else:
        function = video.pretrain(config, stop)
        if stop():
            return None
        losses = [record["loss"] for record in log.read(out) if "loss" in record]
        more = {"first loss": losses[0], "last loss": losses[-1]}
    sides = labelled_videos(data / "train", data / "test")
    found = scores(task, function, sides, workers, choose_device(device, "float32")[0])
    if task.tune_epochs and cell.strategy != INPUTS:
        found["fine-tuned accuracy"] = tuned(task, cell, data, out, sides, workers, device, stop)
        if stop():
            return None
    return found, more


def tuned(
    task: Video,
    cell: Cell,
    data: Path,
    out: Path,
    sides: tuple[LabelledFiles, LabelledFiles],
    workers: int,
    device: str,
    stop: Callable[[], bool],
) -> float:
    """Accuracy after the last epoch of plain fine-tuning, from the cell's run or, untrained, from first weights."""
    batch_size = 16
    begin: dict[str, Any] = {"run": out}
    if cell.strategy == UNTRAINED:
        names = ("model", "tubelet", "patch", "frames", "size")
        begin = {"from_scratch": True, "stride": 1} | {name: getattr(task, name) for name in names}
    folder = out / "tuned"
    config = finetune_video.Config(
        train=data / "train",
        test=data / "test",
        out=folder,
        resume=bool(checkpoint.steps(folder)),
        **begin,
        **PLAIN,
        epochs=task.tune_epochs,
        warmup_epochs=task.tune_epochs / 15,
        batch_size=batch_size,
        accumulate=1,
        base_lr=0.002 * 256 / batch_size,
        layer_decay=1.0,
        seed=cell.seed,
        device=device,
        workers=workers,
    )
    model = finetune_video.finetune(config, stop)
    model.eval()
    clips = EveryVideo(sides[1].paths, frames=task.frames, stride=1, size=task.size)
    return finetune_video.score(config, model, clips, sides[1], next(model.parameters()).device)[0][
        "accuracy"
    ]


def means(clips: Tensor, cube: tuple[int, int, int]) -> Tensor:
    """The mean colour of each cube of clips uint8 [B, 3, T, H, W]: float32 [B, 3 * L]."""
    return avg_pool3d(clips.float() / 255, cube).flatten(1)


def scores(
    task: Video, function, sides: tuple[LabelledFiles, LabelledFiles], workers: int, device: torch.device
) -> dict[str, float]:
    """Probes of what a model, or a function of clips, makes of the two sets."""
    if isinstance(function, torch.nn.Module):
        function = function.to(device).eval().features
    features = []
    for side in sides:
        clips = EveryVideo(side.paths, frames=task.frames, stride=1, size=task.size)
        found, _, broken = outputs_of(over_views(function), clips, lambda c: c, device, 32, workers)
        if broken:
            raise OSError(f"{broken[0]}; delete the folder of clips, and it is made anew")
        features.append(found)
    sets = features[0], sides[0].numbers(), features[1], sides[1].numbers()
    # One strength for all: to choose it costs twenty fits, more than a small cell's training.
    linear = linear_probe(*sets, strengths=[FEW])
    return {"linear accuracy": linear.accuracy, "nearest accuracy": nearest_probe(*sets).accuracy}
