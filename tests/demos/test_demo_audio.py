# SPDX-License-Identifier: Apache-2.0
"""`make demo-audio` in small: sounds like those of the packages, all its files, and a fair comparison."""

import io
import json
from contextlib import redirect_stdout
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from smnoise import DataError, Random, White3D
from smnoise.data.installed.sounds import LANGUAGES
from smnoise.demos import audio as demo_audio
from smnoise.demos.audio import MODELS, PICTURES, PRETRAINED, SCORES, Demo
from smnoise.train.audio import untrained
from smnoise.train.pretrained.audio import trained
from smnoise.train.run import log
from smnoise.viz.reconstruct import near_by

RATE = 8000


def write(path, number, tones):
    """Twelve seconds: three steady tones, or noise that comes and goes four times a second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(12 * RATE) / RATE
    noise = np.random.default_rng(number).standard_normal(len(time))
    if tones:
        wave = sum(np.sin(2 * np.pi * (200 + 50 * number) * k * time) for k in (1, 2, 3)) + 0.1 * noise
    else:
        wave = noise * (1 + np.sin(2 * np.pi * 4 * time))
    soundfile.write(path, (0.1 * wave).astype(np.float32), RATE)


@pytest.fixture(scope="module")
def small():
    """The demo's own configuration, but two steps long."""
    config_of = demo_audio.config_of
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            demo_audio,
            "config_of",
            lambda *arguments: replace(config_of(*arguments), batch_size=12, workers=0, log_every=1),
        )
        yield


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sounds")
    asterisk = folder / "usr" / "share" / "asterisk"
    for number, language in enumerate(LANGUAGES):
        write(asterisk / "sounds" / f"{language}_XX_f_Someone" / "prompt.wav", number, tones=False)
    for number, track in enumerate(("band-first", "band-second", "reno_project-system")):
        write(asterisk / "moh" / f"{track}.wav", number, tones=True)
    return folder


@pytest.fixture(scope="module")
def done(small, sounds, tmp_path_factory):
    """A demo that was run, and what it said."""
    demo = Demo(out=tmp_path_factory.mktemp("done") / "demo", sounds=sounds, epochs=1, seeds=2, few=2)
    with redirect_stdout(io.StringIO()) as said:
        demo_audio.run(demo)
    return demo, said.getvalue()


@pytest.fixture
def demo(small, sounds, tmp_path):
    return Demo(out=tmp_path / "demo", sounds=sounds, epochs=1, seeds=1, few=2)


def test_the_demo_leaves_what_it_promises(done):
    demo, said = done
    assert "mean ± standard deviation of 2 seeds" in said
    assert "difference" in said
    for name in PICTURES:
        with Image.open(demo.out / name) as picture:
            assert len(picture.convert("L").getcolors(256)) > 10, f"{name} is blank"
    results = json.loads((demo.out / "demo.json").read_text())
    assert [(r["model"], r["seed"]) for r in results["runs"]] == [(m, s) for s in range(2) for m in MODELS]
    assert results["held out"] == ["reno_project-system", "ru"]
    assert all(0 <= r[name] <= 1 for r in results["runs"] for name in SCORES)
    difference = results["mean and standard deviation over seeds"]["difference"]["accuracy"]
    blue, random = ([r["accuracy"] for r in results["runs"] if r["model"] == m] for m in PRETRAINED)
    assert difference["mean"] == pytest.approx((sum(blue) - sum(random)) / 2)


def test_only_the_masks_differ(done):
    demo, _ = done
    blue, random = (demo_audio.config_of(demo, mask, 0) for mask in PRETRAINED)
    assert replace(blue, mask="random", out=random.out) == random
    assert isinstance(random.sampler(), Random)
    first = [untrained(config).state_dict() for config in (blue, random)]
    assert all(torch.equal(first[0][n], first[1][n]) for n in first[0])
    (one, inputs), (other, other_inputs) = trained(blue.out), trained(random.out)
    assert inputs.statistics == other_inputs.statistics
    assert not torch.equal(one.head.weight, other.head.weight)
    assert len([r for r in log.read(blue.out) if "loss" in r]) == 2


def test_nothing_held_out_is_pretrained_on(done):
    used = (done[0].out / demo_audio.LIST).read_text().split()
    assert used
    assert not [name for name in used if "ru-" in name or "reno" in name]


def test_it_can_be_run_again(done):
    demo_audio.run(replace(done[0], seeds=1))
    assert len(json.loads((done[0].out / "demo.json").read_text())["runs"]) == 3
    assert not (done[0].out / demo_audio.RUNS / "random-1").exists()


def test_statistics_near_by_are_those_of_the_nearest_patches():
    masks = White3D((1, 2, 3), num_visible=2)([0])
    masks = masks._replace(ids_keep=torch.tensor([[0, 5]]), ids_mask=torch.tensor([[1, 2, 3, 4]]))
    near = near_by(torch.tensor([[[0.0], [1.0]]]), masks)[0, :, 0]
    # From patch 0 and 5 of a grid 2 x 3: squared distances 1 and 2, 4 and 1, 1 and 4, 2 and 1.
    assert near.tolist() == pytest.approx([1 / 3, 4 / 5, 1 / 5, 2 / 3])


def test_missing_sounds_are_named_with_the_command(demo, tmp_path):
    with pytest.raises(DataError, match=r"make \.venv/sounds"):
        demo_audio.run(replace(demo, sounds=tmp_path / "nothing"))


def test_a_folder_of_something_else_is_left_alone(demo):
    demo.out.mkdir()
    (demo.out / "thesis.txt").write_text("years of work")
    (demo.out / "demo.json").write_text('{"written by": "smnoise.demos.video"}')
    with pytest.raises(DataError, match="another --out"):
        demo_audio.run(demo)
    assert len(list(demo.out.iterdir())) == 2


@pytest.mark.parametrize("change", [{"epochs": 0}, {"seeds": 0}, {"few": 0}])
def test_a_demo_of_nothing_is_never_made(demo, change):
    with pytest.raises(ValueError, match="at least 1"):
        replace(demo, **change)
