# SPDX-License-Identifier: Apache-2.0
"""Our VideoMAE and transformers' VideoMAEForPreTraining, the same weights, clips and masks: the same numbers.

Two settings of transformers differ from the official program and are put right here: layer_norm_eps (1e-12 by
default, `smnoise.convert` writes 1e-6) and the eps of the decoder's last norm, which is 1e-5 and in no config.
"""

import pytest
import torch

from smnoise import Green3D, OptimBlue, White3D, ops
from smnoise.compat import import_timm
from smnoise.convert import VideoConfig, convert_state, huggingface
from smnoise.models.common import Size

import_timm()  # transformers may import torchvision, which needs the same care
transformers = pytest.importorskip("transformers", minversion="5", reason="needs transformers >= 5")

GRID = (2, 3, 4)
CONFIG = VideoConfig(Size(32, 2, 4, 16, 2, 2), GRID, tubelet=2, patch=4)
MASKS = Green3D(GRID, 0.75)([0, 1, 2])


def make_theirs(config: VideoConfig, **changes):
    """transformers' model as our config.json makes it, in eval mode: nothing in it is random."""
    model = transformers.VideoMAEForPreTraining(
        transformers.VideoMAEConfig(**huggingface.config(config) | changes)
    ).eval()
    model.decoder.norm.eps = huggingface.EPS
    return model


def make_ours(config: VideoConfig = CONFIG):
    """No weight at zero or one: every one of them must matter."""
    torch.manual_seed(0)
    model = config.build()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.2)
    return model


@pytest.fixture
def clips():
    """uint8 [B, C, T, H, W]."""
    random = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (3, 3, 4, 12, 16), dtype=torch.uint8, generator=random)


def normalised(clips, model):
    """What transformers wants: [B, frames, C, H, W], ImageNet's mean taken off."""
    mean, std = (v.view(1, 3, 1, 1, 1) for v in (model.mean, model.std))
    return ((clips / 255 - mean) / std).transpose(1, 2).contiguous()


def relative(got, want) -> float:
    """Largest difference over the largest entry."""
    return ((got - want).abs().max() / want.abs().max()).item()


def test_names_and_shapes_are_those_of_their_model():
    theirs = {name: p.shape for name, p in make_theirs(CONFIG).state_dict().items()}
    got = convert_state(make_ours().state_dict(), "huggingface", config=CONFIG).state
    assert {name: p.shape for name, p in got.items()} == theirs


@pytest.mark.parametrize("masks", [MASKS, White3D(GRID, 0.5)([3, 4, 5]), OptimBlue(GRID, 0.75)([6, 7, 8])])
def test_loss_and_every_gradient(clips, masks):
    ours, theirs = make_ours(), make_theirs(CONFIG)
    theirs.load_state_dict(convert_state(ours.state_dict(), "huggingface", config=CONFIG).state)
    loss, prediction = ours(clips, masks)
    want = theirs(normalised(clips, ours), bool_masked_pos=masks.bool_masked_pos())
    loss.backward()
    want.loss.backward()

    assert relative(prediction, want.logits) <= 1e-5
    assert loss.item() == pytest.approx(want.loss.item(), rel=1e-5)
    gradients = convert_state(
        {name: p.grad for name, p in ours.named_parameters()}, "huggingface", config=CONFIG
    ).state
    expected = {name: p.grad for name, p in theirs.named_parameters()}
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        assert relative(gradient, expected[name]) <= 1e-4, name


def test_loss_on_plain_pixels(clips):
    """norm_pix_loss off; our model has no such switch, the op has."""
    ours, theirs = make_ours(), make_theirs(CONFIG, norm_pix_loss=False)
    theirs.load_state_dict(convert_state(ours.state_dict(), "huggingface", config=CONFIG).state)
    _, prediction = ours(clips, MASKS)
    loss = ops.patch_loss(prediction, clips, MASKS.ids_mask, ours.cube, normalise=False)
    want = theirs(normalised(clips, ours), bool_masked_pos=MASKS.bool_masked_pos())
    assert loss.item() == pytest.approx(want.loss.item(), rel=1e-5)


def test_their_weights_in_our_model(clips):
    """The other direction, from their own first weights."""
    torch.manual_seed(2)
    theirs = make_theirs(CONFIG)
    converted = convert_state(theirs.state_dict(), "smnoise", heads=4, decoder_heads=2, grid=GRID)
    assert converted.config == CONFIG
    ours = converted.config.build()
    ours.load_state_dict(converted.state)
    loss, _ = ours(clips, MASKS)
    want = theirs(normalised(clips, ours), bool_masked_pos=MASKS.bool_masked_pos())
    assert loss.item() == pytest.approx(want.loss.item(), rel=1e-5)


def test_features_of_the_encoder(clips):
    ours, theirs = make_ours(), make_theirs(CONFIG)
    theirs.load_state_dict(convert_state(ours.state_dict(), "huggingface", config=CONFIG).state)
    with torch.no_grad():
        want = theirs.videomae(normalised(clips, ours)).last_hidden_state.mean(1)
    assert relative(ours.features(clips), want) <= 1e-5


def test_other_shapes_of_grid_and_cube():
    config = VideoConfig(Size(16, 1, 2, 8, 1, 2), (3, 2, 3), tubelet=1, patch=2)
    masks = White3D(config.grid, 0.5)([0, 1])
    random = torch.Generator().manual_seed(3)
    clips = torch.randint(0, 256, (2, 3, 3, 4, 6), dtype=torch.uint8, generator=random)
    ours, theirs = make_ours(config), make_theirs(config)
    theirs.load_state_dict(convert_state(ours.state_dict(), "huggingface", config=config).state)
    loss, _ = ours(clips, masks)
    want = theirs(normalised(clips, ours), bool_masked_pos=masks.bool_masked_pos())
    assert loss.item() == pytest.approx(want.loss.item(), rel=1e-5)


def test_their_files_load_here_and_ours_there(tmp_path, clips):
    from smnoise.convert import convert_files, load_model

    torch.manual_seed(4)
    theirs = make_theirs(CONFIG)
    theirs.save_pretrained(tmp_path / "theirs")
    ours = load_model(tmp_path / "theirs")
    assert (
        relative(ours(clips, MASKS)[0], theirs(normalised(clips, ours), MASKS.bool_masked_pos()).loss) <= 1e-5
    )

    convert_files(tmp_path / "theirs", tmp_path / "ours")
    convert_files(tmp_path / "ours", tmp_path / "back", "huggingface")
    back, report = transformers.VideoMAEForPreTraining.from_pretrained(
        tmp_path / "back", local_files_only=True, output_loading_info=True
    )
    assert not any(report.values())
    assert back.config.layer_norm_eps == huggingface.EPS
    for name, value in theirs.state_dict().items():
        assert torch.equal(back.state_dict()[name], value), name
