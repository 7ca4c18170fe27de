# SPDX-License-Identifier: Apache-2.0
"""What the loop is given: a model, its clips and its loss. The module of a medium makes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from ..data.numbered import NumberedClips
from ..probes.knn import KnnProbe

Model = TypeVar("Model", bound=torch.nn.Module)


@dataclass(kw_only=True)
class Job(Generic[Model]):
    """What is trained, and how its loss is computed; made by the module of a medium."""

    title: str
    """Of the run's first line: the model, its grid, the data."""
    model: Model
    """On the device."""
    groups: Callable[[], list[dict]]
    """The optimiser's groups of the model's parameters, as these are when it is called."""
    clips: NumberedClips
    views: int = 1
    """Items of each clip that come in a batch side by side."""
    loss: Callable[[torch.nn.Module, dict, int, int], Tensor]
    """Of the module to call (the model, perhaps wrapped), a batch, and the numbers of the step, from 1, and of the pass
    over all processes, from 0."""
    blank: Callable[[torch.nn.Module], Tensor]
    """A loss of the module to call, of as many clips as a pass has, all of them empty."""
    recipe: dict
    """What a resumed run must share."""
    begin: Callable[[dict], list[str]] = lambda recipe: []
    """Called with the recipe of the run as it begins or goes on, to which it may add what is found in the data; what a
    person should be told of that."""
    notes: list[str] = field(default_factory=list)
    """What a person should be told."""
    normalised: bool = False
    """Whether the loss is a mean over values of patches that were normalised by their own mean and deviation, as
    VideoMAE's is."""
    advice: str = ""
    """Where the loader is the limit."""
    probe: KnnProbe | None = None
    pictures: Callable[[], dict[str, np.ndarray]] | None = None
    """Of a mask and of what the model fills in under it, by name: uint8 [height, width, 3]."""
    evaluate: Callable[[bool], tuple[dict[str, float], list[str]]] | None = None
    """Scores after each epoch, among them "score", by which checkpoints are ranked, and what was wrong with files left
    out. Called with whether it is the run's last time."""
