# SPDX-License-Identifier: Apache-2.0
"""Videos of many kinds, made here: containers, codecs, turned, cut, of several streams, with odd stamps, damaged.

    python tests/zoo_video.py     # the table of docs/media.md; test_zoo_video.py tests that it is true
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from zoo_tools import (
    FRAMES,
    HEIGHT,
    WIDTH,
    add_film,
    copy,
    damage,
    film,
    picture,
    pour,
    restamped,
    retimed,
    turned,
    with_edits,
    without,
)

Make = Callable[[Path], Path]
Turn = Callable[[np.ndarray], np.ndarray]


class Kind(NamedTuple):
    """A kind of file, and what is right for it.

    group, what: of the table.
    name: of the file.
    make: writes it.
    frames: that it has; 0: none, and `error` is what is said.
    way: by which they are reached (smnoise.train.video_index); `later`: when all have been read, if by another one.
    note: what is said of a file that is served although not all of it decodes.
    placed: whether frames that do not decode keep their place, where a neighbour stands in.
    stream: which one is the film.
    turn: from stored pictures to shown ones.
    torchcodec: whether torchcodec may read it; else PyAV does.
    """

    group: str
    what: str
    name: str
    make: Make
    frames: int = FRAMES
    way: str = "seek"
    later: str = ""
    note: str = ""
    placed: bool = False
    stream: int = 0
    turn: Turn | None = None
    torchcodec: bool = False
    error: str = ""

    @property
    def row(self) -> str:
        way = f"{self.way}, then {self.later}" if self.later else self.way
        if not self.frames:
            return f"| {self.group} | {self.what} | refused | | |"
        reader = "torchcodec, PyAV" if self.torchcodec else "PyAV"
        return f"| {self.group} | {self.what} | {self.frames} | {way} | {reader} | {self.note} |"


def h264(path: Path, **encoding) -> Path:
    return film(path, **encoding)


def via(make: Make, then: Callable[[Path], Path], suffix: str = ".mp4") -> Make:
    """A file that is edited in place after it was made."""
    return lambda path: then(make(path))


def copied(make: Make, edit: Callable[[list], list] = list, suffix: str = ".mp4", **how) -> Make:
    """A copy of a file of that suffix."""

    def write(path: Path) -> Path:
        return copy(make(path.with_name(f"source of {path.stem}{suffix}")), path, edit, **how)

    return write


def cut(source_frames: int, hidden: int, **encoding) -> Make:
    """The last frames of an MP4 with one key frame: those before them are hidden by an edit list."""
    long = partial(film, frames=source_frames, g=250, **encoding)
    return copied(long, restamped(lambda n, stamp: stamp - hidden * 512), ".mp4")


def streams(*films: dict, cover: int | None = None, sound: bool = False, empty: int | None = None) -> Make:
    """Several streams in one file: films of sizes, a cover or a film without packets before one of them, a sound."""

    def write(path: Path) -> Path:
        kinds = av.stream.Disposition
        with av.open(str(path), "w") as container:
            made = []
            heard = container.add_stream("aac", rate=16000) if sound else None
            for n, given in enumerate(films):
                if cover == n:
                    made.append((add_cover(container), 1))
                if empty == n:
                    add_film(container, "libx264").disposition = kinds.default
                encoding = {k: v for k, v in given.items() if k not in ("frames", "default")}
                stream = add_film(container, "libx264", **encoding)
                stream.disposition = kinds.default if given.get("default", True) else kinds(0)
                made.append((stream, given.get("frames", FRAMES)))
            if cover == len(films):
                made.append((add_cover(container), 1))
            if heard:
                pour_sound(container, heard)
            for stream, frames in made:
                pour(container, stream, range(frames))
        return path

    return write


def add_cover(container):
    stream = add_film(container, "mjpeg", (160, 120), "yuvj420p")
    stream.disposition = av.stream.Disposition.attached_pic
    return stream


def pour_sound(container, stream) -> None:
    frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
    frame.sample_rate, frame.pts = 16000, 0
    for packet in [*stream.encode(frame), *stream.encode()]:
        container.mux(packet)


def sound_alone(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        pour_sound(container, container.add_stream("aac", rate=16000))
    return path


def no_frame(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        add_film(container, "mpeg4")
        container.start_encoding()
    return path


def behind_each_other(*sizes: tuple[int, int], codec: str = "libx264", form: str = "h264") -> Make:
    """Raw streams of several sizes in one file."""

    def write(path: Path) -> Path:
        parts = [
            film(path.with_name(f"{n} of {path.name}"), codec, FRAMES // 2, form=form, size=size).read_bytes()
            for n, size in enumerate(sizes)
        ]
        path.write_bytes(b"".join(parts))
        return path

    return write


def grown(path: Path) -> Path:
    """A WebM of which the frames grow in the middle, as those of calls do: packets of two films in one stream."""
    parts = [
        film(path.with_name(f"{n} of {path.name}"), "libvpx-vp9", FRAMES // 2, size=size)
        for n, size in enumerate([(WIDTH, HEIGHT), (96, 80)])
    ]
    with av.open(str(path), "w") as container, av.open(str(parts[0])) as a, av.open(str(parts[1])) as b:
        out = container.add_stream_from_template(a.streams.video[0])
        for part, shift in ((a, 0), (b, 40 * FRAMES // 2)):
            for packet in part.demux(part.streams.video[0]):
                if packet.size:
                    packet.stream, packet.pts, packet.dts = out, packet.pts + shift, packet.dts + shift
                    container.mux_one(packet)
    return path


def still(codec: str, pixels: str) -> Make:
    """A picture under a video's name."""

    def write(path: Path) -> Path:
        context = av.CodecContext.create(codec, "w")
        context.width, context.height, context.pix_fmt = WIDTH, HEIGHT, pixels
        context.time_base = Fraction(1, 25)
        frame = av.VideoFrame.from_ndarray(picture(0), format="rgb24").reformat(format=pixels)
        path.write_bytes(b"".join(bytes(p) for p in [*context.encode(frame), *context.encode(None)]))
        return path

    return write


def shortened(make: Make, share: float) -> Make:
    def write(path: Path) -> Path:
        data = make(path).read_bytes()
        path.write_bytes(data[: round(len(data) * share)])
        return path

    return write


def of_bytes(data: bytes) -> Make:
    return lambda path: path.write_bytes(data) and path or path


def flipped_bits(path: Path) -> Path:
    """A bit of the last part of some packets is another one."""
    from zoo_tools import packets_of

    data = bytearray(path.read_bytes())
    for at, size in packets_of(path)[3::5]:
        data[at + size - size // 4] ^= 16
    path.write_bytes(data)
    return path


def no_durations(packets: list) -> list:
    for packet in packets:
        packet.duration = 0
    return packets


B = {"bf": 2}
FASTSTART = {"movflags": "faststart"}
PIECES = {"movflags": "frag_keyframe+empty_moov"}
X264 = "x264-params"
INTRA_REFRESH = {X264: "intra-refresh=1:keyint=8"}
HUNDREDS = restamped(lambda n, stamp: stamp + 100_000 * (n // 10))


def plain() -> list[Kind]:
    c = partial(Kind, "container, codec")
    return [
        c("H.264 in MP4", "h264.mp4", h264),
        c("H.264 with B frames in MP4", "h264-b.mp4", partial(film, **B)),
        c("the same, index in front", "h264-front.mp4", partial(film, **B, into=FASTSTART)),
        c("the same, in fragments", "h264-pieces.mp4", partial(film, **B, into=PIECES)),
        c("H.264 in MOV", "h264.mov", partial(film, **B)),
        c("H.264 in M4V", "h264.m4v", partial(film, **B, form="mp4")),
        c("H.264 in Matroska", "h264.mkv", partial(film, **B)),
        c("H.264 in AVI", "h264.avi", h264, way="scan"),
        c("H.264 with B frames in AVI", "h264-b.avi", partial(film, **B), way="scan"),
        c("H.264 in MPEG-TS", "h264.mpg", partial(film, **B, form="mpegts"), way="scan"),
        c("H.264 without a container", "h264-raw.mp4", partial(film, **B, form="h264"), way="scan"),
        c("H.264, open groups", "h264-open.mp4", partial(film, **B, **{X264: "open-gop=1:scenecut=0"})),
        c("H.264, refreshed part by part", "h264-refresh.mp4", partial(film, **INTRA_REFRESH)),
        c("H.264, interlaced", "h264-fields.mp4", partial(film, **{X264: "interlaced=1"}), way="scan"),
        c("H.264, one key frame", "h264-one-key.mp4", partial(film, **B, g=250)),
        c("H.264, key frames alone", "h264-intra.mp4", partial(film, g=1)),
        c("H.264, 10 bits", "h264-10.mp4", partial(film, pixels="yuv420p10le")),
        c("H.264, 4:2:2", "h264-422.mp4", partial(film, pixels="yuv422p")),
        c("H.264, 4:4:4, odd sizes", "h264-444.mp4", partial(film, pixels="yuv444p", size=(63, 47))),
        c("H.264, grey", "h264-grey.mp4", partial(film, pixels="gray")),
        c("H.264, RGB", "h264-rgb.mkv", partial(film, codec="libx264rgb", pixels="rgb24")),
        c("H.264, sizes that are no multiple of 16", "h264-62.mp4", partial(film, size=(62, 46))),
        c("HEVC in MP4", "hevc.mp4", partial(film, codec="libx265", **B)),
        c("HEVC in Matroska", "hevc.mkv", partial(film, codec="libx265", **B)),
        c("HEVC, open groups", "hevc-open.mkv",
          partial(film, codec="libx265", **{"x265-params": "open-gop=1:keyint=6:min-keyint=6:bframes=3"})),
        c("HEVC, refreshed part by part", "hevc-refresh.mp4",
          partial(film, codec="libx265", **{"x265-params": "intra-refresh=1:keyint=8:bframes=0"})),
        c("HEVC, 10 bits", "hevc-10.mp4", partial(film, codec="libx265", pixels="yuv420p10le", **B)),
        c("HEVC in MPEG-TS", "hevc.mpg", partial(film, codec="libx265", form="mpegts"), way="scan"),
        c("VP8 in WebM", "vp8.webm", partial(film, codec="libvpx")),
        c("VP8 with hidden packets", "vp8-hidden.webm",
          partial(film, codec="libvpx", **{"auto-alt-ref": "1", "lag-in-frames": "12"})),
        c("VP9 in WebM", "vp9.webm", partial(film, codec="libvpx-vp9", **{"lag-in-frames": "12"})),
        c("VP9 without an index", "vp9-live.webm", partial(film, codec="libvpx-vp9", into={"live": "1"})),
        c("VP9, 4:4:4", "vp9-444.webm", partial(film, codec="libvpx-vp9", pixels="yuv444p")),
        c("VP9 with alpha", "vp9-alpha.webm", partial(film, codec="libvpx-vp9", pixels="yuva420p", **{"auto-alt-ref": "0"})),
        c("VP9 in MP4", "vp9.mp4", partial(film, codec="libvpx-vp9")),
        c("AV1 in MP4", "av1.mp4", partial(film, codec="libsvtav1", preset="10")),
        c("AV1, open groups, in WebM", "av1-open.webm",
          partial(film, codec="libsvtav1", preset="10", **{"svtav1-params": "irefresh-type=1:hierarchical-levels=3"})),
        c("AV1, 10 bits", "av1-10.mkv", partial(film, codec="libsvtav1", pixels="yuv420p10le", preset="10")),
        c("MPEG-4 in AVI", "mpeg4.avi", partial(film, codec="mpeg4"), way="count"),
        c("MPEG-4 with B frames in AVI", "mpeg4-b.avi", partial(film, codec="mpeg4", **B), way="scan"),
        c("MPEG-4 in MP4", "mpeg4.mp4", partial(film, codec="mpeg4"), way="count"),
        c("MPEG-4 with B frames in MP4", "mpeg4-b.mp4", partial(film, codec="mpeg4", **B), way="scan"),
        c("Motion JPEG in AVI", "mjpeg.avi", partial(film, codec="mjpeg", pixels="yuvj422p"), way="count"),
        c("Motion JPEG in MOV", "mjpeg.mov", partial(film, codec="mjpeg", pixels="yuvj420p"), way="count"),
        c("MPEG-1", "mpeg1.mpg", partial(film, codec="mpeg1video", **B), way="scan"),
        c("MPEG-2 with B frames", "mpeg2.mpeg", partial(film, codec="mpeg2video", form="vob", **B), way="scan"),
        c("MPEG-2, interlaced, in MPEG-TS", "mpeg2-fields.mpg",
          partial(film, codec="mpeg2video", form="mpegts", flags="+ildct+ilme", **B), way="scan"),
        c("WMV 2", "wmv2.wmv", partial(film, codec="wmv2"), way="scan"),
        c("MS-MPEG-4", "msmpeg4.avi", partial(film, codec="msmpeg4"), way="scan"),
        c("FFV1, 16 bits grey", "ffv1.mkv", partial(film, codec="ffv1", pixels="gray16le"), way="scan"),
        c("ProRes, 10 bits", "prores.mov", partial(film, codec="prores_ks", pixels="yuv422p10le"), way="scan"),
        c("RGB as it is, in AVI", "raw.avi", partial(film, codec="rawvideo", pixels="bgr24"), way="scan"),
        c("PNG with alpha in MOV", "png.mov", partial(film, codec="png", pixels="rgba"), way="scan"),
        c("GIF", "gif.mp4", partial(film, codec="gif", pixels="rgb8", form="gif"), way="scan"),
        c("one frame", "one.mp4", partial(film, frames=1), frames=1),
        c("one frame in AVI", "one.avi", partial(film, codec="mpeg4", frames=1), frames=1, way="count"),
        c("two frames, B", "two.mkv", partial(film, frames=2, **B), frames=2),
        c("a PNG under a video's name", "png.mp4", still("png", "rgb24"), frames=1, way="scan"),
        c("a JPEG under a video's name", "jpeg.mp4", still("mjpeg", "yuvj420p"), frames=1, way="scan"),
    ]  # fmt: skip


def turns() -> list[Kind]:
    c = partial(Kind, "orientation")
    left = (0, -1, 1, 0)
    turns = [
        ("a quarter to the left", "left.mp4", left, lambda i: np.rot90(i)),
        ("a quarter to the right", "right.mov", (0, 1, -1, 0), lambda i: np.rot90(i, -1)),
        ("upside down", "half.mp4", (-1, 0, 0, -1), lambda i: np.rot90(i, 2)),
        ("mirrored", "mirrored.mp4", (-1, 0, 0, 1), lambda i: i[:, ::-1]),
        ("mirrored, upside down", "mirrored-down.mp4", (1, 0, 0, -1), lambda i: i[::-1]),
        ("mirrored, a quarter", "mirrored-left.mp4", (0, 1, 1, 0), lambda i: i.swapaxes(0, 1)),
        ("mirrored, a quarter the other way", "mirrored-right.mp4", (0, -1, -1, 0),
         lambda i: np.rot90(i, 2).swapaxes(0, 1)),
        ("by 45 degrees: as stored", "oblique.mp4", (0.7071, 0.7071, -0.7071, 0.7071), None),
        ("scaled by 2, a quarter", "scaled.mp4", (0, -2, 2, 0), lambda i: np.rot90(i)),
        ("a matrix of nothing", "nothing.mp4", (0, 0, 0, 0), None),
    ]  # fmt: skip
    made = [
        c(what, name, via(partial(film, **B), partial(_turned, numbers)), turn=turn)
        for what, name, numbers, turn in turns
    ]
    source = via(partial(film, **B), partial(_turned, left))
    counted = via(partial(film, codec="mpeg4"), partial(_turned, left))
    return [
        *made,
        c("a quarter, in Matroska", "left.mkv", copied(source), turn=lambda i: np.rot90(i)),
        c("a quarter, MPEG-4", "left-4.mp4", counted, way="count", turn=lambda i: np.rot90(i)),
    ]


def _turned(numbers: tuple[float, float, float, float], path: Path) -> Path:
    return turned(path, *numbers)


def _edited(edits: tuple[tuple[int, int], ...], path: Path) -> Path:
    return with_edits(path, *edits)


def edit_lists() -> list[Kind]:
    c = partial(Kind, "edit list")
    long = {"frames": 60, "g": 20, **B}

    def edited(*edits: tuple[int, int], **encoding) -> Make:
        return via(partial(film, **(long | encoding)), partial(_edited, edits))

    return [
        c("83 frames hidden, one key frame", "cut-long.mp4", cut(120, 83, **B), frames=37),
        c("1 frame hidden", "cut-one.mp4", cut(FRAMES, 1), frames=FRAMES - 1),
        c("3 frames hidden, B frames", "cut-b.mp4", cut(FRAMES, 3, **B), frames=FRAMES - 3),
        c("frames 25 to 48 of 60", "window.mp4", edited((24, 25)), frames=24),
        c("the end hidden", "no-end.mp4", edited((30, 0)), frames=30),
        c("begins half a second late", "late.mp4", edited((12, -1), (60, 0)), frames=60),
        c("two parts", "parts.mp4", edited((10, 5), (10, 40)), frames=20, way="scan"),
        c("two parts, the later first", "parts-back.mp4", edited((10, 40), (10, 5)), frames=20, way="scan"),
        c("one part twice", "twice.mp4", edited((10, 20), (10, 20)), frames=20, way="scan"),
        c("hidden frames, MPEG-4", "cut-4.mp4", edited((24, 25), codec="mpeg4"), frames=24, way="scan"),
    ]


def several() -> list[Kind]:
    c = partial(Kind, "streams")
    small, large = {"size": (32, 32)}, {"size": (96, 64)}
    return [
        c("a cover first", "cover-first.mp4", streams({}, cover=0), stream=1),
        c("a cover last", "cover-last.mp4", streams({}, cover=1)),
        c("sound first", "sound-first.mp4", streams({}, sound=True), stream=1),
        c("two films: the larger", "larger.mkv", streams({**small}, {**large, "frames": 9}), frames=9, stream=1),
        c("two films: the default", "default.mkv", streams({**small, "frames": 9}, {**large, "default": False}), frames=9),
        c("two films of a size: the first", "first.mp4", streams({"frames": 9}, {}), frames=9),
        c("a default film without packets", "empty-first.mkv", streams({}, empty=0), stream=1),
        c("nothing but a cover", "cover.mp4", streams(cover=0), 0, error="no picture but an attached one"),
        c("nothing but sound", "sound.mp4", sound_alone, 0, error="has no picture"),
    ]  # fmt: skip


def stamps() -> list[Kind]:
    c = partial(Kind, "stamps")
    odd = [n * n // 3 + n for n in range(FRAMES)]
    ts = {"form": "mpegts"}
    return [
        c("varying frame rate", "vfr.mp4", partial(film, stamps=odd)),
        c("varying frame rate, B frames", "vfr-b.mkv", partial(film, stamps=odd, **B)),
        c("begin at an hour", "hour.mkv", copied(partial(film, **B), restamped(lambda n, s: s + 3600 * 12800))),
        c("negative", "negative.mkv", copied(partial(film, **B), restamped(lambda n, s: s - 100 * 512),
                                             into={"avoid_negative_ts": "disabled"})),
        c("two frames with one stamp", "equal.mkv", copied(h264, restamped(lambda n, s: s - 512 * (n == 9))), way="scan"),
        c("all with one stamp", "all-equal.mkv", copied(h264, restamped(lambda n, s: 0)), way="scan"),
        c("jump ahead", "ahead.mkv", copied(partial(film, **B), HUNDREDS)),
        c("jump back", "back.mkv", via(h264, lambda p: retimed(p, lambda n, time: time - 300 * (n >= 12))), way="scan"),
        c("two stamps exchanged", "exchanged.mkv", via(h264, partial(exchange, 12, 13)), way="scan"),
        c("two stamps exchanged, B frames", "exchanged-b.mkv", via(partial(film, **B), partial(exchange, 20, 21)), way="scan"),
        c("begin anew in MPEG-TS", "anew.mpg", twice(partial(film, **B, **ts)), FRAMES * 2, way="scan"),
        c("missing, in a raw stream", "missing.mp4", partial(film, form="h264"), way="scan"),
        c("no durations", "no-durations.mkv", copied(h264, no_durations)),
        c("a break in MPEG-TS", "break.mpg", copied(h264, HUNDREDS, **ts), way="scan"),
    ]  # fmt: skip


def exchange(one: int, other: int, path: Path) -> Path:
    """Two packets of a cluster have each other's stamp."""
    times: dict[int, int] = {}
    retimed(path, lambda n, time: times.setdefault(n, time))
    return retimed(path, lambda n, time: times[{one: other, other: one}.get(n, n)])


def twice(make: Make) -> Make:
    return lambda path: path.write_bytes(make(path).read_bytes() * 2) and path or path


def damaged() -> list[Kind]:
    c = partial(Kind, "damage")
    intra, long = partial(film, g=250), partial(film, frames=40, **B)
    annexb = partial(film, form="h264")
    return [
        c("a packet of noise", "noise.mp4", via(intra, lambda p: damage(p, 10)), way="scan"),
        c("a packet half of noise", "half-noise.mp4", via(long, lambda p: damage(p, 20, keep=5)), frames=40),
        c("the first packet", "first.mp4", via(h264, lambda p: damage(p, 0)), way="scan"),
        c("the last packet", "last.mp4", via(h264, lambda p: damage(p, FRAMES - 1)), way="scan"),
        c("a key frame", "key.mp4", via(h264, lambda p: damage(p, 8)), way="scan"),
        c("a tenth of all packets", "tenth.mkv", via(long, lambda p: damage(p, 5, 15, 25, 35)), frames=40, way="scan"),
        c("bits flipped", "bits.mp4", via(h264, flipped_bits)),
        c("HEVC: a packet", "hevc.mp4", via(partial(film, codec="libx265"), lambda p: damage(p, 10)), way="scan"),
        c("VP9: a packet", "vp9.webm", via(partial(film, codec="libvpx-vp9"), lambda p: damage(p, 10)), way="scan"),
        c("VP8: a packet", "vp8.webm", via(partial(film, codec="libvpx"), lambda p: damage(p, 10)), way="scan"),
        c("AV1: a packet", "av1.mp4", via(partial(film, codec="libsvtav1", preset="10"), lambda p: damage(p, 9)), way="scan"),
        c("MPEG-4: a packet", "mpeg4.avi", via(partial(film, codec="mpeg4"), lambda p: damage(p, 10)), way="scan"),
        c("MPEG-2: a packet", "mpeg2.mpg", via(partial(film, codec="mpeg2video"), lambda p: damage(p, 10)), way="scan"),
        c("Motion JPEG: a packet", "mjpeg.avi", via(partial(film, codec="mjpeg", pixels="yuvj420p"), lambda p: damage(p, 10)), way="scan"),
        c("begins without a key frame", "no-key.mkv", copied(partial(film, **B), without(range(5))), way="scan"),
        c("no key frame at all", "no-key-at-all.mkv", copied(intra, without([0])), 0, error="no video frame"),
        c("packets missing in the middle", "gap.mkv", copied(partial(film, **B), without([11, 12]))),
        c("packets missing at the end", "no-end.mkv", copied(partial(film, **B), without(range(20, FRAMES)))),
        c("a packet missing in MPEG-TS", "gap.mpg", copied(h264, without([11]), form="mpegts"), way="scan"),
        c("MP4 cut, index in front", "cut-front.mp4", shortened(partial(film, into=FASTSTART), 0.7), way="scan"),
        c("MP4 cut, index gone", "cut.mp4", shortened(h264, 0.7), 0, error="InvalidDataError"),
        c("MP4 cut, in fragments", "cut-pieces.mp4", shortened(partial(film, into=PIECES), 0.7), way="scan"),
        c("Matroska cut", "cut.mkv", shortened(h264, 0.7), way="scan"),
        c("AVI cut", "cut.avi", shortened(partial(film, codec="mpeg4"), 0.7), way="scan"),
        c("MPEG-TS cut", "cut.mpg", shortened(partial(film, form="mpegts"), 0.7), way="scan"),
        c("raw stream cut", "cut-raw.mp4", shortened(annexb, 0.7), way="scan"),
    ]  # fmt: skip


def sizes() -> list[Kind]:
    c = partial(Kind, "size")
    return [
        c("grows in a raw H.264 stream", "grows-raw.mp4", behind_each_other((64, 48), (96, 80)), way="scan"),
        c("shrinks in a raw H.264 stream", "shrinks-raw.mp4", behind_each_other((96, 80), (64, 48)), way="scan"),
        c("grows in MPEG-TS", "grows.mpg", behind_each_other((64, 48), (96, 80), form="mpegts"), way="scan"),
        c("grows in VP9", "grows.webm", grown),
    ]


def strange() -> list[Kind]:
    c = partial(Kind, "no video")
    playlist = b"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nhttp://127.0.0.1:9/x.ts\n#EXT-X-ENDLIST\n"
    return [
        c("no bytes", "empty.mp4", lambda p: p.write_bytes(b"") and p or p, 0, error="InvalidDataError"),
        c("noise", "noise-alone.mp4", of_bytes(np.random.default_rng(1).bytes(4096)), 0, error="InvalidDataError"),
        c("text", "text.mp4", of_bytes(b"this is no video\n" * 50), 0, error="InvalidDataError"),
        c("zeros", "zeros.mp4", of_bytes(bytes(4096)), 0, error="Error"),
        c("a playlist of addresses", "playlist.mp4", of_bytes(playlist), 0, error="Error"),
        c("a list of other files", "list.mp4", of_bytes(b"ffconcat version 1.0\nfile 'h264.mp4'\n"), 0, error="Error"),
        c("no frame", "no-frame.mp4", no_frame, 0, error="no video frame decodes"),
    ]  # fmt: skip


ZOO = [*plain(), *turns(), *edit_lists(), *several(), *stamps(), *damaged(), *sizes(), *strange()]


HEAD = "| what | kind | frames | way | readers | said of it |\n|---|---|---:|---|---|---|"


def table() -> str:
    """The zoo in Markdown."""
    return "\n".join([HEAD, *(kind.row for kind in ZOO)])


if __name__ == "__main__":
    print(table())
