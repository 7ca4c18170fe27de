# SPDX-License-Identifier: Apache-2.0
"""A zoo of sound files: what people have, made here from noise and a chirp. `test_zoo_audio.py` looks at each.

python -m tests.data.audio.zoo_audio          # prints the table of docs/media-sound.md
"""

import struct
import tempfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import soundfile

from smnoise.data.audio.reader import AudioFile

RATE = 44100
SECONDS = 2.5
SAMPLES = int(RATE * SECONDS)
FRAME = 1152  # samples of a frame of MP3
BITS = {"PCM_U8": 8, "PCM_24": 24, "PCM_32": 24, "FLOAT": 24, "DOUBLE": 24}  # which float32 holds too


class Animal(NamedTuple):
    """A file of the zoo."""

    name: str
    how: str
    make: Callable[[Path], np.ndarray]
    """Writes it, and returns what it was made of, mono: float32 [samples]."""
    exact: bool = False
    """Whether its samples are those that it was made of, bit for bit."""
    lag: int = 0
    """How much later than in what it was made of they come: an encoder's delay that no header tells."""
    more: int = 0
    """Samples that it has more than it was made of: an encoder's padding that no header tells."""
    rate: int = RATE
    damage: str = ""
    """Words of what is told of it."""
    rounding: float = 1e-6
    """How far two decoders may differ; the sounds are below 1."""


@lru_cache
def sound(channels: int = 2, bits: int = 16) -> np.ndarray:
    """A chirp and smooth noise, another one in each channel and place: float64 [samples, channels], below 1, in steps
    that so many bits hold."""
    rng = np.random.default_rng(0)
    at = np.arange(SAMPLES)[:, None] / RATE
    chirp = np.sin(2 * np.pi * (200 + 700 * at + 60 * np.arange(channels)) * at)
    noise = rng.standard_normal((SAMPLES + 16, channels))
    noise = np.stack([np.convolve(column, np.hanning(18)[1:], "valid") for column in noise.T], 1) / 6
    wave = 0.4 * chirp + 0.25 * noise * (0.3 + (np.sin(5 * at) > 0))
    return np.round(np.clip(wave, -0.9, 0.9) * 2 ** (bits - 1)) / 2 ** (bits - 1)


def mono(wave: np.ndarray) -> np.ndarray:
    return wave.astype(np.float32).mean(axis=1)


def written(channels: int = 2, rate: int = RATE, **options) -> Callable[[Path], np.ndarray]:
    """By libsndfile."""

    def make(path: Path) -> np.ndarray:
        wave = sound(channels, BITS.get(options.get("subtype"), 16))
        soundfile.write(path, wave, rate, **options)
        return mono(wave)

    return make


def encoded(
    codec: str,
    container: str,
    channels: int = 2,
    rate: int = RATE,
    bits: int = 128_000,
    varying: bool = False,
    loud: float = 1.0,
    **options,
) -> Callable[[Path], np.ndarray]:
    """By FFmpeg. varying: the bit rate; loud: of the first fifth beside the rest."""

    def make(path: Path) -> np.ndarray:
        wave = sound(channels).copy()
        wave[SAMPLES // 5 :] /= loud
        layout = {1: "mono", 2: "stereo", 6: "5.1"}[channels]
        with av.open(str(path), "w", format=container, options=options) as file:
            stream = file.add_stream(codec, rate=rate)
            stream.codec_context.layout = layout
            if not varying and not codec.startswith(("pcm", "alac", "flac")):
                stream.codec_context.bit_rate = bits
            if varying:
                stream.codec_context.options = {"flags": "+qscale", "global_quality": "500"}
            resampler = av.AudioResampler(stream.codec_context.format, layout, rate, frame_size=0)
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(wave.astype(np.float32).reshape(1, -1)), format="flt", layout=layout
            )
            frame.sample_rate, frame.pts = rate, 0
            for part in (*resampler.resample(frame), *resampler.resample(None)):
                file.mux(stream.encode(part))
            file.mux(stream.encode(None))
        return mono(wave)

    return make


def changed(make: Callable, change: Callable[[bytes], bytes], keep: Callable = lambda w: w) -> Callable:
    """What `make` writes, with other bytes; keep: what of the samples is left."""

    def make_changed(path: Path) -> np.ndarray:
        wave = make(path)
        path.write_bytes(change(path.read_bytes()))
        return keep(wave)

    return make_changed


def joined(*makes: Callable) -> Callable[[Path], np.ndarray]:
    """Files behind each other, byte by byte."""

    def make(path: Path) -> np.ndarray:
        waves, parts = [], []
        for one in makes:
            waves.append(one(path))
            parts.append(path.read_bytes())
        path.write_bytes(b"".join(parts))
        return np.concatenate(waves)

    return make


def data_size(size: int) -> Callable[[bytes], bytes]:
    """Of a WAV, as its header tells it."""

    def change(data: bytes) -> bytes:
        at = data.index(b"data") + 4
        return data[:at] + struct.pack("<I", size) + data[at + 4 :]

    return change


def no_length(data: bytes) -> bytes:
    """FLAC as it is written to a pipe: 36 bits of STREAMINFO are 0."""
    return data[:21] + bytes([data[21] & 0xF0, 0, 0, 0, 0]) + data[26:]


def tagged(data: bytes) -> bytes:
    """An ID3 tag in front, with text in no encoding and a picture's worth of bytes."""
    text = b"TXXX" + struct.pack(">I", 9) + b"\0\0" + b"\x03a\0\xff\xfe\xe9b\xe9c"
    picture = b"APIC" + struct.pack(">I", 3000) + b"\0\0" + b"\0image/png\0\3\0" + bytes(3000 - 13)
    body = text + picture
    size = bytes(len(body) >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\x03\0\0" + size + body + data


def vbri(data: bytes) -> bytes:
    """Fraunhofer's header in a frame of its own; it tells no delay."""
    frames = len(data) // 300
    head = struct.pack(">4sHHHIIHHHH", b"VBRI", 1, 0, 75, len(data), frames, 1, 1, 2, frames) + struct.pack(
        ">H", 1
    )
    return b"\xff\xfb\x90\x00" + bytes(32) + head + bytes(417 - 36 - len(head)) + data


def overwritten(data: bytes) -> bytes:
    """3000 zero bytes in the middle."""
    middle = len(data) // 2
    return data[:middle] + bytes(3000) + data[middle + 3000 :]


def half(data: bytes) -> bytes:
    return data[: len(data) // 2 + 33]


def first(samples: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda wave: wave[:samples]


WAV16 = written(subtype="PCM_16", format="WAV")
FLAC = written(subtype="PCM_16", format="FLAC")
VORBIS, OPUS = written(format="OGG", subtype="VORBIS"), written(rate=48000, format="OGG", subtype="OPUS")
CBR, VBR = encoded("libmp3lame", "mp3"), encoded("libmp3lame", "mp3", varying=True)
BARE = encoded("libmp3lame", "mp3", write_xing="0")
BARE_VBR = encoded("libmp3lame", "mp3", varying=True, write_xing="0")
LOUD_START = encoded("libmp3lame", "mp3", varying=True, loud=128, write_xing="0")
PAD = -(SAMPLES + 1105) % FRAME + 1105
BEHIND = {"lag": 1105, "more": PAD}  # an encoder's 576 samples and a decoder's 529
ONE = {"exact": True}

ZOO = [
    *(
        Animal(f"{subtype.lower()}-{channels}.wav", f"{subtype}, {'mono' if channels == 1 else 'stereo'}",
               written(channels, subtype=subtype), **ONE)
        for subtype in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")
        for channels in (1, 2)
    ),
    *(
        Animal(f"{rate}-hz.wav", f"PCM_16 at {rate} Hz", written(rate=rate, subtype="PCM_16"), rate=rate, **ONE)
        for rate in (4000, 8000, 11025, 44056, 96000, 192000)
    ),
    Animal("surround.wav", "WAVE_FORMAT_EXTENSIBLE, 5.1", written(6, format="WAVEX", subtype="PCM_24"), **ONE),
    Animal("streamed.wav", "data of size 0xFFFFFFFF, as ffmpeg writes to a pipe",
           changed(WAV16, data_size(2**32 - 1)), **ONE),
    Animal("size-0.wav", "data of size 0, as a recorder that was stopped leaves it",
           changed(WAV16, data_size(0)), **ONE),
    Animal("size-large.wav", "data of three times its size", changed(WAV16, data_size(12 * SAMPLES)), **ONE),
    Animal("size-small.wav", "data of 30000 samples, and more bytes behind it",
           changed(WAV16, data_size(4 * 30000), first(30000)), **ONE),
    Animal("cut.wav", "cut in the middle of a sample",
           changed(WAV16, lambda data: data[: 44 + 4 * 50000 + 3], first(50000)), **ONE),
    Animal("mulaw.wav", "G.711", written(subtype="ULAW")),
    Animal("ima-adpcm.wav", "IMA ADPCM", written(subtype="IMA_ADPCM"), more=-SAMPLES % 2041),
    Animal("ms-adpcm.wav", "MS ADPCM", written(subtype="MS_ADPCM"), more=-SAMPLES % 2036, rounding=4e-3),
    Animal("gsm.wav", "GSM 6.10", written(1, subtype="GSM610"), more=-SAMPLES % 320),
    Animal("rf64.wav", "RF64", written(format="RF64", subtype="PCM_16"), **ONE),
    Animal("x.w64", "Wave64", written(format="W64", subtype="PCM_24"), **ONE),
    Animal("x.aiff", "AIFF", written(format="AIFF", subtype="PCM_16"), **ONE),
    Animal("float.aiff", "AIFF-C of floats", written(format="AIFF", subtype="FLOAT"), **ONE),
    Animal("cut.aiff", "cut in the middle of a sample",
           changed(written(format="AIFF", subtype="PCM_16"), lambda d: d[:-40001], first(SAMPLES - 10001)), **ONE),
    Animal("x.au", "AU", written(format="AU", subtype="PCM_16"), **ONE),
    Animal("x.caf", "CAF", written(format="CAF", subtype="PCM_16"), **ONE),
    Animal("alac.caf", "ALAC in CAF", written(format="CAF", subtype="ALAC_16"), **ONE),
    Animal("alac.m4a", "ALAC in MP4", encoded("alac", "ipod"), **ONE),
    Animal("pcm.mka", "PCM in Matroska", encoded("pcm_s16le", "matroska"), **ONE),
    Animal("x.flac", "FLAC, 16 bit", FLAC, **ONE),
    Animal("24.flac", "FLAC, 24 bit", written(format="FLAC", subtype="PCM_24"), **ONE),
    Animal("no-length.flac", "FLAC written to a pipe: its header tells no length", changed(FLAC, no_length), **ONE),
    Animal("tagged.flac", "FLAC behind an ID3 tag", changed(FLAC, tagged), **ONE),
    Animal("cut.flac", "FLAC cut in the middle", changed(FLAC, half), damage="that its header promises"),
    Animal("damaged.flac", "FLAC, 3000 bytes overwritten", changed(FLAC, overwritten), damage="are silent"),
    Animal("flac.ogg", "FLAC in Ogg", encoded("flac", "ogg"), **ONE),
    Animal("x.ogg", "Vorbis", VORBIS),
    Animal("chained.ogg", "two Vorbis files, joined", joined(VORBIS, VORBIS), more=576),
    Animal("cut.ogg", "Vorbis, cut in the middle", changed(VORBIS, half)),
    Animal("damaged.ogg", "Vorbis, 3000 bytes overwritten", changed(VORBIS, overwritten), damage="samples are missing"),
    Animal("x.opus", "Opus with its pre-skip", OPUS, rate=48000, rounding=4e-3),
    Animal("chained.opus", "two Opus files, joined", joined(OPUS, OPUS), rate=48000),
    Animal("opus.webm", "Opus in WebM", encoded("libopus", "webm", rate=48000), rate=48000),
    Animal("cbr.mp3", "constant bit rate, LAME header", CBR),
    Animal("vbr.mp3", "varying bit rate, LAME header", VBR),
    Animal("libsndfile.mp3", "by libsndfile, LAME header", written(format="MP3")),
    Animal("tagged.mp3", "tag with a picture, and text in no encoding", changed(CBR, tagged)),
    Animal("tailed.mp3", "ID3v1 tag behind it", changed(CBR, lambda data: data + b"TAG" + bytes(125))),
    Animal("bare.mp3", "constant bit rate, no header", BARE, **BEHIND),
    Animal("bare-vbr.mp3", "varying bit rate, no header", BARE_VBR, **BEHIND),
    Animal("loud-start.mp3", "varying bit rate, no header, loud at first", LOUD_START, **BEHIND),
    Animal("vbri.mp3", "varying bit rate, VBRI header", changed(BARE_VBR, vbri), **BEHIND),
    Animal("joined.mp3", "two files with LAME headers, joined", joined(CBR, VBR),
           damage="do not decode: 1 ", more=1883),
    Animal("joined-bare.mp3", "two files without headers, joined", joined(BARE, BARE_VBR),
           damage="do not decode: 1 ", more=1836, lag=1105),
    Animal("cut.mp3", "cut in the middle", changed(VBR, half)),
    Animal("damaged.mp3", "3000 bytes overwritten", changed(CBR, overwritten), damage="do not decode"),
    Animal("x.mp2", "MPEG 1 layer 2", encoded("mp2", "mp2"), lag=481, more=342),
    Animal("x.m4a", "AAC in MP4, whose edit list hides the encoder's delay", encoded("aac", "ipod"), more=342),
    Animal("x.aac", "AAC without a container (ADTS)", encoded("aac", "adts"), lag=1024, more=1366),
    Animal("x.ac3", "AC-3", encoded("ac3", "ac3"), lag=256, more=342),
    Animal("x.wma", "WMA 2", encoded("wmav2", "asf"), lag=-2048, more=-1706),
    Animal("m4a-as.mp3", "an m4a under a wrong name", encoded("aac", "ipod"), more=342),
    Animal("ogg-as.wav", "an Ogg under a wrong name", VORBIS),
    Animal("wav-as.MP3", "a WAV under a wrong name", WAV16, **ONE),
]  # fmt: skip


def decoded_by_ffmpeg(path: Path) -> np.ndarray:
    """All of a file, mono: float32; what does not decode left out."""
    parts = []
    with av.open(str(path), metadata_errors="replace") as file:
        for packet in file.demux(audio=0):
            try:
                frames = packet.decode()
            except av.FFmpegError:
                continue
            for frame in frames:
                samples = frame.to_ndarray().astype(np.float64)
                if not frame.format.is_planar:
                    samples = samples.reshape(-1, frame.layout.nb_channels).T
                scale = {"u8": 2.0**7, "s16": 2.0**15, "s32": 2.0**31}.get(frame.format.name.rstrip("p"), 1.0)
                parts.append(((samples - (scale if frame.format.name == "u8" else 0)) / scale).mean(axis=0))
    return np.concatenate(parts).astype(np.float32)


def table(folder: Path) -> str:
    """The zoo as the reader sees it, as a table in Markdown."""
    lines = [
        "| file | what it is | samples | after | read by | told |",
        "|---|---|---:|---:|---|---|",
    ]
    for animal in ZOO:
        path = folder / animal.name
        wave = animal.make(path)
        file = AudioFile(path)
        file.read(0, file.frames)
        told = file.damage.partition(": damaged, ")[2] or "-"
        more = "the same" if file.frames == len(wave) else f"{file.frames} of {len(wave)}"
        late = f"{animal.lag}" if animal.lag else "0"
        reader = {
            "seek": "libsndfile",
            "scan": "libsndfile, from the start",
            "ffmpeg": "FFmpeg, from the start",
        }[file.reader]
        lines.append(f"| {animal.name} | {animal.how} | {more} | {late} | {reader} | {told} |")
    return "\n".join(lines)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        print(table(Path(folder)))
