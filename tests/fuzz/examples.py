# SPDX-License-Identifier: Apache-2.0
"""Arguments of any kind for the fuzzing, and a call that may refuse them as documented."""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from decimal import Decimal
from fractions import Fraction

import numpy as np
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

import smnoise

EXAMPLES = int(os.environ.get("SMNOISE_FUZZ_EXAMPLES", 0))
fuzz = settings(
    max_examples=EXAMPLES or 60,
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
LARGEST = 300_000  # values behind a mask that is also made; a thousandth of it tokens. Larger ones are only described
tried: Counter[str] = Counter()
OF_TORCH = "Expected a value of type|Overflow when unpacking long|no tensor arguments"


def attempt(name: str, call, *args, **kw):
    """What call gives; None if it refuses its arguments as documented."""
    try:
        result = call(*args, **kw)
    except (TypeError, ValueError, smnoise.SmnoiseError) as error:
        if len(str(error)) < 10:
            raise AssertionError("a message that says nothing") from error
        tried[f"{name}: refused"] += 1
        return None
    except RuntimeError as error:
        if not re.search(OF_TORCH, str(error)):  # for a Python type that the schema of an op does not have
            raise
        tried[f"{name}: refused"] += 1
        return None
    tried[f"{name}: worked"] += 1
    return result


@st.composite
def mostly(draw, good, *bad):
    """Good values seven times of eight, so that several arguments are often right together."""
    return draw(good if draw(st.integers(0, 7)) else st.one_of(*bad) if bad else junk)


numbers = st.one_of(
    st.integers(-3, 20),
    st.sampled_from([2**31, 2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), 10**400, -(10**400)]),
    st.floats(-2, 9),
    st.sampled_from([math.nan, math.inf, -math.inf, 5e-324, 1e-9, 1e300, -0.0, 0.9999999999999999]),
    st.sampled_from([True, False, 3 + 0j, Fraction(1, 3), Decimal("0.5"), Decimal("nan")]),
    st.sampled_from(
        [np.int8(3), np.uint64(2**64 - 1), np.float32(0.9), np.float16("nan"), np.bool_(True), np.array(2)]
    ),
    st.sampled_from([torch.tensor(2), torch.tensor([0.5]), torch.tensor(True)]),
)
junk = st.recursive(
    numbers | st.none() | st.text(max_size=5) | st.binary(max_size=3) | st.just(object()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.lists(inner, max_size=5).map(tuple),
        st.dictionaries(st.text(max_size=3), inner, max_size=2),
        st.lists(st.integers(0, 9), max_size=4).map(np.array),
        st.lists(st.integers(0, 9), max_size=4).map(torch.tensor),
    ),
    max_leaves=6,
)
sizes = st.integers(1, 6)
ratios = st.floats(0.01, 0.99) | st.sampled_from([0.9, np.float32(0.9), 0.8, Fraction(3, 4)])
grids = st.tuples(sizes, sizes, sizes)
low_high = st.tuples(st.floats(0.05, 1.5), st.floats(0, 1)).map(lambda v: (v[0], v[0] + v[1]))


@st.composite
def arguments(draw, good: dict, optional: tuple = ()) -> dict:
    """Good arguments, without some of the optional ones, and often one or two replaced by something else."""
    chosen = {n: draw(s) for n, s in good.items() if n not in optional or draw(st.booleans())}
    others = sorted(set(good) - {"device"})  # which is torch's to check
    for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
        chosen[draw(st.sampled_from(others))] = draw(junk)
    return chosen


COLOR = {
    "grid": grids, "mask_ratio": ratios, "num_visible": st.integers(1, 30), "per": st.sampled_from(["clip", "frame"]),
    "sigma1": low_high, "sigma2": low_high.map(lambda v: (v[0] + 1, v[1] + 1.5)),
    "boundary": st.sampled_from(["field", "wrap"]), "anisotropy": st.tuples(*[st.floats(0, 1.5)] * 3),
    "origin": st.tuples(*[st.integers(-(2**30), 2**30)] * 3), "truncate": st.floats(0.1, 5),
    "seed": st.integers(0, 2**64 - 1),
}  # fmt: skip
BLUE = {
    "grid": st.tuples(sizes, sizes) | grids, "mask_ratio": ratios, "num_visible": st.integers(1, 30),
    "masks": st.sampled_from(["complementary", "independent"]), "delta": st.integers(1, 9),
    "weights": st.tuples(*[st.floats(0, 9)] * 4) | st.tuples(*[st.floats(0, 9)] * 7), "decay": st.floats(-2, 5),
    "steps": st.integers(0, 300), "seed": st.integers(0, 2**64 - 1),
}  # fmt: skip
CALL = {
    "samples": st.one_of(
        st.lists(st.integers(0, 2**64 - 1), max_size=4),
        st.lists(st.integers(-(2**63), 2**63 - 1), max_size=4).map(lambda v: torch.tensor(v, dtype=torch.int64)),
        st.integers(0, 4).map(range),
        st.lists(st.integers(0, 255), max_size=4).map(lambda v: np.array(v, np.uint8)),
        st.sampled_from([torch.arange(6)[::2], torch.arange(3, dtype=torch.uint8), torch.tensor(4).expand(3)]),
    ),
    "batch_size": st.integers(1, 5), "step": st.integers(0, 2**40) | st.just(torch.tensor(7)),
    "rank": st.integers(0, 2), "world_size": st.integers(1, 4),
    "seed": st.none() | st.integers(0, 2**64 - 1) | st.just(torch.tensor([3])),
    "device": st.sampled_from([None, "cpu", torch.device("cpu")]),
    "backend": st.sampled_from(["auto", "cpu", "reference"]),
    "outputs": st.sets(st.sampled_from(["mask", "ids_keep", "ids_mask", "ids_restore"]), min_size=1).map(",".join),
}  # fmt: skip


def one_count(values: dict) -> dict:
    """Of mask_ratio and num_visible the first, if both are there; both are refused together."""
    return {n: v for n, v in values.items() if n != "num_visible" or "mask_ratio" not in values}


colors = arguments(COLOR, optional=tuple(n for n in COLOR if n not in ("grid", "num_visible")))
blues = arguments(BLUE, optional=tuple(n for n in BLUE if n not in ("grid", "num_visible")))
BY_SAMPLE = {n: s for n, s in CALL.items() if n not in ("batch_size", "step", "rank", "world_size")}
BY_STEP = {n: s for n, s in CALL.items() if n != "samples"} | {
    "rank": st.integers(0, 2),
    "world_size": st.integers(3, 4),
}
SETTINGS = ("seed", "device", "backend", "outputs")
calls = arguments(BY_SAMPLE, optional=SETTINGS) | arguments(BY_STEP, optional=SETTINGS) | arguments(CALL)


def tensors(*dtypes, rank: int, largest: int = 6):
    """Of a random shape and type: sometimes empty, of another rank, strided or expanded."""

    @st.composite
    def make(draw):
        shape = draw(st.lists(st.integers(1, largest), min_size=rank, max_size=rank))
        if draw(st.integers(0, 9)) == 0:
            shape = draw(st.lists(st.integers(0, largest), max_size=rank + 1))
        dtype = draw(st.sampled_from(dtypes))
        generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
        values = torch.randn(shape, generator=generator, dtype=torch.float64) * 3
        if dtype.is_floating_point and draw(st.integers(0, 3)) == 0 and values.numel():
            special = torch.tensor([math.nan, math.inf, -math.inf, -0.0, 0.0, 1e38], dtype=torch.float64)
            values.view(-1)[:: draw(st.integers(1, 3))] = special[draw(st.integers(0, 5))]
        tensor = values.to(dtype) if dtype.is_floating_point else (values.abs() * 9).to(dtype)
        if draw(st.booleans()) and tensor.dim() > 1:
            tensor = tensor.transpose(0, -1).contiguous().transpose(0, -1)
        return tensor

    return make()
