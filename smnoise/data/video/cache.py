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

INDEX, VERSION = "index.json", 2  # 1: frames as stored, sideways or beside an edit list
SHARD = "shard-{:05d}.npy"
BLOCK = 1 << 22


class FrameStore:
    """The frames of a cache by the path of their video. Shards are mapped when they are first used, in each process.

    Args:
        folder: of the cache.
        root: where the videos are now, if they have moved since.

    Raises DataError for a folder without a whole cache: no index, or a shard missing or of another size than the
    index says. `check` reads all of it.
    """

    def __init__(self, folder: Path, root: Path | None = None):
        self.folder = Path(folder)
        try:
            index = json.loads((self.folder / INDEX).read_text())
            if index["version"] != VERSION:
                raise DataError(
                    f"{folder} is a cache of version {index['version']}, of which frames may be turned, misnumbered or "
                    f"lost without a word; this is version {VERSION}: make the cache anew"
                )
            self.short_side: int | None = index["short_side"]
            self.shards: dict[str, dict] = index["shards"]
            self.left_out: dict[str, str] = index["left_out"]
            root = Path(root or index["root"]).absolute()
            self.entries = {os.path.normpath(root / name): entry for name, entry in index["files"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{folder} holds no whole cache ({type(error).__name__}: {error}); make one with "
                "python -m smnoise.data.video.cache"
            ) from None
        for name, shard in self.shards.items():
            path = self.folder / name
            if not path.is_file() or path.stat().st_size != shard["size"]:
                raise DataError(f"{path} is missing or not of {shard['size']} bytes; make the cache anew")
        self._mapped: dict[str, np.ndarray] = {}

    def check_short_side(self, short_side: int | None) -> None:
        """ValueError where clips are asked for with another short side than the cache was made with."""
        if self.short_side != short_side:
            raise ValueError(
                f"the cache {self.folder} was made with short_side {self.short_side}, but clips are asked for with "
                f"{short_side}; give both the same"
            )

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_mapped": {}}  # a pickled map would be a copy of its file

    def __contains__(self, path: Path) -> bool:
        """Whether it has this video."""
        return self._name(path) in self.entries

    def frames(self, path: Path) -> np.ndarray | None:
        """All frames of a video, uint8 [N, H, W, 3], mapped read-only; None for one that the cache has not.

        Raises DataError where the video is of another size in bytes than the one that was decoded.
        """
        entry = self.entries.get(self._name(path))
        if entry is None:
            return None
        try:
            size = os.path.getsize(path)
        except OSError as error:
            raise DataError(f"{path}: {error}") from None
        if size != entry["bytes"]:
            raise DataError(f"{path} has changed since {self.folder} was made of it; make the cache anew")
        name, shape = entry["shard"], entry["shape"]
        if name not in self._mapped:
            self._mapped[name] = np.load(self.folder / name, mmap_mode="r", allow_pickle=False)
        return self._mapped[name][entry["start"] : entry["start"] + np.prod(shape)].reshape(shape)

    def note(self, path: Path) -> str | None:
        """What `VideoFile.note` said of a video that it has."""
        loss = self.entries[self._name(path)]["loss"]
        return f"{Path(path).absolute()}: {loss}" if loss else None

    @staticmethod
    def _name(path: Path) -> str:
        return os.path.normpath(Path(path).absolute())

    def check(self) -> None:
        """Read all shards. Raises DataError for one whose sha256 is not the index's."""
        for name, shard in self.shards.items():
            digest = hashlib.sha256()
            with open(self.folder / name, "rb") as stream:
                while block := stream.read(BLOCK):
                    digest.update(block)
            if digest.hexdigest() != shard["sha256"]:
                raise DataError(
                    f"{self.folder / name} is altered: its sha256 is not the index's; make the cache anew"
                )


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
