# SPDX-License-Identifier: Apache-2.0
"""bench/gpu, without a GPU: what stands in its file after a fault, and what is not measured."""

import json
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import ClassVar

import pytest

from bench import gpu_masks, gpu_step


@pytest.fixture
def gpu_script():
    """bench/gpu, which has no suffix."""
    loader = SourceFileLoader("gpu_script", str(Path(__file__).parents[2] / "bench" / "gpu"))
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

        monkeypatch.setattr(gpu_masks, "rows", rows)
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
        monkeypatch.delattr(gpu_masks, "rows")  # asking it would fail
        results = gpu_script.Results(tmp_path / "gpu.json")
        results.put(("tests", "cuda, equal bits"), {"passed": True})
        gpu_script.STAGES["masks-triton"](results)
        assert "triton, equal bits have not passed" in capsys.readouterr().out

    def test_every_file_of_tests_is_there(self, gpu_script):
        for name in (*gpu_script.EQUAL, *gpu_script.DEVICE, *gpu_script.TRAINING):
            assert (Path(__file__).parents[1] / name).is_file(), name

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
    assert set(gpu_step.SOURCES) == {"masks made beforehand", "masks in the step", "side stream"}
    assert list(gpu_masks.ours("video", 64, "cuda"))
