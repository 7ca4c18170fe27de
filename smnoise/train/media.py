# SPDX-License-Identifier: Apache-2.0
"""The media that there are. Nothing else asks which medium something is of: it asks the medium's modules.

A medium NAME is these modules of this folder:

    NAME              Config (with MEDIUM = NAME), job, pretrain, untrained, main: the program that pretrains
    pretrained/NAME   MODEL, a class of the medium's own, by which converted weights are told apart; of_run and
                      of_weights, which give a `pretrained.find.Pretrained`
    finetune_NAME     Config, finetune, main: the program that fine-tunes; of those in FINETUNED

CONTRIBUTING.md has what is written for a new one, in five steps.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

MEDIA = ("video", "audio", "audiovisual")
FINETUNED = ("video", "audio")


def runs_of(medium: str) -> ModuleType:
    """What reads the runs of a medium's trainer."""
    return import_module(f".pretrained.{medium}", __package__)
