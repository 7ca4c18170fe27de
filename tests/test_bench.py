# SPDX-License-Identifier: Apache-2.0
"""The benchmark's harness: what it refuses to time, what it counts, what it writes. No time is asserted."""

import json
import sys
from dataclasses import replace
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch

import smnoise

sys.path.append(str(Path(__file__).parent.parent / "bench"))

import baselines
import clock
import compare
import floor
import run
import tables
import visibility
import workloads

GRID, TOKENS, VISIBLE = (2, 5, 6), 60, 12
COLORMAE = baselines.colormae(torch.rand(8, 3, 7, 9))


def scipy_batch(batch, grid, visible):
    """What runs as cupyx.scipy.ndimage on a GPU."""
    import numpy
    import scipy.ndimage

    return baselines.band_pass_batch(numpy, scipy.ndimage)(batch, grid, visible)


RIVALS = [
    *(
        baselines.mae_random,
        baselines.topk_random,
        baselines.tubes,
        baselines.scipy_field,
        baselines.scipy_wrap,
    ),
    *(baselines.conv3d_topk, baselines.optim_blue_numpy, baselines.void_and_cluster, COLORMAE, scipy_batch),
]


@pytest.mark.parametrize("make", RIVALS)
def test_rivals_have_exact_counts(make):
    made = make(4, GRID, VISIBLE)
    workloads.check_masks("rival", made, 4, TOKENS, VISIBLE)
    with pytest.raises(workloads.WrongAnswerError, match="show 11 tokens"):
        workloads.check_masks("rival", made, 4, TOKENS, VISIBLE - 1)


def test_conv3d_filters_as_scipy_does():
    from scipy.ndimage import gaussian_filter

    noise = torch.rand(1, 3, 27, 29, 31, dtype=torch.float64)
    sigma = torch.tensor([0.5, 1.3, 2.9], dtype=torch.float64)
    got = baselines._blurred(noise, sigma, 12)[0]
    for i in range(3):
        right = gaussian_filter(noise[0, i].numpy(), sigma[i].item(), mode="constant", truncate=4.0)
        assert torch.allclose(got[i], torch.from_numpy(right[12:-12, 12:-12, 12:-12]), rtol=1e-9, atol=0)


@pytest.mark.parametrize("workload", workloads.WORKLOADS)
def test_every_strategy_is_in_a_workload_and_right(workload):
    chosen = workloads.WORKLOADS[workload]
    for name in chosen.strategies:
        if name.startswith("pool"):  # thousands of patterns
            continue
        workloads.check_sampler(name, workloads.make_sampler(workload, name), 3, against=1)
    named = {n.partition(",")[0] for w in workloads.WORKLOADS.values() for n in w.strategies}
    assert set(smnoise.STRATEGIES) <= named


class Wrong:
    """A sampler one of whose outputs is spoilt, but on the reference."""

    def __init__(self, spoil):
        self.sampler, self.spoil = smnoise.Green3D(GRID, num_visible=VISIBLE), spoil
        self.num_tokens, self.visible_per_sample = TOKENS, VISIBLE

    def __call__(self, *arguments, backend="auto", **named):
        masks = self.sampler(*arguments, backend=backend, **named)
        if backend != "reference":
            self.spoil(masks)
        return masks


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (lambda m: m.mask[0].copy_(m.mask[0].roll(1)), "mask is not the reference's"),
        (lambda m: m.ids_mask[1].copy_(m.ids_mask[1].flip(0)), "ids_mask is not the reference's"),
        (lambda m: m.mask[3].fill_(True), "do not show 12 tokens"),
        (lambda m: m.ids_keep[3].copy_(m.ids_keep[2]), "ids_keep that are not what the mask shows"),
        (lambda m: m.ids_restore[3].zero_(), "no permutation"),
        (lambda m: m.ids_restore[3].copy_(m.ids_restore[2]), "do not fit the mask"),
    ],
)
def test_a_wrong_answer_is_not_timed(spoil, what):
    workloads.check_sampler("right", Wrong(lambda m: None), 4)
    with pytest.raises(workloads.WrongAnswerError, match=what):
        workloads.check_sampler("wrong", Wrong(spoil), 4)


def test_rounds_take_turns():
    order = []
    found = clock.in_turns({n: lambda n=n: order.append(n) for n in "ab"}, seconds=1e-9, rounds=3)
    assert list(found) == ["a", "b"]
    assert order == list("aabb") + list("ab") * 3  # first and calibration, then turns


def counted_by_hand(grid, narrow, wide):
    """Field, one radius for all axes: products and sums of each output, the narrow filter's sums along x left out."""
    t, y, x = grid
    floats = t * y * x  # the difference
    for r, along_x in ((narrow, 1 + 2 * narrow), (wide, 1 + 3 * wide)):
        floats += (t + 2 * r) * (y + 2 * r) * x * along_x
        floats += (t + 2 * r) * y * x * (1 + 3 * r) + t * y * x * (1 + 3 * r)
    return floats


def test_the_floor_counts_the_contracts_arithmetic():
    sigmas = {"sigma1": (0.5, 0.5), "sigma2": (1.0, 1.0)}  # radii 2 and 4
    green = smnoise.Green3D((4, 5, 16), 0.9, **sigmas)
    calls, floats = floor.counts(green.spec)
    assert floats == counted_by_hand((4, 5, 16), 2, 4)
    assert calls == 12 * 13 * 4  # x from -4 to 19: blocks -1, 0, 1, 2
    assert floor.counts(smnoise.White3D((4, 5, 16), 0.9).spec) == (4 * 5 * 2, 0)
    wider = replace(green, sigma2=(2.0, 2.0))
    assert floor.counts(wider.spec)[1] > floats
    assert floor.counts(replace(green, boundary="wrap").spec)[1] < floats


def test_swaps_are_counted_up_to_the_last_that_changes_something():
    blue = smnoise.OptimBlue((8, 8), 0.75, steps=0)
    assert floor.swap_operations(blue, 2) == 0
    some, many = (floor.swap_operations(replace(blue, steps=n), 2) for n in (4, 100_000))
    assert 0 < some <= 7 * 64 * 4
    assert some < many < 7 * 64 * 100_000


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
        others = {tables.YARDSTICK: row(100.0, 50.0), "SciPy band-pass, field": row(400.0, 400.0)}
        others |= {"SciPy band-pass, wrap": row(40.0, 40.0), "Optim Blue, NumPy": row(3000.0, 3000.0)}
        times = {"cpu": ours, "reference": {n: {"1": 9000.0} for n in ours}, "others": others}
        workloads[name] = {"what": f"what {name}", "batch": 32, "microseconds a mask": times}
    return {"about": ABOUT, "workloads": workloads}


def test_table_of_masks():
    text = tables.cpu_table(cpu_results())
    assert "| **green-3d** | 10.0 | 5.0 | 100,000 | 0.100x |" in text
    assert f"| {tables.YARDSTICK} | 100.0 | 50.0 | 10,000 | 1.000x |" in text
    assert "| SciPy band-pass, field | 400.0 | 400.0 | 2,500 | 4.000x |" in text
    assert "1/40 of SciPy's time in field mode, 1/4 in wrap mode, and Optim Blue 1/300" in text
    assert "A processor (avx2), 4 cores, torch 2.10, NumPy 2.0, commit 012345678, 2026-01-02" in text
    assert "hidden" not in text
    page = tables.cpu_page(cpu_results())
    assert "| **hidden; portable** | 224 | 142,857 | - | - | 0.070x |" in page
    assert "| green-3d | 9,000 | 111 |" in page


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
    begin, end = "<!-- one: written by bench/run.py -->", "<!-- one: end -->"
    for path in (readme, page):
        path.write_text(f"before\n{begin}\nold\n{end}\nafter\n")
    run.refresh({"one": "[new](bench/results/new.json)", "two": "lost"}, tmp_path)
    assert readme.read_text() == f"before\n{begin}\n[new](bench/results/new.json)\n{end}\nafter\n"
    assert page.read_text() == f"before\n{begin}\n[new](../bench/results/new.json)\n{end}\nafter\n"
    assert "no page has a place for two" in capsys.readouterr().err


class Answers:
    """A side of a comparison that answers from a list; what a worker is to bench/compare.py."""

    def __init__(self, folder, microseconds, masks="same"):
        self.folder, self.microseconds, self.masks, self.calls = folder, microseconds, masks, []

    def ask(self, **asked):
        if "threads" in asked:
            return {"smnoise": self.folder}
        if asked["name"] == "tube":
            return {"missing": "no tube"}
        if "calls" not in asked:
            return {"masks": self.masks if asked["name"] == "random" else "same"}
        self.calls.append(asked["calls"])
        return {"microseconds": self.microseconds * asked["batch"]}


def test_ratios_to_a_base():
    here, base = Answers("here", 3.0), Answers("base", 4.0, masks="other")
    found = compare.compare(here, base, seconds=1e-3, rounds=3)
    assert found["video"]["green-3d"] == {"here": 3.0, "base": 4.0, "ratio": 0.75}
    assert "ratio" not in found["video"]["tube"]
    assert "ratio" not in found["video"]["random"]
    text = compare.table({"base": "REF", "microseconds a mask": found})
    assert "| green-3d, video | 3.00 | 4.00 | 0.750x |" in text
    assert "OTHER MASKS THAN IN THE OTHER COMMIT: random, video" in text
    with pytest.raises(RuntimeError, match="nothing to compare"):
        compare.compare(here, here, seconds=1e-3)


def test_a_real_worker_answers():
    """Both sides are this tree; that they differ is what compare.compare checks."""
    with compare.Side(compare.ROOT) as side:
        assert Path(side.ask(threads=1)["smnoise"]).parent == compare.ROOT / "smnoise"
        case = {"name": "green-3d", "grid": GRID, "visible": VISIBLE, "batch": 2}
        masks = side.ask(**case)
        assert len(masks["masks"]) == 64
        assert side.ask(**case) == masks
        assert side.ask(**case, calls=2)["microseconds"] > 0
        assert "missing" in side.ask(**{**case, "name": "no-such-strategy"})


def test_unknown_commits_are_refused():
    with pytest.raises(SystemExit, match="no such commit"), compare.checkout("no-such-commit"):
        pass


def test_command_line_refuses_to_replace_good_results(monkeypatch, capsys):
    for arguments, message in ((["--quick"], "--out"), (["masks", "nonsense"], "no such part: nonsense")):
        monkeypatch.setattr(sys, "argv", ["run.py", *arguments])
        with pytest.raises(SystemExit):
            run.main()
        assert message in capsys.readouterr().err


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


@pytest.fixture
def gpu_script():
    """bench/gpu, which has no suffix."""
    loader = SourceFileLoader("gpu_script", str(Path(__file__).parent.parent / "bench" / "gpu"))
    module = module_from_spec(spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


class TestGpuStages:
    PASSED: ClassVar = {"tests": {"cuda, equal bits": {"passed": True, "summary": "", "seconds": 1}}}

    def test_what_was_measured_before_a_fault_stands_in_the_file(self, gpu_script, tmp_path, monkeypatch):
        def rows(backend):
            yield ("microseconds a batch", "video", "ours", "green-3d", backend, "64"), 5.0
            yield ("not timed", "tube"), "wrong"
            raise RuntimeError("the machine went away")

        monkeypatch.setitem(sys.modules, "gpu_masks", SimpleNamespace(rows=rows))
        out = tmp_path / "gpu.json"
        out.write_text(json.dumps({**self.PASSED, "kept": 1}))
        results = gpu_script.Results(out)
        with pytest.raises(RuntimeError, match="went away"):
            gpu_script.STAGES["masks-cuda"](results)
        found = json.loads(out.read_text())
        assert found["microseconds a batch"]["video"]["ours"]["green-3d"] == {"cuda": {"64": 5.0}}
        assert (found["not timed"], found["kept"]) == ({"tube": "wrong"}, 1)
        assert [path.name for path in tmp_path.iterdir()] == ["gpu.json"]

    def test_no_number_of_a_backend_whose_tests_failed(self, gpu_script, tmp_path, monkeypatch, capsys):
        monkeypatch.setitem(sys.modules, "gpu_masks", None)  # importing it would fail
        results = gpu_script.Results(tmp_path / "gpu.json")
        results.put(("tests", "cuda, equal bits"), {"passed": True})
        gpu_script.STAGES["masks-triton"](results)
        assert "triton, equal bits have not passed" in capsys.readouterr().out

    def test_every_file_of_tests_is_there(self, gpu_script):
        for name in (*gpu_script.EQUAL, *gpu_script.DEVICE, *gpu_script.TRAINING):
            assert (Path(__file__).parent / name).is_file(), name

    def test_initcheck_judges_our_kernels_only(self, gpu_script, tmp_path, monkeypatch):
        said = {
            "memcheck": "all kernels ran\n========= ERROR SUMMARY: 0 errors",
            "initcheck": "=========     at void cub::Scan()+0x10\nall kernels ran\n========= ERROR SUMMARY: 2 errors",
        }
        tool = tmp_path / "compute-sanitizer"
        tool.touch()
        monkeypatch.setattr(gpu_script.shutil, "which", lambda name: str(tool))
        monkeypatch.setattr(
            gpu_script, "run", lambda *c, **e: (9 if c[2] == "initcheck" else 0, said.get(c[2], ""))
        )
        results = gpu_script.Results(tmp_path / "gpu.json")
        gpu_script.sanitizer(results)
        found = results.values["sanitizer"]
        assert found["memcheck"]["passed"]
        assert found["initcheck"]["passed"]
        said["initcheck"] += "\n=========     at color_window_two+0x20"
        gpu_script.sanitizer(results)
        assert not found["initcheck"]["passed"]


def test_gpu_modules_import_without_a_gpu():
    import gpu_masks
    import gpu_step

    assert set(gpu_step.SOURCES) == {"masks made beforehand", "masks in the step", "side stream"}
    assert list(gpu_masks.ours("video", 64, "cuda"))


def test_the_rule_of_the_rest_is_measured_against_masks_without_it():
    sampler = smnoise.OptimBlue((6, 7), 0.4)
    samples = torch.arange(40)
    kept, free = (visibility.masks_of(sampler, samples, alike) for alike in (False, True))
    assert torch.equal(kept.mask, sampler(samples).mask)
    assert torch.equal(kept.ids_keep, sampler(samples).ids_keep)
    corners = visibility.regions(6, 7)["corners"]
    assert (~free.mask)[:, corners].double().mean() > (~kept.mask)[:, corners].double().mean() + 0.2
    three = torch.ones(1, 42, dtype=torch.bool).index_fill(1, torch.tensor([0, 8, 40]), False)
    askew = 45 + 3  # one and four apart along a diagonal: int(64 * 0.7 / d^2 + 0.5)
    assert visibility.energy(sampler, kept._replace(mask=three)) == askew


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


def test_about_needs_no_git(monkeypatch):
    import about

    monkeypatch.setenv("PATH", "")
    assert about.git("rev-parse", "HEAD") is None
