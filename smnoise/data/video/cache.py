# SPDX-License-Identifier: Apache-2.0
"""Decode videos once and for all: frames as bytes on disk, which training maps into memory instead of decoding.

    python -m smnoise.data.video.cache --data VIDEOS --out CACHE --short-side 128 --workers 8
    python -m smnoise.data.video.cache --data VIDEOS --out CACHE --short-side 128 --share 0 4   # one of four machines
    python -m smnoise.data.video.cache --data FILMS --out CACHE --short-side 128 --rate 16000   # with their sound
    python -m smnoise.data.video.cache --out CACHE --check           # read all of it and compare checksums

    VideoClips(paths, short_side=128, store=FrameStore(CACHE))        # the same clips, bit for bit

CACHE holds shard-00000.npy, ... (uint8, the frames of one video after the other) and index.json, which is written
last and has the sha256 of every shard, how each video is turned to be shown upright, and how many of its frames do
not decode. A share lies in a folder of its own in CACHE, part-0-of-4 and so on; the cache can be read when all are
there. A video of which nothing decodes is left to the decoder, so that it is skipped as without a cache. A frame
takes height * width * 3 bytes: 49 KB at 128 pixels square, so choose the short side that training needs.

With --rate the sound of each video lies behind its frames, for `data.audiovisual` and `smnoise pretrain audiovisual`:
the stamps of the frames (float64), and the samples (float32, mono). A video without sound is then left out.

The shards are the same for any number of workers. After a stop the same command goes on behind the last whole shard.
"""

from __future__ import annotations

import json
import multiprocessing
import multiprocessing.connection
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ... import lock
from ...errors import DataError
from ...files import write_text
from ...programs import command_line
from .. import tars
from ..audiovisual import PairFile
from ..found import file_notes
from ..signals import ignore_interrupts
from .clips import VIDEO, VideoFile, find_videos
from .store import INDEX, PART, SHARD, VERSION, FrameStore, write_shard

MAKING = "making.json"  # what a cache is being made of; beside it, for each whole shard, what is in it
NAMED = 5  # videos that do not decode, in a message


def make(
    data: Path,
    out: Path,
    short_side: int | None,
    shard_mib: int = 256,
    *,
    rate: int | None = None,
    share: tuple[int, int] = (0, 1),
    workers: int = 0,
    progress: bool = False,
    tell: Callable[[str], None] = lambda text: None,
) -> FrameStore:
    """Decode the videos of a folder or list into a cache, or go on with one that was not finished.

    Args:
        data: folder of videos, or list file.
        out: folder of the cache.
        short_side: frames are reduced to so many pixels along the shorter side; None: they keep their size.
        shard_mib: size of a shard in MiB. A larger video has a shard of its own.
        rate: in Hz, at which the sound is kept too; None: frames alone.
        share: (K, N), every N-th video from the K-th, K from 0; the others are decoded by others.
        workers: processes that decode; 0: this one does.
        progress: whether a bar is drawn on standard error.
        tell: called with what a person should know, such as where an earlier one had stopped.

    Returns the cache; of a share, that share alone. `FrameStore(out)` reads all shares.

    Raises DataError for a folder that holds a whole cache or something else, or where no video decodes;
    FolderInUseError where another process is about to make one there.
    """
    part, parts = share
    paths = find_videos(data)
    mine = paths[part::parts]
    if not mine:
        raise DataError(f"share {part} of {parts} has none of the {len(paths)} videos; make fewer shares")
    folder = out if parts == 1 else out / PART.format(part, parts)
    if parts > 1 and (out / INDEX).exists():
        raise DataError(f"{out} already holds {INDEX}; choose another --out, or delete it")
    with lock.held(folder):
        root = (data if data.is_dir() else data.parent).absolute()
        making = _Making(folder, root, mine, short_side, rate, shard_mib << 20)
        making.begin(tell)
        with _bar(progress, len(mine), len(making.done)) as advance:
            for path, decoded in _decoded(mine[len(making.done) :], short_side, rate, workers):
                making.add(path, decoded)
                advance()
        making.end()
    return FrameStore(folder)


class _Making:
    """A cache while it is made. Files and frames are kept until they fill a shard; then it is written, and what is in
    it beside it, so that one who goes on knows."""

    def __init__(
        self,
        folder: Path,
        root: Path,
        paths: list[Path],
        short_side: int | None,
        rate: int | None,
        shard_bytes: int,
    ):
        self.folder, self.root, self.shard_bytes = folder, root, shard_bytes
        named = [[self._name(path), tars.size_of(path)] for path in paths]
        self.settings = {
            "version": VERSION,
            "short_side": short_side,
            "rate": rate,
            "shard_bytes": shard_bytes,
            "videos": named,
        }
        self.files: dict[str, dict] = {}
        self.shards: dict[str, dict] = {}
        self.left_out: dict[str, str] = {}
        self.done: list[str] = []
        """Names of the videos that are in whole shards, or left out before them."""
        self._waiting: list[np.ndarray] = []
        self._since: dict[str, Any] = {"files": {}, "left_out": {}}

    def begin(self, tell: Callable[[str], None]) -> None:
        """Take over what an earlier one left; delete it where it was of something else.

        Raises DataError where the folder holds something else than an unfinished cache.
        """
        there = [path for path in self.folder.iterdir() if path.name != lock.NAME]
        ours = (MAKING, "shard-", ".shard-", f".{MAKING}")
        if strange := [path.name for path in there if not path.name.startswith(ours)]:
            raise DataError(f"{self.folder} already holds {strange[0]}; choose another --out, or delete it")
        if self._same_as_before():
            self._take_over()
            if self.shards:
                tell(f"going on behind {len(self.shards)} whole shards, {len(self.done)} videos")
        elif there:
            tell(f"{self.folder} held an unfinished cache of other videos or settings: begun anew")
        whole = {name for shard in self.shards for name in (shard, _contents_of(shard))} | {MAKING}
        for path in there:
            if path.name not in whole:
                path.unlink()
        write_text(self.folder / MAKING, json.dumps(self.settings))

    def add(self, path: Path, decoded: dict | str) -> None:
        """The next video: what `_decode` gave of it."""
        if isinstance(decoded, str):
            self._since["left_out"][self._name(path)] = decoded
            return
        frames, *_ = arrays = decoded.pop("arrays")
        held = sum(array.nbytes for array in self._waiting)
        if self._waiting and held + sum(array.nbytes for array in arrays) > self.shard_bytes:
            self._write()
            held = 0
        where = {"shard": SHARD.format(len(self.shards)), "start": held, "shape": list(frames.shape)}
        self._since["files"][self._name(path)] = where | decoded
        self._waiting += arrays

    def end(self) -> None:
        """Write what is left and the index. Raises DataError where no video decoded."""
        if not self.files and not self._since["files"]:
            left_out = {**self.left_out, **self._since["left_out"]}
            said = "\n  ".join(list(left_out.values())[:NAMED])
            raise DataError(f"none of the {len(left_out)} videos decodes:\n  {said}")
        if self._waiting:
            self._write()
        self.left_out |= self._since["left_out"]  # of videos behind the last one that decodes
        index = {"version": VERSION, "root": str(self.root), "short_side": self.settings["short_side"],
                 "rate": self.settings["rate"], "shards": self.shards, "files": self.files,
                 "left_out": self.left_out}  # fmt: skip
        write_text(self.folder / INDEX, json.dumps(index, indent=1))
        for name in (MAKING, *map(_contents_of, self.shards)):
            (self.folder / name).unlink()

    def _write(self) -> None:
        name = SHARD.format(len(self.shards))
        shard = write_shard(self.folder / name, self._waiting)
        write_text(self.folder / _contents_of(name), json.dumps({**self._since, "shard": shard}))
        self._take(name, {**self._since, "shard": shard})
        self._since = {"files": {}, "left_out": {}}
        self._waiting.clear()

    def _take(self, name: str, contents: dict) -> None:
        self.shards[name] = contents["shard"]
        self.files |= contents["files"]
        self.left_out |= contents["left_out"]
        self.done += [*contents["files"], *contents["left_out"]]

    def _same_as_before(self) -> bool:
        try:
            return json.loads((self.folder / MAKING).read_text()) == self.settings
        except (OSError, ValueError):
            return False

    def _take_over(self) -> None:
        """The whole shards from the first on; the first one that is not whole ends it."""
        while (path := self.folder / (name := SHARD.format(len(self.shards)))).is_file():
            try:
                contents = json.loads((self.folder / _contents_of(name)).read_text())
            except (OSError, ValueError):
                return
            if path.stat().st_size != contents["shard"]["size"]:
                return
            self._take(name, contents)

    def _name(self, path: Path) -> str:
        return os.path.relpath(path, self.root)


def _contents_of(shard: str) -> str:
    return f"{shard}.json"


def _decode(path: Path, short_side: int | None, rate: int | None) -> dict | str:
    """All frames of a video, its sound if that is asked for, and what the index says of both; or why there are none."""
    sound: dict[str, Any] = {}
    try:
        if rate is None:
            video = VideoFile(path)
            arrays, loss = [video.read_whole(short_side)], video.loss
        else:
            pair = PairFile(path, rate)
            video, track = pair.video, pair.sound
            arrays = [video.read_whole(short_side), np.array(pair.stamps), track.wave]
            if len(arrays[0]) != len(arrays[1]):
                raise DataError(f"{path}: {len(arrays[1])} frames have stamps, but {len(arrays[0])} decode")
            sound, loss = {"sound": {"samples": len(track.wave), "start": track.start}}, pair.loss
        size = tars.size_of(path)
    except (DataError, OSError) as error:
        return str(error)
    orientation = video.index.orientation._asdict()
    told = {"bytes": size, "lost": video.index.lost, "loss": loss, "orientation": orientation, **sound}
    return {"arrays": arrays, **told}


def _decoded(
    paths: list[Path], short_side: int | None, rate: int | None, workers: int
) -> Iterator[tuple[Path, dict | str]]:
    """What `_decode` gives of each path, in order. Processes decode a few videos ahead, not more: each is in memory."""
    if not workers:
        yield from ((path, _decode(path, short_side, rate)) for path in paths)
        return
    # Not forked: a fork copies locks of threads, which FFmpeg and torch have.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_begin_worker) as pool:
        ahead: deque = deque()
        try:
            for path in paths:
                ahead.append((path, pool.submit(_decode, path, short_side, rate)))
                if len(ahead) > workers:
                    first, result = ahead.popleft()
                    yield first, result.result()
            while ahead:
                first, result = ahead.popleft()
                yield first, result.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _begin_worker() -> None:
    ignore_interrupts()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A killed process cannot tell its workers to end, and each holds the pipe open that the others read."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # of a worker
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)


@contextmanager
def _bar(shown: bool, videos: int, done: int) -> Iterator[Any]:
    """What is called after each video."""
    if not shown:
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = [*Progress.get_default_columns()[:-1], MofNCompleteColumn(), TimeRemainingColumn()]
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("decoding videos", total=videos, completed=done)
        yield lambda: bar.advance(task)


@dataclass(frozen=True)
class Config:
    """Decode videos into a cache."""

    out: Path
    """Folder of the cache."""
    data: Path | None = None
    """Folder of videos, or list file with one path a line."""
    short_side: int | None = None
    """Reduce frames to this many pixels along the shorter side; training must be given the same."""
    rate: int | None = None
    """Keep the sound too, mono at so many Hz; pretraining of both must be given the same."""
    shard_mib: int = 256
    """Size of a shard; also about the memory that is needed. A larger video has a shard of its own."""
    share: tuple[int, int] = (0, 1)
    """K N: decode every N-th video from the K-th on, K from 0 to N - 1, so that N machines share the work."""
    workers: int = 0
    """Processes that decode; 0: this one does."""
    check: bool = False
    """Compare the checksums of the cache in `out` instead."""

    def __post_init__(self):
        if (self.data is None) != self.check:
            raise ValueError("give data, the videos to decode; or --check alone")
        if self.shard_mib < 1 or (self.short_side is not None and self.short_side < 1) or self.workers < 0:
            raise ValueError(
                "shard_mib and short_side must be at least 1 and workers not negative, got "
                f"{self.shard_mib}, {self.short_side} and {self.workers}"
            )
        if self.rate is not None and not 1000 <= self.rate <= 384_000:
            raise ValueError(f"rate must be in 1000 .. 384000 Hz, got {self.rate}")
        part, parts = self.share
        if not 0 <= part < parts:
            raise ValueError(f"share must be K N with K from 0 to N - 1, got {part} {parts}")


def main() -> None:
    try:
        config = command_line(Config, description=__doc__, prog="python -m smnoise.data.video.cache")
        if config.data is None:  # with --check
            store = FrameStore(config.out)
            store.check()
        else:
            store = make(config.data, config.out, config.short_side, config.shard_mib, rate=config.rate,
                         share=config.share, workers=config.workers, progress=sys.stderr.isatty(),
                         tell=print)  # fmt: skip
    except KeyboardInterrupt:
        raise SystemExit(
            "smnoise: interrupted; the same command goes on behind the last whole shard"
        ) from None
    except (ValueError, OSError, RuntimeError) as error:
        raise SystemExit(f"smnoise: {error}") from error
    size = sum(shard["size"] for shard in store.shards.values())
    print(
        f"{store.folder}: {len(store.entries)} videos in {len(store.shards)} shards, {size / 2**20:.1f} MiB"
    )
    _tell(config, store)


def _tell(config: Config, store: FrameStore) -> None:
    """What a person should know of the videos of a cache that was made."""
    if config.data is not None:
        _print(file_notes(config.data, VIDEO))
    _print(f"left to the decoder: {message}" for message in store.left_out.values())
    _print(note for path in store.entries if (note := store.note(Path(path))))


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        print(line)


if __name__ == "__main__":
    main()
