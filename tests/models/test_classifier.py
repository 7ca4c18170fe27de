# SPDX-License-Identifier: Apache-2.0
"""The classifier over AudioMAE's encoder, its layers for layer-wise rates, and the linear probe."""

import copy

import pytest
import torch
from torch.nn.functional import layer_norm

from smnoise import White3D
from smnoise.compat import import_timm
from smnoise.models.audiomae import AudioMAE, to_patches
from smnoise.models.classifier import AudioClassifier, VideoClassifier, VideoEncoder, linear_probe
from smnoise.models.common import Size
from smnoise.models.videomae import VideoMAE

GRID = (6, 3)
SIZE = Size(24, 3, 2, 16, 2, 2)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return AudioMAE(SIZE, GRID, patch=4)


@pytest.fixture
def spectrograms():
    return torch.randn(2, 24, 12, generator=torch.Generator().manual_seed(1))


def test_logits_are_the_head_over_the_mean_of_the_patches(model, spectrograms):
    classifier = AudioClassifier(model.encoder, 5, drop_path=0.2).eval()
    torch.nn.init.normal_(classifier.head.weight)
    tokens = model.encoder(to_patches(spectrograms, 4), None, GRID)[:, 1:]
    mean = torch.stack([tokens[:, i] for i in range(18)]).sum(dim=0) / 18
    want = layer_norm(mean, (24,), eps=1e-6) @ classifier.head.weight.T + classifier.head.bias
    torch.testing.assert_close(classifier(spectrograms), want)


def test_the_head_starts_near_zero(model):
    classifier = AudioClassifier(model.encoder, 4000)
    assert classifier.head.weight.std().item() == pytest.approx(2e-5, rel=0.02)
    assert not classifier.head.bias.any()


def test_masks_drop_patches(model, spectrograms):
    classifier = AudioClassifier(model.encoder, 5).eval()
    torch.nn.init.normal_(classifier.head.weight)
    masks = White3D(grid=(1, *GRID), mask_ratio=0.4)(range(2))
    before = classifier(spectrograms, masks)
    assert not torch.allclose(before, classifier(spectrograms))
    patches = to_patches(spectrograms, 4)
    patches[0, masks.ids_mask[0]] = 7.0
    changed = patches.view(2, 6, 3, 4, 4).transpose(2, 3).reshape(2, 24, 12)
    assert torch.equal(classifier(changed, masks), before)
    nothing_hidden = masks._replace(ids_keep=torch.arange(18).expand(2, -1), num_visible=18)
    torch.testing.assert_close(classifier(spectrograms, nothing_hidden), classifier(spectrograms))
    with pytest.raises(ValueError, match=r"masks are for grid \(1, 6, 3\)"):
        classifier(spectrograms[:, :20], masks)


def test_every_parameter_is_trained(model, spectrograms):
    classifier = AudioClassifier(model.encoder, 5)
    classifier(spectrograms).square().sum().backward()
    classifier(spectrograms).logsumexp(1).sum().backward()
    assert [n for n, p in classifier.named_parameters() if p.grad is None or not p.grad.any()] == []
    assert len(classifier.state_dict()) == len(list(classifier.parameters()))


def test_another_length(model):
    assert AudioClassifier(model.encoder, 5)(torch.randn(3, 40, 12)).shape == (3, 5)


def test_drop_path_grows_with_depth_and_is_off_in_evaluation(model, spectrograms):
    classifier = AudioClassifier(model.encoder, 5, drop_path=0.4)
    rates = [(b.drop_path1.drop_prob, b.drop_path2.drop_prob) for b in model.encoder.blocks]
    assert rates == [(0.0, 0.0), (0.2, 0.2), (0.4, 0.4)]
    torch.nn.init.normal_(classifier.head.weight)
    assert not torch.equal(classifier(spectrograms), classifier(spectrograms))
    classifier.eval()
    assert torch.equal(classifier(spectrograms), classifier(spectrograms))
    with pytest.raises(ValueError, match=r"drop_path must be in \[0, 1\), got 1"):
        AudioClassifier(model.encoder, 5, drop_path=1)


def test_layer_decay_through_timm(model):
    import_timm()
    from timm.optim import param_groups_layer_decay

    classifier = AudioClassifier(model.encoder, 5)
    groups = param_groups_layer_decay(
        classifier, 0.1, no_weight_decay_list=classifier.no_weight_decay(), layer_decay=0.5
    )
    names = {p: n for n, p in classifier.named_parameters()}
    scale = {names[p]: g["lr_scale"] for g in groups for p in g["params"]}
    decay = {names[p]: g["weight_decay"] for g in groups for p in g["params"]}
    assert set(scale) == set(names.values())
    for name, value in scale.items():
        if name.startswith("encoder.blocks."):
            layer = 1 + int(name.split(".")[2])
        else:
            layer = 0 if name.startswith("encoder.") else 4
        assert value == 0.5 ** (4 - layer), name
    assert decay["encoder.blocks.1.mlp.fc1.weight"] == decay["head.weight"] == 0.1
    assert decay["encoder.class_token"] == decay["norm.weight"] == decay["encoder.embed.bias"] == 0


def test_the_probe_standardises_and_leaves_the_model_alone(model, spectrograms):
    torch.manual_seed(0)
    probe = linear_probe(24, 3)
    before = copy.deepcopy(model.state_dict())
    features = model.features(torch.randn(64, 24, 12))
    want = (features - features.mean(0)) / (features.var(0, correction=0) + 1e-6).sqrt()
    torch.testing.assert_close(probe(features), probe[1](want), atol=1e-4, rtol=1e-4)
    probe(features).sum().backward()
    assert [n for n, p in probe.named_parameters() if p.grad is None] == []
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.fixture
def video_model():
    torch.manual_seed(0)
    return VideoMAE(SIZE, (2, 3, 3), patch=8)


CLIPS = torch.randint(
    0, 256, (2, 3, 4, 24, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
)


def test_video_logits_are_the_head_over_the_mean_of_the_tokens(video_model):
    classifier = VideoClassifier(VideoEncoder(video_model), 5, drop_path=0.2, head_drop=0.5).eval()
    torch.nn.init.normal_(classifier.head.weight)
    video_model.encoder_norm = torch.nn.Identity()
    want = layer_norm(video_model.features(CLIPS), (24,), eps=1e-6) @ classifier.head.weight.T
    torch.testing.assert_close(classifier(CLIPS), want)
    torch.testing.assert_close(classifier(CLIPS / 255), want, atol=1e-4, rtol=1e-4)
    classifier.train()
    assert not torch.equal(classifier(CLIPS), classifier(CLIPS))


def test_every_parameter_of_the_video_classifier_is_trained(video_model):
    classifier = VideoClassifier(VideoEncoder(video_model, checkpoint_blocks=True), 5)
    torch.nn.init.normal_(classifier.head.weight)
    classifier(CLIPS).logsumexp(1).sum().backward()
    assert [n for n, p in classifier.named_parameters() if p.grad is None or not p.grad.any()] == []
    assert len(classifier.state_dict()) == len(list(classifier.parameters()))


def test_a_longer_and_larger_clip(video_model):
    clips = torch.randint(0, 256, (1, 3, 8, 40, 40), dtype=torch.uint8)
    classifier = VideoClassifier(VideoEncoder(video_model), 5).eval()
    torch.nn.init.normal_(classifier.head.weight)
    bigger = VideoMAE(SIZE, (4, 5, 5), patch=8)
    bigger.load_state_dict(video_model.state_dict())
    other = VideoClassifier(VideoEncoder(bigger), 5).eval()
    other.load_state_dict(classifier.state_dict())
    assert torch.equal(classifier(clips), other(clips))


def test_video_layer_decay_through_timm(video_model):
    import_timm()
    from timm.optim import param_groups_layer_decay

    classifier = VideoClassifier(VideoEncoder(video_model), 5)
    groups = param_groups_layer_decay(classifier, 0.1, layer_decay=0.5)
    names = {p: n for n, p in classifier.named_parameters()}
    scale = {names[p]: g["lr_scale"] for g in groups for p in g["params"]}
    for name, value in scale.items():
        layer = 1 + int(name.split(".")[2]) if "blocks" in name else 0 if name.startswith("encoder.") else 4
        assert value == 0.5 ** (4 - layer), name
    with pytest.raises(ValueError, match=r"head_drop must be in \[0, 1\), got 1"):
        VideoClassifier(VideoEncoder(video_model), 5, head_drop=1)


def test_features_are_what_the_head_reads():
    model = VideoClassifier(VideoEncoder(VideoMAE("nano", (2, 2, 2), tubelet=2, patch=8)), 3).eval()
    clips = torch.rand(2, 3, 4, 16, 16)
    assert torch.equal(model.head(model.features(clips)), model(clips))
    model = AudioClassifier(AudioMAE("tiny", (2, 2)).encoder, 3).eval()
    sounds = torch.randn(2, 32, 32)
    assert torch.equal(model.head(model.features(sounds)), model(sounds))
