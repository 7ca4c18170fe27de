# SPDX-License-Identifier: Apache-2.0
"""Check known answers against one backend, or against each that can run here.

    smnoise verify                     # the contract's own answers
    smnoise verify FILE.json           # those of another implementation, in the format of the contract's section 8

The exit code is 1 where one is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional, UseAppendAction

from .commands import FAILED


@dataclass(frozen=True)
class Options:
    """Known answers."""

    file: Positional[Path | None] = None
    """By default the answers of the contract and of its extensions."""
    backend: str | None = None
    """This one only; an error if it cannot run."""
    section: UseAppendAction[tuple[str, ...]] = ()
    """This section only; may be repeated."""
    json: bool = False
    """Print every answer as JSON."""


def run(options: Options) -> int:
    from .. import backends, conformance
    from .output import print_json, progress

    if options.backend is not None and options.backend not in backends.NAMES:
        raise ValueError(f"backend must be one of {', '.join(backends.NAMES)}; got {options.backend!r}")
    file, sections = options.file, list(options.section) or None
    known = conformance.shipped(sections) if file is None else conformance.load(file, sections)
    reasons = {b: backends.reason(b, "color_mask", backends.device_of(b)) for b in backends.NAMES}
    if options.backend is not None:
        backends.choose(
            "color_mask", options.backend, backends.device_of(options.backend)
        )  # raises with the reason
        chosen = [options.backend]
    else:
        chosen = [b for b, why in reasons.items() if why is None]
    results = []
    entries = sum(len(section) if isinstance(section, list) else 1 for section in known.values())
    with progress("checking", len(chosen) * entries) as step:
        for backend in chosen:
            for result in conformance.run(known, backend):
                results.append(result)
                step(1)
    failed = [r for r in results if not r.passed]
    if options.json:
        rows = [{**r._asdict(), "passed": r.passed} for r in results]
        print_json({"file": None if file is None else str(file), "results": rows, "cannot run": reasons})
        return FAILED if failed else 0
    for r in failed:
        print(f"FAILED {r.backend} {r.entry}\n  expected {r.expected}\n  got      {r.got}")
    for b in backends.NAMES:
        if b in chosen:
            of_backend = [r for r in results if r.backend == b]
            print(f"{b}: {sum(r.passed for r in of_backend)} of {len(of_backend)} known answers")
        elif options.backend is None:
            print(f"{b}: not checked: {reasons[b]}")
    return FAILED if failed else 0
