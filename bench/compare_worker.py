# SPDX-License-Identifier: Apache-2.0
"""One side of bench/compare.py: times the masks of whichever smnoise PYTHONPATH leads to, as it is asked on its input.

Answers each line of JSON with one: {"case": [workload, name], "calls": n} with microseconds a call, or, without calls,
with a hash of the masks. It may run with an smnoise much older than this file, so that it says what is missing there
instead of failing.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from functools import cache
from pathlib import Path

import torch

import smnoise

sys.path.insert(0, str(Path(__file__).parents[1]))  # this tree's strategies, made by that smnoise

BATCHES_COMPARED = 2


@cache
def sampler_of(name: str, grid: tuple[int, ...], visible: int):
    """As workloads.sampler_of; before there was smnoise.strategy, the samplers that there were."""
    if hasattr(smnoise, "strategy"):
        from bench import workloads

        return workloads.sampler_of(name, grid, visible)
    short, _, variant = name.partition(", ")
    parameters = {"": {}, "wrap": {"boundary": "wrap"}, "independent": {"masks": "independent"}}[variant]
    kind = getattr(smnoise, short.title().replace("-", ""))  # green-3d: Green3D
    return kind(grid, num_visible=visible, **parameters)


def masks_hash(sampler, batch: int) -> str:
    """Of all outputs of a few batches."""
    digest = hashlib.sha256()
    for step in range(BATCHES_COMPARED):
        masks = sampler(batch_size=batch, step=step)
        for output in (masks.mask, masks.ids_keep, masks.ids_mask, masks.ids_restore):
            digest.update(output.numpy().tobytes())
    return digest.hexdigest()


def microseconds(sampler, batch: int, calls: int) -> float:
    step = torch.zeros((), dtype=torch.int64)
    begin = time.perf_counter()
    for _ in range(calls):
        step.add_(1)
        sampler(batch_size=batch, step=step)
    return 1e6 * (time.perf_counter() - begin) / calls


def answer(asked: dict) -> dict:
    if "threads" in asked:
        torch.set_num_threads(asked["threads"])
        return {"smnoise": smnoise.__file__}
    try:
        sampler = sampler_of(asked["name"], tuple(asked["grid"]), asked["visible"])
        if "calls" not in asked:
            return {"masks": masks_hash(sampler, asked["batch"])}
    except (AttributeError, ImportError, TypeError, ValueError) as error:
        return {"missing": f"{type(error).__name__}: {error}"}
    return {"microseconds": microseconds(sampler, asked["batch"], asked["calls"])}


def main() -> None:
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
