# SPDX-License-Identifier: Apache-2.0
"""What runs on the compiled kernels: hand-picked cases of masks, the same in every run. random_workloads.py has others.

A case is a function of a backend; what it returns is compared with the NumPy reference's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from cases import BLUE_CORNERS, CORNERS, SAMPLES, STRATEGY_CORNERS

from smnoise import sigma_table
from smnoise.backends.layout import SCRATCH_BYTES, SHARED_BYTES, THREADS, layout
from smnoise.backends.outputs import NAMES
from smnoise.spec import ColorSpec, OptimBlueSpec, StrategySpec, signed64, tables

KIB = 1024
SEEDS = (0, 1, 2**63, 2**64 - 1, 0x123456789ABCDEF)
WANTED = (NAMES, *((name,) for name in NAMES), NAMES[1:3])
NANS = np.array([0x7FC00000, 0x7F800001, 0xFFC00001, 0xFF812345], np.uint32).view(np.float32)


@dataclass(frozen=True)
class Case:
    name: str
    run: Callable
    shared: int = (
        SHARED_BYTES  # what the package may use of it: less leads to other paths, at sizes cheap here
    )
    workspace: int | None = None  # bytes of all blocks of Optim Blue together
    threads: int = THREADS  # of a block: the kernels take any multiple of 32 up to it
    hostile: int | None = None  # a seed for schedules by chance


def _inputs(number: int, batch: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """A seed and samples, others for each number; the extremes come by."""
    seed = signed64(SEEDS[number % len(SEEDS)])
    return torch.tensor(seed), samples_of(*(SAMPLES[(3 * number + i) % len(SAMPLES)] for i in range(batch)))


def samples_of(*values: int) -> torch.Tensor:
    return torch.tensor([signed64(v) for v in values], dtype=torch.int64)


def mask_of(op: str, spec, number: int, wanted=NAMES, samples=None, table=None) -> Callable:
    seed, some = _inputs(number)
    some = some if samples is None else samples
    more = () if table is None else (table,)
    return lambda backend: getattr(backend, op)(seed, some, spec, wanted, *more)


def noise_of(spec, number: int) -> Callable:
    seed, samples = _inputs(number, 2)
    return lambda backend: {"noise": backend.color_noise(seed, samples, spec)}


GREEN = ColorSpec("green", (8, 14, 14), 157)
TORUS = ColorSpec("green", (8, 14, 14), 157, boundary="wrap")
SPECTROGRAM = OptimBlueSpec((64, 8), 102)
TABLE = sigma_table([n % 5 for n in range(32)])


def colors(quick: bool) -> Iterator[Case]:
    """Of all four kernels."""
    one, none, many = samples_of(2**64 - 1), samples_of(), samples_of(*range(2**63 - 3, 2**63 + 13))
    yield Case("green", mask_of("color_mask", GREEN, 4))
    yield Case("green, wrapped", mask_of("color_mask", TORUS, 3, samples=one))
    tiles = ColorSpec("green", (4, 14, 14), 157)
    yield Case("tiles, fused", mask_of("color_mask", tiles, 2, samples=one), shared=24 * KIB)
    wrapped = ColorSpec("purple", (4, 14, 14), 157, boundary="wrap")
    yield Case("tiles of a torus, fused", mask_of("color_mask", wrapped, 1, samples=one), shared=24 * KIB)
    red = ColorSpec("red", (4, 14, 14), 157, boundary="wrap")
    yield Case("tiles of a red torus, fused", mask_of("color_mask", red, 1, samples=one), shared=12 * KIB)
    two = ColorSpec("green", (6, 20, 20), 240)
    yield Case("two launches", mask_of("color_mask", two, 0, samples=one), shared=12 * KIB)
    frames = ColorSpec("blue", (6, 20, 20), 40, per="frame", boundary="wrap")
    yield Case("two launches, per frame", mask_of("color_mask", frames, 1, samples=one), shared=10 * KIB)
    purple = ColorSpec("purple", (6, 20, 20), 240)
    yield Case("two launches, purple", mask_of("color_mask", purple, 3, samples=one), shared=12 * KIB)
    white = ColorSpec("white", (6, 20, 20), 240)
    yield Case("two launches, white", mask_of("color_mask", white, 2, samples=one), shared=4 * KIB)
    for color in ("red", "blue", "green", "white", "purple"):
        torus, shared = unfused_torus(color)
        yield Case(f"two launches, {color} torus", mask_of("color_mask", torus, 3), shared=shared)
    for boundary in ("field", "wrap"):
        far = {"sigma1": (2.0, 2.4), "anisotropy": (1.3, 1.0, 1.0), "boundary": boundary}
        yield Case(f"wide red, {boundary}", mask_of("color_mask", ColorSpec("red", (2, 3, 9), 20, **far), 1))
        long = {"sigma1": (90.0, 90.0), "anisotropy": (0, 0, 1), "boundary": boundary}
        yield Case(f"long red, {boundary}", mask_of("color_mask", ColorSpec("red", (1, 1, 9), 4, **long), 1))
    places = torch.tensor([[-1, 2**16 + 5, 2**40 + 3], [0, 0, 0], [9, -9, 2**19 - 1], [2**62, -(2**63), 7]])
    for i, (color, boundary) in enumerate((("green", "field"), ("red", "field"), ("white", "field"))):
        moved = ColorSpec(color, (2, 5, 9), 20, boundary=boundary, origin=(-3, 2, 1))
        yield Case(
            f"{color}, origins", lambda b, s=moved, i=i: b.color_mask(*_inputs(i), s, NAMES, None, places)
        )
    yield Case("green, a table of sigmas", mask_of("color_mask", GREEN, 2, table=TABLE))
    yield Case("noise alone", noise_of(ColorSpec("purple", (3, 9, 11), 1), 3))
    yield Case("noise, two launches", noise_of(ColorSpec("blue", (6, 20, 20), 1), 3), shared=10 * KIB)
    small = ColorSpec("green", (2, 5, 7), 9)
    yield Case("nobody's masks", mask_of("color_mask", small, 0, samples=none))
    yield Case("sixteen samples", mask_of("color_mask", small, 4, samples=many))
    apart = samples_of(*range(8))[::2]  # not in one piece
    yield Case("every other sample", mask_of("color_mask", small, 4, samples=apart))
    for i, (name, spec) in enumerate(CORNERS.items()):
        if not quick or i % 3 == 0:
            yield Case(name, mask_of("color_mask", spec, i, WANTED[i % len(WANTED)]))
    for chance in range(2 if quick else 6):
        spec = ColorSpec("green", (2, 5, 7), 9, boundary=("field", "wrap")[chance % 2])
        yield Case(
            f"green, hostile {chance}", mask_of("color_mask", spec, chance, samples=one), hostile=chance
        )
    yield from ways(quick)
    if not quick:
        for i, boundary in enumerate(("field", "wrap")):
            large = ColorSpec("green", (16, 30, 28), 1254, boundary=boundary)
            yield Case(f"large, {boundary}", mask_of("color_mask", large, i, samples=one))
        launches = ColorSpec("green", (8, 64, 64), 3276, sigma1=(0.4, 0.5), sigma2=(0.7, 0.8))
        yield Case("(8, 64, 64)", mask_of("color_mask", launches, 2, samples=one))


def ways(quick: bool) -> Iterator[Case]:
    """Each colour in each way that the kernels go, with filters and sides longer than an unrolled loop."""
    wide = {"sigma1": (2.0, 2.0), "sigma2": (2.3, 2.4)}
    wider = {"sigma1": (8.0, 8.0), "sigma2": (8.2, 8.3)}  # no smaller tile with such a halo takes less memory
    for i, color in enumerate(("red", "blue", "green", "purple")):
        for j, (boundary, torus, fused) in enumerate(
            (b, t, f) for b, t in (("field", False), ("wrap", False), ("wrap", True)) for f in (False, True)
        ):
            if quick and (i + j) % 3:
                continue
            sigmas = wider if torus and not fused else wide
            spec = ColorSpec(color, (9, 9, 17), 300, boundary=boundary, **sigmas)
            shared, name = (
                shared_for(spec, torus, fused, cut=not torus),
                f"{color}, {boundary} {torus} {fused}",
            )
            run = mask_of("color_mask", spec, i + j, samples=samples_of(i))
            yield Case(name, run, shared=shared, threads=(THREADS, 224)[j % 2])
        for boundary in ("field", "wrap"):
            # Few warps have many rounds: of copying weights, and noise.
            long = ColorSpec(
                color, (1, 1, 9), 4, boundary=boundary, anisotropy=(0, 0, 1), sigma1=(60, 60), sigma2=(61, 61)
            )
            yield Case(f"long {color}, {boundary}", mask_of("color_mask", long, i), threads=32)
            short = ColorSpec(color, (2, 8, 20), 1, boundary=boundary)
            yield Case(f"noise of {color}, {boundary}", noise_of(short, i), threads=32)
            # Nothing filtered: white less white, all equal.
            flat = ColorSpec(color, (3, 8, 8), 50, boundary=boundary, truncate=0.01)
            yield Case(f"flat {color}, {boundary}", mask_of("color_mask", flat, i))


def unfused_torus(color: str) -> tuple[ColorSpec, int]:
    """A torus that fits into so much shared memory, but not with its scores, not even tile by tile."""
    spec = ColorSpec(color, (40, 4, 4), 64, boundary="wrap", sigma1=(3.0, 3.0), sigma2=(3.1, 3.1))
    return spec, shared_for(spec, torus=True, fused=False)


def shared_for(spec: ColorSpec, torus: bool, fused: bool, cut: bool = False) -> int:
    """The most shared memory with which a mask is made so: its torus whole or not, in one launch or two, in tiles."""
    for shared in range(SHARED_BYTES, 0, -64):
        try:
            found = layout(spec, tables(spec).taps.shape[-1], shared)
        except ValueError:
            break
        if found.torus == torus and found.fused == fused and (not cut or found.tiles(spec.grid) > 1):
            return shared
    raise ValueError(f"{spec} is not made so, with whatever memory")


def threshold_of(scores, visible: int, groups: int = 1, wanted=NAMES) -> Callable:
    scores = scores if isinstance(scores, torch.Tensor) else torch.from_numpy(scores)
    return lambda backend: backend.threshold(scores, visible, groups, wanted)


def ties() -> np.ndarray:
    """float32 [1, 1040]: zeros of both signs, NaNs of both and with payloads, infinities, denormals."""
    parts = (np.zeros(690), -np.zeros(290), np.full(24, np.nan), np.full(10, -np.nan), np.full(6, np.inf),
             np.full(6, -np.inf), np.full(10, 1e-42))  # fmt: skip
    return np.concatenate([np.concatenate(parts).astype(np.float32), NANS])[None]


def thresholds(quick: bool) -> Iterator[Case]:
    g = np.random.default_rng(3)
    scores = g.standard_normal((2, 1568)).astype(np.float32)
    mixed = g.permutation(ties(), axis=1)
    for i, wanted in enumerate(WANTED):
        yield Case(f"threshold, {wanted}", threshold_of(scores, 157 + i, wanted=wanted))
    yield Case("threshold of 8 groups", threshold_of(scores, 20, 8))
    for visible in (1, 12, 400, 1039):
        yield Case(f"threshold of ties, {visible} visible", threshold_of(mixed, visible))
    yield Case("threshold of equals", threshold_of(np.zeros((1, 300), np.float32), 7))
    yield Case("threshold of few", threshold_of(np.array([[3.0, 1, 2, 2, 2]], np.float32), 2))
    yield Case("threshold of two", threshold_of(np.array([[-0.0, 0.0]], np.float32), 1))
    yield Case("threshold of none", threshold_of(np.zeros((0, 30), np.float32), 1))
    yield Case("threshold of pieces", threshold_of(torch.from_numpy(scores).t().contiguous().t(), 157))
    outlier = np.r_[np.float32(1e30), scores[0, :999]][None]
    yield Case("threshold with an outlier", threshold_of(outlier, 500))
    for chance in range(3):
        yield Case(f"threshold, hostile {chance}", threshold_of(mixed[:, :400], 100), hostile=chance)
    if not quick:
        yield Case("threshold of many", threshold_of(g.standard_normal((1, 20000)).astype(np.float32), 1999))


def slots_of(scores: np.ndarray, counts: tuple[int, ...], line=None, wanted=NAMES) -> Callable:
    tensor, rank = torch.from_numpy(scores), None if line is None else torch.tensor(line, dtype=torch.int32)
    return lambda backend: backend.slot_threshold(tensor, counts, rank, wanted)


def slots(quick: bool) -> Iterator[Case]:
    g = np.random.default_rng(5)
    scores = g.standard_normal((2, 1568)).astype(np.float32)
    # Slots shown whole or not at all are not searched: several of them side by side, and between others.
    counts = (196, 196, 0, 0, 9, 196, 0, 195)
    for i, wanted in enumerate(WANTED):
        yield Case(f"slots, {wanted}", slots_of(scores, (*counts[i:], *counts[:i]), wanted=wanted))
    orders = [[int(n) for n in g.permutation(8)] for _ in scores]
    yield Case("slots in drawn order", slots_of(scores, counts, orders))
    yield Case("slots of one token", slots_of(scores[:, :5], (1, 0, 0, 1, 0)))
    yield Case("slots of ties", slots_of(g.permutation(ties(), axis=1), (400, 0), [[1, 0]]))
    yield Case("slots of nobody", slots_of(scores[:0], counts))
    for chance in range(3):
        run = slots_of(scores[:1, :120], (40, 0, 7), [[2, 0, 1]])
        yield Case(f"slots, hostile {chance}", run, hostile=chance)


def _bias_of(scores: np.ndarray, bias: np.ndarray, weight: float) -> Callable:
    given = torch.from_numpy(scores), torch.from_numpy(bias)
    return lambda backend: {"scores": backend.add_bias(*given, weight)}


def biases(quick: bool) -> Iterator[Case]:
    g = np.random.default_rng(6)
    scores, bias = (g.standard_normal((3, 700)).astype(np.float32) for _ in range(2))
    for weight in (0.3, -1e30, 0.0):
        yield Case(f"bias times {weight}", _bias_of(scores, bias, weight))
    odd = ties()
    yield Case("bias of infinities, NaNs and denormals", _bias_of(odd, odd[:, ::-1].copy(), -0.7))
    yield Case("bias of nothing", _bias_of(scores[:0], bias[:0], 1.0))


def filter_of(volume: np.ndarray, radius, wrap: bool) -> Callable:
    taps, tensor = tables(GREEN).taps[1, 3].copy(), torch.from_numpy(volume)
    return lambda backend: {"volume": backend.gaussian_filter(tensor, taps, radius, wrap)}


def gaussians(quick: bool) -> Iterator[Case]:
    volume = np.random.default_rng(4).standard_normal((2, 9, 20, 17)).astype(np.float32)
    for radius in ((2, 3, 4), (0, 7, 8), (4, 0, 1)):
        for wrap in (False, True):
            yield Case(f"gaussian {radius}, {wrap}", filter_of(volume, radius, wrap))
    yield Case("gaussian of one value", filter_of(volume[:, :1, :1, :1].copy(), (0, 0, 0), False))
    yield Case("gaussian of nothing", filter_of(volume[:0].copy(), (1, 1, 1), True))


def blues(quick: bool) -> Iterator[Case]:
    neighbours = samples_of(10, 11, 12, 13, 14, 15, 3)
    yield Case("spectrogram", mask_of("optim_blue", SPECTROGRAM, 4, samples=neighbours))
    for i, masks in enumerate(("independent", "views", "complementary")):
        spec = OptimBlueSpec((6, 8), 10, steps=30, masks=masks)
        yield Case(f"small, {masks}", mask_of("optim_blue", spec, i, WANTED[i]))
        if not quick:
            spec = OptimBlueSpec((64, 8), 102, masks=masks)
            yield Case(
                f"spectrogram, {masks}", mask_of("optim_blue", spec, i, samples=samples_of(2**64 - 1, 2**63))
            )
    for i, (name, spec) in enumerate(BLUE_CORNERS.items()):
        if spec.tokens < (100 if quick else 400) and (not quick or i % 3 == 1):
            yield Case(name, mask_of("optim_blue", spec, i, samples=samples_of(2**64 - 1, 0, 1, 7, 8)))
    heavy = OptimBlueSpec((6, 8), 10, steps=30, delta=1, weights=(1e6, 1e6, 0.0, 0.0), masks="views")
    yield Case("heavy", mask_of("optim_blue", heavy, 2, samples=samples_of(3, 4)))
    # More tokens than an unrolled loop takes at once.
    for i, more in enumerate(({}, {"delta": 1, "weights": (1e6, 1e6, 0.0, 0.0)}, {})):
        wide = OptimBlueSpec((20, 30), 301, steps=4, **more)
        shared = 1100 if i == 2 else SHARED_BYTES
        yield Case(f"wide {i}", mask_of("optim_blue", wide, i, samples=samples_of(i)), shared=shared)
    # A stamp of more displacements than a block has threads, four times over.
    for i, more in enumerate(({}, {"weights": (1e5, 1e5, 0.0, 0.0)}, {})):
        far = OptimBlueSpec((20, 30), 290, steps=3, delta=14, **more)
        shared = 1100 if i == 2 else SHARED_BYTES
        yield Case(f"far {i}", mask_of("optim_blue", far, i, samples=samples_of(i)), shared=shared)
    few = OptimBlueSpec((6, 8), 10, steps=20)
    rows = samples_of(0, 1, 7, 8, 9, 30)
    yield Case("in global memory", mask_of("optim_blue", few, 0, samples=rows), shared=1100)
    yield Case(
        "fewer blocks than samples", mask_of("optim_blue", few, 1, samples=rows), shared=1100, workspace=8000
    )
    yield Case("nobody's partition", mask_of("optim_blue", few, 0, samples=samples_of()))
    tiny = OptimBlueSpec((3, 7), 5, steps=10)
    for chance in range(1 if quick else 4):
        yield Case(
            f"hostile {chance}", mask_of("optim_blue", tiny, chance, samples=samples_of(3)), hostile=chance
        )


def strategies(quick: bool) -> Iterator[Case]:
    for i, (name, spec) in enumerate(STRATEGY_CORNERS.items()):
        yield Case(name, mask_of("strategy_mask", spec, i, WANTED[i % len(WANTED)]))
    grid = (8, 14, 14)
    for spec in (
        StrategySpec("blocks", grid, 392), StrategySpec("blocks", grid, 1176, inverse=True, placement="overhang"),
        StrategySpec("blocks", grid, 392, placement="centre", num_boxes=6),
        StrategySpec("cells", grid, 784, cell=(2, 2, 2)), StrategySpec("running", grid, 784, cell=(1, 2, 2)),
        StrategySpec("axis", grid, 392, axis=2), StrategySpec("bars", (1, 64, 8), 95),
    ):  # fmt: skip
        yield Case(f"{spec.kind} of a clip", mask_of("strategy_mask", spec, 2, samples=samples_of(2**64 - 1)))
        small = StrategySpec(spec.kind, (4, 6, 6), 72, cell=(1, 2, 2))
        yield Case(
            f"{spec.kind} in global memory", mask_of("strategy_mask", small, 3), shared=without_scores(small)
        )
    crumbs = StrategySpec("blocks", (1, 36, 36), 20, size=(1, 1, 1))
    yield Case("blocks that run out", mask_of("strategy_mask", crumbs, 1, samples=samples_of(4)))
    yield Case(
        "nobody's blocks",
        mask_of("strategy_mask", StrategySpec("blocks", grid, 392), 0, samples=samples_of()),
    )
    small = StrategySpec("blocks", (2, 5, 6), 25)
    for chance in range(2):
        yield Case(
            f"hostile {chance}",
            mask_of("strategy_mask", small, chance, samples=samples_of(5)),
            hostile=chance,
        )


def without_scores(spec: StrategySpec) -> int:
    """Shared memory that holds all but the scores of a block."""
    return SCRATCH_BYTES + 8 * spec.ranked


def words(quick: bool) -> Iterator[Case]:
    first = tables(GREEN).first.tolist()
    for i, (purpose, count, batch) in enumerate(
        ((3, 1030, 2), (15, 1, 4), (8, 3, 1), (3, 4, 0), (9, 16, 16))
    ):
        seed, samples = _inputs(i, batch)
        yield Case(
            f"words {purpose}, {count}, {batch}",
            lambda b, seed=seed, samples=samples, purpose=purpose, count=count: {
                "words": b.random_words(seed, samples, purpose, count)
            },
        )
    for seed in SEEDS:
        counter = [seed & 0xFFFFFFFF, seed >> 32, 2**32 - 1, 7]
        yield Case(f"philox {seed}", lambda b, c=counter, s=seed: b.philox(c, s))
        for sample in SAMPLES[::3]:
            for banks in (first, None):
                yield Case(
                    f"sigmas {seed} {sample}", lambda b, *a, s=(seed, sample, banks): tuple(b.draw_sigmas(*s))
                )
            drawn = seed, sample, first, TABLE.tolist()
            yield Case(f"sigmas of a table {seed} {sample}", lambda b, s=drawn: tuple(b.draw_sigmas(*s)))


GROUPS: dict[str, tuple[Callable[[bool], Iterator[Case]], tuple[str, ...]]] = {
    # the cases, and the CUDA kernels that they are to reach as a whole
    "colors": (colors, ("color_window_one", "color_window_two", "color_torus_one", "color_torus_two")),
    "threshold": (thresholds, ("threshold",)),
    "slots": (slots, ("slot_threshold",)),
    "bias": (biases, ("add_bias",)),
    "gaussian": (gaussians, ("gaussian",)),
    "optim_blue": (blues, ("optim_blue", "optim_blue_wide", "optim_blue_global")),
    "strategies": (strategies, ("strategy_mask",)),
    "words": (words, ("philox", "random_words", "sigmas")),
}
