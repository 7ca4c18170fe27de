# SPDX-License-Identifier: Apache-2.0
"""Frames that were decoded once and for all, mapped into memory; `cache` makes the folder and says what is in it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...errors import DataError
from ...files import replace_file
from .. import tars

INDEX, VERSION = "index.json", 2  # 1: frames as stored, sideways or beside an edit list
SHARD = "shard-{:05d}.npy"
PART = "part-{}-of-{}"
BLOCK = 1 << 22


class StoredSound(NamedTuple):
    """The sound of a video, as it lies in a cache."""

    wave: np.ndarray
    """float32 [samples], mono, mapped read-only."""
    start: float
    """The time of its first sample in seconds, on the clock of `stamps`."""
    stamps: np.ndarray
    """When each frame is shown, float64 [frames], ascending."""


class FrameStore:
    """The frames of a cache by the path of their video. Shards are mapped when they are first used, in each process.

    Args:
        folder: of the cache; of all its shares, if it was shared out.
        root: where the videos are now, if they have moved since.

    Raises DataError for a folder without a whole cache: no index, a share missing or made otherwise than the first one,
    or a shard missing or of another size than the index says. `check` reads all of it.

    Attributes: short_side, to which frames were reduced, or None; rate, in Hz, of the sound that lies beside the
    frames, or None where it has none.
    """

    def __init__(self, folder: Path, root: Path | None = None):
        self.folder = Path(folder)
        self.shards: dict[str, dict] = {}
        self.left_out: dict[str, str] = {}
        self.entries: dict[str, dict] = {}
        parts = self._parts()
        indices = [self._index(part) for part in parts]
        self.short_side: int | None = indices[0]["short_side"]
        self.rate: int | None = indices[0].get("rate")
        for part, index in zip(parts, indices, strict=True):
            if index["short_side"] != self.short_side:
                raise DataError(
                    f"{self.folder / part} was made with short_side {index['short_side']}, {self.folder / parts[0]} "
                    f"with {self.short_side}; make one of them anew"
                )
            if index.get("rate") != self.rate:
                raise DataError(
                    f"{self.folder / part} was made with sound at {index.get('rate')} Hz, {self.folder / parts[0]} at "
                    f"{self.rate} Hz; make one of them anew"
                )
            within = Path(root or index["root"]).absolute()
            self.shards |= {os.path.join(part, name): shard for name, shard in index["shards"].items()}
            self.left_out |= index["left_out"]
            for name, entry in index["files"].items():
                entry["shard"] = os.path.join(part, entry["shard"])
                self.entries[os.path.normpath(within / name)] = entry
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

    def check_rate(self, rate: int) -> None:
        """ValueError where it has sound, but at another rate than is asked for."""
        if self.rate not in (None, rate):
            raise ValueError(
                f"the cache {self.folder} has sound at {self.rate} Hz, but {rate} Hz are asked for; give both the same"
            )

    def _parts(self) -> list[str]:
        """The folders of the shares, or the cache itself. Raises DataError where a share is missing."""
        found = sorted(path.name for path in self.folder.glob(PART.format("*", "*")))
        if (self.folder / INDEX).is_file() or not found:
            return [""]
        parts = found[0].rsplit("-", 1)[1]
        wanted = [PART.format(part, parts) for part in range(int(parts))] if parts.isdecimal() else found
        if others := sorted(set(found) - set(wanted)):
            raise DataError(
                f"{self.folder} has shares of different counts, {wanted[0]} and {others[0]}; delete some"
            )
        if missing := [name for name in wanted if not (self.folder / name / INDEX).is_file()]:
            raise DataError(
                f"{self.folder} has no whole {', '.join(missing)}; make it with --share, as the others"
            )
        return wanted

    def _index(self, part: str) -> dict:
        """The index of a share. Raises DataError where it is not whole, or of another version."""
        path = self.folder / part
        try:
            index = json.loads((path / INDEX).read_text())
            if index["version"] != VERSION:
                raise DataError(
                    f"{path} is a cache of version {index['version']}, of which frames may be turned, misnumbered or "
                    f"lost without a word; this is version {VERSION}: make the cache anew"
                )
            index["short_side"], index["root"]
            for name in ("shards", "files", "left_out"):
                index[name].items()
            return index
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{path} holds no whole cache ({type(error).__name__}: {error}); make one with "
                "python -m smnoise.data.video.cache"
            ) from None

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_mapped": {}}  # a pickled map would be a copy of its file

    def __contains__(self, path: Path) -> bool:
        """Whether it has this video."""
        return self._name(path) in self.entries

    def frames(self, path: Path) -> np.ndarray | None:
        """All frames of a video, uint8 [N, H, W, 3], mapped read-only; None for one that the cache has not.

        Raises DataError where the video is of another size in bytes than the one that was decoded.
        """
        entry = self._entry(path)
        if entry is None:
            return None
        shape = entry["shape"]
        return self._bytes(entry, entry["start"], int(np.prod(shape))).reshape(shape)

    def sound(self, path: Path) -> StoredSound | None:
        """The sound of a video at `rate`, and when its frames are shown; None for one that the cache has not, or has
        without sound. Raises as `frames`."""
        entry = self._entry(path)
        if entry is None or "sound" not in entry:
            return None
        told, count = entry["sound"], entry["shape"][0]
        behind = entry["start"] + int(np.prod(entry["shape"]))
        stamps = self._bytes(entry, behind, 8 * count).view(np.float64)
        wave = self._bytes(entry, behind + 8 * count, 4 * told["samples"]).view(np.float32)
        return StoredSound(wave, told["start"], stamps)

    def _entry(self, path: Path) -> dict | None:
        """What the index says of a video that it has, and that is still as large as it was."""
        entry = self.entries.get(self._name(path))
        if entry is None:
            return None
        try:
            size = tars.size_of(Path(path))
        except OSError as error:
            raise DataError(f"{path}: {error}") from None
        if size != entry["bytes"]:
            raise DataError(f"{path} has changed since {self.folder} was made of it; make the cache anew")
        return entry

    def _bytes(self, entry: dict, start: int, count: int) -> np.ndarray:
        name = entry["shard"]
        if name not in self._mapped:
            self._mapped[name] = np.load(self.folder / name, mmap_mode="r", allow_pickle=False)
        return self._mapped[name][start : start + count]

    def note(self, path: Path) -> str | None:
        """What `VideoFile.note`, or `PairFile.note`, said of a video that it has."""
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
