# SPDX-License-Identifier: Apache-2.0
"""The masks of published recipes, with the counts that those recipes have.

smnoise.presets["videomae-tube"]()                     # the published grid and ratio
smnoise.presets["videomae-tube"](grid=(16, 14, 14))    # the same rule for another grid

Each takes `grid`, `mask_ratio` and `seed`, has the published values as defaults, and returns a sampler. The same ratio
is not the same count: VideoMAE rounds what is hidden of a frame down (0.9 leaves 20 of 196 tokens), MGMAE what is
visible (19), MAE-ST what is visible of a clip (156 of 1568).

Drawn anew in smnoise's own way, not with the numbers of the other programs' generators: counts and distribution are
theirs, single masks are not (but for the four of videomaev2-decoder). What differs in distribution is said with each.
The blocks of beit, ijepa and vjepa lie within the grid, as published: the border is visible far more often than the
middle, which `Block` has figures of; those of data2vec2 and eat are placed by their centres, as published: the border
is visible less often.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

from ..nearest import Named
from ..reference import BOXES
from ..spec import as_blue_grid, as_ratio, as_tuple, visible_of_ratio
from .bars import TimeFrequencyBars
from .base import Sampler
from .blocks import Block, InverseBlock
from .cells import RunningCell
from .color import Green3D
from .optim_blue import OptimBlue
from .random import Random, Tube

CLIP, IMAGE, SPECTROGRAM = (8, 14, 14), (14, 14), (64, 8)


def visible_of_hidden(tokens: int, mask_ratio: float) -> int:
    """tokens - floor(tokens * ratio), the ratio read as the decimal it is written as."""
    return tokens - math.floor(tokens * Fraction(repr(as_ratio(mask_ratio))))


def videomae_tube(grid=CLIP, mask_ratio=0.9, seed=0) -> Sampler:
    """VideoMAE, VideoMAEv2's encoder, SIGMA: 20 tokens of a frame, the same in all, 160 of a clip. UCF101: 0.75."""
    t, h, w = as_blue_grid(grid)
    return Tube(grid, num_visible=t * visible_of_hidden(h * w, mask_ratio), seed=seed)


def mae_st(grid=CLIP, mask_ratio=0.9, seed=0) -> Sampler:
    """MAE-ST: 156 tokens of a clip, uniformly random over space and time."""
    return Random(grid, mask_ratio, seed=seed)


def mgmae(grid=CLIP, mask_ratio=0.9, seed=0) -> Sampler:
    """MGMAE's count: 19 tokens of each frame, 152 of a clip. Its masks follow the motion in a clip; these are random
    in each frame."""
    return Random(grid, mask_ratio, per="frame", seed=seed)


def videomaev2_decoder(grid=CLIP, mask_ratio=0.5, seed=0) -> Sampler:
    """VideoMAEv2's running cell: half of the tokens, 784 of a clip, in 2x2 cells: its four masks. Masked is what is not
    decoded. Other ratios than 0.25, 0.5 and 0.75 are exact here, and rounded down to quarters there: 0.6 hides 941 of
    1568 tokens here and 784 there."""
    return RunningCell(grid, mask_ratio, seed=seed)


def mae(grid=IMAGE, mask_ratio=0.75, seed=0) -> Sampler:
    """MAE: 49 of 196 tokens."""
    return Random(grid, mask_ratio, seed=seed)


def audiomae(grid=SPECTROGRAM, mask_ratio=0.8, seed=0) -> Sampler:
    """AudioMAE: 102 of 512 tokens. Grid (time, frequency)."""
    return Random(grid, mask_ratio, seed=seed)


def audiomae_2d(grid=SPECTROGRAM, mask_ratio=(0.7, 0.3), seed=0) -> Sampler:
    """AudioMAE's 2D mode: 19 time steps and 5 frequencies, 95 of 512 tokens. mask_ratio: of time and of frequency."""
    _, steps, frequencies = as_blue_grid(grid)
    of_time, of_frequency = as_tuple("mask_ratio", mask_ratio, 2, "two numbers, of time and of frequency")
    kept = visible_of_ratio(steps, as_ratio(of_time)), visible_of_ratio(frequencies, as_ratio(of_frequency))
    return TimeFrequencyBars(grid, kept=kept, seed=seed)


def cav_mae(grid=SPECTROGRAM, mask_ratio=0.75, seed=0) -> Sampler:
    """CAV-MAE's audio: 128 of 512 tokens. (Its own tokens are numbered with time fastest: grid (8, 64) there.)"""
    return Random(grid, mask_ratio, seed=seed)


def cav_mae_image(grid=IMAGE, mask_ratio=0.75, seed=0) -> Sampler:
    """CAV-MAE's image: 49 of 196 tokens."""
    return Random(grid, mask_ratio, seed=seed)


def beit(grid=IMAGE, mask_ratio=75 / 196, seed=0) -> Sampler:
    """BEiT's blocks: 75 of 196 tokens hidden, just so many. There at most: 74.5 on average, 66 at the least, 75 in 69%
    of the masks. Blocks of 16 tokens and more. A corner is visible in 95.7% (there 96.1%) and the middle in 26.8%
    (27.7%) of the masks."""
    tokens, mask_ratio = math.prod(as_blue_grid(grid)), as_ratio(mask_ratio)
    hidden = round(tokens * mask_ratio)
    smallest = min(16 / tokens, mask_ratio)
    return Block(grid, num_visible=tokens - hidden, scale=(smallest, mask_ratio), seed=seed)


def ijepa(grid=IMAGE, mask_ratio=0.5, seed=0) -> Sampler:
    """I-JEPA's targets: blocks of 15% to 20% are hidden. There four of them, whatever they cover, all of one size in a
    batch, their aspect drawn evenly, and the context is cut to the smallest of the batch; here as many as hide
    mask_ratio, each of a size of its own, the aspect drawn evenly on a logarithmic scale."""
    return Block(grid, mask_ratio, scale=(0.15, 0.2), aspect=(0.75, 1.5), seed=seed)


def vjepa_short(grid=CLIP, mask_ratio=0.63, seed=0) -> Sampler:
    """V-JEPA's short-range masks: blocks of 15% of the frame over the whole clip are hidden, 988 of 1568 tokens.

    There eight blocks, whatever they cover: 63% on average, which is the ratio here. Then the context of each clip is
    cut to the smallest of its batch, to 365 tokens of 1568 on average with 24 clips; the tokens that are cut off, those
    of late time steps above all, are neither seen nor predicted. Here nothing is cut, and all masks have one count:
    0.77 would be what the encoder does not see there, but takes 15 blocks on average. All blocks of a batch have one
    size there, and their aspect is drawn evenly; here each has its own, the aspect drawn evenly on a logarithmic scale.
    """
    return Block(grid, mask_ratio, scale=(0.15, 0.15), aspect=(0.75, 1.5), seed=seed)


def vjepa_long(grid=CLIP, mask_ratio=0.81, seed=0) -> Sampler:
    """V-JEPA's long-range masks: blocks of 70% of the frame over the whole clip are hidden, 1271 of 1568 tokens.

    There two blocks, 81% on average, and after the cut to the smallest of 24 clips the encoder sees 99 tokens of 1568.
    What else differs is said with `vjepa_short`.
    """
    return Block(grid, mask_ratio, scale=(0.7, 0.7), aspect=(0.75, 1.5), seed=seed)


def _inverse_blocks(grid, mask_ratio, side: int, seed) -> Sampler:
    """Blocks about tokens that are drawn, so many as would show 7% of all tokens too many if they lay apart and within
    the grid; then tokens are hidden or shown at random until the count is met."""
    _, height, width = as_blue_grid(grid)
    share = 1 - Fraction(repr(as_ratio(mask_ratio))) + Fraction(7, 100)
    boxes = max(1, math.floor(height * width * share / side**2))
    if boxes > BOXES:
        raise ValueError(
            f"on a grid of {height} x {width} tokens the published rule lays {boxes} blocks of {side} x {side}, and at "
            f"most {BOXES} are supported: use a smaller grid or a larger mask_ratio"
        )
    return InverseBlock(grid, mask_ratio, size=(side, side), placement="centre", num_boxes=boxes, seed=seed)


def data2vec2(grid=IMAGE, mask_ratio=0.8, seed=0) -> Sampler:
    """data2vec 2's inverse blocks for images: 39 of 196 tokens, five blocks of 3x3 about drawn tokens and a repair at
    random, as published. A corner is visible in 11% of the masks, the rest of the border in 15%, the middle in 22%."""
    return _inverse_blocks(grid, mask_ratio, 3, seed)


def eat(grid=SPECTROGRAM, mask_ratio=0.8, seed=0) -> Sampler:
    """EAT's inverse blocks for audio: 102 of 512 tokens, five blocks of 5x5 about drawn tokens and a repair at random,
    as published. A corner is visible in 10% of the masks, the first and last time step in 13%, the lowest and highest
    frequency in 15%, the middle in 23%. There 16 masks of a clip are drawn for one pass; here give each view a sample
    number of its own."""
    return _inverse_blocks(grid, mask_ratio, 5, seed)


def paper_video(grid=CLIP, mask_ratio=0.9, seed=0) -> Sampler:
    """Green3D of arXiv 2503.16311: 156 of 1568 tokens. The paper draws its sigmas; their ranges and the ratio are not
    known to us and are this package's and VideoMAE's: docs/reproduce.md."""
    return Green3D(grid, mask_ratio, seed=seed)


def paper_audio(grid=SPECTROGRAM, mask_ratio=0.8, seed=0) -> Sampler:
    """Optim Blue of arXiv 2503.16311: 102 of 512 tokens, five complementary masks. Its window, weights, decay and
    steps, the number of masks and the ratio are not known to us and are this package's and AudioMAE's:
    docs/reproduce.md."""
    return OptimBlue(grid, mask_ratio, seed=seed)


presets: Named[Callable[..., Sampler]] = Named(
    "published recipe",
    {
        "videomae-tube": videomae_tube,
        "videomaev2-decoder": videomaev2_decoder,
        "mae-st": mae_st,
        "mgmae": mgmae,
        "mae": mae,
        "audiomae": audiomae,
        "audiomae-2d": audiomae_2d,
        "cav-mae": cav_mae,
        "cav-mae-image": cav_mae_image,
        "beit": beit,
        "ijepa": ijepa,
        "vjepa-short": vjepa_short,
        "vjepa-long": vjepa_long,
        "data2vec2": data2vec2,
        "eat": eat,
        "paper-video": paper_video,
        "paper-audio": paper_audio,
    },
)
