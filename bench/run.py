# SPDX-License-Identifier: Apache-2.0
"""Run the CPU benchmark, write bench/results/cpu.json, and refresh the tables of README.md and docs/ from all results.

python bench/run.py              # about four minutes
python bench/run.py --table      # only rewrite the tables from the committed results
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

from smnoise.files import write_text

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "cpu.json"
GPU_RESULTS = HERE / "results" / "gpu.json"
SPREAD = HERE / "results" / "spread" / "spread.json"
DEMO_AUDIO = HERE / "results" / "demo_audio" / "demo.json"
PAGES = (HERE.parent / "README.md", *sorted((HERE.parent / "docs").rglob("*.md")))
YARDSTICK = "MAE random masking"


def measure() -> dict:
    """Median microseconds a mask, for each strategy and thread count."""
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "raw.json"
        options = ["--benchmark-only", f"--benchmark-json={raw}", "--benchmark-min-rounds=30", "-q"]
        command = [sys.executable, "-m", "pytest", str(HERE / "bench_masks.py"), *options]
        subprocess.run([*command, "--benchmark-disable-gc", "--benchmark-warmup=on"], check=True)
        measured = json.loads(raw.read_text())
    import torch

    import smnoise
    from smnoise.backends import cpu

    times: dict[str, dict[str, dict[str, float]]] = {}
    for entry in measured["benchmarks"]:
        info, median = entry["extra_info"], entry["stats"]["median"]
        rows = times.setdefault(info["workload"], {}).setdefault(info["name"], {})
        rows[str(info["threads"])] = round(1e6 * median / info["batch"], 2)
    return {
        "what": "median microseconds a mask, all four outputs",
        "video": "grid (8, 14, 14), ratio 0.9, batch 32",
        "spectrogram": "grid (64, 8), ratio 0.8, batch 160",
        "processor": measured["machine_info"]["cpu"].get("brand_raw", platform.processor()),
        "instruction set": cpu.isa(),
        "smnoise": smnoise.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "date": measured["datetime"][:10],
        "microseconds": times,
    }


def table(results: dict) -> str:
    lines = []
    for workload, times in results["microseconds"].items():
        few, *rest = sorted({int(n) for row in times.values() for n in row})
        many = rest[-1] if rest else few
        yardstick = times[YARDSTICK][str(few)]
        lines += [
            f"| µs a mask, {results[workload]} | {few} thread | of {YARDSTICK} | {many} threads | {many} of {few} |",
            "|---|---:|---:|---:|---:|",
        ]
        for name, row in times.items():
            one, all_threads = row[str(few)], row[str(many)]
            shares = f"{one / yardstick:.2f}x | {all_threads:.1f} | {all_threads / one:.2f}x"
            lines.append(f"| {name} | {one:.1f} | {shares} |")
        lines.append("")

    def share(workload: str, slow: str, fast: str) -> str:
        times = results["microseconds"][workload]
        return f"1/{times[slow]['1'] / times[fast]['1']:.0f}"

    field = share("video", "SciPy band-pass, field", "Green3D, field")
    wrap = share("video", "SciPy band-pass, wrap", "Green3D, wrap")
    blue = share("spectrogram", "Optim Blue in NumPy", "Optim Blue, complementary")
    lines += [
        f"All four outputs; {results['processor']} ({results['instruction set']}), torch {results['torch']}, "
        f"{results['date']}. On one thread Green3D takes {field} of SciPy's time in field mode, {wrap} in wrap mode, "
        f"and Optim Blue {blue} of its NumPy reference's. "
        "Regenerate with `make bench`; the numbers are in [bench/results/cpu.json](bench/results/cpu.json).",
    ]
    return "\n".join(lines)


def gpu_table() -> str:
    """What bench/gpu found, or that it has not run."""
    if not GPU_RESULTS.exists():
        return (
            "On a GPU: **not measured yet**, for want of a machine. `python bench/gpu` on a machine with one runs the "
            "tests, NVIDIA's sanitizer and the benchmark, and this table then shows what came out."
        )
    results = json.loads(GPU_RESULTS.read_text())
    floors = results.get("arithmetic floor, microseconds a batch", {})
    lines = []
    for workload, grid in (("masks", "(8, 14, 14)"), ("spectrogram masks", "(64, 8)")):
        times = results.get(f"{workload}, microseconds a batch", {})
        if workload == "masks":
            times |= {f"arithmetic floor, {n}": row for n, row in floors.items()}
        batches = sorted({int(b) for row in times.values() for b in row})
        lines += [
            f"| µs a batch, grid {grid} | " + " | ".join(f"batch {b}" for b in batches) + " |",
            "|---|" + "---:|" * len(batches),
        ]
        for name, row in times.items():
            lines.append(f"| {name} | " + " | ".join(f"{row[str(b)]:.1f}" for b in batches) + " |")
        lines.append("")
    failed = [n for n, r in results["sanitizer"].items() if not (isinstance(r, dict) and r["passed"])]
    lines += [
        f"{results['device']}, torch {results['torch']}, {results['date']}; graph replays, medians. "
        f"Tests: {results['tests']['summary']}. compute-sanitizer: {', '.join(failed) or 'nothing'} failed.",
    ]
    return "\n".join(lines)


def spread_table() -> str:
    """What bench/spread.py found."""
    results = json.loads(SPREAD.read_text())
    lines = [
        "| | nearest visible token | with a visible 4-neighbour | 8-neighbour | largest void | a token is visible |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, row in results["strategies"].items():
        lines.append(
            f"| {name} | {row['nearest']:.2f} | {row['touching4']:.3f} | {row['touching8']:.2f} | {row['void']:.2f} | "
            f"{row['seen_least']:.2f} to {row['seen_most']:.2f} |"
        )
    return "\n".join(
        [*lines, "", f"Distances in tokens; {results['what']}. Regenerate with `python bench/spread.py`."]
    )


def demo_audio_table() -> str:
    """What make demo-audio found."""
    results = json.loads(DEMO_AUDIO.read_text())
    found = results["mean and standard deviation over seeds"]
    names = {"optim-blue": "Optim Blue", "random": "random", "untrained": "not trained"}
    columns = ("few-label accuracy", "few-label mAP", "accuracy", "mAP")
    lines = ["| masks | " + " | ".join(columns) + " |", "|---|" + "---:|" * len(columns)]
    for name, title in names.items():
        cells = [f"{found[name][c]['mean']:.3f} ± {found[name][c]['std']:.3f}" for c in columns]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    pieces = (
        f"{results['pieces to train']} pieces of ten seconds to train on, {results['pieces to test']} to test"
    )
    return "\n".join(
        [*lines, "", f"Mean and deviation of three seeds; {pieces}; few labels: {results['few labels']}."]
    )


def blocks() -> dict[str, str]:
    """What stands between the marks of each name, in README.md or a page of docs/."""
    return {
        "bench": f"{table(json.loads(RESULTS.read_text()))}\n\n{gpu_table()}",
        "spread": spread_table(),
        "demo-audio": demo_audio_table(),
    }


def refresh_pages() -> None:
    for name, block in blocks().items():
        begin, end = f"<!-- {name}: written by bench/run.py -->", f"<!-- {name}: end -->"
        page = next(p for p in PAGES if begin in p.read_text())
        before, rest = page.read_text().split(begin)
        write_text(page, f"{before}{begin}\n{block}\n{end}{rest.split(end)[1]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--table", action="store_true", help="do not measure; rewrite the table only")
    if not parser.parse_args().table:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(measure(), indent=2, ensure_ascii=False) + "\n")
    refresh_pages()
    print(*blocks().values(), sep="\n\n")


if __name__ == "__main__":
    main()
