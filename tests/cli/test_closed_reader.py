# SPDX-License-Identifier: Apache-2.0
"""Programs whose output nobody reads to its end, as in `smnoise pretrain --help | head -1`."""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    "program",
    ["smnoise --help", "smnoise list", "smnoise pretrain --help", "smnoise pretrain video --help",
     "smnoise study --help", "smnoise.train.audio --help", "smnoise.train.run.gather --help",
     "smnoise.data.video.cache --help"],
)  # fmt: skip
def test_a_reader_that_has_gone_is_no_error(program):
    reads, writes = os.pipe()
    os.close(reads)
    done = subprocess.run(
        [sys.executable, "-m", *program.split()],
        stdout=writes,
        stderr=subprocess.PIPE,
        text=True,
        timeout=300,
    )
    os.close(writes)
    assert (done.returncode, done.stderr) == (0, "")
