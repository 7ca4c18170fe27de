# SPDX-License-Identifier: Apache-2.0
"""This working tree beside another commit of it: the same batches of masks, in two processes that take turns.

`python -m bench --base REF`. The other commit is checked out beside and built there. Where its masks are not the same
bits there is no ratio: that would compare different things.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

from .about import ROOT, git
from .workloads import WORKLOADS, check_sampler, make_sampler


class Side:
    """A worker with the smnoise of a folder."""

    def __init__(self, folder: Path, command: tuple[str, ...] = ()):
        self.process = subprocess.Popen(
            command or (sys.executable, str(Path(__file__).with_name("compare_worker.py"))),
            env={**os.environ, "PYTHONPATH": str(folder), "PYTHONSAFEPATH": "1"},
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, **asked) -> dict:
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the worker of {self.process.args} ended with status {self.process.wait()}")
        return json.loads(line)

    def __enter__(self) -> Side:
        return self

    def __exit__(self, *_) -> None:
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


@contextmanager
def checkout(ref: str) -> Iterator[Path]:
    """A worktree of another commit, its library built in place; removed afterwards."""
    if git("rev-parse", "--verify", f"{ref}^{{commit}}") is None:
        sys.exit(f"--base {ref}: git knows no such commit")
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "base"
        subprocess.run(
            ["git", "worktree", "add", "--detach", "--quiet", str(tree), ref], cwd=ROOT, check=True
        )
        try:
            build = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"]
            subprocess.run(build, cwd=tree, check=True, stdout=subprocess.DEVNULL)
            yield tree
        finally:
            shutil.rmtree(tree)
            subprocess.run(["git", "worktree", "prune"], cwd=ROOT, check=True)


def compare(here: Side, base: Side, seconds: float, rounds: int = 9) -> dict:
    """Microseconds a mask of both and their ratio, one thread, for every strategy of the workloads."""
    found: dict[str, dict[str, dict]] = {}
    where = [side.ask(threads=1)["smnoise"] for side in (here, base)]
    if where[0] == where[1]:
        raise RuntimeError(f"both sides import {where[0]}: there is nothing to compare")
    for workload, w in WORKLOADS.items():
        for name in w.strategies:
            case = {"name": name, "grid": w.grid, "visible": w.visible, "batch": w.batch}
            mine, theirs = here.ask(**case), base.ask(**case)
            row = found.setdefault(workload, {})[name] = {}
            if "missing" in mine or "missing" in theirs:
                row["missing"] = "not here" if "missing" in mine else "not in the other commit"
                continue
            if mine["masks"] != theirs["masks"]:
                row["missing"] = "OTHER MASKS THAN IN THE OTHER COMMIT"
                continue
            times: tuple[list[float], list[float]] = ([], [])
            calls = max(1, round(seconds * 1e6 / rounds / here.ask(**case, calls=1)["microseconds"]))
            for number in range(rounds):
                sides = [(here, times[0]), (base, times[1])]
                for side, kept in sides[:: 1 if number % 2 else -1]:
                    kept.append(side.ask(**case, calls=calls)["microseconds"] / w.batch)
            mine, theirs = (median(kept) for kept in times)
            ratios = [a / b for a, b in zip(*times, strict=True)]
            row |= {"here": round(mine, 3), "base": round(theirs, 3), "ratio": round(median(ratios), 4)}
    return found


def measure(ref: str, seconds: float) -> dict:
    for workload, w in WORKLOADS.items():
        for name in w.strategies:
            check_sampler(name, make_sampler(workload, name), w.batch)
    with ExitStack() as stack:
        tree = stack.enter_context(checkout(ref))
        here, base = (stack.enter_context(Side(folder)) for folder in (ROOT, tree))
        return {
            "base": ref,
            "base commit": git("rev-parse", ref),
            "microseconds a mask": compare(here, base, seconds),
        }


def table(results: dict) -> str:
    lines = [f"| µs a mask, 1 thread | here | {results['base']} | ratio |", "|---|---:|---:|---:|"]
    absent: dict[str, list[str]] = {}
    for workload, rows in results["microseconds a mask"].items():
        for name, row in rows.items():
            if why := row.get("missing"):
                absent.setdefault(why, []).append(f"{name}, {workload}")
            else:
                cells = f"{row['here']:.2f} | {row['base']:.2f} | {row['ratio']:.3f}x"
                lines.append(f"| {name}, {workload} | {cells} |")
    return "\n".join([*lines, *(f"\n{why}: {'; '.join(names)}" for why, names in absent.items())])
