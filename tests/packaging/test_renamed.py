# SPDX-License-Identifier: Apache-2.0
"""Old names of modules: each is the module of its new name, says so once, and runs as a program as it did."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from smnoise.renamed import MODULES


@pytest.mark.parametrize("old", MODULES)
def test_an_old_name_is_the_same_module_and_warns(old):
    new = import_module(MODULES[old])
    sys.modules.pop(old, None)
    with pytest.warns(FutureWarning, match=f"{old} is now {MODULES[old]}"):
        assert import_module(old) is new
    assert import_module(old) is new  # a second import is silent: a warning would be an error here
    assert new.__spec__.name == new.__name__ == MODULES[old]


def test_old_names_are_free():
    """A file under an old name would hide the new module."""
    root = Path(import_module("smnoise").__file__).parent.parent
    assert not [name for name in MODULES if (root / f"{name.replace('.', '/')}.py").exists()]


def test_a_program_runs_under_its_old_name():
    command = [sys.executable, "-m", "smnoise.train.cache_clips", "--help"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0
    assert "--short-side" in done.stdout
    assert "smnoise.train.cache_clips is now smnoise.data.video.cache" in done.stderr


def test_a_missing_module_is_still_missing():
    with pytest.raises(ModuleNotFoundError, match=r"smnoise\.train\.nothing"):
        import_module("smnoise.train.nothing")
