# SPDX-License-Identifier: Apache-2.0
"""Dual masking: which tokens are decoded, against the definition in plain Python; loss and gradients of VideoMAE."""

import pytest
import torch

import smnoise
from smnoise import Green3D, White3D
from smnoise.dual import DualMasks, dual, stride_of
from smnoise.models.common import Size
from smnoise.models.videomae import VideoMAE

GRID = (4, 6, 6)
SMALL = Size(24, 2, 2, 12, 1, 2)
ENCODER = Green3D(GRID, 0.75, seed=3)
DECODER = White3D(GRID, 0.5, seed=4)


def by_definition(encoder, decoder, num_decoded) -> list[list[int]]:
    tokens, rows = encoder.num_tokens, []
    for hidden, left_out, kept in zip(
        encoder.mask.tolist(), decoder.mask.tolist(), encoder.ids_keep.tolist(), strict=True
    ):
        number = [(i * stride_of(tokens) + sum(kept)) % tokens for i in range(tokens)]
        candidates = [i for i in range(tokens) if hidden[i]]
        candidates.sort(key=lambda i: (left_out[i], -number[i]))
        rows.append(sorted(candidates[:num_decoded]))
    return rows


@pytest.mark.parametrize("num_decoded", [1, 40, 54, 70, 107, 108])
def test_just_so_many_hidden_tokens_those_that_the_decoder_shows_first(num_decoded):
    encoder, decoder = ENCODER(range(20)), DECODER(range(20))
    found = dual(encoder, decoder, num_decoded)
    assert found.encoder is encoder
    assert found.ids_decode.dtype == torch.int64
    assert found.ids_decode.tolist() == by_definition(encoder, decoder, num_decoded)
    assert encoder.mask.gather(1, found.ids_decode).all()
    shown = (~decoder.mask).gather(1, found.ids_decode).sum(dim=1)
    assert torch.equal(shown, (encoder.mask & ~decoder.mask).sum(dim=1).clamp(max=num_decoded))


def test_videomaev2s_masks_give_its_share_of_the_hidden_tokens():
    """160 of 1568 visible, the running cell shows 784: about half of the 1408 hidden ones, here just half."""
    encoder = smnoise.presets["videomae-tube"](seed=1)(range(8))
    decoder = smnoise.presets["videomaev2-decoder"](seed=2)(range(8))
    found = dual(encoder, decoder, 704)
    assert found.ids_decode.tolist() == by_definition(encoder, decoder, 704)
    shown = (~decoder.mask).gather(1, found.ids_decode).sum(dim=1)
    assert shown.min() > 670


def test_a_sample_is_decoded_alike_in_any_batch():
    whole = dual(ENCODER(range(8)), DECODER(range(8)), 54).ids_decode
    parts = [dual(ENCODER([n]), DECODER([n]), 54).ids_decode for n in range(8)]
    assert torch.equal(whole, torch.cat(parts))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_makes_the_same_choice_without_being_waited_for():
    masks = [ENCODER(range(20)), DECODER(range(20))]
    want = dual(*masks, 54).ids_decode
    masks = [m.to("cuda") for m in masks]
    dual(*masks, 54)  # compiles and loads what it needs
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = dual(*masks, 54).ids_decode
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(found.cpu(), want)


@pytest.mark.parametrize("num_decoded", [36, 54, 72])
def test_no_token_is_preferred(num_decoded):
    """Of 4000 samples each token is hidden 3000 times or so, and decoded in a share of them that is the same for all.
    Too few and too many are asked for, so that some are left out or filled in each time."""
    encoder, decoder = White3D(GRID, 0.75, seed=5)(range(4000)), DECODER(range(4000))
    found = dual(encoder, decoder, num_decoded).ids_decode.flatten().bincount(minlength=144)
    share, hidden = num_decoded / 108, encoder.mask.sum(dim=0)
    deviation = (hidden * share * (1 - share)).sqrt()
    assert ((found - hidden * share) / deviation).abs().max() < 4.5  # of 144 numbers; 1 in 1000 exceeds it


def test_the_stride_visits_every_token():
    for tokens in (1, 2, 3, 144, 1000, 1568, 4096, 6720):
        stride = stride_of(tokens)
        assert len({i * stride % tokens for i in range(tokens)}) == tokens
    assert 968 <= stride_of(1568) < 980


def test_masks_that_do_not_belong_together_are_an_error():
    encoder, decoder = ENCODER(range(2)), DECODER(range(2))
    with pytest.raises(ValueError, match="same samples and grid"):
        dual(encoder, DECODER(range(3)), 5)
    with pytest.raises(ValueError, match="same samples and grid"):
        dual(encoder, White3D((4, 6, 3), 0.5)(range(2)), 5)
    for count in (0, 109):
        with pytest.raises(ValueError, match="num_decoded"):
            dual(encoder, decoder, count)
    with pytest.raises(TypeError, match="num_decoded"):
        dual(encoder, decoder, 0.5)
    with pytest.raises(ValueError, match="mask was not computed"):
        dual(encoder, DECODER(range(2), outputs="ids_keep"), 5)
    for pair in ((encoder, None), (encoder.mask, decoder.mask)):
        with pytest.raises(TypeError, match="expected two MaskBatch"):
            dual(*pair, 5)


@pytest.fixture
def clips():
    return torch.randint(
        0, 256, (2, 3, 8, 24, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )


def model():
    torch.manual_seed(0)
    return VideoMAE(SMALL, GRID, patch=4)


def gradients(of):
    return {name: p.grad for name, p in of.named_parameters()}


def test_to_decode_all_is_the_model_without(clips):
    masks = ENCODER([0, 1])
    one, two = model(), model()
    loss, prediction = one(clips, masks)
    loss.backward()
    again, predicted = two(clips, dual(masks, DECODER([0, 1]), masks.num_masked))
    again.backward()
    assert torch.equal(loss, again)
    assert torch.equal(prediction, predicted)
    assert all(
        torch.equal(a, b) for a, b in zip(gradients(one).values(), gradients(two).values(), strict=True)
    )


def reference_loss(of: VideoMAE, clips, masks: DualMasks):
    """In plain torch: targets cut up by reshaping, tokens put together with concatenation, mean by sum / count."""
    b, (t, h, w) = len(clips), GRID
    cubes = (clips.float() / 255).reshape(b, 3, t, 2, h, 4, w, 4).permute(0, 2, 4, 6, 1, 3, 5, 7)
    cubes = cubes.reshape(b, t * h * w, 3, 32)
    inputs = (cubes - of.mean[:, None]) / of.std[:, None]
    std, mean = torch.std_mean(cubes, dim=-1, keepdim=True, correction=1)
    target = ((cubes - mean) / (std + 1e-6)).transpose(2, 3).flatten(2)
    squares, count = 0.0, 0
    for row in range(b):
        keep, decode = masks.encoder.ids_keep[row], masks.ids_decode[row]
        x = of.embed(inputs[row, keep].flatten(1)) + of.encoder_positions[keep]
        x = x[None]
        for block in of.encoder:
            x = block(x)
        x = of.bridge(of.encoder_norm(x)[0]) + of.decoder_positions[keep]
        x = torch.cat([x, of.mask_token[0] + of.decoder_positions[decode]])[None]
        for block in of.decoder:
            x = block(x)
        found = of.head(of.decoder_norm(x[0, len(keep) :]))
        squares = squares + (found - target[row, decode]).square().sum()
        count += found.numel()
    return squares / count


def test_loss_and_gradients_are_those_of_plain_torch(clips):
    masks = dual(ENCODER([0, 1]), DECODER([0, 1]), 54)
    one, two = model(), model()
    loss, prediction = one(clips, masks)
    assert prediction.shape == (2, 54, 96)
    loss.backward()
    expected = reference_loss(two, clips, masks)
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)
    for name, want in gradients(two).items():
        torch.testing.assert_close(gradients(one)[name], want, rtol=1e-3, atol=1e-6, msg=name)


def test_what_is_not_decoded_has_no_part_in_the_loss(clips):
    masks = dual(ENCODER([0, 1]), DECODER([0, 1]), 54)
    subject = model()
    before = subject(clips, masks)[0]
    decoded, kept = set(masks.ids_decode[0].tolist()), set(masks.encoder.ids_keep[0].tolist())
    left_out = next(i for i in range(144) if i not in decoded | kept)
    for token, same in ((left_out, True), (next(iter(decoded)), False)):
        t, y, x = token // 36, token // 6 % 6, token % 6
        changed = clips.clone()
        changed[0, :, 2 * t : 2 * t + 2, 4 * y : 4 * y + 4, 4 * x : 4 * x + 4] = (
            torch.arange(32, dtype=torch.uint8).view(2, 4, 4) ** 2
        )
        assert torch.equal(subject(changed, masks)[0], before) == same
