# SPDX-License-Identifier: Apache-2.0
"""Frames that were decoded once and for all, mapped into memory; `cache` makes the folder and says what is in it."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np

from ...errors import DataError

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
