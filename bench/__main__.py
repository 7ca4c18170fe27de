# SPDX-License-Identifier: Apache-2.0
"""Run the CPU benchmark, write bench/results/, and refresh the tables of README.md and docs/ from all results.

python -m bench                     # all parts, about a quarter of an hour on two idle cores
python -m bench masks pools         # only these
python -m bench --quick --out DIR   # minutes, rough: to try things; no table is written
python -m bench --table             # only rewrite the tables and pictures from the committed results
python -m bench --base REF          # the strategies beside another commit, in turns; writes base.json

A part refuses to time what is wrong: every strategy must have the reference's bits, everything else exact counts.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from smnoise.files import write_text

from . import evidence, tables

HERE = Path(__file__).parent


def masks(quick: bool) -> dict:
    """Median microseconds a mask of every strategy and of the others, by pytest-benchmark: the best of four passes,
    a minute apart, since on a shared machine one row or another meets a busy neighbour."""
    from .workloads import WORKLOADS

    found = {
        name: {
            "what": w.what,
            "batch": w.batch,
            "microseconds a mask": {"cpu": {}, "reference": {}, "others": {}},
        }
        for name, w in WORKLOADS.items()
    }
    for entry in [entry for _ in range(1 if quick else 4) for entry in one_pass(quick)]:
        info, median = entry["extra_info"], entry["stats"]["median"]
        rows = found[info["workload"]]["microseconds a mask"][info["backend"]]
        row, threads = rows.setdefault(info["name"], {}), str(info["threads"])
        row[threads] = min(row.get(threads, math.inf), round(1e6 * median / info["batch"], 2))
    return {"what": "median microseconds a mask, the best of four passes", "workloads": found}


def one_pass(quick: bool) -> list[dict]:
    """What pytest-benchmark measured of each test of bench_masks.py."""
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "raw.json"
        options = ["--benchmark-only", f"--benchmark-json={raw}", "-q", "-p", "no:cacheprovider"]
        options += [
            f"--benchmark-max-time={0.02 if quick else 0.2}",
            f"--benchmark-min-rounds={3 if quick else 10}",
        ]
        options += ["--benchmark-disable-gc", *([] if quick else ["--benchmark-warmup=on"])]
        options += ["--benchmark-warmup-iterations=20"]
        subprocess.run([sys.executable, "-m", "pytest", str(HERE / "bench_masks.py"), *options], check=True)
        return json.loads(raw.read_text())["benchmarks"]


def scaling(quick: bool) -> dict:
    from . import scaling

    return scaling.measure(0.02 if quick else 0.8, few=quick)


def pools(quick: bool) -> dict:
    from . import pools

    return pools.measure(0.02 if quick else 0.5, few=quick)


def share(quick: bool) -> dict:
    from . import share

    return {"sizes": share.measure(0.02 if quick else 1.0, 1 if quick else 9)}


def step(quick: bool) -> dict:
    from . import step

    return step.measure(1, ["tiny"]) if quick else step.measure(7)


PARTS = {"masks": masks, "scaling": scaling, "pools": pools, "share": share, "step": step}
FILES = {"masks": "cpu.json"} | {part: f"{part}.json" for part in ("scaling", "pools", "share", "step")}


def draw(part: str, folder: Path) -> None:
    """The pictures and pages of a part, from its results."""
    results = json.loads((folder / FILES[part]).read_text())
    if part == "masks":
        write_text(folder / "cpu.md", tables.cpu_page(results))
    elif part == "scaling":
        from . import scaling

        scaling.draw(results, folder / "scaling.png")
    elif part == "pools":
        from . import pools

        pools.draw(results, folder / "pools.png")


def blocks() -> dict[str, str]:
    """What stands between the marks of each name, in README.md or docs/; of parts that have results."""
    texts = {
        "bench": ("masks", lambda r: f"{tables.cpu_table(r)}\n\n{tables.gpu_table()}"),
        "scaling": ("scaling", tables.scaling_text),
        "pools": ("pools", tables.pools_text),
        "share": ("share", tables.share_text),
        "step": ("step", tables.step_text),
    }
    found = {
        name: text(json.loads((tables.RESULTS / FILES[part]).read_text()))
        for name, (part, text) in texts.items()
        if (tables.RESULTS / FILES[part]).exists()
    }
    return {
        **found,
        "spread": tables.spread_table(),
        "visibility": tables.visibility_table(),
        "demo-audio": tables.demo_audio_table(),
        "demo-av": tables.demo_av_table(),
        "evidence": evidence.evidence_table(),
    }


def refresh(texts: dict[str, str], root: Path = HERE.parent) -> None:
    """Put each text between its marks, in README.md or in a page of docs/. A text without a place is named."""
    pages = [root / "README.md", *sorted((root / "docs").rglob("*.md"))]
    for name, block in texts.items():
        begin, end = f"<!-- {name}: written by python -m bench -->", f"<!-- {name}: end -->"
        found = [page for page in pages if page.read_text().count(begin) == page.read_text().count(end) == 1]
        if not found:
            print(
                f"no page has a place for {name}: put these two lines there once:\n{begin}\n{end}",
                file=sys.stderr,
            )
        for page in found:
            above = "../" * (
                len(page.relative_to(root).parts) - 1
            )  # links are from the top of the repository
            before, rest = page.read_text().split(begin)
            shown = block.replace("](bench/", f"]({above}bench/")
            write_text(page, f"{before}{begin}\n{shown}\n{end}{rest.split(end)[1]}")


def against(ref: str, quick: bool, folder: Path) -> None:
    from . import compare
    from .about import about

    results = {"about": about(), **compare.measure(ref, 0.02 if quick else 0.5)}
    write_text(folder / "base.json", json.dumps(results, indent=2) + "\n")
    print(compare.table(results))


def options_of(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line, checked."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.split("\n")[0])
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"{', '.join([*PARTS, 'spread'])}; by default all"
    )
    parser.add_argument("--quick", action="store_true", help="few rounds and points, to try things")
    parser.add_argument(
        "--out", type=Path, default=None, help="folder for results; with --quick it must be given"
    )
    parser.add_argument(
        "--table", action="store_true", help="do not measure; rewrite tables and pictures only"
    )
    parser.add_argument("--base", metavar="REF", help="compare with this commit instead")
    options = parser.parse_args(arguments)
    options.parts = options.parts or [*PARTS, "spread"]
    if unknown := set(options.parts) - {*PARTS, "spread"}:
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join([*PARTS, 'spread'])}")
    if options.quick and options.out is None:
        parser.error("--quick measures roughly: give a folder with --out, so that no good result is replaced")
    return options


def main() -> None:
    options = options_of()
    folder = options.out or tables.RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    if options.base:
        return against(options.base, options.quick, folder)
    if not options.table:
        from .about import about

        if (busy := os.getloadavg()[0]) > 0.5:
            print(
                f"bench: {busy:.1f} processes were busy in the last minute; times will suffer",
                file=sys.stderr,
            )
        for part in (p for p in PARTS if p in options.parts):
            print(f"bench: {part}", flush=True)
            results = {"about": about(), **PARTS[part](options.quick)}
            write_text(folder / FILES[part], json.dumps(results, indent=2, ensure_ascii=False) + "\n")
        if "spread" in options.parts and options.out is None:
            for measured in ("spread", "visibility"):
                subprocess.run([sys.executable, "-m", f"bench.{measured}"], cwd=HERE.parent, check=True)
    for part in PARTS:
        if (folder / FILES[part]).exists():
            draw(part, folder)
    if options.out is None:
        if (gpu := tables.RESULTS / "gpu.json").exists():
            write_text(
                tables.RESULTS / "gpu.md",
                f"# Time of masks on a GPU\n\n{tables.gpu_table(gpu, every=True)}\n",
            )
        texts = blocks()
        refresh(texts)
        print(*texts.values(), sep="\n\n")


if __name__ == "__main__":
    main()
