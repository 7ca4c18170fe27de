# SPDX-License-Identifier: Apache-2.0
"""`make demo-av` in small: its own configuration on another film, one short epoch, all its files."""

import json
from dataclasses import replace

import pytest
from media import write_film
from PIL import Image

from smnoise import DataError
from smnoise.data.installed.film import cut
from smnoise.data.video.cache import make
from smnoise.demos import audiovisual as demo_av
from smnoise.demos.audiovisual import MODELS, PICTURES, Demo, config_of, interval, run_one, split, summarise
from smnoise.files import write_text


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """What the demo trains and scores, one step each, on eight pieces."""
    out = tmp_path_factory.mktemp("demo")
    film = write_film(out / "bbb.mp4", 24.0, fps=12, tone=400.0, sound="aac")
    demo = Demo(out=out, film=out, epochs=1, seeds=1)
    pieces = cut(film, out / demo_av.PIECES, 3.0, demo_av.SHORT_SIDE, demo_av.RATE)
    make(out / demo_av.PIECES, out / demo_av.CACHE, demo_av.SHORT_SIDE, rate=demo_av.RATE)
    write_text(out / demo_av.LIST, "".join(f"{path.relative_to(out)}\n" for path in split(pieces)[0]))
    with pytest.MonkeyPatch.context() as patch:
        usual = config_of
        patch.setattr(demo_av, "config_of", lambda *a: replace(usual(*a), clips_per_video=4, log_every=1))
        patch.setattr(demo_av, "PARTS", 2)
        found = [r for name in demo_av.PRETRAINED for r in run_one(demo, name, 0, pieces)]
        summary = summarise(found)
        demo_av.show(summary, demo)
    return demo, found, summary


def test_every_model_has_every_score(runs):
    _, found, summary = runs
    assert [r["model"] for r in found] == ["untrained", *demo_av.PRETRAINED]
    assert {name for r in found for name in r} >= {
        "gap, own masks",
        "R@5",
        "accuracy, sound",
        "video_error, own masks",
    }
    assert summary.keys() == {*MODELS, "rho -1 less rho 1", "rho -1 less random", "rho 0 less rho 1"}
    first, last = (next(r for r in found if r["model"] == m) for m in ("rho -1", "rho 1"))
    more = summary["rho -1 less rho 1"]["R@5"]["mean"]
    assert more == pytest.approx(first["R@5"] - last["R@5"])
    assert first["video_error, own masks"] != last["video_error, own masks"]


def test_intervals_are_students():
    assert interval([1.0, 2.0, 3.0]) == {"mean": 2.0, "half": pytest.approx(4.303 / 3**0.5)}
    assert interval([1.0])["half"] is None


def test_models_differ_in_their_masks_alone():
    demo = Demo()
    first, other = (config_of(demo, name, 1) for name in ("rho -1", "rho 1"))
    assert replace(first, rho=other.rho, out=other.out) == other
    assert (
        demo_av.config_of_random(first).masks()([3]).video.num_visible == first.masks()([3]).video.num_visible
    )


def test_pictures_of_masks(tmp_path):
    film = write_film(tmp_path / "film.mkv", 12.0, tone=300.0, rate=16000)
    demo_av.SHOWN_FROM, before = 0.5, demo_av.SHOWN_FROM
    try:
        demo_av.draw_masks(film, tmp_path / "masks")
    finally:
        demo_av.SHOWN_FROM = before
    with Image.open(tmp_path / "masks.gif") as moving:
        assert moving.n_frames == 32
    assert {"masks.gif", "masks.png"} <= set(PICTURES)


def test_the_recorded_run_is_of_this_demo(request):
    """The figures in docs/demos.md are of all seeds and models."""
    results = json.loads((request.config.rootpath / "bench/results/demo_av/demo.json").read_text())
    assert len(results["runs"]) == len(MODELS) * Demo().seeds
    assert results["views"] == 480 * Demo().epochs
    again = summarise(results["runs"])
    assert again == results["mean and half of the 95 % interval over seeds"]


def test_without_the_film_it_says_how_to_get_it(tmp_path):
    with pytest.raises(DataError, match=r"make \.venv/film"):
        demo_av.run(Demo(out=tmp_path / "out", film=tmp_path))
    with pytest.raises(ValueError, match="1 to 10 seeds"):
        Demo(seeds=11)
