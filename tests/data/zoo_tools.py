# SPDX-License-Identifier: Apache-2.0
"""How the files of the video zoo are made: encoded, copied packet by packet, or edited byte by byte."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np

WIDTH, HEIGHT, FRAMES = 64, 48, 24

Make = Callable[[Path], Path]


def picture(n: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """Frame n, uint8 [height, width, 3]: no two are alike, and none is like its mirror image."""
    y, x = np.mgrid[:height, :width]
    image = np.stack([(3 * x + 5 * n) % 200, (4 * y + 3 * n) % 220, (x + 2 * y + 11 * n) % 240], axis=-1)
    at = 3 * n % (width - 16)
    image[6:18, at : at + 14] = (255, 120, 10)
    return image.astype(np.uint8)


def add_film(container, codec: str, size=(WIDTH, HEIGHT), pixels="yuv420p", bf=0, g=8, **options: str):
    stream = container.add_stream(codec, rate=25)
    stream.width, stream.height = size
    stream.pix_fmt = pixels
    stream.codec_context.gop_size, stream.codec_context.max_b_frames = g, bf
    stream.codec_context.thread_count = 1
    stream.bit_rate = 0 if codec == "libsvtav1" else 800_000
    stream.options = options
    return stream


def pour(container, stream, frames: Iterable[int], stamps: Sequence[int] | None = None) -> None:
    """Encode and write frames of these numbers; stamps: in 1/25 s, instead of one after the other."""
    for at, n in enumerate(frames):
        frame = av.VideoFrame.from_ndarray(picture(n, stream.width, stream.height), format="rgb24")
        frame.pts = at if stamps is None else stamps[at]
        frame.time_base = Fraction(1, 25)
        container.mux(stream.encode(frame))
    container.mux(stream.encode())


def film(
    path: Path,
    codec: str = "libx264",
    frames: int = FRAMES,
    *,
    form: str | None = None,
    into: dict[str, str] | None = None,
    stamps: Sequence[int] | None = None,
    **encoding,
) -> Path:
    """A file with one film. form: the container, if the suffix does not tell; into: its options."""
    if codec == "libx264":
        encoding = {"preset": "veryfast", **encoding}
    if codec == "libx265":
        encoding["x265-params"] = "log-level=none:pools=none:frame-threads=1:" + encoding.get(
            "x265-params", ""
        )
    with av.open(str(path), "w", format=form, options=into or {}) as container:
        pour(container, add_film(container, codec, **encoding), range(frames), stamps)
    return path


def copy(
    source: Path,
    path: Path,
    edit: Callable[[list], list] = list,
    *,
    form: str | None = None,
    into: dict[str, str] | None = None,
) -> Path:
    """The first video stream of a file, its packets edited, in another container."""
    with (
        av.open(str(source)) as given,
        av.open(str(path), "w", format=form, options=into or {}) as container,
    ):
        stream = given.streams.video[0]
        out = container.add_stream_from_template(stream)
        for packet in edit([p for p in given.demux(stream) if p.size]):
            packet.stream = out
            container.mux_one(packet)
    return path


def packets_of(path: Path) -> list[tuple[int, int]]:
    """Where in the file the packets of the first video stream are: (position, size), in their order. In MPEG's streams,
    which cut packets up, that is where the first part begins."""
    data, places, at = path.read_bytes(), [], 0
    with av.open(str(path)) as container:
        for packet in container.demux(container.streams.video[0]):
            if packet.size:
                found = data.find(bytes(packet), at)
                places.append((packet.pos if found < 0 else found, packet.size))
                at = max(at, found)
    return places


def retimed(path: Path, time: Callable[[int, int], int]) -> Path:
    """A Matroska file of one cluster: the times of its blocks are a function of their number and the old time."""
    data = bytearray(path.read_bytes())
    for n, (at, _) in enumerate(packets_of(path)):
        (old,) = struct.unpack(">h", data[at - 3 : at - 1])  # between the track's number and the flags
        data[at - 3 : at - 1] = struct.pack(">h", time(n, old))
    path.write_bytes(data)
    return path


def damage(path: Path, *numbers: int, keep: int = 0) -> Path:
    """Overwrite packets by noise, but for so many bytes at their beginning."""
    data, noise = bytearray(path.read_bytes()), np.random.default_rng(0)
    places = packets_of(path)
    for number in numbers:
        at, size = places[number]
        data[at + keep : at + size] = noise.bytes(size - keep)
    path.write_bytes(data)
    return path


def without(numbers: Iterable[int]) -> Callable[[list], list]:
    left_out = set(numbers)
    return lambda packets: [p for n, p in enumerate(packets) if n not in left_out]


def restamped(stamp: Callable[[int, int], int]) -> Callable[[list], list]:
    """Packets whose presentation (and decoding) stamps are a function of their number and the old one."""

    def edit(packets: list) -> list:
        for n, packet in enumerate(packets):
            packet.pts = stamp(n, packet.pts)
            packet.dts = stamp(n, packet.dts)
        return packets

    return edit


Box = tuple[bytes, ...]


def edit_box(data: bytes, names: Box, edit: Callable[[bytes], bytes]) -> bytes:
    """An MP4 file, or the inside of a box, with the inside of one of its boxes edited; sizes follow. What stands behind
    a box that grows must not be pointed at: MP4s written here have their index last."""
    at, out = 0, b""
    while at < len(data):
        size, name = struct.unpack(">I4s", data[at : at + 8])
        size = size or len(data) - at
        inside = data[at + 8 : at + size]
        if name == names[0]:
            inside = edit_box(inside, names[1:], edit) if names[1:] else edit(inside)
        out += struct.pack(">I4s", len(inside) + 8, name) + inside
        at += size
    return out


def edit_file(path: Path, names: Box, edit: Callable[[bytes], bytes]) -> Path:
    path.write_bytes(edit_box(path.read_bytes(), names, edit))
    return path


def turned(path: Path, a: float, b: float, c: float, d: float) -> Path:
    """An MP4 with a display matrix: a point (x, y) is shown at (a x + c y, b x + d y)."""
    numbers = [int(v * 65536) for v in (a, b, 0, c, d, 0, 0, 0)]
    matrix = struct.pack(">8iI", *numbers, 1 << 30)
    return edit_file(path, (b"moov", b"trak", b"tkhd"), lambda box: box[:40] + matrix + box[76:])


def with_edits(path: Path, *edits: tuple[int, int]) -> Path:
    """An MP4 whose edit list shows so many frames from such a frame on, one part after the other; from -1: nothing for
    as long. Its time scale is 1/1000 s for the film's length, 1/12800 s in the film, at 25 frames a second."""
    entries = [
        (frames * 40, start if start < 0 else start * 512 + first_stamp(path)) for frames, start in edits
    ]
    box = struct.pack(">II", 0, len(entries)) + b"".join(
        struct.pack(">IiI", n, s, 1 << 16) for n, s in entries
    )
    return edit_file(path, (b"moov", b"trak", b"edts", b"elst"), lambda _: box)


def first_stamp(path: Path) -> int:
    """Where the film's own edit list begins."""
    found = []
    edit_box(path.read_bytes(), (b"moov", b"trak", b"edts", b"elst"), lambda box: found.append(box) or box)
    return struct.unpack(">i", found[0][12:16])[0]


def h264(path: Path, **encoding) -> Path:
    return film(path, **encoding)


def via(make: Make, then: Callable[[Path], Path]) -> Make:
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


def cover_in_front(path: Path) -> Path:
    """An MP4 whose pictures come before its tracks, and so are its first streams."""
    return edit_file(
        path,
        (b"moov",),
        lambda inside: inside[inside.rindex(b"udta") - 4 :] + inside[: inside.rindex(b"udta") - 4],
    )


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
    return lambda path: (path.write_bytes(data) and path) or path


def flipped_bits(path: Path) -> Path:
    """A bit of the last part of some packets is another one."""
    data = bytearray(path.read_bytes())
    for at, size in packets_of(path)[3::5]:
        data[at + size - size // 4] ^= 16
    path.write_bytes(data)
    return path


def no_durations(packets: list) -> list:
    for packet in packets:
        packet.duration = 0
    return packets
