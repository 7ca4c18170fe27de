# SPDX-License-Identifier: Apache-2.0
"""Known answers against backends: any file in the format of contract/kat.json (contract section 8), or of
contract/extensions.json, which has sections of its own for contract/extensions.md.

A section, a key or a value that is not known here is an error: a check that skips proves nothing.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from . import backends, ops, reference
from .spec import ColorSpec, OptimBlueSpec, StrategySpec, as_int, signed64, visible_of_ratio


class Result(NamedTuple):
    """What a backend answered to an entry of the known answers."""

    backend: str
    entry: str
    expected: Any
    got: Any

    @property
    def passed(self) -> bool:
        """Whether the answer is the known one."""
        return self.expected == self.got


def built_in() -> Path:
    """Return the path of the contract's known answers."""
    return Path(__file__).parent / "contract" / "kat.json"


def extensions() -> Path:
    """Return the path of the known answers of the contract's extensions."""
    return Path(__file__).parent / "contract" / "extensions.json"


def shipped(sections: list[str] | None = None) -> dict[str, list[dict]]:
    """Load the known answers that come with the package: the entries of each section, or of the named ones, of both
    files.

    Raises ValueError for the name of a section that there is not.
    """
    known = load(built_in()) | load(extensions())
    if absent := set(sections or ()) - set(known):
        raise ValueError(f"no section {', '.join(sorted(absent))}; there are {', '.join(known)}")
    return {name: known[name] for name in sections or known}


def load(path: Path, sections: list[str] | None = None) -> dict[str, list[dict]]:
    """Load a file of known answers: the entries of each of its sections, all of them known and complete.

    Raises ValueError for a section, a key or a type that the checks below do not know, and OSError for a file that
    cannot be read.
    """
    try:
        file = json.loads(Path(path).read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(file, dict):
        raise ValueError(f"{path} must hold an object of sections, got {type(file).__name__}")
    if not file:
        raise ValueError(f"{path} holds no section: a check of nothing proves nothing")
    if sections:
        absent = set(sections) - set(file)
        if absent:
            raise ValueError(f"{path} has no section {', '.join(sorted(absent))}; it has {', '.join(file)}")
        file = {name: file[name] for name in sections}
    known = {}
    for name, entries in file.items():
        if name not in CHECKS:
            advice = "" if sections else "; to check the others only, name each with --section"
            raise ValueError(
                f"section {name!r} is not known to this version of smnoise (known: {', '.join(CHECKS)}){advice}"
            )
        known[name] = entries if isinstance(entries, list) else [entries]
        _, required, optional = CHECKS[name]
        if not known[name]:
            raise ValueError(f"section {name!r} is empty")
        for i, entry in enumerate(known[name]):
            if not isinstance(entry, dict):
                raise ValueError(f"{name}[{i}] must be an object, got {entry!r}")
            if missing := required - set(entry):
                raise ValueError(f"{name}[{i}] lacks {', '.join(sorted(missing))}")
            if unknown := set(entry) - required - optional:
                raise ValueError(f"{name}[{i}] has unknown parameters: {', '.join(sorted(unknown))}")
            _check_values(f"{name}[{i}]", entry, LENGTHS | OTHER_LENGTHS.get(name, {}))
    return known


# How long the lists of an entry must be, where the contract says so.
LENGTHS = {
    "counter": 4,
    "words": 4,
    "sigmas": 2,
    "sigma1": 2,
    "sigma2": 2,
    "anisotropy": 3,
    "origin": 3,
    "place": 3,
    **dict.fromkeys(("pace", "scale", "aspect", "duration"), 2),
    **dict.fromkeys(("cell", "grid", "size"), 3),
}
OTHER_LENGTHS = {"optim_blue": {"grid": 2, "weights": 4}, "optim_blue_volume": {"weights": 7}}


def _check_values(where: str, entry: dict, lengths: dict[str, int]) -> None:
    """Raise ValueError for what would crash a check, wrap around, or compare nothing."""
    for name in ("seed", "sample"):
        if name in entry:
            as_int(f"{where}: {name}", entry[name], 0, 2**64 - 1)
    for name, length in lengths.items():
        if name in entry and (not isinstance(entry[name], list) or len(entry[name]) != length):
            raise ValueError(f"{where}: {name} must be a list of {length}, got {entry[name]!r}")
    for name in ("counter", "words"):
        for word in entry.get(name, ()):
            as_int(f"{where}: {name}", word, 0, 2**32 - 1)
    for name in ("t", "y", "x", "values", "first_visible"):
        if name in entry and (not isinstance(entry[name], list) or not entry[name]):
            raise ValueError(f"{where}: {name} must be a list of numbers, got {entry[name]!r}")
    own_counts = "counts" in entry or "num_context" in entry
    if "sha256" in entry and not own_counts and ("ratio" in entry) == ("num_visible" in entry):
        raise ValueError(f"{where}: give either ratio or num_visible")


def run(known: dict[str, list[dict]], backend: str) -> Iterator[Result]:
    """Check every entry against one backend, and yield a `Result` for each. Raises ValueError for values that no
    backend could take.
    """
    module = import_module(f"{backends.__name__}.{backend}")
    for section, entries in known.items():
        check = CHECKS[section][0]
        for i, entry in enumerate(entries):
            try:
                expected, got = check(module, backend, entry)
            except (TypeError, ValueError, KeyError, IndexError, OverflowError) as error:
                raise ValueError(f"{section}[{i}]: {error}") from error
            yield Result(backend, f"{section}[{i}]", expected, got)


def _philox(module, backend, entry):
    return entry["words"], [int(w) for w in module.philox(entry["counter"], entry["seed"])]


def _white(module, backend, entry):
    t, y, x = np.meshgrid(entry["t"], entry["y"], entry["x"], indexing="ij")
    if hasattr(module, "white"):
        return entry["values"], module.white(entry["seed"], entry["sample"], t, y, x).flatten().tolist()
    got = []  # a backend of fused kernels: a white field of two tokens at each place, of which the first one counts
    for origin in np.stack([t, y, x], -1).reshape(-1, 3).tolist():
        spec = ColorSpec("white", (1, 1, 2), 1, origin=tuple(origin))
        got.append(ops.color_noise(*_tensors(backend, entry), spec.to_json(), backend).flatten()[0].item())
    return entry["values"], got


def _sigmas(module, backend, entry):
    bank1, bank2 = reference.bank((0.4, 1.5)), reference.bank((1.4, 3.0))
    first = reference.first_partner(bank1, bank2)
    i, j = module.draw_sigmas(entry["seed"], entry["sample"], first)
    return entry["sigmas"], [bank1[i], bank2[j]]


def _green_noise(module, backend, entry):
    sigma1, sigma2 = ((s, s) for s in entry["sigmas"])
    spec = ColorSpec("green", entry["grid"], 1, sigma1=sigma1, sigma2=sigma2)
    noise = ops.color_noise(*_tensors(backend, entry), spec.to_json(), backend)
    return entry["values"], noise.flatten().tolist()


COLOR_PARAMETERS = {"per", "boundary", "anisotropy", "origin", "truncate", "sigma1", "sigma2"}


def _color(module, backend, entry):
    grid = tuple(entry["grid"])
    per_frame = entry.get("per") == "frame"
    parameters = {k: entry[k] for k in COLOR_PARAMETERS & set(entry)}
    spec = ColorSpec(entry["color"], grid, _visible(entry, math.prod(grid[per_frame:])), **parameters)
    return _compare(entry, ops.color_mask(*_tensors(backend, entry), spec.to_json(), backend))


BLUE_PARAMETERS = {"delta", "weights", "decay", "steps"}


def _optim_blue(module, backend, entry):
    parameters = {k: entry[k] for k in BLUE_PARAMETERS & set(entry)}
    spec = OptimBlueSpec(tuple(entry["grid"]), _visible(entry, math.prod(entry["grid"])), **parameters)
    return _compare(entry, ops.optim_blue(*_tensors(backend, entry), spec.to_json(), backend))


STRATEGY_PARAMETERS = {
    *("axis", "pace", "cell"),
    *("size", "scale", "aspect", "duration", "placement", "num_boxes", "inverse"),
}


def _strategy(module, backend, entry):
    parameters = {k: entry[k] for k in STRATEGY_PARAMETERS & set(entry)}
    spec = StrategySpec(entry["kind"], entry["grid"], _visible(entry, math.prod(entry["grid"])), **parameters)
    return _compare(entry, ops.strategy_mask(*_tensors(backend, entry), spec.to_json(), backend))


def _random_words(module, backend, entry):
    count = 4 * as_int("call", entry["call"], 0, 2**16 - 1) + 4
    words = ops.random_words(*_tensors(backend, entry), entry["purpose"], count, backend)
    return entry["words"], words[0, -4:].tolist()


def _counts(module, backend, entry):
    from .samplers import FrameCounts

    parameters = {k: entry[k] for k in ("strategy", "drawn", "seed") if k in entry}
    samples = _tensors(backend, entry)[1]
    masks = FrameCounts(tuple(entry["grid"]), entry["counts"], **parameters)(samples, backend=backend)
    return _compare(entry, masks[:4])


def _levels(module, backend, entry):
    from .samplers import ContextTargets

    names = ("num_context", "num_target", "target_sets", "strategy", "seed")
    sampler = ContextTargets(tuple(entry["grid"]), **{k: entry[k] for k in names if k in entry})
    sets = sampler.sets(_tensors(backend, entry)[1], backend=backend)
    label = np.ones(sampler.num_tokens, np.uint8)
    label[sets.context.need("ids_keep")[0].cpu()] = 0
    for j, ids in enumerate(sets.targets[0].cpu()):
        label[ids] = 2 + j
    return entry["sha256"], hashlib.sha256(label.tobytes()).hexdigest()


def _coupled(module, backend, entry):
    from .strategies import pair_from_json

    pair = pair_from_json(json.dumps(entry["pair"]))
    seed, samples = _tensors(backend, entry)
    masks = pair(samples, seed=seed, backend=backend)
    lines = pair.lines(samples, seed=seed, backend=backend)
    expected: dict[str, Any] = {"lines": entry["lines"]}
    got: dict[str, Any] = {
        "lines": [line[0, : len(own)].tolist() for line, own in zip(lines, entry["lines"], strict=True)]
    }
    for name in ("video", "audio"):
        expected[name], got[name] = _compare(entry[name], getattr(masks, name)[:4])
    return expected, got


def _bias(module, backend, entry):
    device = backends.device_of(backend)
    scores, bias = (
        torch.from_numpy(np.array([entry[n]], np.uint32).view(np.float32)).to(device)
        for n in ("scores", "bias")
    )
    got = ops.add_bias(scores, bias, entry["weight"], backend).cpu().numpy()
    return entry["sum"], got.view(np.uint32)[0].tolist()


def _sigma_table(module, backend, entry):
    from .sigmas import sigma_table

    bank1, bank2 = reference.bank((0.4, 1.5)), reference.bank((1.4, 3.0))
    table = sigma_table(entry["weights"]).tolist()
    drawn = module.draw_sigmas(entry["seed"], entry["sample"], reference.first_partner(bank1, bank2), table)
    return entry["drawn"], list(drawn)


def _origins(module, backend, entry):
    spec = ColorSpec(entry["color"], tuple(entry["grid"]), entry["num_visible"])
    seed, samples = _tensors(backend, entry)
    place = torch.tensor([entry["place"]], device=seed.device)
    return _compare(entry, ops.color_mask(seed, samples, spec.to_json(), backend, origin=place))


def _ragged(module, backend, entry):
    spec = ColorSpec(entry["color"], tuple(entry["grid"]), 1)
    seed, samples = _tensors(backend, entry)
    length, visible = (torch.tensor([entry[n]], device=seed.device) for n in ("length", "num_visible"))
    scores = ops.color_noise(seed, samples, spec.to_json(), backend).flatten(1)
    keep, hide = int(visible), int(length - visible)
    mask, ids_keep, ids_mask, ids_restore = ops.ragged_threshold(scores, length, visible, keep, hide, backend)
    own = mask[:, : entry["length"]], ids_keep, ids_mask, ids_restore[:, : entry["length"]]
    return _compare(entry, own)


def _points(module, backend, entry):
    seed, samples = _tensors(backend, entry)
    sigmas = {n: entry[n] for n in ("sigma1", "sigma2") if n in entry}
    points = torch.tensor([entry["points"]], dtype=torch.float32, device=seed.device)
    spec = ColorSpec(entry["color"], (1, 1, 2), 1, **sigmas)
    return entry["values"], ops.noise_at(seed, samples, points, spec.to_json(), backend)[0].tolist()


def _visible(entry: dict, tokens: int) -> int:
    return entry["num_visible"] if "num_visible" in entry else visible_of_ratio(tokens, entry["ratio"])


def _compare(entry: dict, outputs) -> tuple[dict, dict]:
    """What an entry says of a mask and what the outputs of one sample are; ids that disagree with the mask show up."""
    mask, ids_keep, ids_mask, ids_restore = (v[0].cpu().numpy() for v in outputs)
    expected = {k: entry[k] for k in ("sha256", "visible", "first_visible") if k in entry}
    found = {
        "sha256": hashlib.sha256(np.packbits(mask).tobytes()).hexdigest(),
        "visible": int((~mask).sum()),
        "first_visible": ids_keep[: len(entry.get("first_visible", ()))].tolist(),
    }
    got = {k: found[k] for k in expected}
    kept, hidden = np.flatnonzero(~mask), np.flatnonzero(mask)
    order = np.concatenate([ids_keep, ids_mask])
    if not (
        np.array_equal(ids_keep, kept)
        and np.array_equal(ids_mask, hidden)
        and np.array_equal(order[ids_restore], np.arange(mask.size))
    ):
        got["ids"] = "ids_keep, ids_mask or ids_restore do not agree with the mask"
    return expected, got


def _tensors(backend: str, entry: dict) -> tuple[torch.Tensor, torch.Tensor]:
    device = backends.device_of(backend)
    seed, sample = (torch.tensor(signed64(entry[n]), device=device) for n in ("seed", "sample"))
    return seed, sample[None]


# section: its check, the keys an entry must have, and the keys it may have
CHECKS = {
    "philox": (_philox, {"counter", "seed", "words"}, set()),
    "white": (_white, {"seed", "sample", "t", "y", "x", "values"}, set()),
    "sigmas": (_sigmas, {"seed", "sample", "sigmas"}, set()),
    "green_noise": (_green_noise, {"seed", "sample", "grid", "sigmas", "values"}, set()),
    "color": (
        _color,
        {"color", "seed", "sample", "grid", "sha256"},
        {"ratio", "num_visible", "visible", "first_visible"} | COLOR_PARAMETERS,
    ),
    "optim_blue": (
        _optim_blue,
        {"seed", "sample", "grid", "sha256"},
        {"ratio", "num_visible", "visible", "first_visible"} | BLUE_PARAMETERS,
    ),
    "optim_blue_volume": (
        _optim_blue,
        {"seed", "sample", "grid", "sha256"},
        {"ratio", "num_visible", "visible", "first_visible"} | BLUE_PARAMETERS,
    ),
    "counts": (
        _counts,
        {"strategy", "seed", "sample", "grid", "counts", "sha256"},
        {"drawn", "visible", "first_visible"},
    ),
    "levels": (
        _levels,
        {"strategy", "seed", "sample", "grid", "num_context", "num_target", "sha256"},
        {"target_sets"},
    ),
    "coupled": (_coupled, {"pair", "seed", "sample", "lines", "video", "audio"}, set()),
    "bias": (_bias, {"scores", "bias", "weight", "sum"}, set()),
    "sigma_table": (_sigma_table, {"seed", "sample", "weights", "drawn"}, set()),
    "origins": (
        _origins,
        {"color", "seed", "sample", "grid", "num_visible", "place", "sha256"},
        {"visible", "first_visible"},
    ),
    "ragged": (
        _ragged,
        {"color", "seed", "sample", "grid", "length", "num_visible", "sha256"},
        {"visible", "first_visible"},
    ),
    "points": (_points, {"color", "seed", "sample", "points", "values"}, {"sigma1", "sigma2"}),
    "random_words": (_random_words, {"seed", "sample", "purpose", "call", "words"}, set()),
    "strategy": (
        _strategy,
        {"kind", "seed", "sample", "grid", "sha256"},
        {"ratio", "num_visible", "visible", "first_visible"} | STRATEGY_PARAMETERS,
    ),
}
