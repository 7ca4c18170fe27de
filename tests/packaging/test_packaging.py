# SPDX-License-Identifier: Apache-2.0
"""The wheel: built without torch and, if need be, without a compiler; what it holds and what it then says."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "csrc", "smnoise", "kernels")


def build_wheel(folder: Path, more: Mapping[str, str] = MappingProxyType({}), **environment: str) -> Path:
    """A wheel of the sources alone, and of `more` files by name, in a process that cannot import torch."""
    source = folder / "source"
    source.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
        else:
            shutil.copy(ROOT / name, source)
    for name, text in more.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(text)
    (folder / "hidden").mkdir()
    (folder / "hidden" / "torch.py").write_text("raise ImportError('building must not need torch')")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(folder),
        ".",
    ]
    environment = {**os.environ, "PYTHONPATH": str(folder / "hidden"), "PIP_NO_INDEX": "1", **environment}
    done = subprocess.run(command, cwd=source, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + done.stdout
    (wheel,) = folder.glob("*.whl")
    return wheel


def unpack(wheel: Path, folder: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "installed")
    return folder / "installed"


def run_python(installed: Path, code: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=installed, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="the library is written for GCC and Clang")
def test_a_wheel_serves_every_python_and_holds_what_it_needs(tmp_path):
    band = "smnoise/train/reference_curves/band.json"
    wheel = build_wheel(tmp_path, {band: "{}"})
    assert "-py3-none-" in wheel.name
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        "libsmnoise_cpu.so",
        "contract/kat.json",
        "contract/extensions.json",
        "contract/masks.md",
        "py.typed",
        "kernels/__init__.py",
    }
    assert {f"smnoise/{n}" for n in wanted} <= names
    bands = {p.relative_to(ROOT).as_posix() for p in ROOT.glob("smnoise/train/reference_curves/*.json")}
    assert bands | {band} <= names
    python_files = {p.relative_to(ROOT).as_posix() for p in (ROOT / "smnoise").rglob("*.py")}
    assert python_files <= names
    assert not any(n.startswith(("kernels/", "tests/", "csrc/")) for n in names)
    out = run_python(
        unpack(wheel, tmp_path),
        "import smnoise; from smnoise.__main__ import main; print(smnoise.__file__); main(['verify'])",
    )
    assert str(tmp_path) in out
    assert re.search(r"^cpu: (\d+) of \1 known answers$", out, re.MULTILINE)


def test_nvcc_can_compile_the_kernels_into_the_wheel(tmp_path, monkeypatch):
    if shutil.which("nvcc") is None:
        pytest.skip("no nvcc")
    wheel = build_wheel(tmp_path, SMNOISE_CUDA_ARCHITECTURES="90")
    assert "smnoise/kernels_sm_90.cubin" in zipfile.ZipFile(wheel).namelist()
    code = "from smnoise.backends import nvrtc as n; print(n.precompiled(80), n.precompiled(90)[:4], n.cubin(90)[:4])"
    installed = unpack(wheel, tmp_path)
    assert run_python(installed, code).split() == ["None", r"b'\x7fELF'", r"b'\x7fELF'"]
    header = installed / "smnoise" / "csrc" / "plan.h"
    header.write_text(header.read_text() + "// changed\n")
    assert run_python(installed, code.replace("[:4], n.cubin(90)[:4]", "")).split() == ["None", "None"]


def test_without_a_compiler_the_install_succeeds_and_says_what_is_missing(tmp_path):
    wheel = build_wheel(tmp_path, CC="/absent/cc", CXX="/absent/c++")
    assert "smnoise/libsmnoise_cpu.so" not in zipfile.ZipFile(wheel).namelist()
    out = run_python(
        unpack(wheel, tmp_path),
        "import smnoise\n"
        "sampler = smnoise.Green3D((2, 4, 4), 0.5)\n"
        "print(sampler([0], backend='reference').num_visible)\n"
        "try: sampler([0])\n"
        "except smnoise.BackendError as error: print(error)",
    )
    assert out.startswith("16\n")
    assert "no working C++17 compiler was found" in out
    assert "g++" in out
