# SPDX-License-Identifier: Apache-2.0
"""What a file is, by its first bytes: downloads go wrong, and other programs call their files .pth too."""

from __future__ import annotations

import codecs
from pathlib import Path

from ..errors import CheckpointError
from . import archives

FETCH = "fetch the file itself"
# By what a file begins with.
STARTS = {
    b"version https://git-lfs": "a pointer of Git LFS to the file, not the file: run git lfs pull, or "
    + FETCH,
    b"/annex/objects/": "a pointer of git-annex to the file, not the file: run git annex get, or " + FETCH,
    b"\x1f\x8b": "packed with gzip: unpack it",
    b"BZh": "packed with bzip2: unpack it",
    b"\xfd7zXZ\x00": "packed with xz: unpack it",
    b"\x28\xb5\x2f\xfd": "packed with zstd: unpack it",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive: unpack it",
    b"Rar!\x1a\x07": "a RAR archive: unpack it",
    b"\x89HDF\r\n\x1a\n": "an HDF5 file, as Keras writes; weights of PyTorch are needed",
    b"\x93NUMPY": "an array of NumPy; weights of PyTorch are needed",
    b"L119547037146038801333356L": "written by torch.save in pickle's protocol 0 or 1, and torch reads 2 safely; "
    "in the program that wrote it leave pickle_protocol as it is",
    b"GGUF": "a GGUF file; weights of PyTorch are needed",
    b"%PDF": "a PDF document; " + FETCH,
    bytes(64): "nothing but zeros at its beginning, as a download that was cut off; fetch it again",
}


def like(head: bytes, size: int) -> str | None:
    """What a file of `size` bytes with that beginning is, and what to do; None where it may be weights."""
    if not size:
        return "empty (0 bytes); fetch it again"
    for start, what in STARTS.items():
        if head.startswith(start):
            return what
    if head[257:262] == b"ustar":
        return "a tar archive: unpack it (and what torch before 0.1.10 wrote, load and save there anew)"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<script", b"<!--")):
        return "a page of a web site, such as a login or an error; " + FETCH
    if text.startswith((b"{", b"[")) and _is_text(head):
        return "JSON text, such as an answer of a server or an index; " + FETCH
    if _is_text(head) and len(text) > 4:
        return f"text ({head[:40].decode(errors='replace').split(chr(10))[0]!r}); {FETCH}"
    return None


def form_of(path: Path) -> str:
    """ "safetensors" or "pickle", which a file holds whatever its name. Raises CheckpointError, with what it is, where
    it is neither."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        head = stream.read(512)
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < max(size, 1 << 40):
        return "safetensors"
    if what := like(head, size):
        raise CheckpointError(f"{path} is {what}")
    if head.startswith((archives.MAGIC, b"\x80")):
        return "pickle"
    raise CheckpointError(
        f"{path} is neither safetensors nor a file of torch.save: it begins with {head[:8]!r}; {FETCH}"
    )


def _is_text(head: bytes) -> bool:
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)  # the end may be half a letter
    except UnicodeDecodeError:
        return False
    return all(letter.isprintable() or letter in "\r\n\t" for letter in text)
