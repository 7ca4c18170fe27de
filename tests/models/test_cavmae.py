# SPDX-License-Identifier: Apache-2.0
"""CAVMAE against what the official model gives for weights and inputs that anyone can make (cavmae.json), conversion of
its layout, and beginning with models of one modality."""

import json
import math
from pathlib import Path

import pytest
import torch

import smnoise
from smnoise.convert.cavmae import UNUSED, begin_with, from_cavmae, to_cavmae
from smnoise.errors import CheckpointError
from smnoise.models.audiomae import AudioMAE
from smnoise.models.cavmae import CAVMAE
from smnoise.models.common import Size
from smnoise.models.videomae import VideoMAE

KNOWN = json.loads((Path(__file__).parent / "cavmae.json").read_text())
ANY = {"mean": (0.0,) * 3, "std": (1.0,) * 3}  # pixels as they are given


def known_weights() -> dict[str, torch.Tensor]:
    """In CAV-MAE's layout, of the size of the known answers; the tables of positions are the model's."""
    size = KNOWN["size"]
    width = size["embed_dim"]
    own = Size(
        width,
        12,
        size["num_heads"],
        size["decoder_embed_dim"],
        size["decoder_depth"],
        size["decoder_num_heads"],
    )
    model = CAVMAE(own, (1, 4, 4), (8, 8), tubelet=1, layout="cavmae", **ANY)
    weights = to_cavmae(model)
    for name, tensor in weights.items():
        if "pos_embed" in name:
            continue
        base = 1.0 if "norm" in name and name.endswith("weight") else 0.0
        scale = 0.3 if tensor.dim() > 1 else 0.1
        phase = 0.13 * sum(map(ord, name))
        n = torch.arange(tensor.numel(), dtype=torch.float64)
        weights[name] = (base + scale * torch.sin(0.7 * n + phase)).float().view(tensor.shape)
    return weights


def known_model(**options) -> CAVMAE:
    size = KNOWN["size"]
    heads = {"heads": size["num_heads"], "decoder_heads": size["decoder_num_heads"]}
    return from_cavmae(known_weights(), **heads, **(ANY | options))


def known_inputs() -> tuple[torch.Tensor, torch.Tensor, smnoise.MaskPair]:
    n = torch.arange(128 * 128, dtype=torch.float64)
    sound = torch.stack([1.5 * torch.sin((0.05 + 0.02 * b) * n + 0.3) + b for b in range(3)]).view(
        3, 128, 128
    )
    n = torch.arange(3 * 64 * 64, dtype=torch.float64)
    picture = torch.stack(
        [torch.cos((0.011 + 0.007 * b) * n) + 0.2 * torch.sin(0.37 * n) - b for b in range(3)]
    )
    pair = [
        smnoise.MaskBatch.from_scores(
            -torch.stack([(37 * torch.arange(tokens) + 11 * b) % tokens for b in range(3)]).float(),
            0.75,
            grid=grid,
        )
        for tokens, grid in ((16, (1, 4, 4)), (64, (1, 8, 8)))
    ]
    return picture.view(3, 3, 1, 64, 64).float(), sound.float(), smnoise.MaskPair(*pair)


def test_losses_of_the_official_model():
    model, want = known_model(contrast_weight=1.0), KNOWN["results"]
    pixels, sound, masks = known_inputs()
    assert masks.audio.ids_keep[0].tolist() == want["visible_a"]
    assert masks.video.ids_keep[0].tolist() == want["visible_v"]
    loss, parts = model(pixels, sound, masks)
    found = {
        "loss": loss, "mae": parts.audio + parts.video, "mae_a": parts.audio, "mae_v": parts.video,
        "contrast": parts.contrast, "c_acc": parts.accuracy,
    }  # fmt: skip
    for name, value in found.items():
        assert value.item() == pytest.approx(want[name], rel=1e-5), name


def test_gradients_of_the_official_model():
    model = known_model(contrast_weight=1.0)
    model(*known_inputs())[0].backward()
    gradients = model.state_dict()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        gradients[name] = parameter.grad
    named = CAVMAE(model.size, model.grid, model.audio_grid, tubelet=1, layout="cavmae", **ANY)
    named.load_state_dict(gradients)
    found = to_cavmae(named)
    for name, norm in KNOWN["results"]["gradient_norms"].items():
        assert found[name].double().norm().item() == pytest.approx(norm, rel=1e-4, abs=0), (
            name
        )  # theirs: float64


def test_positions_of_the_official_model():
    weights = known_weights()
    for name, rows in KNOWN["positions_rows_0_1_9_33_or_5_first_4"].items():
        at = (0, 1, 9, 33 if name.endswith("a") else 5)
        assert weights[name][0, at, :4].flatten().tolist() == pytest.approx(rows, abs=1e-6)


def test_keys_shapes_and_tokens_of_the_published_size():
    with torch.device("meta"):
        model = CAVMAE("base", (1, 14, 14), tubelet=1, layout="cavmae")
    found = {name: list(tensor.shape) for name, tensor in to_cavmae(model).items()}
    want = {}
    for name, shape, count in KNOWN["keys_of_the_published_size"]:
        want |= {name.replace(".N.", f".{n}."): shape for n in range(count)}
    assert found == want
    assert len(found) == KNOWN["keys_total"]
    numbers = {".".join("N" if part.isdigit() else part for part in name.split(".")) for name in found}
    assert sorted(n for n in numbers if UNUSED.fullmatch(n.replace("N", "0"))) == sorted(
        KNOWN["keys_that_never_get_a_gradient"]
    )
    preset = [smnoise.Random(grid, 0.75) for grid in (model.grid, model.audio_order)]
    assert [(s.visible_per_sample, s.num_tokens) for s in preset] == [(49, 196), (128, 512)]


def test_weights_go_there_and_back():
    weights = known_weights()
    again = to_cavmae(known_model())
    assert again.keys() == weights.keys()
    assert all(torch.equal(again[n], weights[n]) for n in weights if not UNUSED.fullmatch(n))
    wrapped = {f"module.{name}": tensor for name, tensor in weights.items()}
    assert torch.equal(from_cavmae(wrapped, 4, 4).mask_token, weights["mask_token"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda w: w.pop("norm_a.weight"), "lack norm_a.weight"),
        (lambda w: w.update(extra=torch.zeros(1)), "have an unknown extra"),
        (lambda w: w.update({"norm.weight": torch.zeros(3)}), "norm.weight has shape"),
        (lambda w: w.update({"norm.weight": torch.full((48,), math.nan)}), "not finite"),
        (lambda w: w.update(pos_embed_a=w["pos_embed_a"].flip(1)), "other positions"),
        (lambda w: w.pop("mask_token"), "no weights of CAV-MAE"),
        (lambda w: w.update(pos_embed_v=torch.zeros(1, 15, 48)), "must be a square"),
    ],
)
def test_other_weights_are_refused(change, words):
    weights = known_weights()
    change(weights)
    with pytest.raises(CheckpointError, match=words):
        from_cavmae(weights, 4, 4)


GRID, SOUND = (4, 2, 2), (8, 2)


def clip_model(**options) -> CAVMAE:
    torch.manual_seed(0)
    return CAVMAE("nano", GRID, SOUND, tubelet=2, patch=8, **options)


def clips(batch: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (batch, 3, 8, 16, 16), generator=generator, dtype=torch.uint8)
    return pixels, torch.randn(batch, 64, 16, generator=generator)


PAIR = smnoise.Coupled(smnoise.Green3D(GRID, 0.75), smnoise.OptimBlue(SOUND, 0.75), rho=-1)


@pytest.mark.parametrize("both", [False, True])
def test_every_weight_of_a_clip_model_is_trained(both):
    model = clip_model(both_directions=both, checkpoint_blocks=True)
    loss, parts = model(*clips(), PAIR(range(3)))
    assert loss.item() == pytest.approx((parts.video + parts.audio + 0.01 * parts.contrast).item())
    loss.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


def test_hidden_values_are_not_read():
    model, masks = clip_model().eval(), PAIR(range(3))
    pixels, sound = clips()
    first = model.join(
        model.encode_audio(sound, masks.audio.ids_keep), model.encode_video(pixels, masks.video.ids_keep)
    )
    hidden = (~masks.audio.mask).float().view(3, 8, 2).repeat_interleave(8, 1).repeat_interleave(8, 2)
    cubes = (~masks.video.volume()).repeat_interleave(2, 1).repeat_interleave(8, 2).repeat_interleave(8, 3)
    again = model.join(
        model.encode_audio(sound * hidden, masks.audio.ids_keep),
        model.encode_video(pixels * cubes[:, None], masks.video.ids_keep),
    )
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_a_second_mask_for_the_contrast_changes_the_contrast_alone():
    model, masks = clip_model().eval(), PAIR(range(3))
    _, parts = model(*clips(), masks)
    _, other = model(*clips(), masks, PAIR(range(10, 13)))
    assert parts.video == other.video
    assert parts.audio == other.audio
    assert parts.contrast != other.contrast
    assert model(*clips(), masks, masks)[1] == parts


def test_the_contrast_is_the_cross_entropy_of_cosines():
    model, masks = clip_model(contrast_weight=1.0).eval(), PAIR(range(3))
    pixels, sound = clips()
    a = model.alone(model.encode_audio(sound, masks.audio.ids_keep), "audio").mean(1)
    v = model.alone(model.encode_video(pixels, masks.video.ids_keep), "video").mean(1)
    cosine = torch.stack([torch.stack([torch.cosine_similarity(p, s, 0) for s in a]) for p in v]) / 0.05
    want = -cosine.log_softmax(1).diag().mean()
    both = (want - cosine.log_softmax(0).diag().mean()) / 2
    assert model(pixels, sound, masks)[1].contrast.item() == pytest.approx(want.item(), rel=1e-4)
    model.both_directions = True
    assert model(pixels, sound, masks)[1].contrast.item() == pytest.approx(both.item(), rel=1e-4)


def test_begins_with_models_of_one_modality():
    model = clip_model().eval()
    video = VideoMAE(Size(64, 3, 4, 64, 1, 4), GRID, tubelet=2, patch=8).eval()
    audio = AudioMAE(Size(64, 3, 4, 64, 2, 4), SOUND, patch=8).eval()
    for parameter in (*video.parameters(), *audio.parameters()):
        torch.nn.init.normal_(parameter, std=0.2)
    begin_with(model, video, audio)
    pixels, sound = clips()
    ids = torch.arange(16).expand(3, -1)
    assert torch.allclose(model.features(pixels, None), video.features(pixels), atol=1e-4)
    own = audio.encoder.embed(smnoise.models.audiomae.to_patches(sound, 8)) + audio.encoder.positions(SOUND)
    for block in audio.encoder.blocks[:2]:  # without the class token, which the joint model does not have
        own = block(own)
    assert torch.allclose(model.encode_audio(sound, ids), own, atol=1e-4)
    assert torch.equal(model.joint_blocks[0].norm1_a.weight, audio.encoder.blocks[2].norm1.weight)


@pytest.mark.parametrize(
    ("video", "audio", "words"),
    [
        ({"grid": (2, 2, 2)}, {}, "video's grid is"),
        ({}, {"grid": (4, 2)}, "audio's grid is"),
        ({"patch": 4}, {}, "video's cube"),
        ({}, {"positions": "published"}, "positions"),
    ],
)
def test_begins_with_no_other_models(video, audio, words):
    seen = VideoMAE("nano", **({"grid": GRID, "tubelet": 2, "patch": 8} | video))
    heard = AudioMAE(Size(64, 3, 4, 64, 2, 4), **({"grid": SOUND, "patch": 8} | audio))
    with pytest.raises(ValueError, match=words):
        begin_with(clip_model(), seen, heard)


def test_features_of_one_and_of_both():
    model = clip_model().eval()
    pixels, sound = clips()
    for found in (model.features(pixels, sound), model.features(pixels, None), model.features(None, sound)):
        assert found.shape == (3, 64)
    with pytest.raises(ValueError, match="clips, spectrograms, or both"):
        model.features(None, None)


def test_errors_of_shuffled_pairs():
    model, masks = clip_model().eval(), PAIR(range(3))
    pixels, sound = clips()
    audio, video = model.errors(pixels, sound, masks)
    _, parts = model(pixels, sound, masks)
    assert (audio, video) == (parts.audio, parts.video)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"layout": "theirs"}, ValueError, "layout must be one of own, cavmae"),
        ({"layout": "cavmae"}, ValueError, "of one frame"),
        ({"joint_depth": 3}, ValueError, r"joint_depth must be in 1\.\.2"),
        ({"temperature": 0}, ValueError, "temperature must be positive"),
        ({"contrast_weight": -1}, ValueError, "not negative"),
    ],
)
def test_rejects_models(options, error, words):
    with pytest.raises(error, match=words):
        clip_model(**options)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda p, s, m: (p[:, :, :4], s, m), ValueError, "the clips have grid"),
        (lambda p, s, m: (p, s[:, :32], m), ValueError, r"spectrograms must be \[B, 64, 16\]"),
        (lambda p, s, m: (p, s.long(), m), TypeError, "normalised floats"),
        (lambda p, s, m: (p[:2], s, m), ValueError, "2 clips beside 3"),
        (lambda p, s, m: (p, s, PAIR(range(2))), ValueError, "2 masks for 3"),
        (lambda p, s, m: (p, s, smnoise.MaskPair(m.audio, m.video)), ValueError, "masks are for grid"),
    ],
)
def test_rejects_batches(change, error, words):
    with pytest.raises(error, match=words):
        clip_model()(*change(*clips(), PAIR(range(3))))
