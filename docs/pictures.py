# SPDX-License-Identifier: Apache-2.0
"""The pictures of docs/masks, and the table of measurements in docs/masks/index.md. A minute on one core.

python docs/pictures.py                  # all
python docs/pictures.py green-3d tube    # these pictures, and the table
python docs/pictures.py --table          # only the table, from docs/masks/measures.json

A picture is what `smnoise report STRATEGY` draws, reduced to a palette so that the repository stays small.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from smnoise.files import replace_file, write_text

HERE = Path(__file__).parent / "masks"
PICTURES, MEASURES, PAGE = HERE / "pictures", HERE / "measures.json", HERE / "index.md"
BEGIN, END = "<!-- measures: written by docs/pictures.py -->", "<!-- measures: end -->"
CLIP, SPECTROGRAM, LINE = (8, 14, 14), (64, 8), (64,)
MASKS, COLORS = 512, 128

SHOWN: dict[str, tuple[tuple[int, ...], float]] = {
    "random": (CLIP, 0.9),
    "green-3d": (CLIP, 0.9),
    "red-3d": (CLIP, 0.9),
    "blue-3d": (CLIP, 0.9),
    "purple-3d": (CLIP, 0.9),
    "green-2d": (CLIP, 0.9),
    "green-2d-tube": (CLIP, 0.9),
    "tube": (CLIP, 0.9),
    "frame": (CLIP, 0.75),
    "multiblock": (CLIP, 0.9),
    "grid": (CLIP, 0.9),
    "running-cell": (CLIP, 0.5),
    "block": (CLIP, 0.75),
    "inverse-block": (SPECTROGRAM, 0.8),
    "optim-blue": (SPECTROGRAM, 0.8),
    "time-bars": (SPECTROGRAM, 0.8),
    "frequency-bars": (SPECTROGRAM, 0.8),
    "bars": (SPECTROGRAM, 0.8),
    "green-1d": (LINE, 0.8),
}


def picture(name: str) -> dict:
    """Draw one, and return the numbers that go into the table."""
    from PIL import Image

    import smnoise
    from smnoise.viz.report import report

    grid, ratio = SHOWN[name]
    with tempfile.TemporaryDirectory() as folder:
        sampler = smnoise.strategy(name, grid, ratio)
        found, _ = report(sampler, name, Path(folder) / name, count=MASKS, formats=("png",))
        page = Image.open(Path(folder) / f"{name}.png").convert("RGB")
        reduced = page.quantize(COLORS, dither=Image.Dither.NONE)
        with replace_file(PICTURES / f"{name}.png") as temporary:
            reduced.save(temporary, format="png", optimize=True)
    seen, apart = found["visibility of a token"], found["distance to the nearest visible token"]
    random, change = found["random masks of the same budget"], found["change from a time step to the next"]
    return {
        "grid": list(grid),
        "mask_ratio": ratio,
        "tokens": found["tokens"],
        "visible": found["visible tokens"]["promised"],
        "touching": apart["share touching"],
        "touching, random": random["distance to the nearest visible token"]["share touching"],
        "seen least": seen["least"],
        "seen most": seen["most"],
        "change": change and change["share of visible tokens that are masked in it"],
        "masks": found["masks"],
    }


def table(measures: dict) -> str:
    lines = [
        "| strategy | grid, ratio | visible | touching (random masks) | a token is visible in | hidden a step later |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for name in SHOWN:
        row = measures[name]
        change = "" if row["change"] is None else f"{row['change']:.3f}"
        lines.append(
            f"| `{name}` | {' x '.join(map(str, row['grid']))}, {row['mask_ratio']} | {row['visible']} of "
            f"{row['tokens']} | {row['touching']:.3f} ({row['touching, random']:.3f}) | {row['seen least']:.3f} to "
            f"{row['seen most']:.3f} | {change} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="STRATEGY", help="by default all")
    parser.add_argument("--table", action="store_true", help="measure and draw nothing")
    options = parser.parse_args()
    if unknown := sorted(set(options.names) - set(SHOWN)):
        raise SystemExit(f"no picture of {', '.join(unknown)}; there are: {', '.join(SHOWN)}")
    PICTURES.mkdir(exist_ok=True)
    measures = json.loads(MEASURES.read_text()) if MEASURES.exists() else {}
    for name in () if options.table else options.names or SHOWN:
        measures[name] = picture(name)
        print(PICTURES / f"{name}.png")
        write_text(MEASURES, json.dumps({n: measures[n] for n in SHOWN if n in measures}, indent=1) + "\n")
    before, rest = PAGE.read_text().split(BEGIN)
    write_text(PAGE, f"{before}{BEGIN}\n{table(measures)}\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
