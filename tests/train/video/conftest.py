# SPDX-License-Identifier: Apache-2.0
"""Three videos, and a config that trains on them in seconds."""

import pytest
from media import write_video

from smnoise.train.video import Config


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for n in range(3):
        write_video(folder / f"{n}.mp4", 24 + 5 * n, moving=True)
    return folder


@pytest.fixture
def config(videos, tmp_path):
    return Config(
        data=videos,
        out=tmp_path / "run",
        model="tiny",
        frames=4,
        stride=2,
        size=32,
        patch=8,
        mask_ratio=0.75,
        batch_size=4,
        epochs=6,
        warmup_epochs=1,
        clips_per_video=4,
        base_lr=0.128,
        min_lr=0.001,
        workers=0,
        cache_mib=16,
        device="cpu",
        log_every=1,
        save_every=6,
    )
