# SPDX-License-Identifier: Apache-2.0
"""Masks of a picture and its sound that know of each other, each by itself the same whatever the other is."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple

import torch
from torch import Tensor

from .. import ops, reference
from ..masks import MaskBatch
from ..ops import ALL_OUTPUTS
from ..ops.random_words import MAX_COUNT
from ..reference_coupled import (
    PURPOSE_AMONG,
    PURPOSE_LINES,
    SOUND,
    band_weights,
    counts_by_rank,
)
from ..spec import as_float, as_int, as_tuple, signed64, with_ones
from .bars import Frame, FrequencyBars, TimeBars
from .base import Sampler, as_seed, batch_indices, check_sampler, without_scores
from .color import Color3D
from .custom import Custom
from .flat import FlatColor
from .optim_blue import OptimBlue
from .random import Random, Tube

SIGMAS = (3.0, 7.0)
Crowding = tuple[tuple[tuple[int, int, int], int], ...]


class MaskPair(NamedTuple):
    """Masks of the same samples for a picture and its sound."""

    video: MaskBatch
    audio: MaskBatch


@dataclass(frozen=True)
class Coupled:
    """Masks for a clip and its sound whose visible tokens come together in time, avoid each other, or neither
    (contract/extensions.md, 13).

    Each modality has a line in time, band-passed noise, whose ranks say how many tokens each slot shows: a slot is a
    frame of the picture, or a time step of the sound. The two lines have the correlation `rho`. Which tokens of a slot
    are shown is the modality's own strategy's choice. Counts are exact, and the law of each modality's masks does not
    depend on rho: only the pair does.

    >>> video, audio = smnoise.Green3D((8, 14, 14), num_visible=160), smnoise.OptimBlue((64, 8), 0.8)
    >>> sampler = Coupled(video, audio, rho=-1)
    >>> masks = sampler(batch_size=2, step=0)
    >>> masks.video.ids_keep.shape, masks.audio.ids_keep.shape
    (torch.Size([2, 160]), torch.Size([2, 102]))
    >>> (~masks.video.volume()[0]).sum((1, 2)).tolist()  # of frames
    [28, 12, 38, 23, 2, 33, 17, 7]
    >>> (~masks.audio.mask[0]).view(8, 8, 8).sum((1, 2)).tolist()  # of the time steps beside them
    [12, 15, 5, 12, 19, 7, 16, 16]

    Args:
        video: of a grid (T, H, W), T at least 2: a colour, random, Optim Blue, or a function of your own. What it shows
            in each frame is replaced, its count of a clip stays.
        audio: of a grid (time, frequency), as many time steps as the picture has frames or a multiple of that, so that
            frame t of the picture is the time steps t * k .. (t + 1) * k - 1.
        rho: correlation of the two lines, -1 .. 1. At 1 both are shown at the same times, at -1 the sound is shown
            where the picture is hidden, at 0 they are independent.
        share: how unequal the slots are, 0 .. 1. The slot of the highest rank shows up to 1 + share times its equal
            share, that of the lowest down to 1 - share times. At 0 all slots show equally many.
        sigmas: of the line's band, in time steps of the sound.
        seed: of the pair, 0 .. 2^64 - 1; a call may give another one, also as a tensor. The samplers have none of their
            own.

    Raises:
        ValueError, TypeError: for a strategy, grid, rho or share that cannot give such masks, when this is made.
    """

    video: Sampler
    audio: Sampler
    rho: float = field(default=0.0, kw_only=True)
    share: float = field(default=1.0, kw_only=True)
    sigmas: tuple[float, float] = field(default=SIGMAS, kw_only=True)
    seed: int = field(default=0, kw_only=True)

    def __post_init__(self):
        def put(**values):
            for name, value in values.items():
                object.__setattr__(self, name, value)

        for name in ("video", "audio"):
            check_strategy(name, getattr(self, name))
        put(rho=as_float("rho", self.rho), share=as_float("share", self.share))
        if not -1 <= self.rho <= 1:
            raise ValueError(f"rho must be in -1..1, a correlation; got {self.rho}")
        if not 0 <= self.share <= 1:
            raise ValueError(f"share must be in 0..1, got {self.share}")
        short, long = (as_float("sigmas", s) for s in as_tuple("sigmas", self.sigmas, 2, "two numbers"))
        if not 0 < short < long <= 1000:
            raise ValueError(f"sigmas must be two numbers, 0 < first < second <= 1000; got {(short, long)}")
        put(sigmas=(short, long), seed=as_int("seed", self.seed, 0, 2**64 - 1))
        slots = slots_of(self.video, self.audio)
        weights = tuple(band_weights((short, long)))
        if 3 * (slots[1] + 2 * len(weights) - 2) > MAX_COUNT:
            raise ValueError(
                f"{slots[1]} time steps and a band of radius {len(weights) - 1} need more than {MAX_COUNT} words; "
                "take a shorter grid"
            )
        counts = tuple(
            checked_counts(name, sampler, n, self.share)
            for name, sampler, n in zip(("video", "audio"), (self.video, self.audio), slots, strict=True)
        )
        self._slots: tuple[int, int]  # declared here: in the class they would be fields
        self._weights: tuple[int, ...]
        self._counts: tuple[tuple[int, ...], tuple[int, ...]]
        self._crowding: tuple[Crowding, Crowding]
        put(_slots=slots, _weights=weights, _counts=counts)
        put(_crowding=tuple(crowding_of(sampler) for sampler in (self.video, self.audio)))

    @property
    def counts(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """How many tokens the slots of the picture, and of the sound, show: the slot of the highest rank first."""
        return self._counts

    def __call__(
        self,
        samples=None,
        *,
        batch_size: int | None = None,
        step: int | Tensor | None = None,
        rank: int = 0,
        world_size: int = 1,
        seed: int | Tensor | None = None,
        device: torch.device | str | None = None,
        backend: str = "auto",
        outputs: str = ALL_OUTPUTS,
    ) -> MaskPair:
        """Masks for a batch, a pair of `MaskBatch`. Arguments and errors as of every sampler's call."""
        samples = batch_indices(samples, batch_size, step, rank, world_size, device)
        seed = as_seed(self.seed if seed is None else seed, samples.device)
        pair = []
        for sampler, own, line, counts, crowding in zip(
            (self.video, self.audio),
            (seed, seed ^ signed64(SOUND)),
            self._lines(seed, samples, backend),
            self._counts,
            self._crowding,
            strict=True,
        ):
            scores = scores_of(sampler, own, samples, backend, crowding)
            ranks = line.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
            results = ops.slot_threshold(scores, counts, -ranks.float(), backend, outputs)
            pair.append(sampler._batch(results, outputs, with_ones(sampler.grid)))
        return MaskPair(*pair)

    def lines(self, samples, *, seed=None, device=None, backend: str = "auto") -> tuple[Tensor, Tensor]:
        """The lines whose ranks are the counts: int64 [B, T] of the picture, int64 [B, time steps] of the sound."""
        samples = batch_indices(samples, None, None, 0, 1, device)
        return self._lines(as_seed(self.seed if seed is None else seed, samples.device), samples, backend)

    def _lines(self, seed: Tensor, samples: Tensor, backend: str) -> tuple[Tensor, Tensor]:
        reach = len(self._weights) - 1
        words = ops.random_words(seed, samples, PURPOSE_LINES, 3 * (self._slots[1] + 2 * reach), backend)
        shared, private, chooser = words.unflatten(1, (-1, 3)).unbind(2)
        # Centred, so that the mirror of a word is its negative.
        shared, private = (2 * (bits >> 16) - 65535 for bits in (shared, private))
        chosen = chooser < math.floor(abs(self.rho) * 2.0**32 + 0.5)
        sound = torch.where(chosen, -shared if self.rho < 0 else shared, private)
        fine, sound = (self._filtered(white) for white in (shared, sound))
        return fine.unflatten(1, (self._slots[0], -1)).sum(2), sound

    def _filtered(self, white: Tensor) -> Tensor:
        """int64 [B, n + 2 * reach] as [B, n]: sums of integers, which have no order."""
        reach, count = len(self._weights) - 1, self._slots[1]
        total = self._weights[0] * white[:, reach : reach + count]
        for k in range(1, reach + 1):
            pair = white[:, reach - k : reach - k + count] + white[:, reach + k : reach + k + count]
            total = total + self._weights[k] * pair
        return total

    def prepare(
        self, device=None, *, outputs: str = ALL_OUTPUTS, backend: str = "auto", batch_size: int = 1
    ) -> None:
        """Do now what the first masks on a device need; as `Sampler.prepare`."""
        self.video.prepare(device, outputs=outputs, backend=backend, batch_size=batch_size)
        self(batch_size=batch_size, step=0, device=device, outputs=outputs, backend=backend)

    def to_json(self) -> str:
        """The pair as JSON; `smnoise.pair_from_json` gives an equal one back."""
        own = {"rho": self.rho, "share": self.share, "sigmas": self.sigmas, "seed": self.seed}
        samplers = {name: json.loads(getattr(self, name).to_json()) for name in ("video", "audio")}
        return json.dumps({"sampler": "Coupled", "contract": 1, **samplers, **own})


def check_strategy(name: str, sampler) -> None:
    """Raise TypeError or ValueError for a sampler whose slots cannot have counts of their own."""
    check_sampler(sampler)
    kind = type(sampler).__name__
    if isinstance(sampler, Tube) or getattr(sampler, "tube", False):
        why = "a tube shows the same tokens in every frame, so that no frame can show more than another"
    elif isinstance(sampler, (Frame, TimeBars)):
        why = "it shows whole time steps or none of them"
    elif isinstance(sampler, FrequencyBars):
        why = "it shows the same frequencies at all times"
    elif not isinstance(sampler, (Color3D, FlatColor, Random, Custom, OptimBlue)):
        why = (
            f"{kind} has counts of its own, or is drawn from a pool"
            if sampler._scored
            else without_scores(sampler, "")
        )
    else:
        # Flat colours are cut by frames, but only their sum is asked for.
        if (per := getattr(sampler, "per", "clip")) != "clip":
            raise ValueError(f'{name}: a pair gives each frame its count; leave out per="{per}"')
        if sampler.seed:
            raise ValueError(
                f"{name}: a pair has one seed; leave out the sampler's, and give seed to Coupled"
            )
        return
    raise ValueError(f"{name}: {kind} cannot be coupled: {why}; take a colour, random, or Optim Blue")


def slots_of(video: Sampler, audio: Sampler) -> tuple[int, int]:
    """Return the frames of the picture and the time steps of the sound. Raises ValueError for grids that do not go
    together.
    """
    (frames, height, width), (planes, steps, bins) = with_ones(video.grid), with_ones(audio.grid)
    if frames < 2:
        raise ValueError(
            f"video needs a grid (T, H, W) of at least two frames, got {(frames, height, width)}; one frame has no "
            "time in which it could be coupled"
        )
    if planes != 1:
        raise ValueError(f"audio needs a grid (time, frequency), got {(planes, steps, bins)}")
    if steps % frames:
        raise ValueError(
            f"the time steps of the sound must be a multiple of the picture's, so that each frame has its own; got "
            f"{steps} beside {frames}"
        )
    return frames, steps


def checked_counts(name: str, sampler: Sampler, slots: int, share: float) -> tuple[int, ...]:
    """Return how many tokens each slot shows, by rank. Raises ValueError where a slot would have to show more than it
    has.
    """
    visible, size = sampler.visible_per_sample, sampler.num_tokens // slots
    counts = counts_by_rank(visible, slots, share)
    if counts[0] > size:
        most = Fraction(size * slots, visible) - 1
        raise ValueError(
            f"{name}: with share {share} a slot would show {counts[0]} of its {size} tokens; take share "
            f"{math.floor(1000 * most * slots / max(1, slots - 1)) / 1000:g} or less, or show fewer than {visible} "
            "tokens"
        )
    return tuple(counts)


def crowding_of(sampler: Sampler) -> Crowding:
    """Return the displacements (t, y, x) of Optim Blue, and how much each crowds."""
    if not isinstance(sampler, OptimBlue):
        return ()
    spec = sampler.spec
    return tuple(reference.crowding(spec.grid, spec.delta, spec.weights, spec.decay))


def scores_of(sampler: Sampler, seed: Tensor, samples: Tensor, backend: str, crowding: Crowding) -> Tensor:
    """Compute what the tokens of a slot are ranked by, float32 [B, L], the largest first. Arguments are as in
    `Sampler.scores`.
    """
    if not isinstance(sampler, OptimBlue):
        return sampler.scores(seed, samples, backend)
    hidden = ops.optim_blue(seed, samples, sampler._spec_json, backend, "mask")[0]
    shown = (~hidden).long().unflatten(1, sampler.spec.grid)
    crowd = torch.zeros_like(shown)
    for displacement, s in crowding:
        crowd = crowd + s * shown.roll(displacement, (1, 2, 3))
    word = ops.random_words(seed, samples, PURPOSE_AMONG, sampler.num_tokens, backend)
    # Crowding is at most 2^28: hidden, crowding and word are one number of 62 bits.
    key = (hidden.long() << 61) + (crowd.flatten(1) << 32) + word
    return -key.argsort(dim=1, stable=True).argsort(dim=1).float()
