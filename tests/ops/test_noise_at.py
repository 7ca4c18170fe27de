# SPDX-License-Identifier: Apache-2.0
"""noise_at: on lattice points color_noise to the bit, between them the reference's bits, everywhere of one variance."""

import math

import numpy as np
import pytest
import torch

import smnoise
from smnoise import ops, reference_points
from smnoise.spec import ColorSpec

COLORS = ("white", "red", "blue", "green", "purple")
SMALL = {"sigma1": (0.4, 0.6), "sigma2": (0.7, 0.9), "truncate": 3.0}


def run(target, spec, samples, points, seed=5, table=None) -> torch.Tensor:
    seed, samples = target.tensors(seed, samples)
    table = None if table is None else table.to(target.device)
    return ops.noise_at(seed, samples, points.to(target.device), spec.to_json(), target.backend, table).cpu()


def lattice(t, y, x, origin=(0, 0, 0)) -> torch.Tensor:
    axes = (torch.arange(o, o + n).float() for o, n in zip(origin, (t, y, x), strict=True))
    return torch.cartesian_prod(*axes)


@pytest.mark.parametrize("color", COLORS)
def test_lattice_points_are_color_noise_to_the_bit(target, color):
    """Also behind the origin, with an axis that is not filtered, and with the default sigmas."""
    samples = [2**64 - 1, 3]
    for more in (
        {**SMALL, "origin": (-2, 5, -9)},
        {**SMALL, "anisotropy": (0.0, 1.0, 0.5), "origin": (7, -1, 0)},
        {"origin": (-1, -1, 6)},
    ):
        spec = ColorSpec(color, (1, 2, 3), 1, **more)
        points = lattice(1, 2, 3, spec.origin).expand(2, -1, -1)
        want = target.color_noise(spec, samples, seed=5).flatten(1)
        assert torch.equal(run(target, spec, samples, points), want)


@pytest.mark.parametrize("color", COLORS)
def test_is_the_reference_between_them(target, color):
    g = torch.Generator().manual_seed(3)
    points = 3 * torch.randn(2, 5, 3, generator=g)
    points[0, 0] = torch.tensor([-1 / 32, 1 / 32, -3 / 32])  # halves of sixteenths, which go up
    points[0, 1] = torch.tensor([524287.9, -32767.97, 262143.97])
    points[1, 2] = torch.tensor([400.5, -3000.25, 2500.0])  # far from the others
    spec = ColorSpec(color, (1, 1, 2), 1, anisotropy=(1.0, 0.5, 0.0), **SMALL)
    table = smnoise.sigma_table([0.0] * 31 + [1.0])
    for own in (None, table):
        got = run(target, spec, [7, 2**63], points, table=own)
        for row, sample in zip(range(2), (7, 2**63), strict=True):
            want = reference_points.noise_at(
                5, sample, points[row].numpy(), spec, None if own is None else own.tolist()
            )
            assert torch.equal(got[row], torch.from_numpy(want))


def test_default_sigmas_and_a_cloud(target):
    """Points that share their noise, and one so far off that none is shared."""
    points = torch.randn(1, 3, 3, generator=torch.Generator().manual_seed(1))
    spec = ColorSpec("green", (1, 1, 2), 1)
    want = reference_points.noise_at(0, 1, points[0].numpy(), spec)
    assert torch.equal(run(target, spec, [1], points, seed=0)[0], torch.from_numpy(want))
    far = torch.cat([points, torch.tensor([[[300000.0, 9.0, 9.0]]])], dim=1)
    assert torch.equal(run(target, spec, [1], far, seed=0)[:, :3], torch.from_numpy(want)[None])


def test_a_point_depends_on_itself_alone(target):
    spec = ColorSpec("green", (1, 1, 2), 1, **SMALL)
    points = torch.randn(3, 4, 3, generator=torch.Generator().manual_seed(2))
    whole = run(target, spec, [5, 6, 7], points)
    assert torch.equal(run(target, spec, [6], points[1:2].flip(1)), whole[1:2].flip(1))
    strided = points.transpose(1, 2).contiguous().transpose(1, 2)
    assert torch.equal(run(target, spec, [5, 6, 7], strided), whole)
    assert run(target, spec, [], torch.zeros(0, 4, 3)).shape == (0, 4)
    assert run(target, spec, [1], torch.zeros(1, 0, 3)).shape == (1, 0)


@pytest.mark.parametrize("color", ["red", "green"])
def test_the_field_is_as_strong_between_lattice_points(color):
    """Else points near the lattice would be visible more often, or less. Red to a hundredth; green's two filters are
    each of equal energy, and their difference to a tenth."""
    spec = ColorSpec(color, (1, 1, 2), 1, sigma1=(0.6, 0.6), sigma2=(1.5, 1.5))
    deviations = {}
    for phase in (0.0, 0.25, 0.5):
        g = torch.Generator().manual_seed(0)
        points = torch.randint(-5000, 5000, (40, 500, 3), generator=g) + phase
        field = ops.noise_at(torch.tensor(1), torch.arange(40), points, spec.to_json())
        assert abs(field.mean()) < 0.003
        deviations[phase] = field.std().item()
    widest = 1.02 if color == "red" else 1.1
    assert max(deviations.values()) / min(deviations.values()) < widest, deviations


def test_neighbours_are_alike():
    """As the filters promise: of Gaussians of variances a and b the products over a distance d have the mean
    exp(-d^2 / 2(a + b)) / (a + b)^1.5, but for a factor."""
    spec = ColorSpec("green", (1, 1, 2), 1, sigma1=(1.0, 1.0), sigma2=(2.0, 2.0))
    here = torch.randint(-1000, 1000, (4, 2000, 3), generator=torch.Generator().manual_seed(4)).float() + 0.4

    def correlation(step):
        seed, samples = torch.tensor(0), torch.arange(4)
        pair = [ops.noise_at(seed, samples, p, spec.to_json()).flatten() for p in (here, here + step)]
        return np.corrcoef(*pair)[0, 1]

    def promised(step):
        pairs = ((1, 1, 1), (1, 4, -1), (4, 1, -1), (4, 4, 1))
        return sum(s * math.exp(-3 * step**2 / 2 / (a + b)) / (a + b) ** 1.5 for a, b, s in pairs)

    for step in (1 / 16, 1.0, 1.5, 40.0):
        assert abs(correlation(step) - promised(step) / promised(0)) < 0.03


SEED, SAMPLES, POINTS = torch.tensor(0), torch.arange(2), torch.zeros(2, 3, 3)
SPEC = ColorSpec("green", (1, 1, 2), 1)


def with_value(value, axis=0):
    points = POINTS.clone()
    points[1, 2, axis] = value
    return points


@pytest.mark.parametrize(
    ("points", "spec", "error", "words"),
    [
        (POINTS.double(), SPEC, TypeError, "float32"),
        (POINTS[0], SPEC, ValueError, r"\[B, N, 3\]"),
        (POINTS[:1], SPEC, ValueError, "each of 2 samples"),
        (POINTS.to("meta"), SPEC, ValueError, "meta"),
        (with_value(float("nan")), SPEC, ValueError, "point 2 of row 1 has nan along t"),
        (with_value(float("-inf"), 2), SPEC, ValueError, "-inf along x"),
        (with_value(2.0**19), SPEC, ValueError, "along t"),
        (with_value(-(2.0**15), 1), SPEC, ValueError, "along y"),
        (with_value(3e38, 2), SPEC, ValueError, "along x"),
        (POINTS, ColorSpec("green", (1, 1, 2), 1, boundary="wrap"), ValueError, "field"),
        (POINTS, ColorSpec("red", (1, 1, 2), 1, sigma1=(9.0, 9.0)), ValueError, "at most 32"),
    ],
)
def test_rejects(points, spec, error, words):
    with pytest.raises(error, match=words):
        ops.noise_at(SEED, SAMPLES, points, spec.to_json())
