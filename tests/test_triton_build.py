# SPDX-License-Identifier: Apache-2.0
"""Every GPU kernel, Triton's and CUDA's, compiles for every target without a GPU, does not spill, fuses nothing, and
stands in the committed table."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import skip_without

from smnoise.backends import nvrtc


def test_the_committed_table_is_of_these_kernels(pytestconfig):
    skip_without(pytestconfig, "nvrtc", nvrtc.why_not())
    pytest.importorskip("triton")
    script = Path(__file__).parent.parent / "bench" / "resources.py"
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}  # it would compile nothing
    done = subprocess.run(
        [sys.executable, script, "--check"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "none spills" in done.stdout
