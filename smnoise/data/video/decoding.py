# SPDX-License-Identifier: Apache-2.0
"""A pass over a video stream: its packets, and the frames that a decoder makes of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import av

from .. import tars
from .packets import check_of

NAMES = {"libdav1d": "av1", "libaom-av1": "av1", "libvpx": "vp8", "libvpx-vp9": "vp9"}
FIELDS_APART = (2, 3, 4, 5)  # FFmpeg's orders of fields, of interlaced video; a packet may be half a frame
# Of which a damaged picture shows what happens to be in memory: here it is lost, so that no two reads differ.
UNDEFINED = {"mjpeg"}
FEW = 5  # frames: so many less than AVI's or Matroska's header says there may be without a word

FAILURES = (av.FFmpegError, OSError, ValueError, IndexError)


def open_file(path: Path) -> av.container.InputContainer:
    """The container, of a file or in a tar; no address that it may hold is followed. Raises DataError where a tar has
    no such file."""
    place = tars.place_of(path)
    if place is None:
        return av.open(str(path), options={"protocol_whitelist": "file"})
    return av.open(place.address, options={"protocol_whitelist": "subfile,file"})


@dataclass
class Pass:
    """One pass over the packets of a stream. Iterating gives frames as a decoder shows them.

    threads: of the decoder.
    strict: whether the decoder has errors for damage that it would else patch up, with what it decoded before.

    Known at the end: refused, packets that the decoder had an error for; missing, those that the container promised and
    has not; ended, what stopped the reading early; breaks_off, whether that was an error.
    """

    container: av.container.InputContainer
    stream: av.VideoStream
    threads: int = 1
    strict: bool = False
    refused: int = field(default=0, init=False)
    missing: int = field(default=0, init=False)
    ended: str = field(default="", init=False)
    breaks_off: bool = field(default=False, init=False)

    def __post_init__(self):
        context = self.stream.codec_context
        context.thread_count = self.threads
        self.codec = NAMES.get(context.name, context.name)
        if self.strict or self.codec in UNDEFINED:
            context.options = {"err_detect": "explode"}
        self.in_fields = getattr(context, "field_order", 0) in FIELDS_APART
        self.seconds = float(self.stream.time_base)  # unit of stamps
        self.check = check_of(self.codec, context.extradata)

    def looks_whole(self, packet: av.Packet) -> bool | None:
        """Whether a packet looks whole, False where that cannot be told; None of one that shows nothing."""
        return self.check is not None and self.check(memoryview(packet))

    def packets(self) -> Iterator[av.Packet]:
        """Packets with data. A container that breaks off has given all that it has."""
        promised, count, end, last, steady = self._promised(), 0, 0, -math.inf, True
        try:
            for packet in self.container.demux(self.stream):
                count += packet.dts is not None or packet.pts is not None
                if packet.size:  # an empty one would tell the decoder that all is over
                    end = max(end, (packet.pts or 0) + (packet.duration or 0))
                    steady = steady and (packet.dts is None or packet.dts >= last)
                    last = last if packet.dts is None else packet.dts
                    yield packet
        except FAILURES as error:
            self.ended, self.breaks_off = f"{type(error).__name__}: {error}", True
        missing = promised - count
        # Of a film in AVI the header is often wrong by a frame or two.
        self.missing = missing if missing > (0 if "mov" in self.container.format.name else FEW) else 0
        if steady and not self.ended:
            self.ended = self._ends_early(end * self.seconds, count)

    def frames_of(self, packet: av.Packet | None) -> list[av.VideoFrame]:
        """Frames that come after a packet is given to the decoder; None: after the last."""
        try:
            return self.stream.codec_context.decode(packet)
        except FAILURES:
            self.refused += 1
            return []

    def __iter__(self) -> Iterator[av.VideoFrame]:
        for packet in chain(self.packets(), [None]):
            yield from self.frames_of(packet)

    def _promised(self) -> int:
        """How many packets the container's index or header names; 0 where it does not."""
        name = self.container.format.name
        if "mov" in name:
            return len(getattr(self.stream, "index_entries", ()))
        return self.stream.frames if name == "avi" else 0

    def _ends_early(self, end: float, count: int) -> str:
        """What is to be said where Matroska's header promises more than a few frames beyond the last."""
        try:
            hours, minutes, seconds = map(float, self.stream.metadata.get("DURATION", "").split(":"))
        except ValueError:
            return ""
        promised = 3600 * hours + 60 * minutes + seconds
        is_short = promised > end * (1 + FEW / max(1, count))
        return f"{end:.2f} of {promised:.2f} s are there" if is_short else ""
