# SPDX-License-Identifier: Apache-2.0
"""Masks over a real clip and over a real spectrogram: an animation and a film strip, strategies side by side."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np

from ..data.audio.fbank import LogMel
from ..files import make_folder
from ..samplers.base import Sampler
from ..spec import as_float, as_int, with_ones
from . import film
from .media import Source, read_clip, read_sound
from .overlay import masked
from .style import HIDDEN

STRIP = 8  # pictures of a row


MOST_FRAMES = 512  # of a GIF
LARGEST_SIDE = 8192  # of a picture, in pixels


@dataclass(frozen=True)
class Scene:
    """Where pictures go and how they look."""

    out: Path
    """Folder; made if it does not exist."""
    name: str
    """Of the files in it: NAME.gif, NAME-strip.png and so on."""
    formats: tuple[str, ...] = ("png", "pdf")
    """Of the film strip: png, pdf, svg."""
    original: bool = True
    """Whether the first picture is the one without a mask."""
    colors: int = 128
    """Of the GIF's palette."""
    columns: int | None = None
    """Panels in a row of the GIF; by default all in one."""

    def __post_init__(self):
        as_int("colors", self.colors, 2, 256)
        if self.columns is not None:
            as_int("columns", self.columns, 1, 1000)

    def file(self, ending: str) -> Path:
        """Return the path of a picture with that ending."""
        make_folder(self.out)
        return self.out / f"{self.name}{ending}"


def video(
    samplers: dict[str, Sampler],
    source: Source,
    scene: Scene,
    *,
    tubelet: int = 2,
    patch: int = 16,
    stride: int = 2,
    start: int = 0,
    sample: int = 0,
    milliseconds: int = 80,
) -> list[Path]:
    """Masks `sample` of several strategies over a clip, whose size the samplers' grid tells: T * tubelet frames of
    H * patch by W * patch pixels.

    Raises ValueError for samplers of different grids or for planes, DataError for a file without video.
    """
    t, h, w = common_grid(samplers)
    if t < 2:
        raise ValueError(f"a clip needs a grid of (T, H, W) with T at least 2, got {(t, h, w)}")
    as_int("tubelet", tubelet, 1, MOST_FRAMES)
    as_int("stride", stride, 1, MOST_FRAMES)
    as_int("milliseconds", milliseconds, 10, 60_000)
    as_int("patch", patch, 1, LARGEST_SIDE // max(h, w))
    if t * tubelet > MOST_FRAMES:
        raise ValueError(
            f"a grid of {t} time steps of {tubelet} frames is a film of {t * tubelet} pictures, at most {MOST_FRAMES} "
            "are shown; give a shorter grid"
        )
    clip = read_clip(source.path, t * tubelet, stride, start, h * patch, w * patch)
    panels = {"clip": clip} if scene.original else {}
    for name, sampler in samplers.items():
        panels[name] = masked(clip, sampler([sample]).volume()[0].numpy())
    _check_names(samplers, panels, scene.original)
    footer = f"{budget(samplers)}; {source.credit}"
    film.gif(
        panels, animation := scene.file(".gif"), milliseconds=milliseconds, colors=scene.colors, footer=footer,
        columns=scene.columns,
    )  # fmt: skip
    steps = np.linspace(0, t - 1, min(t, STRIP)).round().astype(int)
    rows = {name: panel[steps * tubelet] for name, panel in panels.items()}
    titles = [f"t = {step}" for step in steps]
    return [animation, *film.strip(rows, titles, scene.file("-strip"), footer=footer, formats=scene.formats)]


def audio(
    samplers: dict[str, Sampler],
    source: Source,
    scene: Scene,
    *,
    rate: int = 16000,
    patch: int = 16,
    start: float = 0.0,
    samples: int = 8,
    milliseconds: int = 800,
) -> list[Path]:
    """Masks 0 .. samples - 1 of several strategies over the log-mel spectrogram of a sound, of T * patch frames
    (10 ms each) and F * patch mel bins for a grid (T, F); the strip shows the first three.

    Raises ValueError for samplers of different grids or with time steps, DataError for a file without sound.
    """
    t, h, w = common_grid(samplers)
    if t != 1:
        raise ValueError(f"a spectrogram needs a grid (time, frequency), got {(t, h, w)}")
    as_int("samples", samples, 1, MOST_FRAMES)
    as_int("milliseconds", milliseconds, 10, 60_000)
    as_int("patch", patch, 1, LARGEST_SIDE // max(h, w))
    as_float("start", start)
    picture = spectrogram(source.path, rate, h * patch, w * patch, start)
    panels = {"spectrogram": np.repeat(upright(picture)[None], samples, axis=0)} if scene.original else {}
    for name, sampler in samplers.items():
        volumes = sampler(range(samples)).volume()[:, 0].numpy()
        panels[name] = np.stack([upright(masked(picture, mask)) for mask in volumes])
    _check_names(samplers, panels, scene.original)
    footer = f"{budget(samplers)}; time to the right, mel bins upwards; {source.credit}"
    film.gif(
        panels, animation := scene.file(".gif"), milliseconds=milliseconds, colors=scene.colors, footer=footer,
        columns=scene.columns or 1,
    )  # fmt: skip
    shown = min(samples, 3)
    rows = {name: panel[:shown] for name, panel in panels.items()}
    titles = [f"mask {n}" for n in range(shown)]
    return [animation, *film.strip(rows, titles, scene.file("-strip"), footer=footer, formats=scene.formats)]


def spectrogram(path: Path, rate: int, frames: int, mels: int, start: float = 0.0) -> np.ndarray:
    """Log-mel features of a sound as colours: uint8 [frames, mels, 3]. The darkest 2 % and the lightest 0.2 % of values
    are cut off."""
    log_mel = LogMel(rate, mels)
    wave = read_sound(path, rate, log_mel.num_samples(frames), start)
    return colored(log_mel(wave[None])[0].numpy())


def colored(values: np.ndarray, scale_of: np.ndarray | None = None) -> np.ndarray:
    """Values as colours, uint8 [..., 3], on the scale of others, by default of themselves; NaN dark, as masked tokens
    are."""
    low, high = np.nanquantile(values if scale_of is None else scale_of, [0.02, 0.998])
    unit = np.clip((values - low) / max(high - low, 1e-9), 0, 1)
    # From a third of the way up: what is visible then stands out from the dark of masked tokens.
    shades = matplotlib.colormaps["magma"](0.3 + 0.7 * unit)[..., :3]
    return (np.where(np.isnan(values)[..., None], HIDDEN, shades) * 255).round().astype(np.uint8)


def upright(picture: np.ndarray) -> np.ndarray:
    """Turn a picture of any dtype, [time, mel, 3], to [mel upwards, time, 3]."""
    return picture.transpose(1, 0, 2)[::-1]


def common_grid(samplers: dict[str, Sampler]) -> tuple[int, int, int]:
    """The samplers' one grid (T, H, W). Raises ValueError for none, or several."""
    grids = {with_ones(sampler.grid) for sampler in samplers.values()}
    if len(grids) != 1:
        raise ValueError(f"need one or more samplers of one grid, got grids {sorted(grids)}")
    return grids.pop()


def budget(samplers: dict[str, Sampler]) -> str:
    """How many tokens are visible, for all of the samplers together."""
    counts = sorted({sampler.visible_per_sample for sampler in samplers.values()})
    tokens = next(iter(samplers.values())).num_tokens
    return f"{' or '.join(map(str, counts))} of {tokens} tokens visible"


def _check_names(samplers: dict[str, Sampler], panels: dict, original: bool) -> None:
    if len(panels) != len(samplers) + original:
        raise ValueError(f"no strategy may be named as the original is, got {', '.join(samplers)}")
