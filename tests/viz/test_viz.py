# SPDX-License-Identifier: Apache-2.0
"""Pictures of masks: files that open, pixels that are what the mask says, numbers that a known sampler must have."""

import json
import math

import numpy as np
import pytest
import soundfile
import torch
from matplotlib.image import imread
from PIL import Image

from smnoise import DataError, Green3D, OptimBlue, Red3D, White3D, strategy
from smnoise.cli import main
from smnoise.data.installed.videos import installed_clips
from smnoise.measures import spectra as measures
from smnoise.models.audiomae import AudioMAE
from smnoise.models.videomae import VideoMAE
from smnoise.viz import film, media, overlay, reconstruct, scenes, style

GRID = (4, 4, 6)


@pytest.fixture(scope="module")
def source() -> media.Source:
    return media.source_of(None)


def test_visible_tokens_keep_their_pixels_and_masked_ones_are_dark():
    clip = np.random.default_rng(0).integers(100, 256, (8, 32, 48, 3), dtype=np.uint8)
    mask = White3D(GRID, 0.5)([0]).volume()[0].numpy()
    shown = overlay.masked(clip, mask)
    for (t, y, x), hidden in np.ndenumerate(mask):
        where = np.s_[2 * t : 2 * t + 2, 8 * y : 8 * y + 8, 8 * x : 8 * x + 8]
        if hidden:
            assert shown[where].max() < 100
        else:
            assert np.array_equal(shown[where], clip[where])
    with pytest.raises(ValueError, match="must be a multiple"):
        overlay.masked(clip[:, :30], mask)


def test_a_clip_is_cut_from_the_middle_and_the_last_frame_repeats(source):
    clip = media.read_clip(source.path, 4, 50, 100, 32, 48)
    assert clip.shape == (4, 32, 48, 3)
    assert np.array_equal(clip[1], clip[3])
    wide = media.read_clip(source.path, 1, 1, 100, 36, 64)  # the file's own shape: nothing is cut off
    middle = media.read_clip(source.path, 1, 1, 100, 36, 36)
    assert np.abs(wide[0, :, 14:50].astype(int) - middle[0]).mean() < 2
    with pytest.raises(DataError, match="start 132"):
        media.read_clip(source.path, 1, 1, 132, 32, 32)


def test_sound_comes_from_videos_and_from_sound_files(source, tmp_path):
    rate, seconds = 16000, 5
    wave = media.read_sound(source.path, rate, rate * seconds)
    assert wave.shape == (rate * seconds,)
    assert 0.001 < wave.std() < 0.1
    later = media.read_sound(source.path, rate, rate, start=2.0)
    assert torch.allclose(later, wave[2 * rate : 3 * rate], atol=1e-6)  # resampled from another part
    soundfile.write(tmp_path / "x.wav", wave.numpy(), rate, subtype="FLOAT")
    assert torch.equal(media.read_sound(tmp_path / "x.wav", rate, rate, start=2.0), wave[2 * rate : 3 * rate])
    padded = media.read_sound(source.path, rate, 2 * rate, start=4.5)
    assert padded[: rate // 2].abs().max() > 0
    assert padded[rate:].abs().max() == 0


@pytest.mark.parametrize("bad", ["silent", "empty", "start"])
def test_a_file_without_sound_is_refused(bad, source, tmp_path):
    path, start = tmp_path / "x.mp4", 0.0
    if bad == "silent":
        path = installed_clips() / "bikes.mp4"  # has no sound track
    elif bad == "empty":
        path.write_bytes(b"not a film")
    else:
        path, start = source.path, 60.0
    with pytest.raises(DataError, match=path.name):
        media.read_sound(path, 16000, 100, start)


def test_the_command_draws_strategies_over_a_clip(capsys, tmp_path):
    options = [
        "--strategies",
        "random",
        "tube",
        "--grid",
        "3",
        "2",
        "2",
        "--num-visible",
        "6",
        "--formats",
        "png",
        "svg",
    ]
    assert main(["viz", "video", *options, "--out", str(tmp_path), "--name", "x", "--json"]) == 0
    files = json.loads(capsys.readouterr().out)["files"]
    assert files == [str(tmp_path / name) for name in ("x.gif", "x-strip.png", "x-strip.svg")]
    with Image.open(files[0]) as animation:
        assert animation.n_frames == 6
        assert animation.info["duration"] == 80
        assert animation.info["loop"] == 0
        frames = []
        for n in range(6):
            animation.seek(n)
            frames.append(np.asarray(animation.convert("RGB")).astype(int))
    side, head = 160, film.LETTERS + 8  # panels of 32 pixels are enlarged
    panels = [
        [f[head : head + side, film.MARGIN + k * (side + film.MARGIN) :][:, :side] for k in range(3)]
        for f in frames
    ]
    clip = media.read_clip(media.source_of(None).path, 6, 2, 0, 32, 32)
    masks = [strategy(name, (3, 2, 2), num_visible=6)([1]).volume()[0] for name in ("random", "tube")]
    for n in range(6):
        assert (
            np.abs(panels[n][0] - clip[n].repeat(5, 0).repeat(5, 1)).mean() < 12
        )  # a palette of 128 colours
        for k, mask in enumerate(masks):
            for y, x in np.ndindex(2, 2):
                where = np.s_[80 * y : 80 * y + 80, 80 * x : 80 * x + 80]
                same = np.abs(panels[n][k + 1][where] - panels[n][0][where]).mean()
                assert (same > 15) == bool(mask[n // 2, y, x])
    assert imread(files[1]).std() > 0.05
    assert (tmp_path / "x-strip.svg").read_text().count("random") == 1


def test_the_command_draws_strategies_over_a_spectrogram(capsys, tmp_path):
    options = ["--grid", "8", "4", "--samples", "5", "--out", str(tmp_path)]
    assert main(["viz", "audio", *options]) == 0
    assert capsys.readouterr().out.splitlines() == [
        str(tmp_path / name) for name in ("masks-audio.gif", "masks-audio-strip.png", "masks-audio-strip.pdf")
    ]
    with Image.open(tmp_path / "masks-audio.gif") as animation:
        assert animation.n_frames == 5
    assert (tmp_path / "masks-audio-strip.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["video", "--grid", "8", "4"], "T at least 2"),
        (["video", "--strategies", "optim-blue", "time-bars", "--grid", "1", "8", "4"], "T at least 2"),
        (["audio", "--grid", "2", "8", "4"], "(time, frequency)"),
    ],
)
def test_grids_that_do_not_fit_are_refused(arguments, words, capsys, tmp_path):
    assert main(["viz", *arguments, "--out", str(tmp_path)]) == 2
    assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_same_pictures_have_the_same_bytes(source, tmp_path):
    samplers = {"random": White3D((2, 2, 2), 0.5)}
    for name in ("one", "two"):
        scenes.video(samplers, source, scenes.Scene(tmp_path, name, ("png", "pdf", "svg")))
    for ending in (".gif", "-strip.png", "-strip.pdf", "-strip.svg"):
        assert (tmp_path / f"one{ending}").read_bytes() == (tmp_path / f"two{ending}").read_bytes()


def test_counts_distances_and_persistence_of_masks_that_are_known(monkeypatch):
    found = measures.measure(strategy("tube", (4, 6, 6), num_visible=16), 128)
    assert (found.visible_counts, found.visible_per_frame) == ((16, 16), (4, 0.0, 4))
    assert found.persistence["t"].tolist() == [1.0] * 3  # a tube is visible for ever
    assert found.nearest.tolist() == [1.0] * (128 * 16)
    assert found.seen.sum().item() == pytest.approx(16)
    assert found.in_time.power.tolist() == pytest.approx([0, 0], abs=1e-9)  # and has no change in time
    by_hand = [2.0, 1.0, 1.0]  # of tokens (0, 0), (2, 0) and (2, 1)
    masks = White3D((1, 3, 2), num_visible=3)([0])._replace(ids_keep=torch.tensor([[0, 4, 5]]))
    assert measures.nearest_visible(masks, 1)[0].tolist() == by_hand
    monkeypatch.setattr(measures, "ROWS", 2)
    assert [d.tolist() for d in measures.nearest_visible(masks, 1)] == [by_hand]


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_pairs_are_counted(dim):
    shown = (torch.rand(3, 4, 5, 6, generator=torch.Generator().manual_seed(dim)) < 0.4).double()
    size = shown.shape[dim]
    by_hand = [
        (shown.narrow(dim, 0, size - lag) * shown.narrow(dim, lag, size - lag)).sum().item()
        for lag in range(1, size)
    ]
    assert measures.pairs_apart(shown, dim).tolist() == by_hand


def test_random_masks_are_white_and_as_visible_as_chance_has_it():
    found = measures.measure(White3D((8, 8, 8), 0.8), 512)
    for spectrum in (found.in_space, found.in_time):
        assert spectrum.power.tolist() == pytest.approx([1] * len(spectrum.power), abs=0.06)
    assert found.z.std(correction=0).item() == pytest.approx(1, abs=0.15)  # 512 tokens: a deviation of 0.03
    assert found.persistence["x"][0].item() == pytest.approx(found.expected_persistence, abs=0.01)
    assert found.noise.measured.power.tolist() == pytest.approx([1] * measures.BINS, abs=0.12)
    assert found.noise.expected.tolist() == [1] * measures.BINS


@pytest.mark.parametrize("kind", [Green3D, Red3D])
@pytest.mark.parametrize("boundary", ["field", "wrap"])
def test_the_noise_has_the_power_of_its_filters(kind, boundary):
    found = measures.noise_spectrum(kind((8, 8, 8), 0.9, boundary=boundary))
    measured, expected = found.measured.power[3:], found.expected[3:]  # lower bins hold a few waves only
    assert ((measured - expected).abs() <= 0.15 * expected + 0.01).all()
    assert (found.low <= found.expected + 1e-12).all()
    assert (found.expected <= found.high + 1e-12).all()
    peak = 0.5 * expected.argmax().item() / measures.BINS
    assert (peak > 0.05) == (kind is Green3D)


@pytest.mark.parametrize(
    "sampler", [Green3D((4, 6, 6), 0.8), OptimBlue((16, 4), 0.75), strategy("frame", (4, 4, 4), 0.5)]
)
def test_a_report_is_a_page_and_numbers(sampler, tmp_path, capsys):
    (tmp_path / "mine.json").write_text(sampler.to_json())
    stem = tmp_path / "page"
    assert main(["report", str(tmp_path / "mine.json"), "--out", str(stem), "--count", "70", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said.pop("files") == [f"{stem}.{ending}" for ending in ("json", "png", "pdf")]
    assert said == json.loads((tmp_path / "page.json").read_text())
    assert said["sampler"] == json.loads(sampler.to_json())
    assert said["name"] == type(sampler).__name__
    promised = sampler.visible_per_sample
    assert said["visible tokens"] == {"promised": promised, "least": promised, "most": promised}
    assert said["visibility of a token"]["expected"] == promised / math.prod(sampler.grid)
    assert (said["power of the noise, white = 1"] is None) == (not isinstance(sampler, Green3D))
    assert said["random masks of the same budget"]["visible tokens"]["promised"] == promised
    with Image.open(tmp_path / "page.png") as page:
        assert page.size == (1400, 1320)
        assert len(page.convert("L").getcolors(256)) > 20


@pytest.mark.parametrize(
    ("name", "size"), [("paper", (1400, 1320)), ("slides", (1800, 1697)), ("dark", (1800, 1697))]
)
def test_a_report_in_a_theme(name, size, tmp_path):
    stem = tmp_path / "page"
    options = ["--grid", "16", "4", "--count", "20", "--formats", "png", "svg", "--theme", name]
    assert main(["report", "random", "--out", str(stem), *options]) == 0
    with Image.open(tmp_path / "page.png") as page:
        assert page.size == size
        corner = page.convert("RGB").getpixel((2, page.height - 3))
    page_color, ink = style.THEMES[name].page, style.THEMES[name].ink
    assert "#{:02x}{:02x}{:02x}".format(*corner) == page_color
    drawn = (tmp_path / "page.svg").read_text()
    assert ink in drawn
    assert "<image" not in drawn  # shapes and letters alone: the page is sharp at any size
    assert style.theme() is style.THEMES["paper"]  # again


@pytest.mark.parametrize("theme", style.THEMES.values(), ids=style.THEMES)
def test_what_a_theme_draws_can_be_read(theme):
    """Contrast as the web's rules for reading have it: 7 for letters, 4.5 for notes."""

    def luminance(color: str) -> float:
        parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    def contrast(first: str, second: str) -> float:
        low, high = sorted((luminance(first), luminance(second)))
        return (high + 0.05) / (low + 0.05)

    assert contrast(theme.ink, theme.page) > 7
    assert contrast(theme.faint, theme.page) > 4.5


def test_a_report_of_too_little_is_refused(tmp_path, capsys):
    assert main(["report", "random", "--out", str(tmp_path / "x"), "--count", "1"]) == 2
    assert "at least 2 masks" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_views_of_a_video_put_back_what_they_say():
    torch.manual_seed(0)
    model = VideoMAE("tiny", (2, 2, 2), tubelet=2, patch=8)
    torch.nn.init.zeros_(model.head.weight)  # predicts nothing: every normalised value is 0
    torch.nn.init.zeros_(model.head.bias)
    clip = torch.randint(0, 256, (1, 3, 4, 16, 16), dtype=torch.uint8)
    masks = White3D((2, 2, 2), num_visible=3)([0])
    views, loss = reconstruct.video_views(model, clip, masks)
    hidden = views["masked"].isnan()
    true = clip[0].float() / 255
    assert loss == pytest.approx(
        127 / 128, abs=1e-3
    )  # squares of cubes of 128 values, normalised without bias
    torch.testing.assert_close(views["clip"], true, atol=1e-5, rtol=0)
    assert hidden[0].float().mean().item() == 5 / 8
    for name in ("masked", "own", "leaked", "means"):
        torch.testing.assert_close(views[name][~hidden], views["clip"][~hidden])
    torch.testing.assert_close(views["leaked"], views["means"])  # without a prediction, all is the leak
    t, y, x = (int(n) for n in np.argwhere(masks.volume()[0].numpy())[0])
    cube = np.s_[:, 2 * t : 2 * t + 2, 8 * y : 8 * y + 8, 8 * x : 8 * x + 8]
    wanted = true[cube].mean((1, 2, 3), keepdim=True).expand_as(true[cube])
    torch.testing.assert_close(views["means"][cube], wanted, atol=1e-5, rtol=0)
    assert (views["raw"][hidden] == 0.5).all()
    # The own view must not know the hidden pixels.
    changed = torch.where(hidden, 255 - clip[0], clip[0])[None]
    again, _ = reconstruct.video_views(model, changed, masks)
    torch.testing.assert_close(again["own"], views["own"])
    assert not torch.allclose(again["leaked"], views["leaked"])
    assert not torch.allclose(again["means"], views["means"])


@pytest.mark.parametrize("normalise", [True, False])
def test_views_of_a_sound_are_those_of_what_the_model_predicts(normalise, tmp_path):
    torch.manual_seed(0)
    model = AudioMAE("tiny", (4, 4), patch=4, decoder="global", normalise_target=normalise)
    spectrogram, masks = torch.randn(1, 16, 16), White3D((1, 4, 4), num_visible=4)([0])
    views, _ = reconstruct.audio_views(model, spectrogram, masks)
    hidden = views["masked"].isnan()
    assert set(views) - {"spectrogram", "masked"} == (
        {"own", "leaked", "means", "raw"} if normalise else {"raw"}
    )
    for name in set(views) - ({"raw"} if normalise else set()):
        torch.testing.assert_close(views[name][~hidden], spectrogram[0][~hidden])
    changed = torch.where(hidden, -spectrogram[0], spectrogram[0])[None]
    again, _ = reconstruct.audio_views(model, changed, masks)
    for name in (
        ("own", "raw") if normalise else ("raw",)
    ):  # what needs nothing of the answer does not change with it
        torch.testing.assert_close(again[name][hidden], views[name][hidden])
    numbers, paths = reconstruct.reconstruct_audio(
        model, spectrogram, masks, tmp_path / "x", formats=("png", "svg")
    )
    assert set(numbers) == {"loss", "own", "leaked", "means"} if normalise else {"loss", "raw"}
    assert [path.name for path in paths] == ["x.png", "x.svg"]
    assert imread(paths[0]).std() > 0.05


def test_names_beside_wide_pictures_are_not_cut_off(tmp_path):
    names = [f"prediction {n},\ntrue statistics of the\nhidden tokens (leaked)" for n in range(6)]
    rows = {name: np.zeros((1, 32, 256, 3), np.uint8) for name in names}
    (path,) = film.strip(rows, [""], tmp_path / "x", footer="loss 0.9", formats=("png",))
    page = np.asarray(Image.open(path).convert("L"))
    assert page[:, 0].min() == 255
    assert page[:, :200].min() < 100  # where the names begin
