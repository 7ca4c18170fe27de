# SPDX-License-Identifier: Apache-2.0
"""Four sounds, and a config that trains on them in seconds."""

import pytest

from smnoise.train.audio import Config

from .runs import FILES, RATE, write_sound


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sounds")
    for n in range(FILES):
        write_sound(folder / f"{n}.wav", n)
    return folder


@pytest.fixture
def config(sounds, tmp_path):
    return Config(
        data=sounds,
        out=tmp_path / "run",
        model="tiny",
        rate=RATE,
        frames=32,
        mels=32,
        patch=8,
        statistics="auto",
        measured_clips=8,
        mask_ratio=0.75,
        batch_size=4,
        accumulate=1,
        epochs=6,
        warmup_epochs=1,
        clips_per_file=3,
        base_lr=0.128,
        min_lr=0.001,
        workers=0,
        device="cpu",
        log_every=1,
        save_every=6,
    )
