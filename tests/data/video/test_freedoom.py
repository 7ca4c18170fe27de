# SPDX-License-Identifier: Apache-2.0
"""Clips of ego-motion by the real engine, where it is installed: the same ones each time, moving as they say."""

import hashlib
import sys

import pytest
import torch

from smnoise import DataError
from smnoise.cli import main
from smnoise.data.installed import freedoom
from smnoise.data.labels import labelled_videos
from smnoise.data.video.clips import find_videos, open_video

SMALL = tuple(
    chosen._replace(maps=chosen.maps[:1], per_action=2 if chosen.name == "train" else 1)
    for chosen in freedoom.SETS
)


def digests(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    pytest.importorskip("vizdoom", reason="the clips are made by vizdoom")
    folder = tmp_path_factory.mktemp("ego-motion")
    freedoom.write(folder, SMALL)
    return folder


def test_without_the_engine_the_command_says_what_to_install(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "vizdoom", None)
    assert main(["data", "ego-motion", "--out", str(tmp_path / "out")]) == 2
    assert f"pip install {freedoom.PACKAGE}" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_sets_share_no_map_but_for_appearance():
    train, test, places = freedoom.SETS
    assert (len(train.maps), len(test.maps)) == (30, 12)
    assert not set(train.maps) & set(test.maps)
    assert places.maps == train.maps
    assert len({chosen.seed for chosen in freedoom.SETS}) == 3
    assert [freedoom.clips_of(chosen) for chosen in freedoom.SETS] == [7200, 1800, 1080]


def test_every_set_has_as_many_clips_of_each_action_and_can_be_read(made):
    for chosen in SMALL:
        for action in freedoom.ACTIONS:
            assert len(find_videos(made / chosen.name / action)) == chosen.per_action
    clip = open_video(find_videos(made / "train")[0]).read(list(range(8)))
    assert clip.shape == (8, 75, 100, 3)
    train, test = labelled_videos(made / "appearance-train.txt", made / "appearance-test.txt", classes=2)
    assert (len(train.paths), len(test.paths)) == (12, 6)


def test_the_same_clips_come_out_in_every_run_byte_for_byte(made, tmp_path):
    again = tmp_path / "again"
    freedoom.write(again, SMALL)
    assert digests(again) == digests(made)
    assert not (tmp_path / "_vizdoom").exists()


def test_walks_of_other_seeds_show_other_places(made):
    pictures = [open_video(find_videos(made / name / "forward")[0]).read([0]) for name in ("train", "places")]
    assert (pictures[0] != pictures[1]).mean() > 0.5


def test_opposite_keys_move_the_picture_in_opposite_ways(made):
    """What a turn shows moves sideways: the shift that fits best between the first and a later picture has the sign of
    the key."""
    for action, sign in (("turn-left", 1), ("turn-right", -1)):
        for path in find_videos(made / "train" / action):
            first, later = (
                torch.from_numpy(open_video(path).read([t])[0]).float().mean(dim=2) for t in (0, 3)
            )
            shifts = range(-25, 26)
            errors = [(later[:, 25 + s : 75 + s] - first[:, 25:75]).abs().mean().item() for s in shifts]
            best = shifts[errors.index(min(errors))]
            assert best * sign > 0, (action, path.name, best)


def test_a_command_that_was_stopped_goes_on_and_other_settings_are_refused(made, tmp_path):
    before = digests(made)
    (made / "test" / "E1M1.json").unlink()
    (made / "test" / "forward" / "E1M1-000.mkv").unlink()
    freedoom.write(made, SMALL)
    assert digests(made) == before
    with pytest.raises(DataError, match="other settings"):
        freedoom.write(made, (SMALL[0]._replace(per_action=3),))


def test_a_map_in_which_nobody_moves_is_an_error(made, monkeypatch):
    monkeypatch.setattr(freedoom, "LEAST_STEP", 1e9)
    monkeypatch.setattr(freedoom, "WALKS", 2)
    monkeypatch.setattr(freedoom, "TRIES", 2)
    player = freedoom.Player("MAP01", 0)
    try:
        with pytest.raises(DataError, match="in MAP01 the player could not move"):
            list(player.clips(1))
    finally:
        player.close()
