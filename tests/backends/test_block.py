# SPDX-License-Identifier: Apache-2.0
"""The GPU's block algorithm on the host, where its shared memory is too small for the whole grid: tiles, and the
two-launch path. (With enough shared memory it is one of the targets of every other test.)"""

import pytest
from cases import CORNERS, specs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from targets import Target, assert_same_as_reference

from smnoise.backends import cpu
from smnoise.backends.layout import SCRATCH_BYTES, SHARED_BYTES, layout
from smnoise.spec import ColorSpec, tables

BLOCK = Target("cpu", isa="block")


@pytest.fixture
def shared_bytes(monkeypatch):
    """Sets how much shared memory the block has."""
    monkeypatch.setattr(cpu, "_forced_isa", "block")
    return lambda n: monkeypatch.setattr(cpu, "_block_bytes", n)


def layout_of(spec, shared=SHARED_BYTES):
    return layout(spec, tables(spec).taps.shape[-1], shared)


@pytest.mark.parametrize("kib", [6, 10, 20, 40])
@pytest.mark.parametrize("name", CORNERS)
def test_tiles_give_the_same_bits(shared_bytes, name, kib):
    spec = CORNERS[name]
    try:
        layout_of(spec, kib * 1024)
    except ValueError:
        with pytest.raises(ValueError, match="shared memory"):
            shared_bytes(kib * 1024) or BLOCK.color_noise(spec, [0])
        return
    shared_bytes(kib * 1024)
    assert_same_as_reference(BLOCK, spec, [3, 2**32 + 5], seed=77)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(spec=specs(), kib=st.integers(24, 60), sample=st.integers(0, 2**64 - 1))
def test_any_parameters_in_any_memory(shared_bytes, spec, kib, sample):
    shared_bytes(kib * 1024)
    assert_same_as_reference(BLOCK, spec, [sample])


@pytest.mark.parametrize("grid", [(8, 14, 14), (16, 14, 14), (8, 28, 28), (32, 14, 14)])
@pytest.mark.parametrize("boundary", ["field", "wrap"])
def test_the_grids_people_use_take_one_launch_and_at_most_100_kib(grid, boundary):
    chosen = layout_of(ColorSpec("green", grid, 100, boundary=boundary))
    assert chosen.fused
    assert chosen.bytes <= 100 * 1024


def test_larger_grids_take_two_launches():
    assert not layout_of(ColorSpec("green", (32, 56, 56), 100)).fused


def test_the_small_memories_above_do_make_tiles_and_second_launches():
    seen = {(layout_of(s, k * 1024).tile != s.grid, layout_of(s, k * 1024).fused)
            for s in (CORNERS["primes"], CORNERS["green-wrap"]) for k in (20, 40)}  # fmt: skip
    assert {tiled for tiled, _ in seen} == {True, False}
    assert {fused for _, fused in seen} == {True, False} or (True, True) in seen


def test_filters_too_wide_for_shared_memory_are_refused():
    with pytest.raises(ValueError, match="lower sigma"):
        layout_of(ColorSpec("red", (1, 2, 2), 1, sigma1=(60.0, 60.0), anisotropy=(0, 1, 1)))


def test_scratch_is_as_large_as_the_header_says():
    from smnoise.backends.nvrtc import sources

    assert f"SMN_SCRATCH_BYTES = {SCRATCH_BYTES} " in sources()["block.h"].decode()
