# SPDX-License-Identifier: Apache-2.0
"""What is in a video file: which stream is the film, how many frames a decoder shows, and how to reach them.

Frame n is the n-th that decoding from the first packet to the last gives. Three ways lead to it:

    seek    each packet is a frame of which the stamp tells the number: decoding begins at the key frame before it
    count   each packet is a frame, in the order of the file: frames are counted from the first
    scan    packets do not tell: the file is decoded once to count its frames, and from the first to read them
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import chain, pairwise
from pathlib import Path
from typing import Literal

import av

from ...errors import DataError
from .decoding import FAILURES, Pass, open_file
from .upright import Orientation, matrix_of, orientation_of

# Where a seek by time stamp comes out at the stamps of a pass from the start, and decoding from a key frame on gives
# the same pictures. Elsewhere (AVI, MPEG) stamps behind a seek are others.
SEEK_FORMATS = {"mov", "mp4", "matroska", "webm"}
SEEK_CODECS = {"av1", "h264", "hevc", "vp8", "vp9"}
COUNT_FORMATS = SEEK_FORMATS | {"avi"}
COUNT_CODECS = {"mjpeg", "mpeg4"}
LISTS = {"concat", "concatf", "dash", "hls", "image2", "sdp"}  # formats of files that name others


@dataclass(frozen=True)
class VideoIndex:
    """Facts of a file.

    stream: number of the film among the container's streams.
    frames: that a decoder shows.
    width, height: of the first frame, as shown; all frames are brought to it.
    orientation: of all frames, that of the first; has_matrix: whether it has a display matrix, of whatever turn.
    pixels: FFmpeg's name of the pixel format.
    way: by which frames are reached; why: the reason where it is no seek.
    stamps: of the frames, ascending, in units of so many `seconds`; `keys`: those of the key frames; of a seek alone.
    lost: frames known not to decode, of `expected`; missing: those beyond, which the container promises and has not.
    ended: what stopped the reading before the end.
    sources: of a way that is no seek, for each frame which of those that decode stands for it; empty: itself.
    """

    stream: int
    frames: int
    width: int
    height: int
    orientation: Orientation
    has_matrix: bool
    pixels: str
    way: Literal["seek", "count", "scan"]
    why: str = ""
    stamps: tuple[int, ...] = ()
    seconds: float = 0.0
    keys: tuple[int, ...] = ()
    lost: int = 0
    expected: int = 0
    missing: int = 0
    ended: str = ""
    sources: tuple[int, ...] = ()


def candidates(container: av.container.InputContainer, path: Path) -> list[int]:
    """The streams that may be the film, the most likely first: no attached picture, marked as default, the larger.

    Raises DataError where there is none.
    """
    if container.format.name in LISTS:
        raise DataError(f"{path} is a list of other files ({container.format.name}), no video")
    streams = [s for s in container.streams.video if s.codec_context is not None]
    if not streams:
        raise DataError(f"{path} has no picture: no video stream that can be decoded")
    kinds = av.stream.Disposition
    pictures = kinds.attached_pic | kinds.timed_thumbnails
    films = [s for s in streams if not s.disposition & pictures]
    if not films:
        raise DataError(f"{path} has no picture but an attached one, a cover; expected a film")
    films.sort(key=lambda s: (not s.disposition & kinds.default, -s.width * s.height, s.index))
    return [s.index for s in films]


def index_video(path: Path, threads: int = 1) -> VideoIndex:
    """Look at a file: one pass over its packets, and where these cannot be trusted one that decodes.

    Raises DataError for a file without a film, or of which no frame decodes.
    """
    try:
        with open_file(path) as container:
            streams = candidates(container, path)
        for stream in streams:
            if found := _look(path, stream, threads):
                return found
    except FAILURES as error:
        raise DataError(f"{path}: {type(error).__name__}: {error}") from None
    raise DataError(f"{path}: no video frame decodes")


@dataclass
class _Facts:
    """Of the packets of a stream: what is needed to decide whether they can be trusted."""

    formats: set[str]
    codec: str
    in_fields: bool
    seconds: float
    stamps: list[int | None] = field(default_factory=list)
    keys: list[int] = field(default_factory=list)
    hidden: list[int | None] = field(default_factory=list)  # stamps of packets that an edit list hides
    order: list[int] = field(default_factory=list)  # decoding stamps, where there are any
    first_is_key: bool = False
    is_late: bool = False  # a frame is shown before it is decoded
    is_whole: bool = True
    breaks_off: bool = False
    first: av.VideoFrame | None = None

    @property
    def kind(self) -> str:
        return f"{self.codec} in {'/'.join(sorted(self.formats))}"

    @property
    def seekable(self) -> bool:
        return bool(self.formats & SEEK_FORMATS) and self.codec in SEEK_CODECS

    def distrust(self) -> str:
        """Why packets do not tell the frames; empty where they do."""
        if not self.seekable and not (self.formats & COUNT_FORMATS and self.codec in COUNT_CODECS):
            return self.kind
        if self.breaks_off:
            return "the file breaks off"
        if self.in_fields:
            return "interlaced"
        if not self.is_whole and not self.seekable:
            return "a packet is damaged or comes out of order"
        if not self.first_is_key:
            return "begins without a key frame"
        if not self.stamps or self.first is None:
            return "the first frame does not decode"
        return self._distrust_of_stamps() if self.seekable else "an edit list" if self.hidden else ""

    def _distrust_of_stamps(self) -> str:
        shown = [s for s in self.stamps if s is not None]
        hidden = [s for s in self.hidden if s is not None]
        if len(shown) + len(hidden) < len(self.stamps) + len(self.hidden):
            return "stamps are missing"
        if len({*shown, *hidden}) < len(shown) + len(hidden):
            return "stamps repeat"
        if self.is_late or any(b <= a for a, b in pairwise(self.order)):
            return "stamps jump back"
        if any(min(shown) < s < max(shown) for s in hidden):
            return "an edit list hides frames in the middle"
        begins = self.first is not None and self.first.pts == min(shown)
        return "" if begins else "the first frame does not decode"


def _look(path: Path, stream: int, threads: int) -> VideoIndex | None:
    """The index of a stream; None where nothing of it decodes."""
    facts, run = _packet_facts(path, stream, threads)
    if why := facts.distrust():
        return scan(path, stream, threads, why)[0]
    count = len(facts.stamps)
    found = VideoIndex(stream, count, *_first(facts.first), "count", facts.kind,
                       expected=count, missing=run.missing, ended=run.ended)  # fmt: skip
    if not facts.seekable:
        return found
    stamps, keys = tuple(sorted(s for s in facts.stamps if s is not None)), tuple(sorted(facts.keys))
    found = replace(found, way="seek", why="", stamps=stamps, keys=keys, seconds=facts.seconds)
    return found if facts.is_whole else mended(found, path, threads, "a packet is damaged")


def _packet_facts(path: Path, number: int, threads: int) -> tuple[_Facts, Pass]:
    with open_file(path) as container:
        run = Pass(container, container.streams[number], threads)
        facts = _Facts(set(container.format.name.split(",")), run.codec, run.in_fields, run.seconds)
        for packet in run.packets():
            if not facts.stamps and not facts.hidden:
                facts.first_is_key = packet.is_keyframe
            looks_whole = run.looks_whole(packet)
            if packet.is_discard:
                facts.hidden.append(packet.pts)
            elif looks_whole is not None:
                facts.stamps.append(packet.pts)
                if packet.is_keyframe and packet.pts is not None:
                    facts.keys.append(packet.pts)
            if packet.dts is not None:
                facts.order.append(packet.dts)
                facts.is_late = facts.is_late or (packet.pts is not None and packet.pts < packet.dts)
            facts.is_whole = facts.is_whole and looks_whole is not False and not packet.is_corrupt
            if facts.first is None:
                facts.first = next(iter(run.frames_of(packet)), None)
        if facts.first is None:
            facts.first = next(iter(run.frames_of(None)), None)
        facts.breaks_off = run.breaks_off
    return facts, run


def _first(frame: av.VideoFrame) -> tuple[int, int, Orientation, bool, str]:
    """Width, height, orientation, has_matrix and pixels of the first frame."""
    matrix = matrix_of(frame)
    turn = orientation_of(matrix)
    return *turn.size(frame.width, frame.height), turn, bool(matrix), frame.format.name


def scan(path: Path, number: int, threads: int, why: str) -> tuple[VideoIndex | None, list[int | None]]:
    """Decode a whole stream. Its index, None where nothing decodes, and the stamps of its frames as they come."""
    first, stamps, packets = None, [], 0
    with open_file(path) as container:
        run = Pass(container, container.streams[number], threads)
        # Where a packet is a frame, one that gives none is lost; of other codecs no more than errors is known.
        is_frame = run.codec in SEEK_CODECS and not run.in_fields
        for packet in chain(run.packets(), [None]):
            if packet is not None and not packet.is_discard:
                packets += is_frame and run.looks_whole(packet) is not None
            for frame in run.frames_of(packet):
                first = first or frame
                stamps.append(frame.pts)
    if first is None:
        return None, stamps
    lost = max(run.refused, packets - len(stamps))
    found = VideoIndex(number, len(stamps), *_first(first), "scan", why,
                       lost=lost, expected=len(stamps) + lost, missing=run.missing, ended=run.ended)  # fmt: skip
    return found, stamps


def mended(index: VideoIndex, path: Path, threads: int, why: str) -> VideoIndex:
    """The index of a file whose packets are not all what they say. Frames keep their number, since others may have used
    it; one that does not decode is the one before it, or the first that does."""
    found, stamps = scan(path, index.stream, threads, why)
    if found is None:
        raise DataError(f"{path}: no video frame decodes")
    lost = max(0, index.frames - len(stamps))
    numbers: dict[int | None, int] = {stamp: n for n, stamp in enumerate(index.stamps)}
    # Without a loss frames are as they come, also where their stamps are in another order.
    places = {numbers[stamp]: at for at, stamp in enumerate(stamps) if stamp in numbers} if lost else {}
    places = places or dict(enumerate(range(len(stamps))))
    sources, last = [], places[min(places)]
    for n in range(index.frames):
        last = places.get(n, last)
        sources.append(last)
    return replace(index, way="scan", why=why, stamps=(), keys=(), sources=tuple(sources), lost=lost)
