# SPDX-License-Identifier: Apache-2.0
"""Each barrier of Triton's kernels, taken out by itself, is noticed, but for those that its compiler puts and these
kernels do not need. Part of `make test-barriers`."""

import pytest
from targets import skip_without

from . import test_triton_kernels

ARCHITECTURE = 90
# Of each kernel, how many no case needs. kernels/strategy.py asks for two of box_scores_kernel's, so that a thread
# finds what another one stored: as Triton lays loads and stores out here each finds its own, which it does not promise.
# The others have not been explained one by one.
COMPILERS = {"optim_blue_kernel": 2, "box_scores_kernel": 3}


@pytest.fixture(autouse=True)
def asked_for(pytestconfig):
    if pytestconfig.getoption("--gpu-code") != "barriers":
        pytest.skip("make test-barriers")
    try:
        import triton  # noqa: F401
    except ImportError as error:
        skip_without(pytestconfig, "triton", f"needs Triton: {error}")


@pytest.mark.parametrize("group", test_triton_kernels.GROUPS)
def test_every_barrier_is_needed(group, compiling, capsys):
    from . import triton_barriers

    rows = compiling(ARCHITECTURE).submit(triton_barriers.without_barriers, group, ARCHITECTURE).result()
    with capsys.disabled():
        for name, row in sorted(rows.items()):
            print(f"\nTriton, sm_{ARCHITECTURE}, {group}, {name}: {row.barriers} barriers, {row.noticed} noticed,"
                  f" silent: {row.silent}, not reached: {row.missed}", end="")  # fmt: skip
    for name, row in rows.items():
        assert not row.missed, row
        assert len(row.silent) <= COMPILERS.get(name, 0), row
