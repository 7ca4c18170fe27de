# SPDX-License-Identifier: Apache-2.0
"""Which backend runs, and why not."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import smnoise
from smnoise import BackendError, Green3D, backends
from smnoise.__main__ import main
from smnoise.backends import cpu, library, reference
from smnoise.measures.diversity import diversity

SAMPLER = Green3D((2, 4, 4), 0.5)


def spying(names, name, run):
    """The function, which adds a name to the list at each call."""

    def spy(*arguments):
        names.append(name)
        return run(*arguments)

    return spy


@pytest.fixture
def called(monkeypatch):
    """Names of the backends that color_mask ran on."""
    names = []
    for name, module, function in (
        ("cpu", cpu, "color_mask"),
        ("cpu", cpu, "masks"),  # the way past torch's dispatcher
        ("reference", reference, "color_mask"),
    ):
        monkeypatch.setattr(module, function, spying(names, name, getattr(module, function)))
    caches = backends.implementation, backends.kept
    for cached in caches:
        cached.cache_clear()
    yield names
    for cached in caches:  # of the spies
        cached.cache_clear()


def test_the_variable_is_read_at_call_time(called, monkeypatch):
    SAMPLER([0])
    monkeypatch.setenv("SMNOISE_BACKEND", "reference")
    SAMPLER([0])
    SAMPLER([0], backend="cpu")  # an argument goes before the variable
    monkeypatch.setenv("SMNOISE_BACKEND", "auto")
    SAMPLER([0])
    assert called == ["cpu", "reference", "cpu", "cpu"]


def test_a_wrong_variable_is_named(monkeypatch):
    monkeypatch.setenv("SMNOISE_BACKEND", "numpy")
    with pytest.raises(ValueError, match=r"numpy \(from SMNOISE_BACKEND\)"):
        SAMPLER([0])


def test_auto_never_falls_back_to_the_slow_reference(called, monkeypatch):
    monkeypatch.setattr(cpu, "why_not", lambda: "the compiled library is missing: no compiler")
    with pytest.raises(BackendError, match=r"(?s)no fast backend.*no compiler.*reference: can run, if named"):
        SAMPLER([0])
    with pytest.raises(BackendError, match=r"(?s)backend cpu cannot run.*no compiler"):
        SAMPLER([0], backend="cpu")
    SAMPLER([0], backend="reference")
    assert called == ["reference"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize(
    "call",
    [
        lambda: SAMPLER([0], device="cuda"),
        lambda: SAMPLER(batch_size=2, step=0, device=torch.device("cuda", 1)),
        lambda: smnoise.sample_indices(0, 2, device="cuda"),
        lambda: smnoise.MaskStream(SAMPLER, 2, device="cuda"),
        lambda: diversity(SAMPLER, 4, device="cuda"),
        lambda: smnoise.pools.build_masks(SAMPLER, 4, device="cuda"),
    ],
)
def test_a_gpu_that_is_not_there_is_said_to_be_missing(call):
    with pytest.raises(BackendError, match=r"device='cuda.*finds no GPU; leave device out"):
        call()


def test_other_devices_are_refused_with_the_way_out():
    with pytest.raises(BackendError, match=r"(?s)runs on cpu tensors, not on mps.*\.to\("):
        backends.choose("color_mask", "auto", "mps")
    with pytest.raises(BackendError, match="backend cpu cannot run color_mask on cuda"):
        backends.choose("color_mask", "cpu", "cuda")


@pytest.mark.parametrize("isa", cpu.ISAS)
def test_an_instruction_set_that_the_machine_lacks_is_an_error_not_a_crash(isa, monkeypatch):
    monkeypatch.setattr(cpu, "_forced_isa", isa)
    if isa in cpu.isas():
        assert cpu.why_not.__wrapped__() is None
    else:
        with pytest.raises(RuntimeError, match=isa):
            SAMPLER([0])


def test_a_library_of_another_build_is_refused(monkeypatch):
    monkeypatch.setattr(library, "ABI", library.ABI + 1)
    found, why = library.load.__wrapped__()
    assert found is None
    assert "reinstall" in why


def test_a_wrong_library_is_found_out_before_it_makes_a_mask(monkeypatch):
    monkeypatch.setattr(cpu, "color_noise", lambda *a: torch.zeros(1, 3, 4, 5))
    assert "wrong noise" in cpu.why_not.__wrapped__()
    monkeypatch.setattr(cpu, "philox", lambda *a: [0, 0, 0, 0])
    assert "wrong Philox" in cpu.why_not.__wrapped__()


def test_a_forked_child_makes_the_same_masks_and_does_not_hang():
    """OpenMP's workers are not in a forked child; a parallel region there would wait for them for ever."""
    code = (
        "import os, torch, smnoise\n"
        "torch.set_num_threads(2)\n"
        "sampler = smnoise.Green3D((4, 7, 7), 0.9)\n"
        "want = sampler(range(64)).mask\n"
        "child = os.fork()\n"
        "if not child: os._exit(0 if bool((sampler(range(64)).mask == want).numpy().all()) else 1)\n"
        "print(os.waitpid(child, 0)[1])"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=120
    )
    assert done.stdout.strip() == "0", done.stderr


def test_status_table(capsys):
    assert main(["doctor", "--ops"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split()[:4] == ["color_mask", "cpu", "cpu", "yes"] for line in lines)
    assert main(["doctor", "--json"]) == 0
    table = json.loads(capsys.readouterr().out)
    assert table["ops"]["threshold"]["cpu"]["reference"] is None
    assert table["smnoise"] == smnoise.__version__


def test_the_core_imports_no_training_library():
    code = (
        "import sys, smnoise; smnoise.Green3D\n"
        "print(sorted({'timm', 'torchvision', 'av', 'tyro', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_version_is_said_once_more_in_pyproject_only():
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert f'version = "{smnoise.__version__}"' in text
