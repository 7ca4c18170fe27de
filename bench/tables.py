# SPDX-License-Identifier: Apache-2.0
"""Results as text: tables for README.md and bench/results/cpu.md, from the JSON files in bench/results alone."""

from __future__ import annotations

import json
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
YARDSTICK = "MAE random masking"
SHOWN = {  # in README.md; cpu.md has all
    "video": ("green-3d", "green-3d, wrap", "random", "tube", "multiblock"),
    "spectrogram": ("optim-blue", "random"),
}
OTHERS = {  # beside them: what people use, the quickest of it too
    "video": (
        YARDSTICK,
        "random, top-k and scatter",
        "VideoMAE tubes, NumPy",
        "ColorMAE's pool",
        "SciPy band-pass, field",
    ),
    "spectrogram": (YARDSTICK, "random, top-k and scatter", "Optim Blue, NumPy"),
}


def measured_on(about: dict) -> str:
    """Where and with what a result was measured."""
    changed = " and uncommitted changes" if about["uncommitted changes"] else ""
    return (
        f"{about['processor']} ({about['instruction set']}), {about['cores']} cores, torch {about['torch']}, "
        f"NumPy {about['numpy']}, commit {(about['commit'] or 'unknown')[:9]}{changed}, {about['date']}"
    )


def cpu_rows(results: dict, workload: str) -> list[str]:
    """The table of a workload, all of it."""
    chosen = results["workloads"][workload]
    batch, times = chosen["batch"], chosen["microseconds a mask"]
    few, *rest = sorted({int(n) for row in times["cpu"].values() for n in row})
    many = rest[-1] if rest else few
    yardstick = times["others"][YARDSTICK][str(few)]
    lines = [
        f"| {chosen['what']} | µs a batch, {few} thread | masks a second | {many} threads | masks a second | "
        f"of {YARDSTICK} |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    ours = times["cpu"]
    for name, row in {**ours, **times["others"]}.items():
        cells = " | ".join(
            f"{row[str(n)] * batch:,.0f} | {1e6 / row[str(n)]:,.0f}" if str(n) in row else "- | -"
            for n in (few, many)
        )
        title = f"**{name}**" if name in ours else name
        lines.append(f"| {title} | {cells} | {row[str(few)] / yardstick:.3f}x |")
    return lines


def cpu_table(results: dict) -> str:
    chosen = results["workloads"]
    few, *rest = sorted(
        {int(n) for row in chosen["video"]["microseconds a mask"]["cpu"].values() for n in row}
    )
    many = rest[-1] if rest else few
    lines = [
        f"| | µs a mask, {few} thread | {many} threads | masks a second, {few} thread | of {YARDSTICK} |",
        "|---|---:|---:|---:|---:|",
    ]
    for workload, shown in SHOWN.items():
        times = chosen[workload]["microseconds a mask"]
        yardstick = times["others"][YARDSTICK][str(few)]
        lines.append(f"| *{chosen[workload]['what']}* | | | | |")
        ours = {f"**{name}**": times["cpu"][name] for name in shown}
        for name, row in {
            **ours,
            **{n: times["others"][n] for n in OTHERS[workload] if n in times["others"]},
        }.items():
            cells = " | ".join(f"{row[str(n)]:,.1f}" if str(n) in row else "-" for n in (few, many))
            one = row[str(few)]
            lines.append(f"| {name} | {cells} | {1e6 / one:,.0f} | {one / yardstick:.3f}x |")
    lines.append("")

    def share(workload: str, fast: str, slow: str) -> str:
        times = results["workloads"][workload]["microseconds a mask"]
        return f"1/{times['others'][slow]['1'] / times['cpu'][fast]['1']:.0f}"

    field = share("video", "green-3d", "SciPy band-pass, field")
    wrap = share("video", "green-3d, wrap", "SciPy band-pass, wrap")
    blue = share("spectrogram", "optim-blue", "Optim Blue, NumPy")
    lines += [
        "Bold: smnoise, all four outputs, same bits as the reference; the others give what their code gives, checked "
        "for exact counts. Medians, the best of four passes; freed memory stays with the process, for all. "
        f"{measured_on(results['about'])}. On one thread Green3D takes {field} of SciPy's time in field mode, {wrap} "
        f"in wrap mode, and Optim Blue {blue} of its NumPy reference's. Regenerate with `make bench`. "
        "[All strategies](bench/results/cpu.md); the numbers are in [cpu.json](bench/results/cpu.json).",
    ]
    return "\n".join(lines)


def cpu_ratios(results: dict) -> list[str]:
    """What is asked of the C++ core: ratios of rows of one run, for each instruction set that was timed."""
    times = {name: w["microseconds a mask"] for name, w in results["workloads"].items()}
    own, topk = (
        results["about"]["instruction set"],
        times["video"]["others"]["random, top-k and scatter"]["1"],
    )
    mae = times["spectrogram"]["others"][YARDSTICK]["1"]
    asked = [
        *(("video", name, topk, "random, top-k and scatter") for name in ("green-3d", "green-3d, wrap")),
        *(("video", name, topk, "random, top-k and scatter") for name in ("random", "tube")),
        ("spectrogram", "optim-blue", mae, YARDSTICK),
    ]
    lines = [
        "| one thread | instruction set | µs a mask | ratio | of | two threads of one |",
        "|---|---|---:|---:|---|---:|",
    ]
    for workload, name, yardstick, called in asked:
        rows = times[workload]["cpu"]
        for row_name, row in rows.items():
            base, _, isa = row_name.partition("; ")
            if base == name:
                both = f"{row['2'] / row['1']:.2f}x" if "2" in row else "-"
                cells = f"{isa or own} | {row['1']:.2f} | {row['1'] / yardstick:.2f}x | {called} | {both}"
                lines.append(f"| {name} | {cells} |")
    return lines


def cpu_page(results: dict) -> str:
    """bench/results/cpu.md: every strategy, on both backends of a CPU."""
    lines = [
        "# Time of masks on a CPU",
        "",
        f"Written by `python -m bench`. {measured_on(results['about'])}.",
        "",
    ]
    for workload, chosen in results["workloads"].items():
        lines += [*cpu_rows(results, workload), ""]
        reference = chosen["microseconds a mask"]["reference"]
        lines += ["| reference backend (NumPy) | µs a mask | masks a second |", "|---|---:|---:|"]
        lines += [f"| {n} | {row['1']:,.0f} | {1e6 / row['1']:,.0f} |" for n, row in reference.items()]
        lines.append("")
    return "\n".join([*lines, *cpu_ratios(results), ""])


def scaling_text(results: dict) -> str:
    peak = results["peak of a core, operations a second"]
    first = {n: line[0] for n, line in results["grid"].items() if n != "values"}
    above = {n: first[n] / first[f"arithmetic floor, {n}"] for n in ("Green3D, field", "Green3D, wrap")}
    return (
        "![Cost of a mask against batch, grid, sigma and steps](bench/results/scaling.png)\n\n"
        "Dashed: the time that the arithmetic of the contract alone would take if every vector lane were always full "
        f"({peak['floats'] / 1e9:.0f} billion float operations, {peak['products'] / 1e9:.0f} billion integer products "
        "a second and core, measured by loops over registers). The random words' other operations, the ranking and the "
        "writing of 17 bytes a token count as free, so it cannot be reached. Green3D on the first grid takes "
        f"{above['Green3D, field']:.1f} times the floor in field mode, {above['Green3D, wrap']:.1f} in wrap mode. "
        "[How it is counted](bench/floor.py), [scaling.json](bench/results/scaling.json)."
    )


def pools_text(results: dict) -> str:
    compared = next(iter(results["rows"].values()))["compared"]
    lines = [
        "| masks | µs a mask | MiB | file, MiB | built in s | distinct | bias | likeness | nearest |",
        "|---|" + "---:|" * 8,
    ]
    for name, row in results["rows"].items():
        cells = [f"{row['microseconds a mask']:.1f}", f"{row['MiB']:.1f}"]
        if "distinct" in row:
            cells += [f"{row['file, MiB']:.1f}", f"{row['built in, seconds']:.1f}", f"{row['distinct']:,}"]
            cells += [f"{row['bias']:.2f}", f"{row['deviation']:.3f}", f"{row['nearest']:.2f}"]
        lines.append(f"| {name} | " + " | ".join(cells + ["-"] * (8 - len(cells))) + " |")
    return "\n".join(
        [
            *lines,
            "",
            f"{results['what']}. Volumes are {'x'.join(map(str, results['volume']))}. Bias: chi-square of how often "
            "each token is visible, 1 is fair. Likeness: root mean square of the correlation of two masks. Nearest: "
            f"correlation of a mask with the most alike of {compared:,} masks, 1 for a copy. "
            f"{measured_on(results['about'])}. [pools.json](bench/results/pools.json).",
            "",
            "![Distinct masks, bias and likeness against the size of a pool](bench/results/pools.png)",
        ]
    )


def step_text(results: dict) -> str:
    lines = [
        "| VideoMAE, clips, grid | program | a step | of their best | peak of activations | of their best |"
    ]
    lines.append("|---|---|---:|---:|---:|---:|")
    for size, row in results["sizes"].items():
        for name, program in row["programs"].items():
            lines.append(
                f"| {size}, {row['clips']}, {tuple(row['grid'])} | {name} | {program['milliseconds']:.0f} ms | "
                f"{program['time of their best']:.2f}x | {program['peak MiB']:.0f} MiB | "
                f"{program['memory of their best']:.2f}x |"
            )
    about = results["about"]
    return "\n".join(
        [
            *lines,
            "",
            "The same weights, clips and masks, the same loss to 1e-5, but for dual masking, which decodes half of the "
            f"hidden tokens. Forward, backward and AdamW in float32, {about['threads']} threads, transformers "
            f"{results['transformers']}; {measured_on(about)}. With AVX-512 a part of the difference is "
            "the library of the matrix products: oneDNN here, torch's choice of MKL there. "
            "[step.json](bench/results/step.json).",
        ]
    )


def share_text(results: dict) -> str:
    names = list(next(iter(results["sizes"].values()))["masks, microseconds a batch"])
    lines = [
        "| VideoMAE, clips, grid | a step | " + " | ".join(names) + " |",
        "|---|---:|" + "---:|" * len(names),
    ]
    for size, row in results["sizes"].items():
        step = row["step, milliseconds"]
        cells = [
            f"{t / 1000:.2f} ms, {t / 10 / step:.3f}%" for t in row["masks, microseconds a batch"].values()
        ]
        lines.append(
            f"| {size}, {row['clips']}, {tuple(row['grid'])} | {step:.0f} ms | " + " | ".join(cells) + " |"
        )
    about = measured_on(results["about"])
    return "\n".join(
        [
            *lines,
            "",
            f"Forward, backward and AdamW in float32, {results['about']['threads']} threads; {about}.",
        ]
    )


def gpu_rows(results: dict, workload: str, shown: tuple[str, ...] | None = None) -> list[str]:
    """The table of a workload. shown: which strategies; None for all."""
    found = results["microseconds a batch"][workload]
    times = {
        f"**{name}**, {backend}": row
        for name, of_backend in found["ours"].items()
        if shown is None or name in shown
        for backend, row in of_backend.items()
    } | found["others"]
    times = {name: row for name, row in times.items() if row}
    if workload == "video":
        floors = results["arithmetic floor, microseconds a batch"]
        times |= {f"arithmetic floor, {name}": row for name, row in floors.items()}
    batches = sorted({int(b) for row in times.values() for b in row})
    lines = [
        f"| µs a batch, {found['what']} | " + " | ".join(f"batch {b}" for b in batches) + " |",
        "|---|" + "---:|" * len(batches),
    ]
    for name, row in times.items():
        cells = (
            f"{row[str(b)]:.1f}" if str(b) in row else "-" for b in batches
        )  # "-": named under "not timed"
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def gpu_table(path: Path = RESULTS / "gpu.json", every: bool = False) -> str:
    """What bench/gpu found, or that it has not run. every: all strategies, for bench/results/gpu.md."""
    if not path.exists():
        return (
            "On a GPU: **not measured yet**, for want of a machine. The kernels' compiled code runs in the tests on a "
            "CPU (docs/status.md), which says nothing of time. `python bench/gpu` on a machine with a GPU runs the "
            "tests, NVIDIA's sanitizer and the benchmark, and this table then shows what came out."
        )
    results = json.loads(path.read_text())
    lines = []
    for workload in results.get("microseconds a batch", ()):  # absent where the tests failed
        lines += [*gpu_rows(results, workload, None if every else SHOWN[workload]), ""]
    if left := results.get("not timed"):
        lines += ["Not timed: " + "; ".join(f"{name} ({why})" for name, why in left.items()) + ".", ""]
    for what, programs in results.items():
        if what.startswith("VideoMAE ViT-B"):
            sources = list(dict.fromkeys(source for row in programs.values() for source in row))
            lines += [f"| {what} | " + " | ".join(sources) + " |", "|---|" + "---:|" * len(sources)]
            for program, row in programs.items():
                cells = (f"{row[source]:.2f}" if source in row else "-" for source in sources)
                lines.append(f"| {program} | " + " | ".join(cells) + " |")
            lines.append("")
    checks = results.get("sanitizer", {})
    failed = [n for n, r in checks.items() if not (isinstance(r, dict) and r["passed"])]
    tests = "; ".join(f"{name}: {found['summary']}" for name, found in results.get("tests", {}).items())
    lines += [
        f"{results.get('device', 'Nothing timed')}, {results['date']}; graph replays, medians. Tests: "
        f"{tests}. compute-sanitizer ({len(checks)} runs): {', '.join(failed) or 'none'} failed.",
    ]
    return "\n".join(lines)


def spread_table() -> str:
    """What bench/spread.py found."""
    results = json.loads((RESULTS / "spread" / "spread.json").read_text())
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
        [*lines, "", f"Distances in tokens; {results['what']}. Regenerate with `python -m bench.spread`."]
    )


def visibility_table() -> str:
    """What bench/visibility.py found."""
    rows = json.loads((RESULTS / "spread" / "visibility.json").read_text())
    lines = [
        "| grid, ratio | masks | K | rest | corners | border | inside | nearest | 8-neighbour | energy |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        without, kept = row["without"], row["with"]
        cells = [
            *(f"{without[part]:.3f}, {kept[part]:.3f}" for part in ("corners", "border", "inside")),
            f"{without['nearest']:.2f}, {kept['nearest']:.2f}",
            f"{without['touching8']:.3f}, {kept['touching8']:.3f}",
            f"{without['energy']:.0f}, {kept['energy']:.0f}",
        ]
        grid, masks = " x ".join(map(str, row["grid"])), row["masks"] if row["K"] > 1 else "either"
        lines.append(
            f"| {grid}, {row['mask_ratio']} | {masks} | {row['K']} | {row['rest']} | {' | '.join(cells)} |"
        )
    error = max(row["standard error of a token"] for row in rows) / 2
    return "\n".join(
        [
            *lines,
            "",
            "Without the rule, with it. How often corners, the border between them and the inside are visible, the "
            f"mean of all tokens being 1; standard errors of {error:.3f} (corners) and less. Energy: crowding of the "
            "pairs of visible tokens of a mask. Regenerate with `python -m bench.visibility`.",
        ]
    )


def demo_av_table() -> str:
    """What make demo-av found."""
    results = json.loads((RESULTS / "demo_av" / "demo.json").read_text())
    found = results["mean and half of the 95 % interval over seeds"]
    names = {"untrained": "not trained"}
    columns = ("gap, own masks", "gap, random masks", "R@1", "R@5",
               "accuracy, both", "accuracy, sound", "accuracy, picture")  # fmt: skip
    lines = ["| masks | " + " | ".join(columns) + " |", "|---|" + "---:|" * len(columns)]
    for name, scores in found.items():
        cells = []
        for column in columns:
            digits = 4 if "gap" in column else 3
            mean = round(scores[column]["mean"], digits) + 0.0  # no minus before a zero
            cells.append(f"{mean:.{digits}f} ± {scores[column]['half']:.{digits}f}")
        lines.append(f"| {names.get(name, name)} | " + " | ".join(cells) + " |")
    seeds = 1 + max(run["seed"] for run in results["runs"])
    return "\n".join(
        [
            *lines,
            "",
            f"Mean and half of the 95 % interval over {seeds} seeds; {results['test pairs']} test pairs, chance 0.02 "
            f"and 0.1 (R@1, R@5) and 0.167 (accuracy); {results['views']:,} views of training each.",
        ]
    )


def demo_audio_table() -> str:
    """What make demo-audio found."""
    results = json.loads((RESULTS / "demo_audio" / "demo.json").read_text())
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
