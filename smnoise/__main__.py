# SPDX-License-Identifier: Apache-2.0
"""`python -m smnoise`: what runs here and why not; `verify`: known answers; `convert`: weights of other programs.

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
    *("color_mask", "color_noise", "gaussian_filter", "optim_blue", "random_words"),
    *("strategy_mask", "threshold"),
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
    if backend is not None and backend not in backends.NAMES:
        raise ValueError(f"backend must be one of {', '.join(backends.NAMES)}; got {backend!r}")
    known = conformance.shipped(sections) if path is None else conformance.load(path, sections)
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
        summary = {"file": None if path is None else str(path), "results": rows, "cannot run": reasons}
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


def convert(options: argparse.Namespace) -> int:
    """Convert weights, and say what they are and what was assumed."""
    try:
        from .convert import convert_files
        from .convert.architecture import to_json
    except ModuleNotFoundError as error:
        raise RuntimeError(f"{error.name} is missing: pip install 'smnoise[train]'") from error
    converted = convert_files(
        options.source,
        options.out,
        options.to,
        max_bytes=options.max_gib << 30,
        grid=tuple(options.grid) if options.grid else None,
        heads=options.heads,
        decoder_heads=options.decoder_heads,
        positions=options.positions,
    )
    config = to_json(converted.config)
    if options.json:
        print(
            json.dumps(
                {"config": config, "tensors": len(converted.state), "notes": converted.notes}, indent=2
            )
        )
        return 0
    print(f"{options.out}: {len(converted.state)} tensors in the {options.to} layout")
    print("\n".join(f"  {name}: {value}" for name, value in config.items()))
    print("\n".join(converted.notes))
    return 0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="smnoise", description=__doc__)
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    commands = parser.add_subparsers(dest="command")
    checker = commands.add_parser("verify", help="check known answers against the backends that can run")
    checker.add_argument(
        "file", type=Path, nargs="?", help="default: those of the contract and its extensions"
    )
    checker.add_argument("--backend", help="this one only; an error if it cannot run")
    checker.add_argument("--section", action="append", help="this section only; may be repeated")
    checker.add_argument("--json", action="store_true", default=argparse.SUPPRESS)
    converter = commands.add_parser("convert", help="weights of VideoMAE or AudioMAE into another layout")
    converter.add_argument("source", type=Path, help="file, folder or training run; its keys tell its layout")
    converter.add_argument("out", type=Path, help="new folder; for the official layout also a .pth file")
    converter.add_argument("--to", default="smnoise", help="smnoise, huggingface or official")
    converter.add_argument(
        "--grid", type=int, nargs="+", help="tokens of the usual input: T H W, or time frequency"
    )
    converter.add_argument("--heads", type=int, help="of the encoder, where its width is not a published one")
    converter.add_argument("--decoder-heads", type=int, help="likewise of the decoder")
    converter.add_argument(
        "--positions", help="right or published, for an AudioMAE without a table of positions"
    )
    converter.add_argument("--max-gib", type=int, default=16, help="refuse larger files")
    converter.add_argument("--json", action="store_true", default=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.command is None:
        return print_status(options.json)
    try:
        if options.command == "convert":
            return convert(options)
        return verify(options.file, options.backend, options.section, options.json)
    except (TypeError, ValueError, OSError, RuntimeError, ImportError) as error:
        print(f"smnoise {options.command}: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
