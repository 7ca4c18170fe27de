# SPDX-License-Identifier: Apache-2.0
"""How all pictures look: colours that the colour-blind can tell apart, type that is readable at a column's width."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from ..files import replace_file
from ..spec import as_choice

# Okabe and Ito's palette, which stays distinct under the common kinds of colour blindness.
BLACK, ORANGE, SKY, GREEN = "#000000", "#e69f00", "#56b4e9", "#009e73"
BLUE, VERMILION, PINK, GREY = "#0072b2", "#d55e00", "#cc79a7", "#6b6b6b"

# A strategy has its colour in every picture, by the first of these words that its name holds.
_BY_WORD = (
    ("optim", SKY),
    ("random", GREY),
    ("white", GREY),
    ("green", GREEN),
    ("red", VERMILION),
    ("blue", BLUE),
    ("purple", PINK),
    ("tube", ORANGE),
)
HIDDEN = (0.11, 0.13, 0.16)  # of masked tokens, dark; RGB in [0, 1]
DIVERGING = "RdBu_r"  # red and blue, neutral in the middle: safe for the colour-blind


@dataclass(frozen=True)
class Theme:
    """What pictures are for: print, or a wall."""

    ink: str
    page: str
    pale: str
    """Masked tokens of a report."""
    faint: str
    """Notes, and lines of what is expected."""
    letters: float
    """Points of a label."""
    width: float
    """Inches."""


THEMES = {
    "paper": Theme("#1b1b1b", "#ffffff", "#d8dcdf", GREY, 8, 7.0),  # both columns of a paper
    "slides": Theme("#1b1b1b", "#ffffff", "#d8dcdf", GREY, 12, 9.0),
    "dark": Theme("#eef1f3", "#15181c", "#30363d", "#a7afb8", 12, 9.0),
}
_theme: ContextVar[Theme] = ContextVar("theme", default=THEMES["paper"])


def theme() -> Theme:
    """The one that pictures are drawn in."""
    return _theme.get()


def larger_letters() -> float:
    """How much larger letters are than on paper, beside what is drawn."""
    paper = THEMES["paper"]
    return theme().letters / paper.letters * paper.width / theme().width


@contextmanager
def in_theme(name: str) -> Iterator[None]:
    """Pictures inside of the block are drawn in this theme. Raises ValueError for a name that there is not."""
    before = _theme.set(THEMES[as_choice("theme", name, THEMES)])
    try:
        yield
    finally:
        _theme.reset(before)


SETTINGS: dict[Any, object] = {  # matplotlib's keys
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "pdf.fonttype": 42,  # letters as letters, that a publisher can set and a reader can search
    "svg.fonttype": "none",
    "svg.hashsalt": "smnoise",
}
FORMATS = ("png", "pdf", "svg")
_UNDATED = {"png": {"Software": None}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}


def color_of(name: str) -> str:
    """The colour of a strategy, by its name."""
    lower = name.lower()
    return next((color for word, color in _BY_WORD if word in lower), BLACK)


@contextmanager
def new_figure(width: float, height: float) -> Iterator[Figure]:
    """A figure in this style, of so many inches on paper; draw and save it inside of the block."""
    look = theme()
    larger, ink = look.width / THEMES["paper"].width, look.ink
    of_theme: dict[Any, object] = {
        **{f"{part}.color": ink for part in ("text", "xtick", "ytick")},
        **{f"axes.{part}color": ink for part in ("label", "edge", "title")},
        **{f"{part}.facecolor": look.page for part in ("figure", "axes", "savefig")},
        **{f"axes.{part}size": look.letters for part in ("title", "label")},
        **{f"{part}.labelsize": 0.875 * look.letters for part in ("xtick", "ytick")},
        "font.size": look.letters,
        "legend.fontsize": 0.875 * look.letters,
        "figure.titlesize": 1.125 * look.letters,
    }
    with matplotlib.rc_context(SETTINGS | of_theme):
        yield Figure(figsize=(width * larger, height * larger), layout="constrained")


def save(figure: Figure, stem: Path, formats: tuple[str, ...] = ("png", "pdf"), dpi: int = 200) -> list[Path]:
    """Write the figure to stem.png, stem.pdf and so on, each whole or not at all; the same bytes for the same
    figure."""
    paths = []
    for name in formats:
        if name not in FORMATS:
            raise ValueError(f"format must be one of {', '.join(FORMATS)}; got {name!r}")
        paths.append(path := stem.with_name(f"{stem.name}.{name}"))
        with replace_file(path) as temporary:
            figure.savefig(temporary, format=name, dpi=dpi, metadata=_UNDATED[name])
    return paths


def bare(axis) -> None:
    """An axis that holds a picture: no ticks, no frame."""
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
