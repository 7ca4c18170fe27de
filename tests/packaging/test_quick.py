# SPDX-License-Identifier: Apache-2.0
"""`make quick`: which folders there are, and what runs for one of them."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="no make")


def make(*arguments):
    # As from a shell: these tests may have been started by make.
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(["make", *arguments], cwd=TESTS.parent, capture_output=True, text=True, env=env)


def test_without_a_folder_it_says_which_there_are():
    folders = {path.parent.relative_to(TESTS).as_posix() for path in TESTS.glob("*/**/test_*.py")}
    for arguments, status in (((), 0), (("FOLDER=nonsense",), 2)):
        done = make("quick", *arguments)
        assert done.returncode == status
        named = done.stdout.partition("one of: ")[2].splitlines()[0].split()
        assert set(named) == folders


def test_with_one_its_tests_run_but_for_the_slow_ones():
    commands = make("-n", "quick", "FOLDER=samplers").stdout
    assert '-m "not slow" tests/samplers' in commands
    assert "pytest tests/samplers" in commands.splitlines()[-1]  # how to run those too
