# SPDX-License-Identifier: Apache-2.0
"""gaussian_filter: the reference's bits, SciPy's numbers, and the colours' own filter."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import ndimage

from smnoise import ops, reference
from smnoise.spec import ColorSpec


def volumes(batch, *size, seed=0):
    return torch.randn(batch, *size, generator=torch.Generator().manual_seed(seed))


def run(target, volume, sigma, **kw):
    return ops.gaussian_filter(volume.to(target.device), sigma, backend=target.backend, **kw).cpu()


def assert_same_as_reference(target, volume, sigma, **kw):
    got = run(target, volume, sigma, **kw)
    want = ops.gaussian_filter(volume, sigma, backend="reference", **kw)
    assert got.shape == want.shape
    assert got.numpy().tobytes() == want.numpy().tobytes()


@pytest.mark.parametrize("size", [(1, 1, 1), (1, 1, 19), (5, 1, 1), (3, 7, 11), (2, 5, 40), (16, 3, 2)])
@pytest.mark.parametrize("sigma", [(0, 0, 0), (0.6, 0.6, 0.6), (0.0, 3.0, 0.2), (2.5, 0.0, 1.0)])
def test_a_torus_of_any_size(target, size, sigma):
    assert_same_as_reference(target, volumes(3, *size), sigma)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_what_needs_nothing_from_outside(target, data):
    sigma = [data.draw(st.sampled_from((0.0, 0.3, 0.9, 1.4))) for _ in range(3)]
    truncate = data.draw(st.sampled_from((1.0, 2.5, 4.0)))
    size = [2 * int(truncate * s + 0.5) + data.draw(st.integers(1, 9)) for s in sigma]
    assert_same_as_reference(target, volumes(2, *size), sigma, truncate=truncate, boundary="valid")


def test_it_is_scipys(target):
    volume = volumes(1, 6, 9, 11)
    want = ndimage.gaussian_filter(volume[0].numpy().astype(np.float64), (0.5, 1.0, 2.0), mode="wrap")
    np.testing.assert_allclose(run(target, volume, (0.5, 1.0, 2.0))[0].numpy(), want, atol=2e-6)


def test_it_is_the_colours_own_filter(target):
    spec = ColorSpec("red", (4, 6, 9), 5, boundary="wrap", sigma1=(0.8, 0.8))
    white = torch.from_numpy(reference.window(3, 4, spec))[None]
    assert torch.equal(run(target, white, (0.8, 0.8, 0.8)), target.color_noise(spec, [4], seed=3))


def test_strided_and_empty_volumes(target):
    volume = volumes(2, 3, 4, 5)
    strided = volume.permute(0, 3, 2, 1)
    assert torch.equal(run(target, strided, (1, 1, 1)), run(target, strided.contiguous(), (1, 1, 1)))
    assert run(target, volume[:0], (1, 1, 1)).shape == (0, 3, 4, 5)


@pytest.mark.parametrize(
    ("volume", "sigma", "kw", "error", "words"),
    [
        (torch.zeros(1, 2, 2, 2, dtype=torch.float64), (1, 1, 1), {}, TypeError, "float32"),
        (torch.zeros(2, 2, 2), (1, 1, 1), {}, ValueError, r"\[B, T, H, W\]"),
        (torch.zeros(1, 2, 0, 2), (1, 1, 1), {}, ValueError, "zero"),
        (torch.zeros(1, 2, 2, 2), (1, 1), {}, ValueError, "three"),
        (torch.zeros(1, 2, 2, 2), (1, 1, -1), {}, ValueError, "negative"),
        (torch.zeros(1, 2, 2, 2), (1, 1, float("nan")), {}, ValueError, "three numbers"),
        (torch.zeros(1, 2, 2, 2), (1, 1, 1e9), {}, ValueError, "at most"),
        (torch.zeros(1, 2, 2, 2), (1, 1, 1), {"truncate": 0.0}, ValueError, "truncate"),
        (torch.zeros(1, 2, 2, 2), (1, 1, 1), {"boundary": "reflect"}, ValueError, "wrap, valid"),
        (torch.zeros(1, 2, 2, 2), (1, 1, 1), {"boundary": "valid"}, ValueError, "nothing is left"),
    ],
)
def test_rejects(volume, sigma, kw, error, words):
    with pytest.raises(error, match=words):
        ops.gaussian_filter(volume, sigma, **kw)
