# SPDX-License-Identifier: Apache-2.0
"""Every GPU kernel, Triton's and CUDA's, compiles for every target without a GPU, does not spill, fuses nothing, and
stands in the committed table."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from targets import skip_without

from smnoise.backends import nvrtc


def test_the_committed_table_is_of_these_kernels(pytestconfig):
    skip_without(pytestconfig, "nvrtc", nvrtc.why_not())
    pytest.importorskip("triton")
    script = Path(__file__).parents[2] / "bench" / "resources.py"
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}  # it would compile nothing
    done = subprocess.run(
        [sys.executable, script, "--check"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "none spills" in done.stdout


def test_no_kernel_is_compiled_anew_for_another_size_of_a_batch():
    """In a process of its own, since this one interprets: what depends on a batch is no reason for a variant."""
    pytest.importorskip("triton")
    code = (
        "from smnoise.kernels import ahead\n"
        "kernels = {id(k): k for k, _, _ in ahead.KERNELS.values()}.values()\n"
        "of_batches = {'batch', 'count', 'picked', 'kept', 'hidden', 'counts_row'}\n"
        "found = [(k.__name__, p.name) for k in kernels for p in k.params if p.name in of_batches]\n"
        "wrong = [(k.__name__, p.name) for k in kernels for p in k.params\n"
        "         if p.name in of_batches and not p.do_not_specialize]\n"
        "print(len(found), wrong)\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout.split()[1:] == ["[]"], done.stdout + done.stderr
    assert int(done.stdout.split()[0]) >= 9


def test_no_two_threads_own_a_token_where_boxes_are_laid():
    """Their loads and stores are ordered by that alone. Of AMD's targets a warp has 64 lanes."""
    pytest.importorskip("triton")
    code = (
        "from smnoise.kernels import ahead, strategy\n"
        "lanes = max(target.warp_size for target in ahead.TARGETS.values())\n"
        "least = min(strategy.tokens_of_program(n) for n in range(1, 3000))\n"
        "print(lanes, least // (lanes * strategy.OPTIONS['num_warps']))\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["64", "1"], done.stdout + done.stderr
