# SPDX-License-Identifier: Apache-2.0
"""The mask contract (contract/masks.md) in plain NumPy. Slow, and the truth for tests.

Every other backend must give these bits. Arrays are float32 wherever the contract says so; NumPy
rounds each operation once and never contracts a multiply and an add.
"""

from __future__ import annotations

from math import exp
from typing import NamedTuple

import numpy as np

BANK = 32
PERIOD = (1 << 28, 1 << 16, 1 << 19)  # of the noise along t, y, x: what section 1's counter can tell apart
PURPOSE_NOISE, PURPOSE_SIGMA, PURPOSE_ORDER, PURPOSE_STRATEGY, PURPOSE_TIE = range(5)
LOW32, SHIFT32 = np.uint64(0xFFFFFFFF), np.uint64(32)


def philox(counter, seed: int) -> np.ndarray:
    """Section 1. Philox4x32-10.

    counter: uint32 words, last axis of size 4. seed: the 64-bit key. Returns uint32, same shape.
    Source: Salmon et al., SC'11.
    """
    c0, c1, c2, c3 = np.moveaxis(np.asarray(counter, dtype=np.uint64), -1, 0)
    k0, k1 = seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF
    for _ in range(10):
        p0, p1 = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = (
            p1 >> SHIFT32 ^ c1 ^ np.uint64(k0),
            p1 & LOW32,
            p0 >> SHIFT32 ^ c3 ^ np.uint64(k1),
            p0 & LOW32,
        )
        k0, k1 = k0 + 0x9E3779B9 & 0xFFFFFFFF, k1 + 0xBB67AE85 & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=-1).astype(np.uint32)


def words(seed: int, sample: int, purpose: int, block=0, y=0, t=0) -> np.ndarray:
    """Section 1. The four words at each (block, y, t): uint32, shape [..., 4]."""
    block, y, t = np.broadcast_arrays(*(np.asarray(v, dtype=np.int64) for v in (block, y, t)))
    sample &= 0xFFFFFFFFFFFFFFFF
    counter = np.stack(
        [
            block & 0xFFFF | (y & 0xFFFF) << 16,
            t & 0x0FFFFFFF | purpose << 28,
            np.full_like(block, sample & 0xFFFFFFFF),
            np.full_like(block, sample >> 32),
        ],
        axis=-1,
    )
    return philox(counter, seed)


def random_words(seed: int, sample: int, purpose: int, count: int) -> np.ndarray:
    """Extension 4. Words 0 .. count - 1 of a sample: uint32 [count]."""
    return words(seed, sample, purpose, block=np.arange((count + 3) // 4)).reshape(-1)[:count]


def white(seed: int, sample: int, t, y, x) -> np.ndarray:
    """Section 2. White noise in [-0.5, 0.5) at integer coordinates: float32, the broadcast shape."""
    t, y, x = np.broadcast_arrays(*(np.asarray(v, dtype=np.int64) for v in (t, y, x)))
    four = words(seed, sample, PURPOSE_NOISE, x >> 3, y, t)
    word = np.take_along_axis(four, ((x & 7) >> 1)[..., None], axis=-1)[..., 0]
    bits = np.where(x & 1, word >> 16, word & 0xFFFF).astype(np.uint16)
    return bits.view(np.int16).astype(np.float32) * np.float32(2.0**-16)


def bank(sigma_range: tuple[float, float]) -> list[float]:
    """Section 3. The 32 sigmas of a range, float64."""
    lo, hi = sigma_range
    if lo == hi:
        return [float(lo)] * BANK
    return [lo + (hi - lo) * (i + 0.5) / BANK for i in range(BANK)]


def first_partner(bank1: list[float], bank2: list[float]) -> list[int]:
    """Section 3. For each sigma1 the lowest j with bank2[j] >= sigma1 + 0.05; 32 where there is none."""
    return [next((j for j in range(BANK) if bank2[j] >= s + 0.05), BANK) for s in bank1]


def draw_sigmas(
    seed: int, sample: int, first: list[int] | None, table: list[int] | None = None
) -> tuple[int, int]:
    """Section 3; extension 12 with a table. Which entry of each bank a sample uses; first is None for colours of one
    sigma."""
    r0, r1 = (int(w) for w in words(seed, sample, PURPOSE_SIGMA)[:2])
    i = r0 * BANK >> 32 if table is None else sum(entry <= r0 for entry in table)
    if first is None:
        return i, 0
    return i, first[i] + (r1 * (BANK - first[i]) >> 32)


def taps(sigma: float, truncate: float) -> np.ndarray:
    """Section 3. g[0..r] of one axis: float32 of float64. Radius 0 is [1.0], the unfiltered axis."""
    radius = int(truncate * sigma + 0.5)
    if radius == 0:
        return np.ones(1, np.float32)
    g = [exp(-(k * k) / (2 * sigma * sigma)) for k in range(radius + 1)]
    total = 0.0
    for value in g[1:]:  # not sum(): Python 3.12 compensates, 3.11 does not
        total += value
    return np.array([value / (g[0] + 2 * total) for value in g], dtype=np.float64).astype(np.float32)


def filter_axis(v: np.ndarray, g: np.ndarray, axis: int, wrap: bool) -> np.ndarray:
    """Section 4 along one axis of v, float32 of any shape. Field: shorter by the radius at both ends."""
    v = np.moveaxis(v, axis, 0)
    n, radius = v.shape[0], len(g) - 1
    at = np.arange(n) if wrap else np.arange(radius, n - radius)
    acc = g[0] * v[at]
    for k in range(1, radius + 1):
        acc = acc + g[k] * (v[(at - k) % n] + v[(at + k) % n])
    return np.moveaxis(acc, 0, axis)


def low_pass(seed: int, sample: int, spec, sigma: float, origin=(0, 0, 0)) -> np.ndarray:
    """Sections 3 and 4. White noise filtered with one sigma: float32 of the grid's shape."""
    g_t, g_y, g_x = (taps(sigma * scale, spec.truncate) for scale in spec.anisotropy)
    wrap = spec.boundary == "wrap"
    reach = (0, 0, 0) if wrap else tuple(len(g) - 1 for g in (g_t, g_y, g_x))
    v = window(seed, sample, spec, reach, origin)
    for axis, g in ((2, g_x), (1, g_y), (0, g_t)):
        v = filter_axis(v, g, axis, wrap)
    return v


def window(seed: int, sample: int, spec, reach=(0, 0, 0), origin=(0, 0, 0)) -> np.ndarray:
    """Section 2, extension 13. White noise, float32, over the grid's shape and `reach` more on every side."""
    first = [(o + moved) % period for o, moved, period in zip(spec.origin, origin, PERIOD, strict=True)]
    t, y, x = (o + np.arange(-r, n + r) for o, n, r in zip(first, spec.grid, reach, strict=True))
    return white(seed, sample, t[:, None, None], y[None, :, None], x[None, None, :])


def color_noise(
    seed: int,
    sample: int,
    spec,
    sigmas: tuple[float, float] | None = None,
    table: list[int] | None = None,
    origin=(0, 0, 0),
) -> np.ndarray:
    """Section 5. The field whose largest values are visible: float32 [T, Y, X].

    spec: anything with the fields of smnoise.spec.ColorSpec. sigmas: given instead of drawn. table, origin: extensions
    12 and 13.
    """
    if sigmas is None:
        bank1, bank2 = bank(spec.sigma1), bank(spec.sigma2)
        two = spec.color in ("green", "purple")
        i, j = draw_sigmas(seed, sample, first_partner(bank1, bank2) if two else None, table)
        sigmas = bank1[i], bank2[j]
    if spec.color == "white":
        return window(seed, sample, spec, origin=origin)
    g1 = low_pass(seed, sample, spec, sigmas[0], origin)
    if spec.color == "red":
        return g1
    if spec.color == "blue":
        return window(seed, sample, spec, origin=origin) - g1
    band = g1 - low_pass(seed, sample, spec, sigmas[1], origin)
    return band if spec.color == "green" else window(seed, sample, spec, origin=origin) - band


def key(scores: np.ndarray) -> np.ndarray:
    """Section 6. uint32 keys that order as the float32 scores do, of their shape."""
    with np.errstate(invalid="ignore"):  # signalling NaNs
        bits = (np.asarray(scores, np.float32) + np.float32(0)).view(np.uint32)
    sign = np.uint32(0x80000000)
    return np.where(bits & sign, ~bits, bits | sign)


class Outputs(NamedTuple):
    """One sample's outputs, section 6: mask bool [L], True = masked; the ids int64."""

    mask: np.ndarray
    ids_keep: np.ndarray
    ids_mask: np.ndarray
    ids_restore: np.ndarray


def ranked(scores: np.ndarray) -> np.ndarray:
    """Section 6. Numbers of the scores, float32 [n], the largest key first, ties: the lower number first."""
    return np.argsort(-key(scores).astype(np.int64), kind="stable")


def threshold(scores: np.ndarray, visible) -> Outputs:
    """Section 6. scores: float32 [groups, tokens]; each group shows its `visible` largest tokens. visible: an integer,
    or one for each group."""
    mask = np.ones(scores.shape, bool)
    for row, values, count in zip(mask, scores, np.broadcast_to(visible, len(scores)), strict=True):
        row[ranked(values)[:count]] = False
    return outputs_of(mask.reshape(-1))


def add_bias(scores: np.ndarray, bias: np.ndarray, weight: float) -> np.ndarray:
    """Extension 11. Scores with a bias, float32 of any shape."""
    with np.errstate(invalid="ignore", over="ignore"):
        total = scores + np.float32(weight) * bias
    return np.where(np.isnan(total), np.float32(np.nan), total)


def slot_threshold(scores: np.ndarray, counts, line: np.ndarray | None = None) -> Outputs:
    """Extension 9. scores: float32 [slots, tokens]; line: float32 [slots]."""
    own = np.array(counts)
    if line is not None:
        own[ranked(line)] = counts
    return threshold(scores, own)


def outputs_of(mask: np.ndarray) -> Outputs:
    """Section 6: all outputs of a mask, bool [L], True = masked."""
    ids_keep, ids_mask = np.flatnonzero(~mask), np.flatnonzero(mask)
    ids_restore = np.argsort(np.concatenate([ids_keep, ids_mask]))
    return Outputs(mask, *(ids.astype(np.int64) for ids in (ids_keep, ids_mask, ids_restore)))


def color_mask(seed: int, sample: int, spec) -> Outputs:
    """Sections 1 to 6: one sample's mask."""
    scores = color_noise(seed, sample, spec)
    return threshold(scores.reshape(spec.groups, -1), spec.visible)


ORIENTATIONS = (
    *((0, 0, 1), (0, 1, 0), (0, 1, 1), (0, 1, -1)),
    *((1, 0, 0), (1, 0, 1), (1, 0, -1), (1, 1, 0), (1, -1, 0)),
    *((1, 1, 1), (1, 1, -1), (1, -1, 1), (1, -1, -1)),
)
WEIGHT_OF = (0, 1, 2, 3, 4, 5, 5, 5, 5, 6, 6, 6, 6)  # which weight an orientation has
RELEASE = 64  # a token that no swap helps is left alone for so many steps


def crowding(grid, delta: int, weights, decay: float) -> list[tuple[tuple[int, int, int], int]]:
    """Section 7, and extension 1 for T > 1. Displacements (t, y, x) and their crowding weights S, zeros left out.

    grid: displacements that cannot occur in it are left out too; None: all of them.
    """
    entries = []
    for orientation, index in zip(ORIENTATIONS, WEIGHT_OF, strict=True):
        for d in range(1, delta + 1) if index < len(weights) else ():
            s = int(64 * weights[index] / d**decay + 0.5)
            t, y, x = (d * o for o in orientation)
            if s and (grid is None or all(abs(v) < n for v, n in zip((t, y, x), grid, strict=True))):
                entries += [((t, y, x), s), ((-t, -y, -x), s)]
    return entries


def full_crowding(grid, entries) -> np.ndarray:
    """Section 7. R(p), what every token p would be crowded by if all others crowded it: int64 [L].

    entries: as `crowding` returns them for this grid.
    """
    total = np.zeros(grid, np.int64)
    for step, s in entries:
        total[tuple(slice(max(0, -d), n - max(0, d)) for d, n in zip(step, grid, strict=True))] += s
    return total.reshape(-1)


def partition(seed: int, number: int, spec) -> np.ndarray:
    """Section 7. The label of each token in a partition, the number of the mask that reveals it: int64 [L], -1 for
    the rest. spec: anything with the fields of smnoise.spec.OptimBlueSpec."""
    tokens, visible = spec.grid[0] * spec.grid[1] * spec.grid[2], spec.visible
    masks = tokens // visible
    place = np.stack(np.unravel_index(np.arange(tokens), spec.grid))  # t, y, x of each token
    table = np.zeros([2 * n - 1 for n in spec.grid], np.int64)
    entries = crowding(spec.grid, spec.delta, spec.weights, spec.decay)
    full = full_crowding(spec.grid, entries)
    for step, s in entries:
        table[tuple(v + n - 1 for v, n in zip(step, spec.grid, strict=True))] = s

    def stamp(p):
        """S(q - p) of all tokens q."""
        return table[tuple(place[i] - place[i, p] + spec.grid[i] - 1 for i in range(3))]

    order = np.argsort(random_words(seed, number, PURPOSE_ORDER, tokens), kind="stable")
    rank = np.argsort(order)

    label, crowd = np.full(tokens, -1), np.zeros((masks, tokens), np.int64)
    count = [0] * masks
    for n, p in enumerate(order[: masks * visible]):
        k = min((k for k in range(masks) if count[k] < visible), key=lambda k: (crowd[k, p], (k - n) % masks))
        label[p] = k
        count[k] += 1
        crowd[k] += stamp(p)

    until = np.zeros(tokens, np.int64)
    every = np.arange(tokens)
    for t in range(spec.steps):
        own = np.where(label >= 0, crowd[label, every], 0)
        worst = np.lexsort((rank, -np.where(until <= t, own, 0)))[0]
        if until[worst] > t or own[worst] <= 0:
            break
        p, a = worst, label[worst]
        near = stamp(p)
        change = crowd[a] - near - own[p] + np.where(label >= 0, crowd[label, p] - near - own, 0)
        taken = (label != a) & ((label >= 0) | (full == full[p]))
        q = np.lexsort((rank, np.where(taken, change, np.iinfo(np.int64).max)))[0]
        if not taken[q] or change[q] >= 0:
            until[p] = t + 1 + RELEASE
            continue
        b = label[q]
        moved = near - stamp(q)
        crowd[a] -= moved
        if b >= 0:
            crowd[b] += moved
        label[p], label[q] = b, a
    return label


def masks_of(sample: int, spec) -> tuple[int, list[int]]:
    """Section 7. The partition of a sample and the labels of its rows (see smnoise.spec.OptimBlueSpec)."""
    sample &= 0xFFFFFFFFFFFFFFFF
    masks = spec.grid[0] * spec.grid[1] * spec.grid[2] // spec.visible
    if spec.masks == "complementary":
        return sample // masks, [sample % masks]
    return sample, list(range(masks)) if spec.masks == "views" else [0]


def optim_blue(seed: int, sample: int, spec) -> list[Outputs]:
    """Section 7: the mask of each row of a sample."""
    number, labels = masks_of(sample, spec)
    label = partition(seed, number, spec)
    return [outputs_of(label != k) for k in labels]


LEVELS, TIE_BITS, BOXES = 1 << 12, 18, 1 << 10


def ranks(keys: np.ndarray) -> np.ndarray:
    """Extension 5. The place of each thing in the order of (word, number): int64, the words' shape."""
    return np.argsort(np.argsort(keys, kind="stable"))


def strategy_scores(seed: int, sample: int, spec) -> np.ndarray:
    """Extension 5. The scores of all tokens: float32 [L]. spec: a smnoise.spec.StrategySpec."""
    t, y, x = (v.reshape(-1) for v in np.indices(spec.grid))
    tie = random_words(seed, sample, PURPOSE_TIE, spec.tokens).astype(np.int64) >> 32 - TIE_BITS
    if spec.kind == "blocks":
        level, tie = boxed_levels(seed, sample, spec, tie)
    else:
        level = LEVELS - 1 - strategy_steps(seed, sample, spec, t, y, x)
    return (2**23 + (level << TIE_BITS) + tie).astype(np.uint32).view(np.float32)


def strategy_steps(seed: int, sample: int, spec, t, y, x) -> np.ndarray:
    """Extension 5, but for blocks. When each token is shown: int64 [L], 0 first."""
    height, width = spec.grid[1:]
    word = random_words(seed, sample, PURPOSE_STRATEGY, spec.ranked)
    if spec.kind == "axis":
        return ranks(word)[(t, y, x)[spec.axis]]
    if spec.kind == "bars":
        a, b = spec.pace
        row, column = ranks(word[:height]), ranks(word[height:])
        row_step = row + np.minimum(width, ((row + 1) * b - 1) // a)
        column_step = column + np.minimum(height, (column + 1) * a // b)
        return np.maximum(row_step[y], column_step[x])
    ct, cy, cx = spec.cell
    place = ((t % ct) * cy + y % cy) * cx + x % cx
    if spec.kind == "cells":
        return ranks(word)[place]
    return (place + t + (int(word[0]) * spec.ranked >> 32)) % spec.ranked


def boxed_levels(seed: int, sample: int, spec, tie: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Extension 5. Levels and ties of blocks, int64 [L] each; `tie`: of tokens in no box."""
    durations, sizes = spec.boxes
    t, y, x = np.indices(spec.grid)
    box = np.full(spec.grid, -1)
    tie = tie.reshape(spec.grid).copy()
    words8 = random_words(seed, sample, PURPOSE_STRATEGY, 8 * BOXES).reshape(-1, 8).astype(object)
    for j, w in enumerate(words8[: spec.num_boxes]):
        if spec.num_boxes is None and (box >= 0).sum() >= spec.boxed:
            break
        height, width = (int(n) for n in sizes[w[0] * len(sizes) >> 32])
        side = int(durations[w[1] * len(durations) >> 32]), height, width
        new = box < 0
        for axis, (at, length, word) in enumerate(zip((t, y, x), side, w[2:5], strict=True)):
            n = spec.grid[axis]
            if spec.placement == "inside" or axis == 0:
                first = word * (n - length + 1) >> 32
            elif spec.placement == "overhang":
                first = (word * (n + length - 1) >> 32) - (length - 1)
            else:
                first = (word * n >> 32) - length // 2
            new &= (at >= first) & (at < first + length)
        if spec.num_boxes is not None:
            box[new] = 0
            continue
        direction = w[5] >> 30
        order = (x * spec.grid[1] + y if direction & 2 else y * spec.grid[2] + x) * spec.grid[0] + t
        box[new] = j
        tie[new] = (spec.tokens - 1 - order if direction & 1 else order)[new]
    levels = (0, LEVELS - 1 - box) if spec.inverse else (LEVELS - 1, box)
    return np.where(box < 0, *levels).reshape(-1), tie.reshape(-1)


def strategy_mask(seed: int, sample: int, spec) -> Outputs:
    """Extension 5: one sample's mask."""
    return threshold(strategy_scores(seed, sample, spec)[None], spec.visible)
