# SPDX-License-Identifier: Apache-2.0
"""Pretrained weights, decoder included, between three layouts of their names and shapes.

    smnoise      VideoMAE, AudioMAE and CAVMAE of smnoise.models
    huggingface  VideoMAEForPreTraining of transformers 5; earlier names are read too
    official     pretraining checkpoints of MCG-NJU/VideoMAE, facebookresearch/AudioMAE and YuanGongND/cav-mae

`convert_state` turns one state dict into another, `convert_files` does so with files, `load_model` builds the model of
a file. On the command line: `python -m smnoise convert SOURCE OUT --to LAYOUT`.

Nothing but reshapes, cuts and joins happens to a weight, so that the way there and back gives the same bits. A key that
is missing, unknown or of the wrong shape is an error that lists them all.
"""

from .architecture import AudioConfig, JointConfig, VideoConfig
from .files import convert_files, load_model, read, write
from .states import LAYOUTS, Converted, convert_state, detect

__all__ = [
    "LAYOUTS",
    "AudioConfig",
    "Converted",
    "JointConfig",
    "VideoConfig",
    "convert_files",
    "convert_state",
    "detect",
    "load_model",
    "read",
    "write",
]
