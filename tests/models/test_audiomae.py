# SPDX-License-Identifier: Apache-2.0
"""AudioMAE against its tables: patches, positions, local attention, target, loss, parameter counts."""

import math

import pytest
import torch
from torch.nn.functional import layer_norm

from smnoise.models.audiomae import (
    SIZES,
    AudioMAE,
    from_patches,
    patch_statistics,
    sinusoid_2d,
    to_patches,
)
from smnoise.models.common import Size
from smnoise.train.optim import decay_groups

from .small_audio import DECODERS, GRID, MASKS, SMALL, make, masks_for


@pytest.fixture(params=DECODERS)
def model(request):
    return make(request.param).eval()  # without the dropout in the position bias


def test_patches_are_the_values_of_a_token_in_order(spectrograms):
    patches = to_patches(spectrograms, 4)
    assert patches.shape == (2, 18, 16)
    for token in (0, 1, 4, 17):
        time, freq = token // 3, token % 3
        block = spectrograms[1, 4 * time : 4 * time + 4, 4 * freq : 4 * freq + 4]
        assert torch.equal(patches[1, token], block.flatten())
    assert torch.equal(from_patches(patches, GRID), spectrograms)


def test_embedding_is_a_strided_convolution(model, spectrograms):
    embed = model.encoder.embed
    weight = embed.weight.view(24, 1, 4, 4)
    want = torch.nn.functional.conv2d(spectrograms[:, None], weight, embed.bias, stride=4)
    torch.testing.assert_close(embed(to_patches(spectrograms, 4)), want.flatten(2).transpose(1, 2))


def code(row, column, width):
    """One row of the position table, from its definition."""
    quarter = width // 4
    angles = [[x / 10000 ** (k / quarter) for k in range(quarter)] for x in (column, row)]
    halves = [[*map(math.sin, a), *map(math.cos, a)] for a in angles]
    return torch.tensor(halves[0] + halves[1])


def test_positions_by_their_formula():
    right = AudioMAE(Size(64, 1, 1, 32, 1, 1)).encoder.positions((64, 8))
    published = AudioMAE(Size(64, 1, 1, 32, 1, 1), positions="published").encoder.positions((64, 8))
    assert right.shape == published.shape == (512, 64)
    for time, freq in ((0, 0), (0, 7), (1, 0), (9, 3), (63, 7)):
        token = time * 8 + freq
        torch.testing.assert_close(right[token], code(time, freq, 64), atol=1e-6, rtol=0)
        torch.testing.assert_close(published[token], code(token // 64, token % 64, 64), atol=1e-6, rtol=0)


def test_right_positions_keep_distances_and_published_ones_do_not():
    right, published = sinusoid_2d((64, 8), 64), sinusoid_2d((8, 64), 64)
    assert len(published.unique(dim=0)) == len(right.unique(dim=0)) == 512
    right, published = right.view(64, 8, 64), published.view(64, 8, 64)
    steps = (right[1:] - right[:-1]).norm(dim=-1), (right[:, 1:] - right[:, :-1]).norm(dim=-1)
    for along in steps:  # the same step, the same distance, wherever it starts
        torch.testing.assert_close(along, along[:1, :1].expand_as(along))

    def apart(table, step):
        return (table[step, 0] - table[0, 0]).norm()

    assert apart(right, 1) < apart(right, 2) < apart(right, 8)
    assert apart(published, 8) < apart(published, 1)  # 8 patches later: coded as nearer than the next patch


def test_positions_of_another_length_agree_where_both_have_the_token():
    positions = make().encoder.positions
    assert torch.equal(positions((9, 3))[:18], positions(GRID))
    published = make(positions="published").encoder.positions
    assert not torch.equal(published((9, 3))[:18], published(GRID))


def test_the_class_token_has_no_position_and_comes_first(model, spectrograms):
    model.encoder.blocks = torch.nn.ModuleList()
    tokens = model.encoder(to_patches(spectrograms, 4), None, GRID)
    assert tokens.shape == (2, 19, 24)
    assert torch.equal(tokens[0, 0], model.encoder.class_token[0, 0])
    want = model.encoder.embed(to_patches(spectrograms, 4)) + sinusoid_2d(GRID, 24)
    torch.testing.assert_close(tokens[:, 1:], want)


def test_published_target_by_hand(spectrograms):
    patch = to_patches(spectrograms, 4)[1, 5]
    one = patch.tolist()
    mean = math.fsum(one) / 16
    variance = math.fsum((v - mean) ** 2 for v in one) / 15
    got_mean, got_std = patch_statistics(patch)
    assert got_mean.item() == pytest.approx(mean, rel=1e-5)
    assert got_std.item() == pytest.approx(math.sqrt(variance + 1e-6), rel=1e-5)
    assert patch_statistics(torch.full((16,), 0.3))[1].item() == pytest.approx(
        1e-3, rel=1e-3
    )  # eps in the root


@pytest.mark.parametrize("normalise", [True, False])
def test_the_loss_is_over_hidden_patches_only(spectrograms, normalise):
    model = make(normalise_target=normalise)
    loss, prediction = model(spectrograms, MASKS)
    assert prediction.shape == (2, MASKS.num_masked, 16)
    assert loss.dtype == torch.float32
    errors = []
    for clip in range(2):
        for row, token in enumerate(MASKS.ids_mask[clip].tolist()):
            t, f = token // 3, token % 3
            target = spectrograms[clip, 4 * t : 4 * t + 4, 4 * f : 4 * f + 4].flatten().double()
            if normalise:
                target = (target - target.mean()) / (target.var(correction=1) + 1e-6).sqrt()
            errors.append((prediction[clip, row].double() - target).square().mean().item())
    assert loss.item() == pytest.approx(sum(errors) / len(errors), rel=1e-5)


def test_hidden_values_change_the_target_only(model, spectrograms):
    before_loss, before = model(spectrograms, MASKS)
    patches = to_patches(spectrograms, 4)
    patches[0, MASKS.ids_mask[0, 2]] += torch.randn(16)
    after_loss, after = model(from_patches(patches, GRID), MASKS)
    assert torch.equal(after, before)
    assert after_loss != before_loss


def test_visible_values_matter_to_their_own_clip_only(model, spectrograms):
    before = model(spectrograms, MASKS)[1]
    patches = to_patches(spectrograms, 4)
    patches[0, MASKS.ids_keep[0, 0]] += 1
    after = model(from_patches(patches, GRID), MASKS)[1]
    assert (after[0] != before[0]).any()
    assert torch.equal(after[1], before[1])


def test_prediction_rows_follow_ids_mask(model, spectrograms):
    """Hidden or visible tokens in another order: the same values, in that order."""
    _, before = model(spectrograms, MASKS)
    order = torch.randperm(MASKS.num_masked)
    loss, after = model(spectrograms, MASKS._replace(ids_mask=MASKS.ids_mask[:, order]))
    torch.testing.assert_close(after, before[:, order])
    swapped = MASKS._replace(ids_keep=MASKS.ids_keep.flip(1))
    torch.testing.assert_close(model(spectrograms, swapped)[1], before, atol=1e-5, rtol=1e-5)
    assert loss.isfinite()


def test_decoder_gives_every_hidden_token_its_own_code(model):
    """Without blocks: hidden tokens are the mask token, each with the code of its place. (Where the visible ones go
    is a matter of ops.decoder_tokens, and tested there.)"""
    model.decoder = torch.nn.ModuleList()
    features = torch.randn(2, 1 + MASKS.num_visible, 24)
    positions = sinusoid_2d(GRID, 16)
    with torch.no_grad():
        got = model.decode(features, MASKS.ids_keep, MASKS.ids_mask, GRID)
        for clip in range(2):
            for row, token in enumerate(MASKS.ids_mask[clip].tolist()):
                want = model.head(layer_norm(model.mask_token[0, 0] + positions[token], (16,), eps=1e-6))
                torch.testing.assert_close(got[clip, row], want)


def test_global_decoder_reads_the_class_token(spectrograms):
    model = make("global").eval()
    features = torch.randn(2, 1 + MASKS.num_visible, 24)
    before = model.decode(features, MASKS.ids_keep, MASKS.ids_mask, GRID)
    features[:, 0] += torch.randn(24)
    after = model.decode(features, MASKS.ids_keep, MASKS.ids_mask, GRID)
    assert (before != after).any(dim=2).all()


@pytest.mark.parametrize("decoder", DECODERS)
def test_every_parameter_is_used(decoder, spectrograms):
    model = make(decoder)
    model(spectrograms, MASKS)[0].backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("decoder", DECODERS)
def test_recomputing_blocks_changes_no_gradient(decoder, spectrograms):
    losses, gradients = [], []
    for recompute in (False, True):
        model = make(decoder, checkpoint_blocks=recompute)
        torch.manual_seed(5)  # of the dropout in the position bias
        loss, _ = model(spectrograms, MASKS)
        loss.backward()
        losses.append(loss.item())
        gradients.append([p.grad for p in model.parameters()])
    assert losses[0] == losses[1]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("frames", [4, 16, 28, 64])
def test_any_length_at_run_time(model, frames):
    masks = masks_for((frames // 4, 3), 0.5)
    loss, prediction = model(torch.randn(2, frames, 12), masks)
    assert loss.isfinite()
    assert prediction.shape == (2, masks.num_masked, 16)
    loss.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    assert not any("positions" in name or "offsets" in name for name in model.state_dict())


def test_a_model_for_one_length_is_a_model_for_another(spectrograms):
    """The grid given to the constructor is a default, not a part of the weights."""
    long = make().eval()
    torch.manual_seed(9)
    short = AudioMAE(SMALL, (2, 3), patch=4).eval()
    short.load_state_dict(long.state_dict())
    torch.testing.assert_close(short(spectrograms, MASKS)[0], long(spectrograms, MASKS)[0])


@pytest.mark.parametrize("mel", [4, 20, 40])
def test_any_number_of_mel_bins(mel):
    model = AudioMAE(SMALL, (4, mel // 4), patch=4)
    loss, _ = model(torch.randn(2, 16, mel), masks_for((4, mel // 4), 0.5))
    assert loss.isfinite()


@pytest.mark.parametrize("decoder", DECODERS)
def test_bfloat16(decoder, spectrograms):
    model = make(decoder).eval()
    exact = model(spectrograms, MASKS)[0]
    with torch.autocast("cpu", torch.bfloat16):
        loss, prediction = model(spectrograms, MASKS)
    assert loss.dtype == torch.float32
    assert prediction.dtype == torch.bfloat16
    loss.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    assert loss.item() == pytest.approx(exact.item(), rel=0.02)


@pytest.mark.parametrize("decoder", DECODERS)
def test_compiled_in_one_graph(decoder, spectrograms):
    torch._dynamo.reset()
    model = make(decoder).eval()
    compiled = torch.compile(model, fullgraph=True, dynamic=False, backend="aot_eager")
    torch.testing.assert_close(compiled(spectrograms, MASKS), model(spectrograms, MASKS))
    longer, masks = torch.randn(2, 40, 12), masks_for((10, 3))
    torch.testing.assert_close(compiled(longer, masks), model(longer, masks))


def test_a_tiny_model_learns_four_spectrograms():
    """Smooth ramps and tones, hidden to 70 %: they can be guessed, and soon are."""
    torch.manual_seed(0)
    model = AudioMAE(Size(48, 2, 2, 32, 2, 2), (8, 4), patch=8)
    time, mel = torch.meshgrid(torch.arange(64.0), torch.arange(32.0), indexing="ij")
    batch = torch.stack([(time / p).sin() + (mel / q).cos() for p, q in ((3, 5), (5, 3), (8, 2), (2, 9))])
    masks = masks_for((8, 4), 0.7, range(4))
    optimiser = torch.optim.AdamW(model.parameters(), 3e-3)
    losses = []
    for _ in range(150):
        loss, _ = model(batch, masks)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[0] > 1
    assert losses[-1] < 0.1


def encoder_parameters(width, depth):
    attention = 4 * (width * width + width)
    mlp = 8 * width * width + 5 * width
    return depth * (attention + mlp + 4 * width)


@pytest.mark.parametrize("decoder", DECODERS)
def test_base_has_the_parameters_of_its_table(decoder):
    with torch.device("meta"):
        model = AudioMAE("base", decoder=decoder)
    around = 257 * 768 + 768 + 2 * 768 + 769 * 512 + 512 + 2 * 512 + 513 * 256
    blocks = encoder_parameters(768, 12)
    if decoder == "local":
        blocks += encoder_parameters(512, 16) + 16 * (16 + 3 * 384 + 385 * 16)
    else:
        blocks += encoder_parameters(512, 8)
    assert sum(p.numel() for p in model.parameters()) == around + blocks


def test_initial_weights_as_tabled():
    torch.manual_seed(0)
    model = AudioMAE("tiny", (4, 2))
    for weight in (model.encoder.embed.weight, model.encoder.blocks[0].mlp.fc1.weight, model.bridge.weight):
        limit = math.sqrt(6 / sum(weight.shape))
        assert 0.98 * limit < weight.abs().max() <= limit
    assert not model.decoder[0].attention.qkv.bias.any()
    assert model.encoder.blocks[0].attn.qkv.bias.shape == (576,)
    assert model.encoder.class_token.std().item() == pytest.approx(0.02, rel=0.2)
    assert model.mask_token.std().item() == pytest.approx(0.02, rel=0.3)
    assert (model.decoder[1].attention.temperature == 1).all()
    assert {m.eps for m in model.modules() if isinstance(m, torch.nn.LayerNorm)} == {1e-6}
    assert model.no_weight_decay() <= set(dict(model.named_parameters()))
    still, decaying = ({id(p) for p in group["params"]} for group in decay_groups(model, 1e-4))
    for (
        name,
        parameter,
    ) in model.named_parameters():  # in AudioMAE's program vectors and biases alone do not decay
        assert (id(parameter) in decaying) == (parameter.dim() > 1), name
        assert (id(parameter) in still) != (id(parameter) in decaying)


def test_decoder_depth():
    assert len(AudioMAE("tiny", (4, 2)).decoder) == 4
    assert len(AudioMAE("tiny", (4, 2), decoder="global").decoder) == 2
    assert len(make("global").decoder) == SMALL.decoder_depth
    assert (SIZES["base"].decoder_depth, SIZES["base"].depth) == (16, 12)


def test_features_are_frozen_means(spectrograms):
    model = make().eval()
    features = model.features(spectrograms)
    assert features.shape == (2, 24)
    assert not features.requires_grad
    ids = torch.arange(18).expand(2, -1)
    tokens = model.encoder_norm(model.encoder(to_patches(spectrograms, 4), ids, GRID))
    torch.testing.assert_close(features, tokens[:, 1:].mean(dim=1).detach())


def test_rejects(spectrograms):
    model = make()
    with pytest.raises(ValueError, match="one of tiny, small, base"):
        AudioMAE("huge")
    with pytest.raises(ValueError, match="'local' or 'global', got 'swin'"):
        AudioMAE(SMALL, decoder="swin")
    with pytest.raises(ValueError, match="'right' or 'published'"):
        AudioMAE(SMALL, positions="wrong")
    with pytest.raises(ValueError, match=r"\(time, frequency\)"):
        AudioMAE(SMALL, (1, 64, 8))
    with pytest.raises(ValueError, match="multiple of 4, got 18"):
        AudioMAE(Size(18, 1, 1, 16, 1, 1))
    with pytest.raises(ValueError, match=r"masks are for grid \(1, 5, 3\), but the spectrograms have grid"):
        model(spectrograms, masks_for((5, 3)))
    with pytest.raises(ValueError, match="1 masks for 2 spectrograms"):
        model(spectrograms, masks_for(GRID, samples=[0]))
    with pytest.raises(ValueError, match="multiple of the patch of 4 frames, got 23"):
        model(spectrograms[:, :23], MASKS)
    with pytest.raises(ValueError, match="got 0: pad it"):
        model(spectrograms[:, :0], MASKS)
    with pytest.raises(ValueError, match=r"\[B, time, 12 mel\], got \(2, 12, 24\)"):
        model(spectrograms.transpose(1, 2), MASKS)
    with pytest.raises(ValueError, match="12 mel"):
        model(spectrograms[:, None], MASKS)
    with pytest.raises(TypeError, match="normalised floats"):
        model(spectrograms.to(torch.int16), MASKS)
    with pytest.raises(ValueError, match="ids_mask was not computed"):
        model(spectrograms, MASKS._replace(ids_mask=None))
