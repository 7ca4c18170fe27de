# SPDX-License-Identifier: Apache-2.0
"""`make demo` in small: the real clips, all its files, and nothing deleted that is not a demo's."""

from dataclasses import replace

import pytest
from PIL import Image

from smnoise import DataError
from smnoise.data.installed import videos
from smnoise.demos import video as demo_video
from smnoise.train.run import checkpoint, log


@pytest.fixture
def short(monkeypatch):
    """The demo's own configuration, but two steps long."""
    config_of = demo_video.config_of
    monkeypatch.setattr(
        demo_video,
        "config_of",
        lambda demo: replace(
            config_of(demo), epochs=1, warmup_epochs=0, clips_per_video=8, workers=0, log_every=1
        ),
    )


def test_the_demo_leaves_what_it_promises_and_can_be_run_again(short, tmp_path, capsys):
    demo = demo_video.Demo(out=tmp_path / "demo")
    for _ in range(2):
        demo_video.run(demo)
    assert "The loss fell from" in capsys.readouterr().out
    for name in demo_video.PICTURES:
        with Image.open(demo.out / name) as picture:
            assert len(picture.convert("L").getcolors(256)) > 10, f"{name} is blank"
    assert (demo.out / "config.json").is_file()
    assert checkpoint.newest(demo.out)[2]["step"] == 2
    assert [r["step"] for r in log.read(demo.out) if "loss" in r] == [1, 2]


def test_the_clips_are_the_packages_four():
    assert len(list(videos.installed_clips().glob("*.mp4"))) == 4
    assert (videos.installed_clips() / demo_video.SHOWN).is_file()


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match="another --out"):
        demo_video.run(demo_video.Demo(out=tmp_path))
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
