# SPDX-License-Identifier: Apache-2.0
"""Videos of many kinds, made here: containers, codecs, turned, cut, of several streams, with odd stamps, damaged.

    python -m tests.data.video.zoo_video

prints the table of docs/media.md; test_zoo_video.py tests that it is true.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from ..zoo_tools import (
    FRAMES,
    Make,
    behind_each_other,
    copied,
    cover_in_front,
    cut,
    damage,
    film,
    flipped_bits,
    grown,
    h264,
    no_durations,
    no_frame,
    of_bytes,
    restamped,
    retimed,
    shortened,
    sound_alone,
    still,
    streams,
    turned,
    via,
    with_edits,
    without,
)
from .zoo_kind import HEAD, Kind

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
        c("H.264, BT.709", "h264-709.mp4", partial(film, **{X264: "colormatrix=bt709"})),
        c("H.264, full range", "h264-full.mp4", partial(film, **{X264: "fullrange=on"})),
        c("H.264, 10 bits", "h264-10.mp4", partial(film, pixels="yuv420p10le"), torchcodec=False),
        c("H.264, 4:2:2", "h264-422.mp4", partial(film, pixels="yuv422p"), torchcodec=False),
        c("H.264, 4:4:4, odd sizes", "h264-444.mp4", partial(film, pixels="yuv444p", size=(63, 47)),
          torchcodec=False),
        c("H.264, grey", "h264-grey.mp4", partial(film, pixels="gray")),
        c("H.264, RGB", "h264-rgb.mkv", partial(film, codec="libx264rgb", pixels="rgb24"), torchcodec=False),
        c("H.264, sizes that are no multiple of 16", "h264-62.mp4", partial(film, size=(62, 46))),
        c("HEVC in MP4", "hevc.mp4", partial(film, codec="libx265", **B)),
        c("HEVC in Matroska", "hevc.mkv", partial(film, codec="libx265", **B)),
        c("HEVC, open groups", "hevc-open.mkv",
          partial(film, codec="libx265", **{"x265-params": "open-gop=1:keyint=6:min-keyint=6:bframes=3"})),
        c("HEVC, refreshed part by part", "hevc-refresh.mp4",
          partial(film, codec="libx265", **{"x265-params": "intra-refresh=1:keyint=8:bframes=0"})),
        c("HEVC, 10 bits", "hevc-10.mp4", partial(film, codec="libx265", pixels="yuv420p10le", **B),
          torchcodec=False),
        c("HEVC in MPEG-TS", "hevc.mpg", partial(film, codec="libx265", form="mpegts"), way="scan"),
        c("VP8 in WebM", "vp8.webm", partial(film, codec="libvpx")),
        c("VP8 with hidden packets", "vp8-hidden.webm",
          partial(film, codec="libvpx", **{"auto-alt-ref": "1", "lag-in-frames": "12"})),
        c("VP9 in WebM", "vp9.webm", partial(film, codec="libvpx-vp9", **{"lag-in-frames": "12"})),
        c("VP9 without an index", "vp9-live.webm", partial(film, codec="libvpx-vp9", into={"live": "1"})),
        c("VP9, 4:4:4", "vp9-444.webm", partial(film, codec="libvpx-vp9", pixels="yuv444p"), torchcodec=False),
        c("VP9 with alpha", "vp9-alpha.webm",
          partial(film, codec="libvpx-vp9", pixels="yuva420p", **{"auto-alt-ref": "0"})),
        c("VP9 in MP4", "vp9.mp4", partial(film, codec="libvpx-vp9")),
        c("AV1 in MP4", "av1.mp4", partial(film, codec="libsvtav1", preset="10")),
        c("AV1, open groups, in WebM", "av1-open.webm",
          partial(film, codec="libsvtav1", preset="10", **{"svtav1-params": "irefresh-type=1:hierarchical-levels=3"})),
        c("AV1, 10 bits", "av1-10.mkv", partial(film, codec="libsvtav1", pixels="yuv420p10le", preset="10"),
          torchcodec=False),
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
        c(what, name, via(partial(film, **B), partial(_turned, numbers)), turn=turn, torchcodec=False)
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
        c("1 frame hidden", "cut-one.mp4", cut(FRAMES, 1), frames=FRAMES - 1, torchcodec=False),
        c("3 frames hidden, B frames", "cut-b.mp4", cut(FRAMES, 3, **B), frames=FRAMES - 3),
        c("frames 25 to 48 of 60", "window.mp4", edited((24, 25)), frames=24, torchcodec=False),
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
        c("a cover first", "cover-first.mp4", via(streams({}, cover=0), cover_in_front), stream=1, torchcodec=False),
        c("a cover last", "cover-last.mp4", streams({}, cover=1)),
        c("sound first", "sound-first.mp4", streams({}, sound=True), stream=1),
        c("two films: the larger", "larger.mkv", streams({**small}, {**large, "frames": 9}), frames=9, stream=1),
        c("two films: the default", "default.mkv",
          streams({**small, "frames": 9}, {**large, "default": False}), frames=9),
        c("two films of a size: the first", "first.mp4", streams({"frames": 9}, {}), frames=9),
        c("a default film without packets", "empty-first.mkv", streams({}, empty=0), stream=1, torchcodec=False),
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
        c("negative, by seconds", "negative.mkv", copied(partial(film, **B), restamped(lambda n, s: s - 100 * 512),
                                                         into={"avoid_negative_ts": "disabled"}), way="scan"),
        c("negative, by two frames", "negative-little.mkv",
          via(partial(film, **B), partial(retimed, time=lambda n, t: t - 80)), way="scan"),
        c("negative distances to decoding", "negative-distance.mp4",
          partial(film, **B, into={"movflags": "negative_cts_offsets"})),
        c("two frames with one stamp", "equal.mkv", copied(h264, restamped(lambda n, s: s - 512 * (n == 9))),
          way="scan"),
        c("all with one stamp", "all-equal.mkv", copied(h264, restamped(lambda n, s: 0)), way="scan"),
        c("jump ahead", "ahead.mkv", copied(partial(film, **B), HUNDREDS)),
        c("jump back", "back.mkv", via(h264, lambda p: retimed(p, lambda n, time: time - 300 * (n >= 12))),
          way="scan"),
        c("two stamps exchanged", "exchanged.mkv", via(h264, partial(exchange, 12, 13)), way="scan"),
        c("two stamps exchanged, B frames", "exchanged-b.mkv",
          via(partial(film, **B), partial(exchange, 20, 21)), later="scan"),
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
    return lambda path: (path.write_bytes(make(path).read_bytes() * 2) and path) or path


def damaged() -> list[Kind]:
    intra, long, av1 = (
        partial(film, g=250),
        partial(film, frames=40, **B),
        partial(film, codec="libsvtav1", preset="10"),
    )
    hevc, vp8, vp9 = (
        partial(film, codec="libx265"),
        partial(film, codec="libvpx"),
        partial(film, codec="libvpx-vp9"),
    )
    mpeg4, mjpeg = partial(film, codec="mpeg4"), partial(film, codec="mjpeg", pixels="yuvj420p")

    def c(
        what: str, name: str, make: Make, frames: int = FRAMES, way: str = "scan", lost: int = 0, **more
    ) -> Kind:
        return Kind(
            "damage", what, name, make, frames, way, note=more.pop("note", _note(lost, frames, more)), **more
        )

    def noise(make: Make, *packets: int, keep: int = 0) -> Make:
        return via(make, partial(_damaged, packets, keep))

    seek, placed = {"way": "seek"}, {"placed": True}
    found_later = {**seek, **placed, "later": "scan"}
    missing = (
        "1 of 17 frames did not decode (neighbours stand in); 7 more that the file promises are not in it"
    )
    return [
        c("a packet of noise", "noise.mp4", noise(intra, 10), lost=1, **placed),
        c("a packet of noise but for its beginning", "hidden-noise.mp4", noise(long, 20, keep=5), 40, lost=1,
          **found_later),
        c("the first packet", "first.mp4", noise(h264, 0), 22, lost=2),
        c("the last packet", "last.mp4", noise(h264, FRAMES - 1), lost=1, **placed),
        c("a key frame", "key.mp4", noise(h264, 8), lost=1, **placed),
        c("a tenth of all packets", "tenth.mkv", noise(long, 5, 15, 25, 35), 40, lost=5, **placed),
        c("bits of pictures", "bits.mp4", via(h264, flipped_bits), patched=True, **seek),
        c("bits of pictures, B frames", "bits-b.mkv", via(long, flipped_bits), 40, patched=True, **seek),
        c("bits of pictures, HEVC", "bits-hevc.mp4", via(hevc, flipped_bits), **seek),
        c("bits of pictures, VP9", "bits.webm", via(vp9, flipped_bits), **seek),
        c("bits of pictures, MPEG-4", "bits.avi", via(mpeg4, flipped_bits), way="count"),
        c("a packet of HEVC", "hevc.mp4", noise(hevc, 10), lost=6, **placed),
        c("a packet of VP9", "vp9.webm", noise(vp9, 10), lost=1, **placed),
        c("a packet of VP8", "vp8.webm", noise(vp8, 10), lost=1, **found_later),
        c("a packet of AV1", "av1.mp4", noise(av1, 9), lost=1, **placed),
        c("a packet of MPEG-4", "mpeg4.avi", noise(mpeg4, 10), 23, lost=1),
        c("a packet of MPEG-2, also the container's", "mpeg2.mpg",
          noise(partial(film, codec="mpeg2video"), 10), 23),
        c("a packet of Motion JPEG", "mjpeg.avi", noise(mjpeg, 10), 23, lost=1),
        c("begins without a key frame", "no-key.mkv", copied(partial(film, **B), without(range(5))), 13, lost=6),
        c("no key frame at all", "no-key-at-all.mkv", copied(intra, without([0])), 19, lost=4),
        c("packets missing in the middle", "gap.mkv", copied(partial(film, **B), without([11, 12])), 22,
          lost=2, **found_later),
        c("packets missing at the end", "no-end.mkv", copied(partial(film, **B), without(range(20, FRAMES))),
          20, **seek),
        c("a packet missing in MPEG-TS", "gap.mpg", copied(h264, without([11]), form="mpegts"), 23),
        c("MP4 cut off, index in front", "cut-front.mp4", shortened(partial(film, into=FASTSTART), 0.7), 17,
          note=missing, **placed),
        c("MP4 cut off, index gone", "cut.mp4", shortened(h264, 0.7), 0, error="InvalidDataError"),
        c("MP4 cut off, in fragments", "cut-pieces.mp4", shortened(partial(film, into=PIECES), 0.7), 17,
          note=missing, **placed),
        c("Matroska cut off", "cut.mkv", shortened(h264, 0.7), 16,
          note="the film ends early (0.64 of 0.96 s are there)", **seek),
        c("AVI cut off", "cut.avi", shortened(mpeg4, 0.7), 15, note="9 more that the file promises are not in it"),
        c("MPEG-TS cut off", "cut.mpg", shortened(partial(film, form="mpegts"), 0.7), 17),
        c("raw stream cut off", "cut-raw.mp4", shortened(partial(film, form="h264"), 0.7), 17),
    ]  # fmt: skip


def _note(lost: int, frames: int, more: dict) -> str:
    if not lost:
        return ""
    if more.get("placed"):
        return f"{lost} of {frames} frames did not decode (neighbours stand in)"
    return f"{lost} of {frames + lost} frames did not decode (left out)"


def _damaged(packets: tuple[int, ...], keep: int, path: Path) -> Path:
    return damage(path, *packets, keep=keep)


def sizes() -> list[Kind]:
    c = partial(Kind, "size")
    return [
        c("grows in a raw H.264 stream", "grows-raw.mp4", behind_each_other((64, 48), (96, 80)), way="scan"),
        c(
            "shrinks in a raw H.264 stream",
            "shrinks-raw.mp4",
            behind_each_other((96, 80), (64, 48)),
            way="scan",
        ),
        c("grows in MPEG-TS", "grows.mpg", behind_each_other((64, 48), (96, 80), form="mpegts"), way="scan"),
        c("grows in VP9", "grows.webm", grown, torchcodec=False),
    ]


def strange() -> list[Kind]:
    c = partial(Kind, "no video")
    playlist = b"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nhttp://127.0.0.1:9/x.ts\n#EXT-X-ENDLIST\n"
    return [
        c("no bytes", "empty.mp4", lambda p: (p.write_bytes(b"") and p) or p, 0, error="InvalidDataError"),
        c("noise", "noise-alone.mp4", of_bytes(np.random.default_rng(1).bytes(4096)), 0, error="InvalidDataError"),
        c("text", "text.mp4", of_bytes(b"this is no video\n" * 50), 0, error="InvalidDataError"),
        c("zeros", "zeros.mp4", of_bytes(bytes(4096)), 0, error="Error"),
        c("a playlist of addresses", "playlist.mp4", of_bytes(playlist), 0, error="Error"),
        c("a list of other files", "list.mp4", of_bytes(b"ffconcat version 1.0\nfile 'h264.mp4'\n"), 0,
          error="Error"),
        c("no frame", "no-frame.mp4", no_frame, 0, error="no video stream"),
    ]  # fmt: skip


ZOO = [*plain(), *turns(), *edit_lists(), *several(), *stamps(), *damaged(), *sizes(), *strange()]


def table() -> str:
    """The zoo in Markdown."""
    return "\n".join([HEAD, *(kind.row for kind in ZOO)])


if __name__ == "__main__":
    print(table())
