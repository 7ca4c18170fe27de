# SPDX-License-Identifier: Apache-2.0
"""Which GPU code is chosen, and what is said where it cannot run. A GPU is pretended by what torch says of it alone."""

import json
import threading
from contextlib import nullcontext

import pytest
import torch
from targets import skip_without

from smnoise import BackendError, Green3D, backends
from smnoise.__main__ import main
from smnoise.backends import cuda, driver, nvrtc, occupancy, triton
from smnoise.backends.layout import SHARED_BYTES
from smnoise.spec import ColorSpec, OptimBlueSpec, StrategySpec
from smnoise.train.run.folder import choose_device

FIELD, WRAP = Green3D((8, 14, 14), 0.9), Green3D((8, 14, 14), 0.9, boundary="wrap")


@pytest.fixture
def gpu(monkeypatch):
    """A function that says what card torch sees."""

    def sees(capability=(9, 0), capturing=False):
        monkeypatch.setattr(torch.version, "cuda", "13.0")
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
        monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *device: capability)
        monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: capturing)
        monkeypatch.setattr(driver, "bind_thread", lambda: None)
        monkeypatch.setattr(triton, "DEVICES", ("cuda",))  # here it interprets, on the CPU
        forget()

    def forget():
        for cached in (cuda.why_not, driver.module, driver.function, triton.why_not):
            cached.cache_clear()

    yield sees
    monkeypatch.undo()
    forget()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a driver, which loads the kernels")
def test_where_the_driver_does_not_load_the_kernels_auto_takes_triton(gpu, pytestconfig):
    skip_without(pytestconfig, "nvrtc", nvrtc.why_not())
    gpu()
    why = cuda.why_not()  # compiles the smallest kernel and hands it to a driver that is not there
    assert "does not load kernel philox for sm_90" in why
    assert "update the driver, or use backend triton" in why
    assert backends.choose("color_mask", "auto", "cuda") is triton.color_mask
    with pytest.raises(BackendError, match=r"(?s)backend cuda cannot run color_mask.*does not load"):
        backends.choose("color_mask", "cuda", "cuda")


def test_a_compiler_that_is_too_new_for_the_driver_is_not_tried(gpu, monkeypatch, pytestconfig):
    skip_without(pytestconfig, "nvrtc", nvrtc.why_not())
    gpu()
    monkeypatch.setattr(nvrtc, "driver_version", lambda: (11, 8))
    monkeypatch.setattr(nvrtc, "compile_sources", lambda *target: pytest.fail("it was compiled"))
    assert "smnoise[cuda11]" not in cuda.why_not()
    assert "CUDA 11.8" in cuda.why_not()
    assert backends.choose("color_mask", "auto", "cuda") is triton.color_mask


def test_a_card_from_before_turing_is_refused(gpu):
    gpu((7, 0))
    assert cuda.why_not() == "needs compute capability 7.5 or higher; this GPU has 7.0"


@pytest.mark.parametrize(
    ("capability", "dtype", "want"),
    [((7, 5), "auto", False), ((7, 5), "bfloat16", True), ((8, 0), "auto", True), ((9, 0), "float32", False)],
)
def test_bfloat16_only_where_a_card_has_it(gpu, capability, dtype, want):
    gpu(capability)
    assert choose_device("cuda", dtype) == (torch.device("cuda"), want)


def test_what_triton_has_not_run_before_cannot_be_captured(gpu):
    gpu(capturing=True)
    with pytest.raises(BackendError, match="before capture"), triton._on(torch.device("cuda", 0)):
        raise RuntimeError("Triton Error [CUDA]: operation not permitted when stream is capturing")
    gpu(capturing=False)
    with pytest.raises(RuntimeError, match="another"), triton._on(torch.device("cuda", 0)):
        raise RuntimeError("another fault")


@pytest.mark.skipif(torch.cuda.is_available(), reason="Triton compiles for the GPU, and interprets nothing")
def test_a_volume_that_triton_cannot_launch_over_is_refused_in_words(monkeypatch):
    pytest.importorskip("triton")
    from smnoise.kernels import color

    monkeypatch.setattr(color, "MAX_VALUES", 100)
    with pytest.raises(BackendError, match=r"up to 100 values, got 120 in \[4, 5, 6\]"):
        torch.ops.smnoise.gaussian_filter(torch.ones(1, 4, 5, 6), [0.5] * 3, backend="triton")


def test_samplers_that_differ_in_no_table_share_those_of_triton():
    pytest.importorskip("triton")
    here, there = (ColorSpec("red", (1, 3, 4), 5, origin=(t, 0, 0)) for t in (0, 1))
    made = [triton._tables(spec, torch.device("cpu")) for spec in (here, there)]
    assert made[0][0] is made[1][0]
    assert made[0][1] is made[1][1]


def test_threads_that_prepare_at_once_get_the_same(monkeypatch):
    made, together = [], threading.Barrier(8)

    @backends.once
    def prepare(key):
        made.append(key)
        return object()

    got: list = [None] * 8

    def ask(i: int) -> None:
        together.wait()
        got[i] = prepare("a"), prepare("b")

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(got)) == 1
    assert sorted(made) == ["a", "b"]


@pytest.mark.parametrize(
    ("spec", "architecture", "kernel", "blocks", "limit"),
    [
        (FIELD.spec, 80, "color_window_two", 1, "shared memory"),
        (FIELD.spec, 90, "color_window_two", 2, "registers"),
        (WRAP.spec, 75, "color_torus_two", 1, "shared memory"),
        (OptimBlueSpec((1, 64, 8), 102), 90, "optim_blue", None, None),
        (StrategySpec("blocks", (8, 14, 14), 700), 80, "strategy_mask", None, None),
    ],
)
def test_occupancy(pytestconfig, spec, architecture, kernel, blocks, limit):
    skip_without(pytestconfig, "nvrtc", nvrtc.why_not())
    found = occupancy.occupancy(spec, architecture)
    assert found.launch.kernel == kernel
    assert found.launch.shared_bytes <= SHARED_BYTES
    assert found.blocks >= 1
    if blocks is not None:
        assert (found.blocks, found.limit) == (blocks, limit)


def test_turing_has_less_shared_memory():
    assert (
        occupancy.launch_of(FIELD.spec, 75).shared_bytes <= 64 * 1024 < occupancy.launch_of(FIELD.spec, 80)[2]
    )


def test_doctor_tells_versions_and_how_a_kernel_fills_a_gpu(capsys, pytestconfig):
    skip_without(pytestconfig, "nvrtc", nvrtc.why_not())
    assert main(["doctor", "--sampler", "random", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["cuda"]["nvrtc"] == list(nvrtc.version())
    assert 90 in told["cuda"]["architectures"]
    assert told["cuda"]["cache"] == str(nvrtc.cache_folder())
    names = {f["name"]: f["detail"] for f in told["findings"]}
    assert "NVRTC" in names["CUDA kernels"]
    assert any(
        "on sm_" in name and "at a time on a multiprocessor" in detail for name, detail in names.items()
    )
