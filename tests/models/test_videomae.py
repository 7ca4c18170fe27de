# SPDX-License-Identifier: Apache-2.0
"""VideoMAE against its tables: target, loss, positions, initial weights, parameter counts."""

import math

import pytest
import torch

from smnoise import Green3D, White3D
from smnoise.models.common import Size
from smnoise.models.videomae import SIZES, VideoMAE, sinusoid

GRID = (2, 3, 4)
SMALL = Size(24, 2, 2, 12, 1, 2)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return VideoMAE(SMALL, GRID, patch=4)


@pytest.fixture
def clips():
    return torch.randint(
        0, 256, (2, 3, 4, 12, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )


MASKS = Green3D(GRID, 0.75)([0, 1])


EVERY = torch.arange(24).expand(2, -1)


def test_cubes_are_the_normalised_pixels_of_a_token_in_order(model, clips):
    cubes = model.cubes(clips, EVERY)
    assert cubes.shape == (2, 24, 3, 2 * 4 * 4)
    for token in (0, 5, 23):
        t, h, w = token // 12, token // 4 % 3, token % 4
        block = clips[1, :, 2 * t : 2 * t + 2, 4 * h : 4 * h + 4, 4 * w : 4 * w + 4].flatten(1) / 255
        want = (block - model.mean[:, None]) / model.std[:, None]
        torch.testing.assert_close(cubes[1, token], want, atol=1e-6, rtol=1e-5)


def test_embedding_is_the_originals_convolution(model, clips):
    """A strided Conv3d with the same weights gives the same tokens."""
    x = clips.float() / 255
    mean, std = (v.view(1, 3, 1, 1, 1) for v in (model.mean, model.std))
    weight = model.embed.weight.view(24, 3, 2, 4, 4)
    want = torch.nn.functional.conv3d((x - mean) / std, weight, model.embed.bias, stride=(2, 4, 4))
    got = model.embed(model.cubes(x, EVERY).flatten(2))
    torch.testing.assert_close(got, want.flatten(2).transpose(1, 2), atol=1e-5, rtol=1e-5)


def hidden_targets(clips) -> torch.Tensor:
    """[2, M, P * C], channel fastest, float64, cube by cube."""
    rows = []
    for clip, ids in zip(clips, MASKS.ids_mask.tolist(), strict=True):
        for token in ids:
            t, h, w = token // 12, token // 4 % 3, token % 4
            cube = clip[:, 2 * t : 2 * t + 2, 4 * h : 4 * h + 4, 4 * w : 4 * w + 4].flatten(1).double() / 255
            std, mean = torch.std_mean(cube, dim=1, keepdim=True, correction=1)
            rows.append(((cube - mean) / (std + 1e-6)).t().flatten())
    return torch.stack(rows).unflatten(0, (2, -1))


def test_the_loss_is_over_hidden_tokens_only(model, clips):
    loss, prediction = model(clips, MASKS)
    assert prediction.shape == (2, MASKS.num_masked, 3 * 32)
    want = (prediction.double() - hidden_targets(clips)).square().mean()
    assert loss.item() == pytest.approx(want.item(), rel=1e-6)
    assert loss.dtype == torch.float32


def test_the_encoder_never_sees_a_hidden_pixel(model, clips):
    _, before = model(clips, MASKS)
    changed = clips.clone()
    for token in MASKS.ids_mask[0].tolist():
        t, h, w = token // 12, token // 4 % 3, token % 4
        changed[0, :, 2 * t : 2 * t + 2, 4 * h : 4 * h + 4, 4 * w : 4 * w + 4] ^= 255
    assert torch.equal(model(changed, MASKS)[1], before)
    t, h, w = (lambda n: (n // 12, n // 4 % 3, n % 4))(MASKS.ids_keep[0, 0].item())
    changed[0, :, 2 * t : 2 * t + 2, 4 * h : 4 * h + 4, 4 * w : 4 * w + 4] ^= 255
    after = model(changed, MASKS)[1]
    assert not torch.equal(after[0], before[0])
    assert torch.equal(after[1], before[1])


def test_floats_and_bytes_give_the_same_loss(model, clips):
    assert model(clips.float() / 255, MASKS)[0].item() == pytest.approx(
        model(clips, MASKS)[0].item(), rel=1e-6
    )


def test_positions():
    table = sinusoid(100, 8)
    for token, channel in ((0, 0), (7, 0), (7, 1), (99, 5), (42, 6)):
        angle = token / 10000 ** (2 * (channel // 2) / 8)
        want = math.sin(angle) if channel % 2 == 0 else math.cos(angle)
        assert table[token, channel].item() == pytest.approx(want, abs=1e-6)
    assert torch.equal(sinusoid(50, 8), table[:50])


def test_features_are_frozen_means_over_all_cubes(model, clips):
    features = model.features(clips)
    assert features.shape == (2, 24)
    assert not features.requires_grad
    order = torch.randperm(24).expand(2, -1)
    want = model.encode(model.cubes(clips.float() / 255, order), order).mean(dim=1)
    torch.testing.assert_close(features, want, atol=1e-5, rtol=1e-4)
    assert model.features(clips.repeat(1, 1, 2, 1, 1)).shape == (2, 24)


def test_any_grid_at_run_time(model):
    for frames, height, width in ((2, 8, 8), (6, 16, 20)):
        grid = (frames // 2, height // 4, width // 4)
        clip = torch.zeros(1, 3, frames, height, width, dtype=torch.uint8)
        loss, _ = model(clip, White3D(grid, 0.5)([0]))
        assert loss.isfinite()
    assert set(model.state_dict()) == set(VideoMAE(SMALL, GRID, patch=4).state_dict())


def test_initial_weights_as_tabled():
    torch.manual_seed(0)
    model = VideoMAE("tiny", (2, 2, 2))
    weight = model.encoder[0].mlp.fc1.weight
    assert weight.abs().max() <= math.sqrt(6 / sum(weight.shape)) + 1e-6  # Xavier, uniform
    assert weight.std().item() == pytest.approx(math.sqrt(2 / sum(weight.shape)), rel=0.05)
    assert not model.encoder[0].mlp.fc1.bias.any()
    assert model.mask_token.abs().max() <= 0.02
    assert model.mask_token.std() > 0.005
    attention = model.encoder[0].attn
    assert attention.q_bias is not None
    assert attention.v_bias is not None
    assert not any("k_bias" in name for name, _ in model.named_parameters())


def test_base_has_as_many_parameters_as_the_published_model():
    with torch.device("meta"):
        model = VideoMAE("base")
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(94.21, abs=0.01)


def test_every_size_can_be_made():
    for size in SIZES.values():
        assert size.width % size.heads == 0
        assert size.decoder_width % size.decoder_heads == 0
        assert size.width % 2 == size.decoder_width % 2 == 0


def test_recomputing_blocks_changes_no_gradient(clips):
    gradients = []
    for recompute in (False, True):
        torch.manual_seed(0)
        model = VideoMAE(SMALL, GRID, patch=4, checkpoint_blocks=recompute)
        model(clips, MASKS)[0].backward()
        gradients.append([p.grad for p in model.parameters()])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)


def test_every_parameter_is_used(model, clips):
    model(clips, MASKS)[0].backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_rejects(model, clips):
    with pytest.raises(ValueError, match="one of nano, tiny"):
        VideoMAE("giant")
    with pytest.raises(ValueError, match=r"masks are for grid \(2, 4, 4\)"):
        model(clips, Green3D((2, 4, 4), 0.5)([0, 1]))
    with pytest.raises(ValueError, match="1 masks for 2 clips"):
        model(clips, Green3D(GRID, 0.5)([0]))
    with pytest.raises(ValueError, match="multiples of the cube"):
        model(clips[:, :, :3], MASKS)
    with pytest.raises(ValueError, match=r"\[B, 3, T, H, W\]"):
        model(clips[:, :1], MASKS)
    with pytest.raises(ValueError, match="mean and std"):
        VideoMAE(SMALL, GRID, channels=1)
