# SPDX-License-Identifier: Apache-2.0
"""Pictures of a spectrogram for TensorBoard, read back by its own reader."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from smnoise.train.audio import pretrain
from smnoise.train.run import log


@pytest.mark.parametrize("normalise", [True, False])
def test_a_spectrogram_its_mask_and_what_is_filled_in(config, normalise):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    config = replace(config, epochs=1, tensorboard=True, normalise_target=normalise)
    pretrain(config)
    found = reader.EventAccumulator(str(config.out / log.EVENTS))
    found.Reload()
    shown = {}
    for name in ("mask", "reconstruction"):
        (event,) = found.Images(name)
        shown[name] = np.asarray(Image.open(io.BytesIO(event.encoded_image_string)))
    mask = config.sampler()([0]).volume()[0, 0].numpy()
    assert (shown["mask"][::8, ::8, 0] == 255 * ~mask.T[::-1]).all()
    height = config.mels + 2
    assert shown["reconstruction"].shape == (3 * height - 2, config.frames, 3)
    hidden = mask.T[::-1].repeat(config.patch, 0).repeat(config.patch, 1)
    true, seen = (shown["reconstruction"][at : at + config.mels] for at in (0, height))
    assert (seen[hidden] == 128).all()
    assert (seen[~hidden] == true[~hidden]).all()
