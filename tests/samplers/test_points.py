# SPDX-License-Identifier: Apache-2.0
"""PointMasks: exact counts, blobs in space, and a step that follows the cloud."""

import pytest
import torch

import smnoise
from smnoise.samplers.points import auto_step

CLOUD = torch.randn(3, 64, 3, generator=torch.Generator().manual_seed(0))
CLOUD = CLOUD / CLOUD.norm(dim=2, keepdim=True)


def neighbours_masked(masks, cloud, near=6) -> float:
    """The share of masked ones among the nearest neighbours of masked points."""
    order = torch.cdist(cloud, cloud).argsort(dim=2)[:, :, 1 : near + 1]
    around = masks.mask.gather(1, order.flatten(1)).view(order.shape).float().mean(2)
    return around[masks.mask].mean().item()


@pytest.mark.parametrize("color", ["white", "red", "blue", "green", "purple"])
def test_exact_counts_and_ids(color):
    sampler = smnoise.PointMasks(64, 0.6, color=color, step=0.25)
    masks = sampler(range(3), points=CLOUD)
    assert sampler.visible_per_sample == 25
    assert (~masks.mask).sum(1).tolist() == [25] * 3
    assert torch.equal(masks.ids_keep.sort(1).values, masks.ids_keep)
    assert not masks.mask.gather(1, masks.ids_keep).any()
    only = sampler(range(3), points=CLOUD, outputs="ids_mask")
    assert only.mask is None
    assert torch.equal(only.ids_mask, masks.ids_mask)


def test_green_masks_lie_together_and_more_so_with_a_larger_step():
    clouds = CLOUD.repeat(40, 1, 1)
    found = [
        neighbours_masked(
            smnoise.PointMasks(64, 0.6, color=color, step=step)(range(120), points=clouds), clouds
        )
        for color, step in (("white", 1e-3), ("green", 0.15), ("green", 0.25), ("green", 0.4))
    ]
    assert abs(found[0] - 0.6) < 0.02  # cells far smaller than the spacing: as random masks
    assert found == sorted(found)
    assert found[2] > found[0] + 0.07


def test_auto_follows_the_size_of_the_cloud():
    sampler = smnoise.PointMasks(64, 0.6)
    masks = sampler(range(3), points=CLOUD)
    step = auto_step(CLOUD)
    assert step.shape == (3, 1, 1)
    for row in range(3):
        apart = torch.cdist(CLOUD[row].double(), CLOUD[row].double()).fill_diagonal_(9.0)
        assert abs(step[row].item() - 1.5 * apart.min(1).values.sort().values[31]) < 1e-6
    # A power of two changes no bit of coordinates in steps.
    assert torch.equal(sampler(range(3), points=CLOUD * 4).mask, masks.mask)
    fixed = smnoise.PointMasks(64, 0.6, step=step[1].item())
    assert torch.equal(fixed([1], points=CLOUD[1:2]).mask, masks.mask[1:2])


def test_a_cloud_depends_on_its_sample_and_its_points_alone():
    sampler = smnoise.PointMasks(64, 0.6)
    whole = sampler([4, 5, 6], points=CLOUD)
    assert torch.equal(sampler([5], points=CLOUD[1:2]).mask, whole.mask[1:2])
    order = torch.randperm(64, generator=torch.Generator().manual_seed(1))
    shuffled = sampler([5], points=CLOUD[1:2, order])
    assert torch.equal(shuffled.mask, whole.mask[1:2, order])  # but for ties, which it has none of


def test_bias_and_sigmas():
    sampler = smnoise.PointMasks(64, 0.6, step=0.25)
    above = (CLOUD[..., 2] > 0).float()
    shown = ~sampler(range(3), points=CLOUD, bias=above, bias_weight=1e3).mask
    assert (shown.float() * above).sum() == 75
    table = smnoise.sigma_table([0.0] * 31 + [1.0])
    plain = sampler(range(3), points=CLOUD)
    assert not torch.equal(sampler(range(3), points=CLOUD, sigma_table=table).mask, plain.mask)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"num_points": 64}, ValueError, "either mask_ratio or num_visible"),
        ({"num_points": 1, "mask_ratio": 0.5}, ValueError, "num_points"),
        ({"num_points": 64, "num_visible": 64}, ValueError, "between 1 and 63"),
        ({"num_points": 64, "mask_ratio": 0.5, "step": 0.0}, ValueError, "step"),
        ({"num_points": 64, "mask_ratio": 0.5, "step": "large"}, ValueError, "auto"),
        ({"num_points": 64, "mask_ratio": 0.5, "color": "greem"}, ValueError, "did you mean green"),
        ({"num_points": 64, "mask_ratio": 0.5, "parameters": {"boundary": "wrap"}}, TypeError, "some of"),
        ({"num_points": 64, "mask_ratio": 0.5, "parameters": {"sigma2": (9, 9)}}, ValueError, "at most 32"),
    ],
)
def test_parameters_are_checked(arguments, error, words):
    with pytest.raises(error, match=words):
        smnoise.PointMasks(**arguments)


@pytest.mark.parametrize(
    ("points", "step", "error", "words"),
    [
        (CLOUD.double(), 0.25, ValueError, "float32"),
        (CLOUD[:, :9], 0.25, ValueError, r"\[B, 64, 3\]"),
        (CLOUD * float("nan"), 0.25, ValueError, "finite"),
        (CLOUD * 0, "auto", ValueError, "finds no spacing in cloud 0"),
        (CLOUD * float("inf"), "auto", ValueError, "finds no spacing|finite"),
        (CLOUD, 1e-6, ValueError, "repeated"),
    ],
)
def test_points_are_checked(points, step, error, words):
    with pytest.raises(error, match=words):
        smnoise.PointMasks(64, 0.6, step=step)(range(3), points=points)
