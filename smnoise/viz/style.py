# SPDX-License-Identifier: Apache-2.0
"""How all pictures look: colours that the colour-blind can tell apart, type that is readable at a column's width."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from ..files import replace_file

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
INK, PALE = "#1b1b1b", "#d8dcdf"
HIDDEN = (0.11, 0.13, 0.16)  # of masked tokens, dark; RGB in [0, 1]
DIVERGING = "RdBu_r"  # red and blue, neutral in the middle: safe for the colour-blind

WIDTH = 7.0  # inches: both columns of a paper
SETTINGS: dict[Any, object] = {  # matplotlib's keys
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "figure.titlesize": 9,
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
    """A figure in this style, of so many inches; draw and save it inside of the block."""
    with matplotlib.rc_context(SETTINGS):
        yield Figure(figsize=(width, height), layout="constrained")


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
