# SPDX-License-Identifier: Apache-2.0
"""A k-NN probe while pretraining goes on: what the loss does not tell, whether like clips come to lie together.

It reads frozen features of labelled files, nothing drawn, and leaves training as it was, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..data.labels import labelled_files
from ..data.medium import Medium
from ..data.numbered import EveryItem
from .features import outputs_of
from .nearest import nearest_probe

if TYPE_CHECKING:
    from ..models.audiomae import AudioMAE
    from ..models.videomae import VideoMAE


class KnnProbe:
    """Called with the model; see `nearest` for the votes.

    Args:
        config: of a trainer, with knn_every, knn_train, knn_test, batch_size and workers.
        medium: which files are looked for.
        files: makes the data set of some files, an item each.
        inputs: makes of a batch, on the device, what the model reads.
        through: makes of a function of what the model reads one of the batch's items; over views, for videos.
        device: of the model.

    Raises DataError for labels that do not fit; see `labelled_files`.
    """

    def __init__(
        self,
        config,
        medium: Medium,
        files: Callable[[list[Path]], EveryItem],
        inputs: Callable[..., Tensor],
        through: Callable[[Callable], Callable],
        device: torch.device,
    ):
        self.every, self.through = config.knn_every, through
        self.sides = labelled_files(config.knn_train, config.knn_test, medium)
        self.clips = [files(side.paths) for side in self.sides]
        self.read = inputs, device, config.batch_size, config.workers

    def __call__(self, model: AudioMAE | VideoMAE) -> tuple[dict[str, float], list[str]]:
        """Scores by name, and what was wrong with files left out. Raises DataError where no file of a set decodes."""
        training = model.training
        model.eval()
        function = self.through(model.features)
        # Compiled code would be compiled anew for whole clips, and might serve training from then on.
        with torch.compiler.set_stance("force_eager"):
            found = [outputs_of(function, clips, *self.read) for clips in self.clips]
        model.train(training)
        several = any(side.several for side in self.sides)
        sets = []
        for (features, places, _), side in zip(found, self.sides, strict=True):
            sets += [features, (side.targets if several else side.numbers())[places]]
        scores = nearest_probe(*sets)
        named = {"knn_accuracy": scores.accuracy, "knn_mean_average_precision": scores.mean_average_precision}
        broken = [message for *_, messages in found for message in messages]
        return {name: value for name, value in named.items() if not math.isnan(value)}, broken
