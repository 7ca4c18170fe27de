# SPDX-License-Identifier: Apache-2.0
"""What a sampler's masks are like, on one page and as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from ..files import write_text
from ..measures.spectra import AXES, Measures, NoiseSpectrum, Spectrum, measure
from ..samplers import White3D
from ..samplers.base import Sampler
from ..spec import with_ones
from . import style
from .overlay import lies_on_its_side, tiles

SHOWN = 3  # masks in the picture, and
STEPS = 8  # time steps of each


def report(
    sampler: Sampler,
    name: str,
    stem: Path,
    *,
    count: int = 512,
    formats: tuple[str, ...] = ("png", "pdf"),
    step: Callable[[int], object] = lambda n: None,
) -> tuple[dict, list[Path]]:
    """Measure masks 0 .. count - 1 and random ones of the same budget, and write stem.json and a page of pictures.

    step: called with a number of masks after each part of the work; 2 * count in all.

    Returns what the JSON holds, and the paths. Raises ValueError as `measure` does.
    """
    found = measure(sampler, count, step=step)
    random = White3D(found.grid, num_visible=found.num_visible, seed=sampler.seed)
    reference = measure(random, count, step=step)
    values = as_json(sampler, name, found, reference)
    write_text(path := stem.with_name(f"{stem.name}.json"), json.dumps(values, indent=1) + "\n")
    with style.new_figure(style.WIDTH, 6.6) as figure:
        draw(figure, sampler, name, found, reference)
        return values, [path, *style.save(figure, stem, formats)]


def as_json(sampler: Sampler, name: str, found: Measures, reference: Measures) -> dict:
    """All that the page shows, in plain numbers."""
    return {
        "name": name,
        "sampler": json.loads(sampler.to_json()),
        "masks": found.masks,
        "tokens": math.prod(found.grid),
        **_numbers(found),
        "random masks of the same budget": _numbers(reference),
    }


def _numbers(found: Measures) -> dict:
    least, most = found.visible_counts
    noise = found.noise
    return {
        "visible tokens": {"promised": found.num_visible, "least": least, "most": most},
        "visible tokens of a time step": dict(
            zip(("least", "standard deviation", "most"), _plain(found.visible_per_frame), strict=True)
        ),
        "visibility of a token": {
            "expected": found.num_visible / found.seen.numel(),
            "binomial standard deviation": _plain(found.deviation),
            "least": _plain(found.seen.min()),
            "most": _plain(found.seen.max()),
            "standard deviation in binomial ones": _plain(found.z.std(correction=0)),
            "share beyond two (binomial: 0.0455)": _plain(found.beyond_two),
        },
        "distance to the nearest visible token": {
            "mean": _plain(found.nearest.mean()),
            "quartiles": _plain(torch.quantile(found.nearest, found.nearest.new_tensor([0.25, 0.5, 0.75]))),
            "share touching": _plain(found.touching),
        },
        "change from a time step to the next": None
        if "t" not in found.persistence
        else {
            "share of visible tokens that are masked in it": _plain(1 - found.persistence["t"][0]),
            "of random masks": _plain(1 - found.expected_persistence),
        },
        "visible again, by tokens further along an axis": {
            "expected of random masks": _plain(found.expected_persistence),
            **{axis: _plain(values) for axis, values in found.persistence.items()},
        },
        "power in space, random masks = 1": found.in_space and _spectrum(found.in_space),
        "power in time, random masks = 1": found.in_time and _spectrum(found.in_time),
        "power of the noise, white = 1": None
        if noise is None
        else {
            **_spectrum(noise.measured),
            "of the filters": _plain(noise.expected),
            "band, least": _plain(noise.low),
            "band, most": _plain(noise.high),
        },
    }


def _spectrum(found: Spectrum) -> dict:
    return {"cycles a token": _plain(found.frequency), "power": _plain(found.power)}


def _plain(value):
    """Numbers as JSON has them, of five digits; what is not a number, such as an empty bin, as null."""
    if isinstance(value, torch.Tensor):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value if isinstance(value, int) else float(f"{value:.5g}") if math.isfinite(value) else None


def draw(figure: Figure, sampler: Sampler, name: str, found: Measures, reference: Measures) -> None:
    """The page: masks; where tokens are visible; noise, spectra, distances and persistence."""
    color, grid = style.color_of(name), found.grid
    tokens = math.prod(grid)
    shape = " x ".join(map(str, grid if grid[0] > 1 else grid[1:]))
    figure.suptitle(
        f"{name}: {found.num_visible} of {tokens} tokens visible ({1 - found.num_visible / tokens:.1%} masked), grid "
        f"{shape}, seed {sampler.seed}, {found.masks} masks measured"
    )
    top, middle, bottom = figure.subfigures(3, 1, squeeze=False, height_ratios=[1.75, 1.15, 1.75])[:, 0]
    _masks(top, sampler, color)
    _visibility(middle, found, color)
    panels = bottom.subplots(1, 4 if found.noise else 3)
    if found.noise:
        _noise(panels[0], found.noise, color)
    _mask_spectra(panels[-3], found, color)
    _distances(panels[-2], found, reference, color)
    _persistence(panels[-1], found, color)


def _masks(figure: Figure, sampler: Sampler, color: str) -> None:
    grid = with_ones(sampler.grid)
    colors = ListedColormap([style.PALE, color]).with_extremes(bad="white")
    if grid[0] == 1 and not lies_on_its_side(grid) and grid[1] > 1:
        # Pictures: a row of masks, as time steps are elsewhere.
        shown = {"masks 0 to 7": ~sampler(range(8)).volume()[:, 0].cpu().numpy()}
    else:
        shown = {f"mask {n}": v[:STEPS] for n, v in enumerate(~sampler(range(SHOWN)).volume().cpu().numpy())}
    axes = figure.subplots(len(shown), 1, squeeze=False)[:, 0]
    for axis, (name, volume) in zip(axes, shown.items(), strict=True):
        _picture(axis, tiles(volume, rightwards=lies_on_its_side(grid)), cmap=colors, vmin=0, vmax=1)
        axis.set_ylabel(name, rotation=0, ha="right", va="center")
    axes[0].set_title(f"visible tokens (coloured){_over(grid)}", pad=3)


def _picture(axis, values: np.ndarray, **how):
    """Tokens as squares; those of a line as bars."""
    style.bare(axis)
    aspect = "auto" if len(values) == 1 else "equal"
    return axis.imshow(values, interpolation="nearest", aspect=aspect, **how)


def _over(grid: tuple[int, int, int]) -> str:
    if lies_on_its_side(grid):
        return "; first axis (time) to the right, second one (frequency) upwards"
    if grid[0] == 1:
        return ""
    return f"; time to the right{f', the first {STEPS} of {grid[0]} steps' if grid[0] > STEPS else ''}"


def _visibility(figure: Figure, found: Measures, color: str) -> None:
    heat, histogram = figure.subplots(1, 2, width_ratios=[2.6, 1])
    values = tiles(found.z.numpy()[:STEPS], rightwards=lies_on_its_side(found.grid))
    image = _picture(heat, values, cmap=style.DIVERGING, vmin=-4, vmax=4)
    wide = values.shape[1] > 3 * values.shape[0]
    heat.set_title(f"how often each token is visible,{' ' if wide else chr(10)}in binomial deviations", pad=3)
    bar = figure.colorbar(
        image, ax=heat, location="right", shrink=0.7, aspect=12, pad=0.01, ticks=[-4, -2, 0, 2, 4]
    )
    bar.outline.set_visible(False)

    edges = np.linspace(-4.25, 4.25, 18)
    z = found.z.flatten().clamp(-4.2, 4.2).numpy()
    histogram.hist(z, edges, density=True, color=color, alpha=0.75, label="tokens")
    x = np.linspace(-4.25, 4.25, 200)
    histogram.plot(x, np.exp(-x * x / 2) / np.sqrt(2 * np.pi), color=style.INK, linewidth=1, label="binomial")
    # Masks that share out the tokens may be far more even than chance: their bar would press the curve flat.
    histogram.set_ylim(0, min(histogram.get_ylim()[1], 1.0))
    histogram.set(
        xlabel="deviations", ylabel="density", title=f"{found.beyond_two:.1%} beyond 2 (chance: 4.6%)"
    )
    histogram.legend(handlelength=1, borderpad=0)


def _noise(axis, noise: NoiseSpectrum, color: str) -> None:
    frequency = noise.measured.frequency
    axis.fill_between(
        frequency, noise.low, noise.high, color=color, alpha=0.18, linewidth=0, label="band, all sigmas"
    )
    axis.plot(frequency, noise.expected, color=style.INK, linewidth=1, label="filters")
    axis.plot(frequency, noise.measured.power, ".", color=color, markersize=4, label="noise")
    axis.set(xlabel="cycles a token", ylabel="power, white = 1", title="noise", xlim=(0, 0.5), ylim=(0, None))
    axis.legend(loc="upper right", handlelength=1, borderpad=0)


def _mask_spectra(axis, found: Measures, color: str) -> None:
    for spectrum, line, label in ((found.in_space, "-", "in space"), (found.in_time, ":", "in time")):
        if spectrum is not None:
            axis.plot(*spectrum, line, color=color, marker=".", markersize=3, linewidth=1.2, label=label)
    axis.axhline(1, color=style.GREY, linewidth=0.8)
    axis.set(
        xlabel="cycles a token", ylabel="power, random = 1", title="masks", xlim=(0, 0.5), ylim=(0, None)
    )
    if found.in_space is None and found.in_time is None:
        axis.text(0.25, 0.5, "grid too small", ha="center")
    else:
        axis.legend(loc="best", handlelength=1.6, borderpad=0)


def _distances(axis, found: Measures, reference: Measures, color: str) -> None:
    longest = max(found.nearest[-1].item(), reference.nearest[-1].item())
    for measured, shade, label in ((reference, style.GREY, "random"), (found, color, "this")):
        share = np.arange(1, len(measured.nearest) + 1) / len(measured.nearest)
        axis.step(measured.nearest, share, where="post", color=shade, linewidth=1.4, label=label)
    axis.set(
        xlabel="distance, tokens",
        ylabel="share of visible tokens",
        title="nearest visible one",
        xlim=(0.8, longest),
    )
    axis.set_ylim(0, 1.02)
    axis.legend(loc="lower right", handlelength=1, borderpad=0)


def _persistence(axis, found: Measures, color: str) -> None:
    names = ("time", "y", "x") if found.grid[0] > 1 else ("", "1st axis", "2nd axis")
    for axis_name, line in zip(AXES, ("-", "--", ":"), strict=True):
        if axis_name in found.persistence:
            values = found.persistence[axis_name][:7]
            axis.plot(
                range(1, len(values) + 1), values, line, color=color, marker=".", markersize=3, linewidth=1.2,
                label=names[AXES.index(axis_name)],
            )  # fmt: skip
    axis.axhline(found.expected_persistence, color=style.GREY, linewidth=0.8)
    axis.set(xlabel="tokens further", ylabel="visible again", title="persistence", ylim=(0, None))
    axis.set_ylim(top=1.35 * axis.get_ylim()[1])  # room for the legend
    axis.legend(loc="upper right", handlelength=1.6, borderpad=0)
