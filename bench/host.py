# SPDX-License-Identifier: Apache-2.0
"""Counts the instructions of a call from Python, and writes bench/results/host.json and .md.

python -m bench.host            # minutes; needs valgrind with its headers, and a C compiler
python -m bench.host --base REF   # beside another commit, in the same run
python -m bench.host --before host.json   # beside an earlier result of this program, or what that stands beside

Grids of four tokens leave the way there and back: what a sampler's call costs beside the masks. Counts of callgrind do
not depend on what else a machine does. Valgrind shows programs a processor with AVX2 and without AVX-512. The CUDA path
runs over the stand-in for the driver of tests/ptx, whose launches do nothing here: what is counted is Python's part.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from smnoise.files import write_text

from .about import ROOT, about
from .compare import checkout
from .host_worker import CALLS, NOTHING

HERE = Path(__file__).parent
JSON, TABLE = (HERE / "results" / f"host.{kind}" for kind in ("json", "md"))
YARDSTICK = "torch.rand, topk, scatter_; batch"
NOW = "now"


def counts(tree: Path, requests: Path) -> dict[str, int]:
    """Instructions of one call of each row, with the smnoise of a tree."""
    command = [sys.executable, str(HERE / "host_worker.py"), str(requests)]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((str(tree), str(HERE))),
        "PYTHONSAFEPATH": "1",
        "PYTHONHASHSEED": "0",
        "OMP_NUM_THREADS": "1",
    }
    subprocess.run(
        command, env=environment, cwd=tree, check=True
    )  # compiles the kernels, which takes long in valgrind
    with tempfile.TemporaryDirectory() as folder:
        valgrind = ["valgrind", "-q", "--tool=callgrind", "--instr-atstart=no"]
        valgrind.append(f"--callgrind-out-file={folder}/counts")
        subprocess.run([*valgrind, *command], env=environment, cwd=tree, check=True)
        written = sorted(Path(folder).glob("counts.*"), key=lambda path: int(path.suffix[1:]))
        found = dict(count_of(path.read_text()) for path in written)
    return {name: round((count - found[NOTHING]) / CALLS) for name, count in found.items() if name != NOTHING}


def count_of(text: str) -> tuple[str, int]:
    """Name and instructions of a file of callgrind's."""
    name = re.search(r"^desc: Trigger: Client Request: (.*)$", text, re.MULTILINE)
    total = re.search(r"^totals: (\d+)", text, re.MULTILINE)
    if name is None or total is None:
        raise ValueError("callgrind wrote a file without a count")
    return name[1], int(total[1])


def table(results: dict) -> str:
    """The page: instructions of a call in thousands, a column a commit."""
    columns = results["instructions"]
    base = next((name for name in columns if name != NOW), None)
    lines = [
        "# Instructions of a call from Python",
        "",
        f"Written by bench.host. Grids of four tokens, one thread; thousands of instructions. {results['what']}.",
        "",
        f"| | {' | '.join(columns)} |" + (" of before | of torch |" if base else " of torch |"),
        "|---|" + "---:|" * (len(columns) + 1 + bool(base)),
    ]
    for name, count in columns[NOW].items():
        batch = 1 if re.search(r"batch 1\b", name) else 32
        cells = [f"{column[name] / 1e3:,.1f}" if name in column else "-" for column in columns.values()]
        if base:
            cells.append(f"{count / columns[base][name]:.2f}" if name in columns[base] else "-")
        cells.append(f"{count / columns[NOW][f'{YARDSTICK} {batch}']:.2f}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--base", metavar="REF", help="count this commit too")
    parser.add_argument("--before", type=Path, metavar="FILE", help="an earlier result to show beside")
    options = parser.parse_args()
    columns = {}
    if options.before:
        before = json.loads(options.before.read_text())
        # Of a result that has an earlier one beside it, that; so the same table can be counted anew.
        earlier = {name: column for name, column in before["instructions"].items() if name != NOW}
        columns |= earlier or {before["about"]["commit"][:9]: before["instructions"][NOW]}
    with tempfile.TemporaryDirectory() as folder:
        requests = Path(folder) / "requests.so"
        source = str(HERE / "callgrind_requests.c")
        subprocess.run(
            [os.environ.get("CC", "cc"), "-O2", "-shared", "-fPIC", "-o", str(requests), source], check=True
        )
        if options.base:
            with checkout(options.base) as tree:
                columns[options.base] = counts(tree, requests)
        columns[NOW] = counts(ROOT, requests)
    what = f"Callgrind's count of {CALLS} calls, divided by as many"
    results = {"about": about(), "what": what, "instructions": columns}
    write_text(JSON, json.dumps(results, indent=2) + "\n")
    write_text(TABLE, table(results))
    print(table(results))


if __name__ == "__main__":
    main()
