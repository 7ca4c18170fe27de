# SPDX-License-Identifier: Apache-2.0
"""`python -m smnoise`: what runs here and why not; `python -m smnoise verify`: known answers.

Exit codes: 0 all well, 1 an answer is wrong, 2 the command or the file is not usable.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from pathlib import Path

import torch

from . import __version__, backends, conformance
from .backends import cpu

OPS = (
    *("color_mask", "color_noise", "gaussian_filter", "optim_blue", "threshold"),
    *("decoder_tokens", "gather_patches", "patch_loss"),
)


def status() -> dict:
    """Versions, and for each op, device and backend the reason why it cannot run (None: it can)."""
    return {
        "smnoise": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "cpu": {
            "instruction sets": list(cpu.isas()),
            "threads": cpu.threads(),
            "uses torch's OpenMP": bool(cpu._parallel()),
        },
        "ops": {
            op: {d: {b: backends.reason(b, op, d) for b in backends.NAMES} for d in ("cpu", "cuda")}
            for op in OPS
        },
    }


def print_status(as_json: bool) -> int:
    table = status()
    if as_json:
        print(json.dumps(table, indent=2))
        return 0
    print(f"smnoise {table['smnoise']}, torch {table['torch']}, Python {table['python']}, {table['machine']}")
    core = table["cpu"]
    if not core["uses torch's OpenMP"]:
        print("CPU backend: torch here brings no OpenMP runtime with GOMP_parallel, so masks use one thread")
    print(f"CPU backend: {', '.join(core['instruction sets']) or 'not built'}; {core['threads']} threads\n")
    print(f"{'op':<16}{'device':<8}{'backend':<12}runs")
    for op, devices in table["ops"].items():
        for device, reasons in devices.items():
            for backend, why in reasons.items():
                print(f"{op:<16}{device:<8}{backend:<12}{'yes' if why is None else 'no: ' + why}")
    return 0


def verify(path: Path | None, backend: str | None, sections: list[str] | None, as_json: bool) -> int:
    """Check known answers against one backend, or against each that can run."""
    path = conformance.built_in() if path is None else path
    if backend is not None and backend not in backends.NAMES:
        raise ValueError(f"backend must be one of {', '.join(backends.NAMES)}; got {backend!r}")
    known = conformance.load(path, sections)
    reasons = {b: backends.reason(b, "color_mask", backends.device_of(b)) for b in backends.NAMES}
    if backend is not None:
        backends.choose("color_mask", backend, backends.device_of(backend))  # raises with the reason
        chosen = [backend]
    else:
        chosen = [b for b, why in reasons.items() if why is None]
    results = [r for b in chosen for r in conformance.run(known, b)]
    failed = [r for r in results if not r.passed]
    if as_json:
        rows = [{**r._asdict(), "passed": r.passed} for r in results]
        summary = {"file": str(path), "results": rows, "cannot run": reasons}
        print(json.dumps(summary, indent=2))
        return bool(failed)
    for r in failed:
        print(f"FAILED {r.backend} {r.entry}\n  expected {r.expected}\n  got      {r.got}")
    for b in backends.NAMES:
        if b in chosen:
            of_backend = [r for r in results if r.backend == b]
            print(f"{b}: {sum(r.passed for r in of_backend)} of {len(of_backend)} known answers")
        elif backend is None:
            print(f"{b}: not checked: {reasons[b]}")
    return bool(failed)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="smnoise", description=__doc__)
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    commands = parser.add_subparsers(dest="command")
    checker = commands.add_parser("verify", help="check known answers against the backends that can run")
    checker.add_argument("file", type=Path, nargs="?", help="default: the contract's own kat.json")
    checker.add_argument("--backend", help="this one only; an error if it cannot run")
    checker.add_argument("--section", action="append", help="this section only; may be repeated")
    checker.add_argument("--json", action="store_true", default=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.command is None:
        return print_status(options.json)
    try:
        return verify(options.file, options.backend, options.section, options.json)
    except (TypeError, ValueError, OSError, RuntimeError) as error:
        print(f"smnoise verify: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
