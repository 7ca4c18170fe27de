# SPDX-License-Identifier: Apache-2.0
"""An origin of its own for each row: windows of one sample that touch continue its field, wherever they lie."""

import pytest
import torch

import smnoise
from smnoise import ops, reference
from smnoise.spec import ColorSpec

COLORS = ("white", "red", "blue", "green", "purple")


def noise(target, spec, samples, origin, seed=5) -> torch.Tensor:
    seed, samples = target.tensors(seed, samples)
    place = torch.tensor(origin, dtype=torch.int64, device=target.device)
    return ops.color_noise(seed, samples, spec.to_json(), target.backend, origin=place).cpu()


@pytest.mark.parametrize("color", COLORS)
def test_windows_of_one_field(target, color):
    """A long clip's field, cut into windows that touch, and one that lies across, of rows in any order."""
    long = target.color_noise(ColorSpec(color, (9, 5, 6), 1), [7], seed=5)[0]
    spec = ColorSpec(color, (3, 4, 5), 1)
    starts = [(6, 0, 0), (0, 1, 1), (3, 0, 1), (2, 1, 0)]
    found = noise(target, spec, [7] * 4, starts)
    for window, (t, y, x) in zip(found, starts, strict=True):
        assert torch.equal(window, long[t : t + 3, y : y + 4, x : x + 5])


@pytest.mark.parametrize("color", COLORS)
def test_is_the_spec_s_origin_and_the_reference(target, color):
    spec = ColorSpec(color, (2, 3, 4), 1, origin=(5, -7, 11), anisotropy=(0.5, 1, 1))
    origins = [(0, 0, 0), (-9, 12345, -3), (2**28 - 1, 65535, 524287)]
    found = noise(target, spec, [0, 2**64 - 1, 3], origins)
    for row, sample, origin in zip(found, (0, 2**64 - 1, 3), origins, strict=True):
        assert torch.equal(row, torch.from_numpy(reference.color_noise(5, sample, spec, origin=origin)))
        whole = tuple(a + b for a, b in zip(spec.origin, origin, strict=True))
        moved = ColorSpec(color, (2, 3, 4), 1, origin=whole, anisotropy=(0.5, 1, 1))
        assert torch.equal(row, target.color_noise(moved, [sample], seed=5)[0])


def test_any_integers_the_field_repeats(target):
    spec = ColorSpec("green", (2, 3, 4), 1)
    near = noise(target, spec, [1, 1], [(3, 4, 5), (-1, -2, -3)])
    periods = (1 << 28, 1 << 16, 1 << 19)
    far = [
        tuple(o + n * p for o, n, p in zip(place, (2**34, -(2**46), 2**43), periods, strict=True))
        for place in ((3, 4, 5), (-1, -2, -3))
    ]
    assert torch.equal(noise(target, spec, [1, 1], far), near)


def test_masks_are_those_of_the_noise(target):
    spec = ColorSpec("green", (3, 5, 6), 20)
    seed, samples = target.tensors(5, range(3))
    origin = torch.tensor([[0, 0, 0], [3, 0, 0], [-6, 1, 2]], device=target.device)
    found = ops.color_mask(seed, samples, spec.to_json(), target.backend, origin=origin)
    fields = ops.color_noise(seed, samples, spec.to_json(), target.backend, origin=origin)
    want = ops.threshold(fields.flatten(1), 20, 1, target.backend)
    assert all(torch.equal(f, w) for f, w in zip(found, want, strict=True))
    assert torch.equal(found[0][0], ops.color_mask(seed, samples, spec.to_json(), target.backend)[0][0])


def test_with_a_table_of_sigmas(target):
    spec, table = ColorSpec("red", (2, 3, 4), 1), smnoise.sigma_table([0.0] * 31 + [1.0])
    seed, samples = target.tensors(0, [4])
    place = torch.tensor([[5, 0, 0]], device=target.device)
    found = ops.color_noise(seed, samples, spec.to_json(), target.backend, table.to(target.device), place)
    want = reference.color_noise(0, 4, spec, table=table.tolist(), origin=(5, 0, 0))
    assert torch.equal(found[0].cpu(), torch.from_numpy(want))


@pytest.mark.parametrize(
    "sampler",
    [
        smnoise.Green3D((4, 5, 6), 0.8),
        smnoise.Green2D((4, 5, 6), 0.8),
        smnoise.FrameCounts((4, 5, 6), (1, 9, 0, 3), strategy="green-3d"),
        smnoise.ContextTargets((4, 5, 6), num_context=16, num_target=17, target_sets=2),
    ],
    ids=lambda s: type(s).__name__,
)
def test_every_colour_takes_origins(sampler):
    """Given as rows, as a tensor, and as one place for all; the second window of a sample is the first's neighbour."""
    plain = sampler([3, 3])
    assert torch.equal(sampler([3, 3], origin=(0, 0, 0)).mask, plain.mask)
    found = sampler([3, 3], origin=[(0, 0, 0), (4, 0, 0)])
    assert torch.equal(found.mask[0], plain.mask[0])
    assert not torch.equal(found.mask[1], plain.mask[1])
    assert torch.equal(sampler([3, 3], origin=torch.tensor([[0, 0, 0], [4, 0, 0]])).mask, found.mask)
    assert (~found.mask).sum(1).tolist() == [sampler.visible_per_sample] * 2


def test_sets_and_a_bias_take_origins_too():
    targets = smnoise.ContextTargets((4, 5, 6), num_context=16, num_target=17, target_sets=2)
    there, here = (targets.sets([3], origin=o) for o in ((4, 0, 0), (0, 0, 0)))
    assert not torch.equal(there.targets, here.targets)
    sampler, bias = smnoise.Green3D((4, 5, 6), 0.8), torch.zeros(1, 120)
    moved = sampler([3], origin=(4, 0, 0))
    assert torch.equal(sampler([3], origin=(4, 0, 0), bias=bias).mask, moved.mask)


def test_a_compiled_step_takes_new_origins():
    sampler = smnoise.Green3D((2, 5, 6), num_visible=7)
    torch._dynamo.reset()
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]

    @torch.compile(fullgraph=True)
    def masks_of(origin):
        return sampler(batch_size=2, step=0, origin=origin).mask & True

    for t in (0, 2, 4):
        origin = torch.tensor([[t, 0, 0], [t, 1, 2]])
        assert torch.equal(masks_of(origin), sampler(batch_size=2, step=0, origin=origin).mask)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == before + 1


@pytest.mark.parametrize(
    ("sampler", "origin", "error", "words"),
    [
        (smnoise.Green3D((2, 3, 3), 0.5), torch.zeros(2, 3), TypeError, "int64"),
        (smnoise.Green3D((2, 3, 3), 0.5), torch.zeros(3, 3).long(), ValueError, r"\[B, 3\]"),
        (smnoise.Green3D((2, 3, 3), 0.5), [(0, 0)] * 2, ValueError, r"\[B, 3\]"),
        (smnoise.Green3D((2, 3, 3), 0.5), [(0, 0, 0)], ValueError, "each of 2 samples"),
        (smnoise.Green3D((2, 3, 3), 0.5), [(0, 0, 0), (0, 0)], ValueError, "origin"),
        (smnoise.Green3D((2, 3, 3), 0.5), "abc", TypeError, "origin"),
        (smnoise.Green3D((2, 3, 3), 0.5), 3, TypeError, "origin"),
        (smnoise.Green3D((2, 3, 3), 0.5), (0, 0.5, 0), TypeError, "integer"),
        (smnoise.Green3D((2, 3, 3), 0.5), (0, 2**63, 0), ValueError, "origin"),
        (smnoise.Green3D((2, 3, 3), 0.5), torch.zeros(2, 3, device="meta").long(), ValueError, "meta"),
        (smnoise.Green3D((2, 3, 3), 0.5, boundary="wrap"), (0, 0, 0), ValueError, 'boundary="field"'),
        (smnoise.Random((2, 3, 3), 0.5), (0, 0, 0), ValueError, "Random has no field"),
        (smnoise.OptimBlue((3, 3), 0.5), (0, 0, 0), ValueError, "OptimBlue has no field"),
    ],
)
def test_origins_are_checked(sampler, origin, error, words):
    with pytest.raises(error, match=words):
        sampler([0, 1], origin=origin)
