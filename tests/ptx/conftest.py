# SPDX-License-Identifier: Apache-2.0
"""Processes in which Triton compiles, one an architecture: the tests' own may interpret (tests/targets.py)."""

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor

import pytest


@pytest.fixture(scope="module")
def compiling():
    """compiling(architecture): an executor whose process compiles."""
    pools = {}

    def executor(architecture: int) -> ProcessPoolExecutor:
        if architecture not in pools:
            context = multiprocessing.get_context("spawn")
            pools[architecture] = ProcessPoolExecutor(1, mp_context=context)
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("TRITON_INTERPRET", "0")
                pools[architecture].submit(os.getpid).result()
        return pools[architecture]

    yield executor
    for pool in pools.values():
        pool.shutdown()
