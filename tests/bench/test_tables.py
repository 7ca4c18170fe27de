# SPDX-License-Identifier: Apache-2.0
"""What the benchmark writes into pages: tables and texts of its results, each between its marks."""

import json

from bench import __main__ as run
from bench import tables

ABOUT = {
    "processor": "A processor", "instruction set": "avx2", "cores": 4, "threads": 2, "torch": "2.10", "numpy": "2.0",
    "commit": "0123456789abcdef", "uncommitted changes": False, "date": "2026-01-02",
}  # fmt: skip


def cpu_results() -> dict:
    def row(one, two):
        return {"1": one, "2": two}

    workloads = {}
    for name, shown in tables.SHOWN.items():
        ours = {n: row(10.0, 5.0) for n in shown} | {"hidden": row(1.0, 1.0), "hidden; portable": {"1": 7.0}}
        ours["green-3d; portable"] = row(80.0, 60.0)
        others = {tables.YARDSTICK: row(100.0, 50.0), "SciPy band-pass, field": row(400.0, 400.0)}
        others["random, top-k and scatter"] = row(20.0, 10.0)
        others |= {"SciPy band-pass, wrap": row(40.0, 40.0), "Optim Blue, NumPy": row(3000.0, 3000.0)}
        times = {"cpu": ours, "reference": {n: {"1": 9000.0} for n in ours}, "others": others}
        workloads[name] = {"what": f"what {name}", "batch": 32, "microseconds a mask": times}
    return {"about": ABOUT, "workloads": workloads}


def test_table_of_masks():
    text = tables.cpu_table(cpu_results())
    assert "| **green-3d** | 320 | 100,000 | 160 | 200,000 | 0.100x |" in text
    assert f"| {tables.YARDSTICK} | 3,200 | 10,000 | 1,600 | 20,000 | 1.000x |" in text
    assert "1/40 of SciPy's time in field mode, 1/4 in wrap mode, and Optim Blue 1/300" in text
    assert "A processor (avx2), 4 cores, torch 2.10, NumPy 2.0, commit 012345678, 2026-01-02" in text
    assert "hidden" not in text
    page = tables.cpu_page(cpu_results())
    assert "| **hidden; portable** | 224 | 142,857 | - | - | 0.070x |" in page
    assert "| green-3d | 9,000 | 111 |" in page
    assert "| green-3d | avx2 | 10.00 | 0.50x | random, top-k and scatter | 0.50x |" in page
    assert "| green-3d | portable | 80.00 | 4.00x | random, top-k and scatter | 0.75x |" in page
    assert f"| optim-blue | avx2 | 10.00 | 0.10x | {tables.YARDSTICK} | 0.50x |" in page


def test_texts_of_the_other_parts():
    grid = {"values": [[8, 14, 14]]}
    for name, time in (("Green3D, field", 12.0), ("Green3D, wrap", 5.0)):
        grid |= {name: [time], f"arithmetic floor, {name}": [2.0]}
    peak = {"floats": 2e11, "products": 6e10, "integers": 1e11}
    text = tables.scaling_text({"peak of a core, operations a second": peak, "grid": grid})
    assert "200 billion float operations, 60 billion integer products" in text
    assert "6.0 times the floor in field mode, 2.5 in wrap mode" in text

    row = {"microseconds a mask": 5.25, "MiB": 18.31, "file, MiB": 18.4, "built in, seconds": 0.44}
    measured = {"distinct": 19780, "bias": 1.037, "deviation": 0.0391, "nearest": 0.17, "compared": 2000}
    rows = {"1000 volumes": row | measured, "ColorMAE's way": row}
    text = tables.pools_text({"about": ABOUT, "what": "what", "volume": [12, 20, 20], "rows": rows})
    assert "| 1000 volumes | 5.2 | 18.3 | 18.4 | 0.4 | 19,780 | 1.04 | 0.039 | 0.17 |" in text
    assert "| ColorMAE's way | 5.2 | 18.3 | - | - | - | - | - | - |" in text
    assert "of 2,000 masks" in text

    sizes = {"tiny": {"grid": [8, 5, 5], "clips": 16, "step, milliseconds": 400.0}}
    sizes["tiny"]["masks, microseconds a batch"] = {"tube": 100.0, "SciPy": 20_000.0}
    text = tables.share_text({"about": ABOUT, "sizes": sizes})
    assert "| tiny, 16, (8, 5, 5) | 400 ms | 0.10 ms, 0.025% | 20.00 ms, 5.000% |" in text

    program = {
        "milliseconds": 431.6,
        "peak MiB": 82.1,
        "time of their best": 0.637,
        "memory of their best": 0.62,
    }
    size = {"grid": [8, 5, 5], "clips": 16, "programs": {"smnoise, eager": program}}
    text = tables.step_text({"about": ABOUT, "transformers": "5", "sizes": {"tiny": size}})
    assert "| tiny, 16, (8, 5, 5) | smnoise, eager | 432 ms | 0.64x | 82 MiB | 0.62x |" in text


def test_pages_get_their_blocks_and_nothing_else(tmp_path, capsys):
    readme, page = tmp_path / "README.md", tmp_path / "docs" / "bench.md"
    page.parent.mkdir()
    begin, end = "<!-- one: written by python -m bench -->", "<!-- one: end -->"
    for path in (readme, page):
        path.write_text(f"before\n{begin}\nold\n{end}\nafter\n")
    run.refresh({"one": "[new](bench/results/new.json)", "two": "lost"}, tmp_path)
    assert readme.read_text() == f"before\n{begin}\n[new](bench/results/new.json)\n{end}\nafter\n"
    assert page.read_text() == f"before\n{begin}\n[new](../bench/results/new.json)\n{end}\nafter\n"
    assert "no page has a place for two" in capsys.readouterr().err


def test_gpu_results_as_a_table(tmp_path):
    path = tmp_path / "gpu.json"
    assert "not measured yet" in tables.gpu_table(path)
    times = {
        "what": "a grid",
        "ours": {
            "green-3d": {"cuda": {"64": 5.0, "256": 9.0}},
            "hidden": {"triton": {"64": 1.0, "256": 2.0}},
        },
        "others": {"conv3d": {"64": 50.0, "256": 90.0}},
    }
    results = {
        "date": "2026-01-02",
        "device": "A GPU",
        "tests": {"cuda, equal bits": {"passed": True, "summary": "9 passed"}},
        "sanitizer": {"memcheck": {"passed": True}, "racecheck": "not installed"},
        "microseconds a batch": {"video": times},
        "VideoMAE ViT-B, 32 clips: milliseconds a step": {
            "eager": {"without": 20.0, "with": 20.1},
            "captured": {"without": 19.0},
        },
        "not timed": {"video, tube, triton": "wrong"},
        "arithmetic floor, microseconds a batch": {"green-3d": {"64": 1.5, "256": 6.0}},
    }
    path.write_text(json.dumps(results))
    text = tables.gpu_table(path)
    assert "| **green-3d**, cuda | 5.0 | 9.0 |" in text
    assert "| conv3d | 50.0 | 90.0 |" in text
    assert "| arithmetic floor, green-3d | 1.5 | 6.0 |" in text
    assert "Not timed: video, tube, triton (wrong)" in text
    assert "| eager | 20.00 | 20.10 |" in text
    assert "| captured | 19.00 | - |" in text
    assert "cuda, equal bits: 9 passed" in text
    assert "racecheck failed" in text
    assert "hidden" not in text
    assert "hidden" in tables.gpu_table(path, every=True)


def test_the_table_of_visibility_shows_both(monkeypatch, tmp_path):
    measured = {"corners": 1.5, "border": 1.25, "inside": 0.9, "nearest": 2, "touching8": 0.5, "energy": 10}
    row = {"grid": [6, 7], "mask_ratio": 0.4, "masks": "independent", "K": 1, "rest": 17, "with": measured}
    row |= {"standard error of a token": 0.01, "without": measured | {"corners": 1.75, "energy": 8}}
    (tmp_path / "spread").mkdir()
    (tmp_path / "spread" / "visibility.json").write_text(json.dumps([row]))
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    text = tables.visibility_table()
    assert "| 6 x 7, 0.4 | either | 1 | 17 | 1.750, 1.500 | 1.250, 1.250 |" in text
    assert "| 8, 10 |" in text
    assert "0.005 (corners)" in text
