# SPDX-License-Identifier: Apache-2.0
"""Training on whole sound files, of several lengths in a batch: how long each is, and its mask."""

from __future__ import annotations

import re
from dataclasses import fields

from torch import Tensor

from ..data.audio.fbank import fit_length, normalise
from ..data.audio.inputs import Spectrograms
from ..models.whole import Heard
from ..samplers import Custom, Ragged, Random, Sampler

NAMED = re.compile(r"(White|Red|Blue|Green|Purple)([123])D")
OF_RAGGED = {"grid", "mask_ratio", "num_visible", "per", "seed", "name"}


def ragged_of(sampler: Sampler) -> Ragged:
    """The masks of a spectrogram's sampler for spectrograms of several lengths, at the same ratio of each.

    Raises ValueError for a sampler that cannot: of a count, or without scores.
    """
    kind, ratio = NAMED.fullmatch(type(sampler).__name__), getattr(sampler, "mask_ratio", None)
    if isinstance(sampler, Custom):
        name = sampler.name
    elif kind:
        name = f"{kind[1].lower()}-{kind[2]}d"
    elif isinstance(sampler, Random):
        name = "random"
    else:
        raise ValueError(
            f"whole_files needs a mask that can be cut at any length: random, a colour such as green-2d, or a function "
            f"of yours; got {type(sampler).__name__}"
        )
    if ratio is None or getattr(sampler, "per", "clip") != "clip":
        raise ValueError("whole_files needs a mask_ratio, of each whole file; leave num_visible and per out")
    own = {f.name: getattr(sampler, f.name) for f in fields(sampler) if f.name not in OF_RAGGED}  # type: ignore[arg-type]
    own = {**own.pop("parameters", {}), **own}
    return Ragged(sampler._whole_grid[1:], ratio, strategy=name, parameters=own, seed=sampler.seed)


class WholeSpectrograms(Spectrograms):
    """Waveforms to spectrograms that know how long they are. Without lengths it is what `Spectrograms` is.

    Args:
        patch: frames of a time step.
        shortest: time steps that a shorter sound counts as, which silence follows then.
        others: as of `Spectrograms`.
    """

    def __init__(self, *arguments, patch: int, shortest: int):
        super().__init__(*arguments)
        self.patch, self.shortest = patch, shortest

    def steps(self, lengths: Tensor) -> Tensor:
        """Time steps of sounds of so many samples, int64 [B]; the last one may be silent in part."""
        frames = self.log_mel.num_frames(lengths)
        return ((frames + self.patch - 1) // self.patch).clamp(self.shortest, self.frames // self.patch)

    def longest(self, lengths: list[int]) -> int:
        """The most time steps of such sounds."""
        frames = max(map(self.log_mel.num_frames, lengths))
        return min(max(-(-frames // self.patch), self.shortest), self.frames // self.patch)

    def padded_to(self, waves: Tensor, lengths: Tensor, longest: int) -> Tensor:
        """float32 [B, longest * patch, mels] of waveforms of which none has more than `longest` time steps."""
        frames = longest * self.patch
        features = self.log_mel(waves[:, : self.log_mel.num_samples(frames)], lengths)
        return normalise(fit_length(features, frames), *self.statistics)

    def forward(self, waves: Tensor, lengths: Tensor | None = None):
        """Make a `Heard` of waveforms, float32 [B, N] in [-1, 1], of which `lengths`, int64 [B], samples are valid;
        without lengths the spectrograms alone.
        """
        found = super().forward(waves, lengths)
        return found if lengths is None else Heard(found, self.steps(lengths))
