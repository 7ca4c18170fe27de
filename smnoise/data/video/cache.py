# SPDX-License-Identifier: Apache-2.0
"""Decode videos once and for all: frames as bytes on disk, which training maps into memory instead of decoding.

    python -m smnoise.data.video.cache --data VIDEOS --out CACHE --short-side 128
    python -m smnoise.data.video.cache --out CACHE --check           # read all of it and compare checksums

    VideoClips(paths, short_side=128, store=FrameStore(CACHE))        # the same clips, bit for bit

CACHE holds shard-00000.npy, ... (uint8, the frames of one video after the other) and index.json, which is written
last and has the sha256 of every shard, how each video is turned to be shown upright, and how many of its frames do
not decode. A video of which nothing decodes is left to the decoder, so that it is skipped as without a cache. A frame
takes height * width * 3 bytes: 49 KB at 128 pixels square, so choose the short side that training needs.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from ... import lock
from ...errors import DataError
from ...files import replace_file, write_text
from ..found import file_notes
from .clips import VIDEO, VideoFile, find_videos
from .store import BLOCK, INDEX, SHARD, VERSION, FrameStore


def make(data: Path, out: Path, short_side: int | None, shard_mib: int = 256) -> FrameStore:
    """Decode all videos of a folder or list into a cache. A cache that was not finished is begun anew.

    Raises DataError for a folder that holds a whole cache or something else, or where no video decodes;
    FolderInUseError where another process is about to make one there.
    """
    with lock.held(out):
        return _make(data, out, short_side, shard_mib)


def _make(data: Path, out: Path, short_side: int | None, shard_mib: int) -> FrameStore:
    root = (data if data.is_dir() else data.parent).absolute()
    paths = find_videos(data)
    there = [path for path in out.iterdir() if path.name != lock.NAME]
    if strange := [path.name for path in there if not path.name.startswith(("shard-", ".shard-"))]:
        raise DataError(f"{out} already holds {strange[0]}; choose another --out, or delete it")
    for stale in there:
        stale.unlink()
    files: dict[str, dict] = {}
    shards: dict[str, dict] = {}
    left_out: dict[str, str] = {}
    waiting: list[np.ndarray] = []

    def write() -> None:
        name = SHARD.format(len(shards))
        shards[name] = write_shard(out / name, waiting)
        waiting.clear()

    for path in paths:
        name = os.path.relpath(path, root)
        try:
            video = VideoFile(path)
            frames = video.read_whole(short_side)
        except DataError as error:
            left_out[name] = str(error)
            continue
        if waiting and sum(w.nbytes for w in waiting) + frames.nbytes > shard_mib << 20:
            write()
        files[name] = {
            "shard": SHARD.format(len(shards)),
            "start": sum(w.nbytes for w in waiting),
            "shape": list(frames.shape),
            "bytes": path.stat().st_size,
            "lost": video.index.lost,
            "loss": video.loss,
            "orientation": video.index.orientation._asdict(),
        }
        waiting.append(frames)
    if not files:
        raise DataError(
            f"none of the {len(paths)} videos decodes:\n  " + "\n  ".join(list(left_out.values())[:5])
        )
    write()
    index = {"version": VERSION, "root": str(root), "short_side": short_side, "shards": shards, "files": files,
             "left_out": left_out}  # fmt: skip
    write_text(out / INDEX, json.dumps(index, indent=1))
    return FrameStore(out)


def write_shard(path: Path, arrays: Iterable[np.ndarray]) -> dict:
    """The bytes of arrays as one .npy, whole or not there; its size and sha256."""
    arrays = list(arrays)
    digest = hashlib.sha256()
    with replace_file(path) as temporary:
        with open(temporary, "wb") as stream:
            shape = (sum(a.nbytes for a in arrays),)
            np.lib.format.write_array_header_1_0(
                stream, {"descr": "|u1", "fortran_order": False, "shape": shape}
            )
            for array in arrays:
                array.tofile(stream)
        with open(temporary, "rb") as stream:
            while block := stream.read(BLOCK):
                digest.update(block)
        size = temporary.stat().st_size
    return {"size": size, "sha256": digest.hexdigest()}


@dataclass(frozen=True)
class Config:
    """Decode videos into a cache."""

    out: Path
    """Folder of the cache."""
    data: Path | None = None
    """Folder of videos, or list file with one path a line."""
    short_side: int | None = None
    """Reduce frames to this many pixels along the shorter side; training must be given the same."""
    shard_mib: int = 256
    """Size of a shard; also about the memory that is needed. A larger video has a shard of its own."""
    check: bool = False
    """Compare the checksums of the cache in `out` instead."""

    def __post_init__(self):
        if (self.data is None) != self.check:
            raise ValueError("give data, the videos to decode; or --check alone")
        if self.shard_mib < 1 or (self.short_side is not None and self.short_side < 1):
            raise ValueError(
                f"shard_mib and short_side must be at least 1, got {self.shard_mib} and {self.short_side}"
            )


def main() -> None:
    try:
        config = tyro.cli(Config, description=__doc__, prog="python -m smnoise.data.video.cache")
        if config.data is None:  # with --check
            store = FrameStore(config.out)
            store.check()
        else:
            store = make(config.data, config.out, config.short_side, config.shard_mib)
    except (ValueError, OSError, RuntimeError) as error:
        raise SystemExit(f"smnoise: {error}") from error
    size = sum(shard["size"] for shard in store.shards.values())
    print(f"{config.out}: {len(store.entries)} videos in {len(store.shards)} shards, {size / 2**20:.1f} MiB")
    for note in file_notes(config.data, VIDEO) if config.data is not None else ():
        print(note)
    for message in store.left_out.values():
        print(f"left to the decoder: {message}")
    for path in store.entries:
        if said := store.note(Path(path)):
            print(said)


if __name__ == "__main__":
    main()
