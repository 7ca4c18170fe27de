# SPDX-License-Identifier: Apache-2.0
"""What the first bytes of a video packet tell without decoding it: whether it is whole and holds a picture to show."""

from __future__ import annotations

from collections.abc import Callable

# Whether a packet is whole; None of a whole one that shows nothing. A wrong no costs time, a wrong yes is met by the
# reader.
Check = Callable[[memoryview], bool | None]

H264_PICTURES = range(1, 6)  # types of NAL units that hold (a part of) a picture
HEVC_PICTURES = range(32)
AV1_PICTURES = (3, 6)  # types of OBUs: frame header, frame
OPAQUE_MPEG4 = 19  # bytes: a packet up to this long may be a placeholder, for which nothing is shown


def check_of(codec: str, extradata: bytes | None) -> Check | None:
    """How to look at the packets of a codec; None where it is not known."""
    extradata = extradata or b""
    if codec == "h264" and len(extradata) > 6 and extradata[0] == 1:
        length = (extradata[4] & 3) + 1
        return lambda packet: _nal_units_hold(packet, length, lambda head: head & 31, H264_PICTURES)
    if codec == "hevc" and len(extradata) > 22 and extradata[0] == 1:
        length = (extradata[21] & 3) + 1
        return lambda packet: _nal_units_hold(packet, length, lambda head: head >> 1, HEVC_PICTURES)
    return {"av1": _av1, "vp8": _vp8, "vp9": _vp9, "mpeg4": _mpeg4, "mjpeg": _mjpeg}.get(codec)


def _nal_units_hold(
    packet: memoryview, length: int, kind: Callable[[int], int], pictures: range
) -> bool | None:
    """Whether the lengths before the units lead to the packet's end; None where none of them holds a picture."""
    at, found = 0, False
    while at + length < len(packet):
        size = int.from_bytes(packet[at : at + length], "big")
        head = packet[at + length]
        if not size or head & 0x80:  # this bit is always 0
            return False
        found = found or kind(head) in pictures
        at += length + size
    return at == len(packet) and (found or None)


def _av1(packet: memoryview) -> bool | None:
    at, found = 0, False
    while at < len(packet):
        head = packet[at]
        if head & 0x81:  # these bits are always 0
            return False
        found = found or head >> 3 in AV1_PICTURES
        at += 2 if head & 4 else 1
        if not head & 2:  # without a size: the last one
            return found or None
        size = shift = 0
        while True:
            if at >= len(packet) or shift > 28:
                return False
            size |= (packet[at] & 127) << shift
            shift += 7
            at += 1
            if not packet[at - 1] & 128:
                break
        at += size
    return at == len(packet) and (found or None)


def _vp8(packet: memoryview) -> bool | None:
    is_key, is_shown = not packet[0] & 1, packet[0] & 16
    if is_key and bytes(packet[3:6]) != b"\x9d\x01\x2a":
        return False
    return True if is_shown else None


def _vp9(packet: memoryview) -> bool | None:
    first = packet[0]
    if first >> 6 != 2:
        return False
    if packet[-1] & 0xE0 == 0xC0:  # several frames, the last of which is shown
        return True
    profile = (first >> 5 & 1) | (first >> 4 & 1) << 1
    shift = 2 if profile == 3 else 3
    is_repeat, is_shown = first >> shift & 1, first >> (shift - 2) & 1
    return True if is_repeat or is_shown else None


def _mpeg4(packet: memoryview) -> bool:
    """Whether it holds a picture that is no B frame, which would come later, and no placeholder."""
    data = bytes(packet)
    at = data.find(b"\x00\x00\x01\xb6")
    return 0 <= at < len(data) - 4 and len(data) > OPAQUE_MPEG4 and data[at + 4] >> 6 in (0, 1)


def _mjpeg(packet: memoryview) -> bool:
    return bytes(packet[:3]) == b"\xff\xd8\xff"
