# SPDX-License-Identifier: Apache-2.0
"""Moving pictures: GIFs of panels side by side, and film strips of them on paper."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..files import replace_file
from . import style

MARGIN = 6  # pixels between panels
LETTERS = 13  # pixels
LEAST = 160  # pixels of a panel's width; smaller ones are enlarged by a whole number
HIGHEST = 1.1  # inches of a strip's picture; higher ones, which are few in a row, are pressed flat
PAGE = style.THEMES["paper"].width  # inches
FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"


def gif(
    panels: dict[str, np.ndarray],
    path: Path,
    *,
    milliseconds: int = 80,
    colors: int = 128,
    footer: str = "",
    columns: int | None = None,
) -> None:
    """Panels, uint8 [frames, H, W, 3] by caption and all of one shape, side by side as an endless GIF.

    colors: of its palette, one for all frames, so that nothing flickers.
    columns: panels of a row; by default all.
    """
    if len({p.shape for p in panels.values()}) != 1:
        raise ValueError(f"panels must have one shape, got {[p.shape for p in panels.values()]}")
    larger = -(-LEAST // next(iter(panels.values())).shape[2])
    panels = {name: p.repeat(larger, axis=1).repeat(larger, axis=2) for name, p in panels.items()}
    frames = [_page([p[i] for p in panels.values()], list(panels), footer, columns or len(panels))
              for i in range(len(next(iter(panels.values()))))]  # fmt: skip
    # The palette of an even sample of all frames.
    sample = Image.fromarray(np.concatenate([np.asarray(f) for f in frames[:: max(1, len(frames) // 6)]]))
    palette = sample.quantize(colors, method=Image.Quantize.MEDIANCUT)
    indexed = [f.quantize(palette=palette, dither=Image.Dither.NONE) for f in frames]
    with replace_file(path) as temporary:
        indexed[0].save(
            temporary,
            format="GIF",
            save_all=True,
            append_images=indexed[1:],
            duration=milliseconds,
            loop=0,
            optimize=False,  # it would give each frame another palette
            disposal=1,
        )


def _page(pictures: list[np.ndarray], captions: list[str], footer: str, columns: int) -> Image.Image:
    height, width = pictures[0].shape[:2]
    font, small = (ImageFont.truetype(FONT, size) for size in (LETTERS, LETTERS - 3))
    full = columns * (width + MARGIN) + MARGIN
    lines = fitting(footer, small, full - 2 * MARGIN)
    rows, head, foot = -(-len(pictures) // columns), LETTERS + 8, (LETTERS + 1) * len(lines) + MARGIN
    page = Image.new("RGB", (full, rows * (head + height) + foot), style.theme().page)
    draw = ImageDraw.Draw(page)
    for place, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        left = MARGIN + place % columns * (width + MARGIN)
        top = place // columns * (head + height)
        draw.text((left + width / 2, top + head / 2), caption, style.theme().ink, font, anchor="mm")
        page.paste(Image.fromarray(picture), (left, top + head))
    for n, line in enumerate(lines):
        top = page.height - foot + MARGIN / 2 + (LETTERS + 1) * (n + 0.5)
        draw.text((MARGIN, top), line, style.theme().faint, small, anchor="lm")
    return page


def fitting(text: str, font: ImageFont.FreeTypeFont, width: float) -> list[str]:
    """The text in lines of at most a width in pixels, broken between words."""
    lines: list[str] = []
    for word in text.split():
        if lines and font.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def strip(
    rows: dict[str, np.ndarray],
    titles: Iterable[str],
    stem: Path,
    *,
    title: str = "",
    footer: str = "",
    formats: tuple[str, ...] = ("png", "pdf"),
) -> list[Path]:
    """Rows of pictures, uint8 [columns, H, W, 3] by name and all of one shape, with a title above each column."""
    titles = list(titles)
    columns, height, width = next(iter(rows.values())).shape[:3]
    label = 0.1 + 0.06 * style.larger_letters() * max(len(line) for name in rows for line in name.split("\n"))
    side = (PAGE - label) / columns
    high = min(side * height / width, HIGHEST)
    tall = (
        len(rows) * (high + 0.04) + (0.16 + 0.2 * bool(title) + 0.15 * bool(footer)) * style.larger_letters()
    )
    with style.new_figure(PAGE, tall) as figure:
        figure.set_layout_engine("constrained", w_pad=0.01, h_pad=0.01, wspace=0.01, hspace=0.01)
        axes = figure.subplots(len(rows), columns, squeeze=False)
        for line, (name, pictures) in zip(axes, rows.items(), strict=True):
            for axis, picture in zip(line, pictures, strict=True):
                axis.imshow(picture, interpolation="nearest", aspect="equal" if high < HIGHEST else "auto")
                style.bare(axis)
                # Else the layout measures the names beside a picture in the middle of its place, and cuts them off.
                axis.set_anchor("W")
            line[0].set_ylabel(name, rotation=0, ha="right", va="center")
        for axis, text in zip(axes[0], titles, strict=True):
            axis.set_title(text, fontsize=0.875 * style.theme().letters, pad=2)
        if title:
            figure.suptitle(title)
        if footer:
            figure.supxlabel(footer, fontsize=0.75 * style.theme().letters, color=style.theme().faint)
        return style.save(figure, stem, formats)
