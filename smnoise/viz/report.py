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
from matplotlib.gridspec import SubplotSpec

from ..files import write_text
from ..measures.signs import signs
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
    with style.new_figure(style.THEMES["paper"].width, 6.6) as figure:
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
        "signs": {sign.name: sign.said for sign in signs(found)},
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
    end = "\n" if style.larger_letters() > 1 else " "
    figure.suptitle(
        f"{name}: {found.num_visible} of {tokens} tokens visible ({1 - found.num_visible / tokens:.1%} masked),{end}"
        f"grid {shape}, seed {sampler.seed}, {found.masks} masks measured"
    )
    panels = 4 if found.noise else 3
    # One grid for all, so that the edges of what stands above and below each other meet.
    rows = figure.add_gridspec(2, panels, height_ratios=[2.9, 1.75])
    _pictures(figure, rows[0, :-1], sampler, found, color)
    aside = rows[0, -1].subgridspec(2, 1)
    words, histogram = figure.add_subplot(aside[0]), figure.add_subplot(aside[1])
    _figures(words, found, reference)
    _visibility(histogram, found, color)
    axes = [figure.add_subplot(rows[1, column]) for column in range(panels)]
    if found.noise:
        _noise(axes[0], found.noise, color)
    _mask_spectra(axes[-3], found, color)
    _distances(axes[-2], found, reference, name, color)
    _persistence(axes[-1], found, color)


def _pictures(figure: Figure, place: SubplotSpec, sampler: Sampler, found: Measures, color: str) -> None:
    """Masks, and below them how often each of their tokens is visible."""
    grid = with_ones(sampler.grid)
    aside = lies_on_its_side(grid)
    colors = ListedColormap([style.theme().pale, color]).with_extremes(bad=(0, 0, 0, 0))
    if grid[0] == 1 and not aside and grid[1] > 1:
        # Pictures: a row of masks, as time steps are elsewhere.
        shown = {"masks\n0 to 7": ~sampler(range(8)).volume()[:, 0].cpu().numpy()}
    else:
        shown = {f"mask {n}": v[:STEPS] for n, v in enumerate(~sampler(range(SHOWN)).volume().cpu().numpy())}
    lines = place.subgridspec(len(shown) + 1, 1)
    axes = [figure.add_subplot(lines[line]) for line in range(len(shown) + 1)]
    for axis, (name, volume) in zip(axes, shown.items(), strict=False):
        _picture(axis, tiles(volume, rightwards=aside), cmap=colors, vmin=0, vmax=1)
        axis.set_ylabel(name, rotation=0, ha="right", va="center")
    axes[0].set_title(f"visible tokens (coloured){_over(grid)}", pad=3, loc="left")
    values = tiles(found.z.numpy()[:STEPS], rightwards=aside)
    image = _picture(axes[-1], values, cmap=style.DIVERGING, vmin=-4, vmax=4)
    axes[-1].set_ylabel("how often\nvisible", rotation=0, ha="right", va="center")
    ticks = [-4, -2, 0, 2, 4]
    bar = figure.colorbar(image, ax=axes[-1], location="bottom", shrink=0.6, aspect=40, pad=0.02, ticks=ticks)
    bar.set_label("deviations of chance, more often to the right")
    bar.outline.set_visible(False)
    if bar.solids is not None:
        bar.solids.set(rasterized=False, edgecolor="face")  # shapes, in PDF too


def _figures(axis, found: Measures, reference: Measures) -> None:
    """What a caption would quote."""
    style.bare(axis)
    least, most = found.visible_per_frame[0], found.visible_per_frame[2]
    lines = [
        (f"{found.touching:.0%} ({reference.touching:.0%})", "touch a visible token"),
        (f"{found.z.std(correction=0).item():.2f} (1)", "spread of visibility"),
    ]
    if "t" in found.persistence:
        again = float(found.persistence["t"][0])
        lines.append((f"{again:.0%} ({found.expected_persistence:.0%})", "visible a step later"))
    if found.grid[0] > 1:
        lines.append((f"{least} to {most}", "visible in a time step"))
    for line, (value, what) in enumerate([*lines, ("", "(of random masks)")]):
        top = 1 - 0.24 * line
        for text, below, weight in ((value, 0, "bold"), (what, 0.1 * bool(value), "normal")):
            axis.text(-0.2, top - below, text, va="top", weight=weight).set_in_layout(False)


def _picture(axis, values: np.ndarray, **how):
    """Tokens as squares, those of a line as bars; in a PDF as shapes, which stay sharp."""
    style.bare(axis)
    drawn = axis.pcolormesh(np.ma.masked_invalid(values), edgecolors="none", antialiased=False, **how)
    axis.invert_yaxis()
    if len(values) > 1:
        axis.set_aspect("equal", anchor="W")
    return drawn


def _over(grid: tuple[int, int, int]) -> str:
    if lies_on_its_side(grid):
        return "; time to the right, frequency upwards"
    if grid[0] == 1:
        return ""
    return f"; time to the right{f', the first {STEPS} of {grid[0]} steps' if grid[0] > STEPS else ''}"


def _visibility(histogram, found: Measures, color: str) -> None:
    edges = np.linspace(-4.25, 4.25, 18)
    z = found.z.flatten().clamp(-4.2, 4.2).numpy()
    histogram.hist(z, edges, density=True, color=color, alpha=0.75, label="tokens")
    x = np.linspace(-4.25, 4.25, 200)
    histogram.plot(
        x, np.exp(-x * x / 2) / np.sqrt(2 * np.pi), color=style.theme().ink, linewidth=1, label="chance"
    )
    # Masks that share out the tokens may be far more even than chance: their bar would press the curve flat.
    histogram.set_ylim(0, min(histogram.get_ylim()[1], 1.0))
    histogram.set(
        xlabel="deviations of chance",
        ylabel="tokens (density)",
        title=f"{found.beyond_two:.1%} beyond 2 (4.6%)",
    )
    histogram.legend(handlelength=1, borderpad=0)


def _noise(axis, noise: NoiseSpectrum, color: str) -> None:
    frequency = noise.measured.frequency
    axis.fill_between(
        frequency, noise.low, noise.high, color=color, alpha=0.18, linewidth=0, label="any sigmas"
    )
    axis.plot(frequency, noise.expected, color=style.theme().ink, linewidth=1, label="of the filters")
    axis.plot(frequency, noise.measured.power, ".", color=color, markersize=4, label="measured")
    axis.set(
        xlabel="frequency (cycles/token)",
        ylabel="power (white = 1)",
        title="power of the noise",
        xlim=(0, 0.5),
        ylim=(0, None),
    )
    axis.legend(loc="upper right", handlelength=1, borderpad=0)


def _mask_spectra(axis, found: Measures, color: str) -> None:
    for spectrum, line, label in ((found.in_space, "-", "in space"), (found.in_time, ":", "in time")):
        if spectrum is not None:
            axis.plot(*spectrum, line, color=color, marker=".", markersize=3, linewidth=1.2, label=label)
    axis.axhline(1, color=style.theme().faint, linewidth=0.8)
    axis.set(
        xlabel="frequency (cycles/token)",
        ylabel="power (random = 1)",
        title="power of the masks",
        xlim=(0, 0.5),
        ylim=(0, None),
    )
    if found.in_space is None and found.in_time is None:
        axis.text(0.25, 0.5, "grid too small", ha="center")
    else:
        axis.legend(loc="best", handlelength=1.6, borderpad=0)


def _distances(axis, found: Measures, reference: Measures, name: str, color: str) -> None:
    longest = max(found.nearest[-1].item(), reference.nearest[-1].item())
    for measured, shade, label in ((reference, style.theme().faint, "random masks"), (found, color, name)):
        share = np.arange(1, len(measured.nearest) + 1) / len(measured.nearest)
        axis.step(measured.nearest, share, where="post", color=shade, linewidth=1.4, label=label)
    axis.set(
        xlabel="distance (tokens)",
        ylabel="share of visible tokens",
        title="nearest visible token",
        xlim=(0.8, longest),
    )
    axis.set_ylim(0, 1.02)
    axis.legend(loc="lower right", handlelength=1, borderpad=0)


def _persistence(axis, found: Measures, color: str) -> None:
    names = ("time", "y", "x") if found.grid[0] > 1 else ("", "1st axis", "2nd axis")
    for axis_name, line, mark in zip(AXES, ("-", "--", ":"), "o^s", strict=True):
        if axis_name in found.persistence:
            values = found.persistence[axis_name][:7]
            axis.plot(
                range(1, len(values) + 1), values, line, color=color, marker=mark, markersize=3.5, linewidth=1.2,
                markerfacecolor=style.theme().page, label=names[AXES.index(axis_name)],
            )  # fmt: skip
    axis.axhline(found.expected_persistence, color=style.theme().faint, linewidth=0.8)
    axis.set(
        xlabel="distance (tokens)",
        ylabel="share visible there too",
        title="persistence",
        ylim=(0, None),
    )
    axis.set_ylim(top=1.35 * axis.get_ylim()[1])  # room for the legend
    axis.legend(loc="upper right", handlelength=1.6, borderpad=0)
