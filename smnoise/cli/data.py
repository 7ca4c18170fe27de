# SPDX-License-Identifier: Apache-2.0
"""Data sets with exact labels, made from installed packages; nothing is fetched, and the same files come out each time.

    smnoise data ego-motion --out data/ego-motion          # Freedoom's maps: which way does the player move?
    smnoise data sounds --packages .venv/sounds14 --out data/sounds    # fourteen classes of Debian's packages

Each folder then holds train/CLASS/FILE and test/CLASS/FILE, which `smnoise pretrain`, `finetune` and `probe` read. A
command that was stopped goes on.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import subcommand


@dataclass(frozen=True)
class EgoMotion:
    """Clips of six motions; see `smnoise.data.installed.freedoom`."""

    out: Path
    """Folder to make, or to go on with."""


@dataclass(frozen=True)
class Sounds:
    """Pieces of sounds; see `smnoise.data.installed.fourteen`."""

    packages: Path
    """Folder of the unpacked packages: `make .venv/sounds14`."""
    out: Path
    """Folder to make, or to go on with."""


@dataclass(frozen=True)
class Options:
    """Data sets."""

    what: (
        Annotated[EgoMotion, subcommand("ego-motion", description="six motions in Freedoom's maps")]
        | Annotated[Sounds, subcommand("sounds", description="fourteen classes of sound, 8 kHz")]
    )


def run(options: Options) -> int:
    from .output import progress

    what = options.what
    if isinstance(what, EgoMotion):
        from ..data.installed import freedoom

        total = sum(freedoom.clips_of(chosen) for chosen in freedoom.SETS)
        with progress("making clips", total) as step:
            freedoom.write(what.out, step=step)
        print(f"{total} clips in {what.out}")
        return 0
    from ..data.installed import fourteen

    train, test = fourteen.write(what.packages, what.out)
    print(f"{train} pieces to train on and {test} to test on in {what.out}")
    return 0
