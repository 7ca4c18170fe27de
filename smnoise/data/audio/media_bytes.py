# SPDX-License-Identifier: Apache-2.0
"""What a media file is by its first bytes, whatever its name says."""

from __future__ import annotations

import os
import string
from pathlib import Path

HEAD = 4096  # bytes looked at

# Of each kind its words, the bytes it begins with, and at which place. The first that fits counts.
BEGINNINGS: tuple[tuple[str, bytes, int], ...] = (
    ("WAV", b"WAVE", 8),
    ("AVI", b"AVI ", 8),
    ("WebP picture", b"WEBP", 8),
    ("AIFF", b"AIFF", 8),
    ("AIFF", b"AIFC", 8),
    ("Wave64", b"riff\x2e\x91\xcf\x11", 0),
    ("FLAC", b"fLaC", 0),
    ("Ogg", b"OggS", 0),
    ("AU", b".snd", 0),
    ("CAF", b"caff", 0),
    ("MP4 (m4a, mov)", b"ftyp", 4),
    ("MP4 (m4a, mov)", b"moov", 4),
    ("MP4 (m4a, mov)", b"mdat", 4),
    ("Matroska (WebM)", b"\x1aE\xdf\xa3", 0),
    ("ASF (wma, wmv)", b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", 0),
    ("AC-3", b"\x0b\x77", 0),
    ("AMR", b"#!AMR", 0),
    ("Monkey's Audio", b"MAC ", 0),
    ("WavPack", b"wvpk", 0),
    ("MPEG program stream", b"\x00\x00\x01\xba", 0),
    ("PNG picture", b"\x89PNG", 0),
    ("JPEG picture", b"\xff\xd8\xff", 0),
    ("GIF picture", b"GIF8", 0),
    ("PDF", b"%PDF", 0),
    ("zip archive", b"PK\x03\x04", 0),
    ("gzip archive", b"\x1f\x8b", 0),
    ("NumPy array", b"\x93NUMPY", 0),
    ("HDF5", b"\x89HDF", 0),
    ("pointer of Git LFS", b"version https://git-lfs", 0),
)
HEADER_KINDS = {"AIFF", "AU", "CAF", "FLAC", "WAV", "Wave64"}  # libsndfile's
DECODED_KINDS = {
    "MP3",
    "Ogg",
    "MP4 (m4a, mov)",
    "Matroska (WebM)",
    "ASF (wma, wmv)",
    "AAC (ADTS)",
    "AVI",
}  # FFmpeg's
ADVICE = {
    "web page": "the download went wrong; fetch it again",
    "pointer of Git LFS": "fetch the file itself: git lfs pull",
    "zip archive": "unpack it",
    "gzip archive": "unpack it",
    "run of zero bytes": "the download or copy did not finish; fetch it again",
}


def kind_of(path: Path) -> str:
    """The kind of a file by its first bytes: "FLAC", "MP3", "web page", "text"; "" for an unknown one, and "empty".

    Raises OSError for a file that cannot be read.
    """
    with open(path, "rb") as file:
        head = file.read(HEAD)
        if head[:3] == b"ID3" and len(head) >= 10:  # a tag of so many bytes, 7 bits of the size in each
            size = 10 + sum(
                (byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True)
            )
            file.seek(size)
            return "FLAC" if file.read(4) == b"fLaC" else "MP3"
    if not head:
        return "empty"
    for kind, beginning, place in BEGINNINGS:
        if head[place : place + len(beginning)] == beginning:
            return kind
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0:
        return "AAC (ADTS)"
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:
        return "MP3"
    if not any(head):
        return "run of zero bytes"
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:64].lower()
    if start.startswith((b"<!doctype html", b"<html", b"<?xml", b"<head")):
        return "web page"
    return "text" if all(byte in string.printable.encode() for byte in head) else ""


def told(path: Path) -> str:
    """What a file that does not decode is, in words for an error: its kind and size, and what to do."""
    try:
        kind, size = kind_of(path), os.path.getsize(path)
        with open(path, "rb") as file:
            head = file.read(8)
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    if kind == "empty":
        return "the file is empty (0 bytes); fetch or make it again, or leave it out"
    what = (
        f"by its first bytes it is: {kind}"
        if kind
        else f"its first bytes ({head.hex(' ')}) are of no known kind"
    )
    return f"{what}, {size} bytes in all; {ADVICE.get(kind, 'damaged, cut short or misnamed')}"
