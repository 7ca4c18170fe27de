# SPDX-License-Identifier: Apache-2.0
"""Masks of published recipes: their counts, their laws, their structure."""

import math

import numpy as np
import pytest
import torch

import smnoise
from smnoise import presets

from .by_name import SPECTROGRAM, VIDEO

PUBLISHED = {
    "videomae-tube": (VIDEO, 160), "videomaev2-decoder": (VIDEO, 784), "mae-st": (VIDEO, 156), "mgmae": (VIDEO, 152),
    "mae": ((14, 14), 49), "audiomae": (SPECTROGRAM, 102), "audiomae-2d": (SPECTROGRAM, 95),
    "cav-mae": (SPECTROGRAM, 128), "cav-mae-image": ((14, 14), 49), "beit": ((14, 14), 121), "ijepa": ((14, 14), 98),
    "vjepa-short": (VIDEO, 580), "vjepa-long": (VIDEO, 297), "data2vec2": ((14, 14), 39), "eat": (SPECTROGRAM, 102),
    "paper-video": (VIDEO, 156), "paper-audio": (SPECTROGRAM, 102),
}  # fmt: skip


@pytest.mark.parametrize("name", presets)
def test_presets_have_the_published_counts(name):
    grid, visible = PUBLISHED[name]
    sampler = presets[name](seed=9)
    assert sampler.seed == 9
    masks = sampler(range(4))
    assert masks.grid == ((1,) * (3 - len(grid))) + grid
    assert (~masks.mask).sum(1).tolist() == [visible] * 4
    assert smnoise.from_json(sampler.to_json()) == sampler
    assert presets[name].__doc__


@pytest.mark.parametrize(
    ("name", "boxes", "scale", "hidden"), [("vjepa-short", 8, 0.15, 0.627), ("vjepa-long", 2, 0.7, 0.812)]
)
def test_blocks_of_vjepa_hide_what_the_published_ones_do(name, boxes, scale, hidden):
    """The published procedure: one size a batch, drawn evenly by its aspect, and so many blocks of it; a mask that
    hides everything is drawn again. Its mean is our count, to half a percent of all tokens; a token is visible about as
    often, though here every mask has the count that there is the mean."""
    random, shown = np.random.default_rng(7), []
    while len(shown) < 12000:
        if len(shown) % 8 == 0:
            aspect, area = random.uniform(0.75, 1.5), int(196 * scale)
            h, w = (min(14, round(math.sqrt(a))) for a in (area * aspect, area / aspect))
        seen = np.ones((14, 14), bool)
        for _ in range(boxes):
            y, x = random.integers(15 - h), random.integers(15 - w)
            seen[y : y + h, x : x + w] = False
        if seen.any():
            shown.append(seen)
    theirs = np.mean(shown, axis=0)
    assert 1 - theirs.mean() == pytest.approx(hidden, abs=0.005)
    sampler = presets[name]()
    assert sampler.mask_ratio == pytest.approx(hidden, abs=0.005)
    ours = (~sampler(range(6000)).volume()).double().mean((0, 1)).numpy()
    assert np.abs(ours - theirs).max() < 0.06


def test_presets_have_the_published_structure():
    tube = ~presets["videomae-tube"]()(range(3)).volume()
    assert (tube.sum((2, 3)) == 20).all()
    assert torch.equal(tube, tube[:, :1].expand_as(tube))
    assert (presets["mgmae"]()(range(3)).volume().logical_not().sum((2, 3)) == 19).all()
    assert len(set(presets["mae-st"]()([0]).volume().logical_not().sum((2, 3))[0].tolist())) > 1
    assert presets["videomae-tube"]((8, 14, 14), 0.75).visible_per_sample == 392  # UCF101: 49 a frame
    assert presets["videomae-tube"](grid=(16, 14, 14)).visible_per_sample == 320
    assert presets["audiomae-2d"]((32, 8)).visible_per_sample == 9 * 5


def repaired(grid, side: int, boxes: int, visible: int, masks: int) -> np.ndarray:
    """Masks as data2vec 2 and EAT draw them, bool [N, H, W]: boxes about tokens drawn with replacement, of which what
    lies in the grid is shown; then tokens are hidden or shown at random until the count is met."""
    random, (height, width) = np.random.default_rng(5), grid
    y, x = np.arange(height)[:, None], np.arange(width)
    shown = np.zeros((masks, height, width), bool)
    for _ in range(boxes):
        top, left = (random.integers(n, size=(masks, 1, 1)) - side // 2 for n in grid)
        shown |= (y >= top) & (y < top + side) & (x >= left) & (x < left + side)
    score = (shown + random.random(shown.shape)).reshape(masks, -1)
    edge = np.partition(score, -visible, axis=1)[:, -visible]
    return (score >= edge[:, None]).reshape(shown.shape)


def alone(shown: np.ndarray) -> np.ndarray:
    """[N]: visible tokens without a visible one beside, above or below."""
    padded = np.pad(shown, ((0, 0), (1, 1), (1, 1)))
    near = padded[:, 2:, 1:-1] | padded[:, :-2, 1:-1] | padded[:, 1:-1, 2:] | padded[:, 1:-1, :-2]
    return (shown & ~near).sum((1, 2))


@pytest.mark.parametrize(("name", "side", "boxes"), [("eat", 5, 5), ("data2vec2", 3, 5)])
def test_inverse_blocks_of_recipes_have_the_published_law(name, side, boxes):
    """Against the published procedure, over 10000 masks of each, to five standard errors."""
    sampler, n = presets[name](), 10000
    ours = (~sampler(range(n)).volume()[:, 0]).numpy()
    theirs = repaired(sampler.grid[1:], side, boxes, sampler.visible_per_sample, n)
    share = theirs.mean(0)
    error = np.sqrt(2 * share * (1 - share) / n)
    assert (np.abs(ours.mean(0) - share) < 5 * error).all()
    one, other = alone(ours), alone(theirs)
    assert abs(one.mean() - other.mean()) < 5 * math.sqrt((one.var() + other.var()) / n)
    # What the official programs were found to have, in two digits: the mean of the corners, of the first and last
    # time steps (rows), of the outer frequencies (columns), of the middle.
    found = ours.mean(0)
    corners, rows, columns = found[[0, 0, -1, -1], [0, -1, 0, -1]].mean(), found[[0, -1]], found[:, [0, -1]]
    middle = found[found.shape[0] // 4 : -found.shape[0] // 4, 3:-3]
    measured = [corners, rows.mean(), columns.mean(), middle.mean()]
    assert measured == pytest.approx(
        [0.09, 0.12, 0.15, 0.24] if name == "eat" else [0.1, 0.15, 0.15, 0.21], abs=0.015
    )


@pytest.mark.parametrize(("ratio", "first"), [(0.25, "1110"), (0.5, "1100"), (0.75, "1000")])
def test_running_cells_are_the_four_masks_of_videomaev2(target, ratio, first):
    """A cell of 2 x 2 places, read row by row, of which the first ones are shown; each step shows the previous places,
    around the cell. The four masks begin at its four rotations."""
    grid = (4, 4, 6) if target.backend == "triton" else VIDEO
    expected = set()
    for phase in range(4):
        steps = []
        for t in range(grid[0]):
            turns = phase + t
            cell = np.array([first[(place + turns) % 4] == "1" for place in range(4)]).reshape(2, 2)
            steps.append(np.tile(cell, (grid[1] // 2, grid[2] // 2)))
        expected.add(np.stack(steps).tobytes())
    sampler = presets["videomaev2-decoder"](grid, ratio)
    masks = target.strategy_mask(sampler.spec, range(16 if target.backend == "triton" else 40))["mask"]
    assert {(~mask).numpy().tobytes() for mask in masks} == expected
