# SPDX-License-Identifier: Apache-2.0
"""The sound of a file as FFmpeg decodes it, from its start on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np

from ...errors import DataError
from .media_bytes import DECODED_KINDS, kind_of, told

GAP_SECONDS = 0.05  # a jump of the time stamps that is more than rounding
FAILURES = (av.FFmpegError, OSError, ValueError, IndexError)


def counted(path: Path, promised: int) -> tuple[int, int, str]:
    """Rate, number of samples and damage of a file that is decoded from its start; promised: samples that its header
    is known to tell, or 0. Raises DataError where nothing decodes."""
    lost: list[str] = []
    rate = frames = good = 0
    first = end = None
    try:
        for frame in decoded(path, lost):
            rate, good = rate or frame.sample_rate, good + 1
            if frame.sample_rate != rate:
                raise DataError(
                    f"{path}: its sample rate changes from {rate} to {frame.sample_rate} Hz after {frames} samples; "
                    "split it there"
                )
            frames += frame.samples
            if frame.pts is not None and frame.time_base:
                at = float(frame.pts * frame.time_base) * rate
                first = at if first is None else first
                end = max(end or 0, at + frame.samples)
    except FAILURES as error:
        raise DataError(f"{path}: {_words(error)}; {told(path)}") from None
    if not frames or len(lost) > good:
        reason = f" ({lost[0]})" if lost else ""
        raise DataError(f"{path}: no sound that decodes{reason}; {told(path)}")
    found = []
    if lost:
        found.append(f"packets that do not decode: {len(lost)} ({lost[0]})")
    missing = round(end - first) - frames if first is not None and end is not None else 0
    if missing > GAP_SECONDS * rate:
        found.append(f"about {missing} samples are missing")
    if frames < promised:
        found.append(f"it ends after {frames} of the {promised} samples that its header promises")
    return rate, frames, f"{path}: damaged, {', '.join(found)}" if found else ""


def decoded(path: Path, lost: list[str]) -> Iterator[av.AudioFrame]:
    """All that FFmpeg decodes of the sound track that it takes for the best, in order; why packets do not is added to
    `lost`. Raises one of FAILURES where the file cannot be opened, DataError where it has no sound."""
    # An absolute path: a bare name with a colon would be a protocol. Tags may be in any encoding. Playlists and
    # the like may not lead anywhere else.
    with av.open(
        str(path.absolute()), metadata_errors="replace", options={"protocol_whitelist": "file"}
    ) as container:
        stream = container.streams.best("audio")
        if stream is None:
            unknown = "" if kind_of(path) in DECODED_KINDS else f"; {told(path)}"
            raise DataError(f"{path} has no sound track{unknown}")
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
            except FAILURES as error:  # the rest cannot be reached
                lost.append(_words(error))
                return
            if packet is None:
                return
            try:
                yield from packet.decode()
            except FAILURES as error:
                lost.append(_words(error))


def _words(error: Exception) -> str:
    """An error without the numbers and names that differ from file to file."""
    return error.strerror if isinstance(error, av.FFmpegError) and error.strerror else f"{error}"


def mono(frame: av.AudioFrame) -> np.ndarray:
    """The mean of the channels of a frame, float32 in [-1, 1], as libsndfile scales integers."""
    samples = frame.to_ndarray()
    samples = samples.T if frame.format.is_planar else samples.reshape(frame.samples, -1)
    if samples.dtype.kind == "u":
        samples = (samples.astype(np.float32) - 128) / 128
    elif samples.dtype.kind == "i":
        samples = samples.astype(np.float32) / np.float32(2.0 ** (8 * samples.dtype.itemsize - 1))
    return np.ascontiguousarray(samples, dtype=np.float32).mean(axis=1)
