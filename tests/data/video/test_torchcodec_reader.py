# SPDX-License-Identifier: Apache-2.0
"""torchcodec gives PyAV's frames where it loads, of the files that test_zoo_video names; where it does not, the error
says why."""

import sys
import types

import numpy as np
import pytest
import torch
from media import write_video

from smnoise.data.video import torchcodec_reader
from smnoise.data.video.clips import VideoClips, VideoFile
from smnoise.train import video


@pytest.fixture
def fresh():
    """The probe has not been asked yet, and is forgotten again."""
    torchcodec_reader.reason.cache_clear()
    yield
    torchcodec_reader.reason.cache_clear()


@pytest.mark.parametrize(("name", "options"), [("x.mp4", {}), ("b.mp4", {"bf": "2"})])
def test_the_frames_are_those_of_pyav(tmp_path, name, options):
    if why := torchcodec_reader.reason():
        pytest.skip(why)
    path = write_video(tmp_path / name, 30, moving=True, codec="libx264", **options)
    indices = [0, 3, 4, 17, 29, 29]
    file = VideoFile(path)
    assert torchcodec_reader.reads_alike(file)
    assert np.array_equal(torchcodec_reader.read(file, indices), file.read(indices))
    usual = {"frames": 4, "stride": 2, "size": 32}
    clip = VideoClips([path], **usual, reader="torchcodec")[0]["clip"]
    assert torch.equal(clip, VideoClips([path], **usual)[0]["clip"])


def test_a_package_that_does_not_load_is_not_used(tmp_path, monkeypatch, fresh):
    class Broken(types.ModuleType):
        def __getattr__(self, name):
            raise RuntimeError("Could not load libtorchcodec.\nLikely causes: no FFmpeg")

    monkeypatch.setitem(sys.modules, "torchcodec", types.ModuleType("torchcodec"))
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", Broken("torchcodec.decoders"))
    path = write_video(tmp_path / "x.mp4", 5)
    words = r"does not load \(RuntimeError: Could not load libtorchcodec\.\); use reader pyav"
    with pytest.raises(ValueError, match=words):
        VideoClips([path], reader="torchcodec")
    config = video.Config(
        data=tmp_path, out=tmp_path / "run", model="nano", reader="torchcodec", workers=0, device="cpu"
    )
    with pytest.raises(ValueError, match=words):
        video.pretrain(config)
    with pytest.raises(ImportError, match="FFmpeg's shared libraries"):
        torchcodec_reader.read(VideoFile(path), [0])


def test_a_package_that_is_missing_is_told(monkeypatch, fresh):
    for name in ("torchcodec", "torchcodec.decoders"):  # the latter may have been imported
        monkeypatch.setitem(sys.modules, name, None)
    assert torchcodec_reader.reason() == "torchcodec is not installed"


def test_frames_are_not_reduced(tmp_path):
    with pytest.raises(ValueError, match="leave short_side out"):
        VideoClips([tmp_path], short_side=32, reader="torchcodec")
