# SPDX-License-Identifier: Apache-2.0
"""Clips of films with their sound: frames and samples of the same seconds, whatever their streams are like."""

import numpy as np
import pytest
import torch
from media import frame_number, write_film, write_video

from smnoise.data.audiovisual import EveryPair, PairClips, PairFile, SoundTrack, open_pair
from smnoise.data.installed.film import cut, film_of
from smnoise.data.installed.videos import installed_clips
from smnoise.data.numbered import loader
from smnoise.data.video.cache import make
from smnoise.errors import DataError

SHAPE = {"frames": 4, "size": 32, "seconds": 1.0, "rate": 8000, "samples": 9000}


@pytest.mark.parametrize("late", [0.0, 0.35])
@pytest.mark.parametrize("kind", ["mkv", "mov", "avi"])
def test_frames_and_samples_are_of_the_same_seconds(tmp_path, kind, late):
    """The grey of a frame tells its number, the value of a sample its time since the sound began."""
    if kind == "avi" and late:
        pytest.skip("AVI has no time stamps with which sound could begin later")
    clips = PairClips([write_film(tmp_path / f"film.{kind}", 3.0, late=late)], clips_per_video=8, **SHAPE)
    starts = set()
    for n in range(8):
        item = clips[n]
        start = item["start"].item()
        starts.add(start)
        assert late - 1e-3 <= start <= 2.0 + 1e-3
        numbers = [frame_number(item["clip"][:, i].permute(1, 2, 0).numpy()) for i in range(4)]
        want = [int((start + (i + 0.5) / 4) * 10 + 1e-6) for i in range(4)]
        assert np.abs(np.array(numbers) - want).max() <= 0
        times = item["wave"][:8000].numpy() * 10 + late
        assert np.abs(times - (start + np.arange(8000) / 8000)).max() < 2e-3
        assert not item["wave"][8000:].any()
        assert item["length"] == 8000
    assert len(starts) == 8


@pytest.mark.parametrize("channels", ["mono", "stereo", "5.1"])
def test_channels_are_mixed_down(tmp_path, channels):
    file = PairFile(write_film(tmp_path / "film.mkv", channels=channels), 8000)
    assert np.abs(file.sound.read(0.5, 8) * 10 - 0.5).max() < 2e-3


def test_other_rates_are_resampled(tmp_path):
    track = SoundTrack(write_film(tmp_path / "film.mkv", rate=12000), 8000)
    assert abs(len(track.wave) - 16000) <= 1
    assert np.abs(track.read(1.0, 8) * 10 - 1.0).max() < 5e-3


def test_real_film_with_surround_sound():
    file = open_pair(installed_clips() / "bigbuckbunny.mp4", 16000)
    assert file.begin == pytest.approx(0, abs=0.05)
    assert 5.2 < file.end < 5.4
    assert file.frames_at(0, 4.0, 4) == [12, 37, 62, 87]
    assert np.abs(file.sound.read(2.0, 16000)).max() > 0.01
    assert not file.sound.read(-3.0, 16000).any()


def test_gaps_of_the_stamps_are_silent(tmp_path):
    import av

    path = tmp_path / "gap.mkv"
    with av.open(str(path), "w") as container:
        track = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        for first in (0, 800, 4000, 4800):
            frame = av.AudioFrame.from_ndarray(np.full((1, 800), 8000, np.int16), format="s16", layout="mono")
            frame.sample_rate, frame.pts = 8000, first
            for packet in track.encode(frame):
                container.mux(packet)
    track = SoundTrack(path, 8000)
    assert track.read(0.0, 1600).all()
    assert not track.read(0.2, 2400).any()
    assert track.read(0.5, 1600).all()


def test_files_without_sound_are_skipped_named_and_counted(tmp_path):
    silent = write_video(tmp_path / "silent.mp4", 30)
    short = write_film(tmp_path / "short.mkv", 0.5)
    good = write_film(tmp_path / "good.mkv", 2.0)
    clips = PairClips([silent, short, good], **SHAPE)
    items = [clips[n] for n in range(3)]
    said = " ".join(map(str, items[-1]["broken"]))
    assert "silent.mp4 has no sound track" in said
    assert "short.mkv: picture and sound are there together for 0.50 s, less than a clip of 1 s" in said
    assert len(items[-1]["broken"]) == 2
    with pytest.raises(DataError, match="none of the 1 videos with sound decodes"):
        PairClips([silent], **SHAPE)[0]


def test_a_film_as_long_as_a_clip(tmp_path):
    item = PairClips([write_film(tmp_path / "film.mkv", 1.0)], **SHAPE)[0]
    assert item["start"] == 0
    assert frame_number(item["clip"][:, 3].permute(1, 2, 0).numpy()) == 8


def test_silence_is_a_sound_like_others(tmp_path):
    path = write_film(tmp_path / "film.mkv", tone=1e-9)
    assert not PairClips([path], **SHAPE)[0]["wave"].any()


def test_items_are_functions_of_their_number(tmp_path):
    paths = [write_film(tmp_path / f"{n}.mkv", 2.0 + n / 2) for n in range(3)]
    clips = PairClips(paths, clips_per_video=2, **SHAPE)
    want = [clips[n] for n in range(6)]
    batches = list(loader(PairClips(paths, clips_per_video=2, **SHAPE), range(6), 2, 2))
    for name in ("clip", "wave", "start"):
        assert torch.equal(torch.cat([b[name] for b in batches]), torch.stack([w[name] for w in want]))
    assert len({w["start"].item() for w in want}) > 3


def test_cached_frames_are_the_same(tmp_path):
    films = tmp_path / "films"
    films.mkdir()
    paths = [write_film(films / f"{n}.mkv") for n in range(2)]
    store = make(films, tmp_path / "cache", 48)
    plain = PairClips(paths, short_side=48, **SHAPE)
    cached = PairClips(paths, short_side=48, store=store, **SHAPE)
    for n in range(4):
        assert torch.equal(plain[n]["clip"], cached[n]["clip"])
        assert torch.equal(plain[n]["wave"], cached[n]["wave"])
    with pytest.raises(ValueError, match="give both the same"):
        PairClips(paths, store=store, **SHAPE)


def test_every_pair(tmp_path):
    silent = write_video(tmp_path / "silent.mp4", 30)
    good = write_film(tmp_path / "good.mkv", 3.0)
    every = EveryPair([silent, good], clips=2, **SHAPE)
    assert len(every) == 4
    items = [every[i] for i in range(4)]
    assert [item["decodes"] for item in items] == [False, False, True, True]
    assert [item["start"].item() for item in items[2:]] == pytest.approx([0.5, 1.5])
    assert "no sound track" in str(items[0]["broken"][0])


def test_a_clip_has_one_view(tmp_path):
    with pytest.raises(ValueError, match="one view"):
        PairClips([write_film(tmp_path / "film.mkv")], views=2, **SHAPE)


def test_a_cache_with_sound_gives_the_same_clips(tmp_path):
    """To the bit, without a look into the files; one without sound is left out by its name."""
    films = tmp_path / "films"
    films.mkdir()
    paths = [write_film(films / f"{n}.mkv", 2.0 + n, channels="stereo", late=0.2 * n) for n in range(3)]
    silent = write_video(films / "silent.mp4", 20)
    store = make(films, tmp_path / "cache", 32, rate=8000)
    assert "no sound track" in store.left_out[silent.name]
    shape = {**SHAPE, "short_side": 32}
    for kind in (PairClips, EveryPair):
        plain, cached = kind(paths, **shape), kind(paths, store=store, **shape)
        for n in range(3):
            for name in ("clip", "wave", "start"):
                assert torch.equal(plain[n][name], cached[n][name])
            assert plain[n]["length"] == cached[n]["length"]
    assert open_pair(paths[1], 8000, 1, store).note is None
    with pytest.raises(ValueError, match="has sound at 8000 Hz, but 16000 Hz are asked for"):
        PairClips(paths, store=store, **{**shape, "rate": 16000})
    with pytest.raises(ValueError, match="made with short_side 32"):
        EveryPair(paths, store=store, **SHAPE)
    store.check()
    paths[0].write_bytes(b"something else")
    with pytest.raises(DataError, match="has changed since"):
        open_pair(paths[0], 8000, 1, store)


def test_a_cache_of_frames_alone_takes_the_sound_of_the_file(tmp_path):
    film = write_film(tmp_path / "film.mkv", 3.0)
    store = make(tmp_path, tmp_path / "cache", None)
    assert store.rate is None
    assert torch.equal(
        PairClips([film], store=store, **SHAPE)[2]["wave"], PairClips([film], **SHAPE)[2]["wave"]
    )


def test_pieces_of_a_film(tmp_path):
    """Of the same frames and samples as the film, that begin at 0."""
    film = write_film(tmp_path / "film.mkv", 4.6, late=0.3)
    pieces = cut(film, tmp_path / "pieces", 1.0, 32, 8000)
    assert [path.name for path in pieces] == [f"piece-00{n}.mkv" for n in range(4)]
    whole = PairFile(film, 8000)
    for n, path in enumerate(pieces):
        piece = PairFile(path, 8000)
        assert piece.begin == pytest.approx(0, abs=0.1)
        assert piece.end == pytest.approx(1.0, abs=0.11)
        assert np.abs(piece.sound.read(0, 8000) - whole.sound.read(0.3 + n, 8000)).max() < 2e-4
        wanted = whole.video.read(whole.frames_at(0.3 + n + piece.begin, 0.8, 8), 32)
        found = piece.video.read(piece.frames_at(piece.begin, 0.8, 8))
        assert (found == wanted[:, : found.shape[1], : found.shape[2]]).all()
    with pytest.raises(DataError, match="shorter than half a piece"):
        cut(film, tmp_path / "none", 20.0, 32, 8000)
    with pytest.raises(DataError, match=r"make \.venv/film"):
        film_of(tmp_path / "none")
