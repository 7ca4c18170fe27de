# SPDX-License-Identifier: Apache-2.0
"""V-motion: labels that are exact, and that nothing but motion tells."""

import av
import numpy as np
import pytest
import torch
from media import write_video
from scipy import ndimage

from smnoise import DataError
from smnoise.data.installed.videos import installed_split
from smnoise.data.numbered import loader
from smnoise.data.video.motion import (
    MOTIONS,
    PAN,
    ROTATION,
    SPEEDS,
    ZOOM,
    MotionClips,
    Window,
    look,
    one_picture,
)
from smnoise.train.probe import linear_probe

pytestmark = pytest.mark.usefixtures("one_thread")


def texture(seed, height=96, width=128):
    """Blobs of several sizes and colours: uint8 [H, W, 3]."""
    noise = np.random.default_rng(seed).standard_normal((height, width, 3))
    smooth = sum(k * ndimage.gaussian_filter(noise, (k, k, 0), mode="wrap") for k in (2, 4, 8))
    return (127 + 40 * smooth / smooth.std()).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Each another texture that rolls a little from frame to frame."""
    folder = tmp_path_factory.mktemp("textures")
    for n in range(6):
        with av.open(str(folder / f"{n}.mp4"), "w") as container:
            stream = container.add_stream("mpeg4", rate=10)
            stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 128, 96, "yuv420p", 8_000_000
            for t in range(24):
                image = np.roll(texture(n), 2 * t, axis=1)
                for packet in stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")):
                    container.mux(packet)
            for packet in stream.encode():
                container.mux(packet)
    return sorted(folder.glob("*.mp4"))


def clips_of(videos, **kw):
    return MotionClips(videos, **{"frames": 8, "size": 40, "blocks_per_video": 4, "seed": 3, **kw})


def block(clips, number):
    """The clips of a block by the name of their class."""
    items = [clips[8 * number + i] for i in range(8)]
    return {MOTIONS[item["label"]]: item["clip"] for item in items}


def test_every_block_has_every_class_once_in_an_order_of_its_own(videos):
    clips = clips_of(videos)
    assert len(clips) == 8 * 4 * len(videos)
    orders = [[clips.label(8 * b + i) for i in range(8)] for b in range(200)]
    assert all(sorted(order) == list(range(8)) for order in orders)
    assert abs(np.bincount([order[0] for order in orders], minlength=8) - 25).max() < 18
    assert clips[11]["label"] == orders[1][3]
    assert (
        clips_of(videos, seed=4).label(0) != clips.label(0)
        or [clips_of(videos, seed=4).label(i) for i in range(8)] != orders[0]
    )


def test_an_epoch_takes_as_many_blocks_from_every_video(videos):
    clips = clips_of(videos)
    for epoch in (0, 1):
        turns = [clips.turn(epoch * len(clips) + n) for n in range(len(clips))]
        assert np.bincount(turns).tolist() == [32] * len(videos)
        assert all(len(set(turns[b : b + 8])) == 1 for b in range(0, len(turns), 8))


def test_a_window_sees_what_another_program_sees():
    image = texture(0)
    seen = look(image[None], [Window(50.3, 41.7, 30.0, 0.4)], 24)[0]
    unit = (np.arange(24) + 0.5) / 24 - 0.5
    v, u = np.meshgrid(unit, unit, indexing="ij")
    x = 50.3 + 30 * (u * np.cos(0.4) - v * np.sin(0.4)) - 0.5
    y = 41.7 + 30 * (u * np.sin(0.4) + v * np.cos(0.4)) - 0.5
    for channel in range(3):
        want = ndimage.map_coordinates(image[..., channel].astype(float), [y, x], order=1)
        assert abs(seen[channel].numpy() - want).max() < 0.51


def test_a_frame_goes_on_as_its_mirror_images_for_ever():
    image = texture(1)
    here = look(image[None], [Window(20.0, 30.0, 25.0, 0.0)], 20)
    for other, x, y in ((here, 276.0, -162.0), (here.flip(3), -20.0, 30.0), (here.flip(2), 20.0, 162.0)):
        seen = look(image[None], [Window(x, y, 25.0, 0.0)], 20)
        assert (seen.int() - other.int()).abs().max() <= 1  # float32 positions, then rounded


def test_still_is_still_and_opposite_motions_are_each_other_backwards(videos):
    for number in range(6):
        clips = block(clips_of(videos), number)
        assert (clips["still"] == clips["still"][:, :1]).all()
        for one, other in (("left", "right"), ("up", "down"), ("zoom in", "zoom out")):
            assert torch.equal(clips[one], clips[other].flip(1))
        moved = [clips[name][:, 0].float() - clips[name][:, -1].float() for name in MOTIONS[1:]]
        assert min(m.abs().mean() for m in moved) > 2


def seen_later(picture, motion, speed, size):
    """The first picture [H, W], moved as a whole motion moves it, by another program; NaN where it shows nothing."""
    matrix, shift = np.eye(2), np.zeros(2)
    along = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}.get(motion)
    if along:
        shift = np.array(along) * PAN * speed * size
    elif motion.startswith("zoom"):
        matrix *= np.exp((-1 if motion == "zoom in" else 1) * ZOOM * speed)
    elif motion.startswith("rotate"):
        angle = ROTATION * speed * (-1 if motion.endswith("back") else 1)
        matrix = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    centre = (size - 1) / 2
    offset = centre - matrix @ [centre, centre] + shift
    return ndimage.affine_transform(picture, matrix, offset, order=1, cval=np.nan)


@pytest.mark.parametrize(("amplitude", "share"), [(1.0, 0.97), (3.0, 0.9)])
def test_registration_finds_the_motion_of_the_label(videos, amplitude, share):
    """No network: the first picture, moved in every way at several speeds, is laid over the last one."""
    ways = [*MOTIONS, "rotate back"]
    right = []
    clips = clips_of(videos, amplitude=amplitude)
    for sample in range(96):
        item = clips[sample]
        first, last = item["clip"].double().mean(0).numpy()[[0, -1]]
        errors = {
            (way, speed): np.nanmean((seen_later(first, way, speed, 40) - last)[4:-4, 4:-4] ** 2)
            for way in ways
            for speed in amplitude * np.linspace(*SPEEDS, 9)
        }
        found = min(errors, key=errors.get)[0].removesuffix(" back")
        right.append(found == MOTIONS[item["label"]])
    assert np.mean(right) > share


@pytest.mark.parametrize(
    ("frame", "amplitude", "most"), [(0, 1.0, 1 / 8), (4, 1.0, 1 / 8), (7, 1.0, 1 / 8), (0, 3.0, 0.2)]
)
def test_one_picture_tells_no_class_but_zoom(videos, frame, amplitude, most):
    """Logistic regression on the pixels of one picture, tested on videos that it has not seen."""
    train, test = (
        [clips_of(part, size=16, blocks_per_video=100, amplitude=amplitude)[n] for n in range(count)]
        for part, count in ((videos[:4], 800), (videos[4:], 800))
    )
    x, test_x = (
        torch.stack([i["clip"][:, frame].double().flatten() for i in side])[:, ::3] for side in (train, test)
    )
    y, test_y = (torch.tensor([i["label"] for i in side]) for side in (train, test))
    probe = linear_probe(x, y, test_x, test_y, strengths=[1e-1])
    assert 1 / 8 - 0.04 < probe.accuracy < most + 0.04  # three deviations of 800 trials
    assert 1 / 8 < one_picture(1.0) < 0.151 < one_picture() < 0.201


def test_places_and_scales_of_a_class_are_those_of_every_class(videos):
    clips = clips_of(videos)
    poses = [clips._middle(96, 128, b) for b in range(2000)]
    for name, period in (("x", 256), ("y", 192), ("angle", 2 * np.pi)):
        at = np.array([getattr(pose, name) for pose in poses]) / period
        assert np.all((at > 0) & (at < 1))
        assert abs(np.histogram(at, 8, (0, 1))[0] - 250).max() < 60


@pytest.mark.parametrize("source", ["frozen", "moving"])
def test_clips_are_functions_of_their_number_for_any_workers(videos, source):
    clips = clips_of(videos, source=source)
    want = [clips[n] for n in range(5, 21)]
    again = clips_of(videos, source=source)
    for item in reversed(want):
        assert torch.equal(again[item["sample"]]["clip"], item["clip"])
    for batch in loader(clips, range(5, 21), 8, 2):
        for i, sample in enumerate(batch["sample"].tolist()):
            assert torch.equal(batch["clip"][i], want[sample - 5]["clip"])
            assert batch["label"][i] == want[sample - 5]["label"]
    assert (want[0]["clip"].shape, want[0]["clip"].dtype) == ((3, 8, 40, 40), torch.uint8)


def test_a_playing_video_moves_below_the_window(videos):
    still = block(clips_of(videos, source="moving"), 0)["still"].float()
    assert (still[:, 1:] - still[:, :-1]).abs().mean() > 1


def test_a_broken_video_is_skipped_for_all_clips_of_a_block(videos, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    clips = clips_of([videos[0], broken, videos[1]])
    items = [clips[n] for n in range(24)]
    assert sorted(i["label"] for i in items) == sorted(list(range(8)) * 3)
    assert "broken.mp4" in items[-1]["broken"][0]
    with pytest.raises(DataError, match="none of the 1 videos decodes"):
        clips_of([broken])[0]


def test_a_frame_smaller_than_the_clip_will_do(tmp_path):
    path = write_video(tmp_path / "small.mp4", 5, moving=True)
    assert MotionClips([path], frames=2, size=112)[0]["clip"].shape == (3, 2, 112, 112)


@pytest.mark.parametrize(
    "wrong", [{"frames": 1}, {"size": 0}, {"blocks_per_video": 0}, {"source": "running"}, {"amplitude": 0.0}]
)
def test_what_cannot_be_cut_is_an_error(videos, wrong):
    with pytest.raises(ValueError, match=r"need at least 2 frames|(source|amplitude) must be"):
        clips_of(videos, **wrong)


def test_the_installed_videos_are_split_by_scene():
    train, test = installed_split()
    assert ([p.stem for p in train], [p.stem for p in test]) == (
        ["bikes", "bigbuckbunny"],
        ["carphone_pristine"],
    )
    clip = MotionClips(test, frames=4, size=32)[0]["clip"]
    assert clip.float().std() > 0
