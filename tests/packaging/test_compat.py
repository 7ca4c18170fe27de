# SPDX-License-Identifier: Apache-2.0
"""timm imports beside any build of torch, in a fresh process, and torchvision's missing operators stay missing."""

import subprocess
import sys

import pytest

from smnoise import compat


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_timm_imports():
    assert run_python("from smnoise.compat import import_timm; print(import_timm().__name__)") == "timm"


def test_importing_twice_is_importing_once():
    code = "from smnoise.compat import import_timm as f; a = f(); import timm.models.beit; print(a is f())"
    assert run_python(code) == "True"


def test_an_operator_that_was_only_declared_fails_when_called():
    out = run_python(
        "import torch\n"
        "from smnoise.compat import import_timm, _declare_torchvision_operators\n"
        "import_timm()\n"
        "if _declare_torchvision_operators() is None: print('torchvision is whole')\n"
        "else:\n"
        "    try: torch.ops.torchvision.nms(torch.zeros(1, 4))\n"
        "    except Exception as error: print(type(error).__name__, 'nms' in str(error))\n"
    )
    assert out in ("torchvision is whole", "NotImplementedError True")


def test_without_timm_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ImportError, match=r"smnoise\[train\]"):
        compat.import_timm()
