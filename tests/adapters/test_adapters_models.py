# SPDX-License-Identifier: Apache-2.0
"""The adapters inside real models: transformers' VideoMAE and ViTMAE, timm's vision transformers."""

import copy
import math
import pickle

import pytest
import torch
from torch.utils.checkpoint import checkpoint

import smnoise
from smnoise.adapters.huggingface import checked, grid_of
from smnoise.adapters.mae import replace_random_masking
from smnoise.adapters.timm import PatchDrop, replace_patch_drop
from smnoise.compat import import_timm

timm = import_timm()
transformers = pytest.importorskip("transformers", minversion="5", reason="needs transformers >= 5")


class TestVideoMAE:
    """transformers' VideoMAEForPreTraining, with the grid (2, 3, 4)."""

    CONFIG = transformers.VideoMAEConfig(
        image_size=[12, 16], patch_size=4, num_frames=4, tubelet_size=2, hidden_size=32, num_hidden_layers=2,
        num_attention_heads=4, intermediate_size=64, decoder_hidden_size=16, decoder_num_hidden_layers=1,
        decoder_num_attention_heads=2, decoder_intermediate_size=32,
    )  # fmt: skip
    MASK = smnoise.Green3D((2, 3, 4), 0.75)([0, 1]).bool_masked_pos()  # 6 of 24 tokens visible

    @pytest.fixture
    def model(self):
        torch.manual_seed(0)
        model = transformers.VideoMAEForPreTraining(self.CONFIG).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(std=0.2)  # the first weights hardly tell tokens apart
        return model

    @pytest.fixture
    def clips(self):
        return torch.randn(2, 4, 3, 12, 16, generator=torch.Generator().manual_seed(1))

    @torch.no_grad()
    def test_masks_that_pass_are_read_as_meant(self, model, clips):
        mask = checked(self.MASK, model.config)
        both = model(clips, mask).logits
        for i in range(2):
            torch.testing.assert_close(model(clips[i : i + 1], mask[i : i + 1]).logits[0], both[i])

    @torch.no_grad()
    def test_unequal_counts_mix_clips_in_silence_and_are_refused(self, model, clips):
        mask = self.MASK.clone()
        mask[0, mask[0].nonzero()[0]] = False  # 7 visible tokens
        mask[1, (~mask[1]).nonzero()[0]] = True  # 5
        result = model(clips, mask)  # no error, a loss like any other, and
        assert torch.isfinite(result.loss)
        other = clips.clone()
        other[0] += 1  # a change to clip 0 alone
        moved = model(other, mask).logits
        assert not torch.allclose(
            moved[1], result.logits[1], atol=1e-3
        )  # changes what is predicted for clip 1
        with pytest.raises(ValueError, match="mixes clips: row 0 masks 17, row 1 masks 19"):
            checked(mask, model.config)

    @torch.no_grad()
    def test_integers_pick_other_tokens_in_silence_and_are_refused(self, model):
        tokens = torch.arange(48.0).view(2, 24, 1)
        assert tokens[~self.MASK.long()].shape != tokens[~self.MASK].shape  # what the model does with them
        for wrong in (self.MASK.long(), self.MASK.float(), self.MASK.numpy(), self.MASK.tolist()):
            with pytest.raises(TypeError, match=r"bool_masked_pos must be (bool|a tensor)"):
                checked(wrong, model.config)

    def test_an_inverted_mask_is_refused(self):
        with pytest.raises(ValueError, match="inverted"):
            checked(~self.MASK, self.CONFIG)
        with pytest.raises(ValueError, match="inverted"):
            checked(~self.MASK, self.CONFIG, num_masked=18)
        assert checked(~self.MASK, self.CONFIG, num_masked=6) is not None
        half = torch.arange(24)[None] % 2 == 0
        assert checked(half, self.CONFIG, num_masked=12) is half

    @pytest.mark.parametrize(
        ("mask", "message"),
        [
            (torch.ones(2, 23, dtype=torch.bool), r"shape \[B, 24\]"),
            (torch.ones(24, dtype=torch.bool), r"shape \[B, 24\]"),
            (torch.ones(0, 24, dtype=torch.bool), r"shape \[B, 24\]"),
            (torch.ones(2, 24, dtype=torch.bool), "some visible, got 24"),
            (torch.zeros(2, 24, dtype=torch.bool), "some tokens must be masked"),
            (torch.arange(24)[None] > 3, "must mask 18 tokens, got 20"),
        ],
    )
    def test_other_masks_that_do_not_fit(self, mask, message):
        with pytest.raises(ValueError, match=message):
            checked(mask, self.CONFIG, num_masked=18)

    def test_the_grid_is_the_models(self, model, clips):
        assert grid_of(self.CONFIG) == (2, 3, 4)
        assert model.videomae.embeddings.patch_embeddings(clips).shape[1] == math.prod(grid_of(self.CONFIG))
        assert grid_of(transformers.VideoMAEConfig()) == (8, 14, 14)
        with pytest.raises(ValueError, match="no whole number of cubes"):
            grid_of(transformers.VideoMAEConfig(num_frames=15))


class TestMAE:
    """transformers' ViTMAE, whose random_masking and decoder are MAE's, with the grid (4, 4)."""

    SAMPLER = smnoise.OptimBlue((4, 4), 0.75)

    @pytest.fixture
    def model(self):
        torch.manual_seed(0)
        config = transformers.ViTMAEConfig(
            image_size=32, patch_size=8, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
            intermediate_size=64, decoder_hidden_size=16, decoder_num_hidden_layers=1,
            decoder_num_attention_heads=2, decoder_intermediate_size=32, mask_ratio=0.75,
        )  # fmt: skip
        return transformers.ViTMAEForPreTraining(config).eval()

    @pytest.fixture
    def images(self):
        return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))

    @torch.no_grad()
    def test_the_numbers_are_those_of_the_same_masks_in_their_code(self, model, images):
        """Their method makes a mask from noise: the smallest are visible."""
        masks = self.SAMPLER([5, 6, 7])
        want = model(images, noise=masks.mask.float())
        masking = replace_random_masking(model.vit.embeddings, self.SAMPLER)
        masking.samples = torch.tensor([5, 6, 7])
        got = model(images)
        assert torch.equal(got.mask, want.mask)
        torch.testing.assert_close(got.loss, want.loss)
        torch.testing.assert_close(got.logits, want.logits, atol=1e-5, rtol=1e-4)

    @torch.no_grad()
    def test_samples_must_be_set_before_each_pass(self, model, images):
        masking = replace_random_masking(model.vit.embeddings, self.SAMPLER)
        with pytest.raises(RuntimeError, match=r"samples is not set.*before each forward pass"):
            model(images)
        masking.samples = range(3)
        model(images)
        with pytest.raises(RuntimeError, match="samples is not set"):
            model(images)

    def test_what_does_not_fit_is_refused(self, model, images):
        masking = replace_random_masking(model.vit.embeddings, self.SAMPLER)
        x = torch.rand(3, 16, 8)
        masking.samples = range(2)
        with pytest.raises(ValueError, match="2 samples were set for a batch of 3"):
            masking(x, 0.75)
        masking.samples = range(3)
        with pytest.raises(ValueError, match="16 tokens, the model has"):
            masking(x[:, :15], 0.75)
        with pytest.raises(ValueError, match=r"mask_ratio 0\.5 leaves 8 tokens visible, the sampler 4"):
            masking(x, 0.5)
        with pytest.raises(ValueError, match="without noise"):
            model(images, noise=torch.rand(3, 16))
        with pytest.raises(TypeError, match=r"model\.vit\.embeddings"):
            replace_random_masking(model, self.SAMPLER)

    def test_a_ratio_that_leaves_as_many_tokens_fits(self):
        x = torch.rand(1, 16, 2, dtype=torch.bfloat16)
        for ratio in (0.75, 0.7, None):  # int(16 * 0.3) is 4 too
            masking = replace_random_masking(Method(), self.SAMPLER)
            masking.samples = [0]
            visible, mask, ids_restore = masking(x, ratio)
            assert visible.shape == (1, 4, 2)
            assert mask.dtype == x.dtype
            filled = torch.cat([visible, torch.zeros(1, 12, 2, dtype=x.dtype)], 1)
            restored = filled.gather(1, ids_restore[..., None].expand(-1, -1, 2))
            assert torch.equal(restored, x * (1 - mask)[..., None])

    def test_recomputed_activations_have_the_masks_of_the_pass(self, model, images):
        masking = replace_random_masking(model.vit.embeddings, self.SAMPLER)
        seen = []
        masking.register_forward_hook(lambda module, inputs, result: seen.append(result[2]))

        def gradients(recompute):
            seen.clear()
            model.zero_grad()
            for first in (0, 3):  # two passes of a step
                masking.samples = torch.arange(first, first + 3)
                if recompute:
                    loss = checkpoint(lambda x: model(x).loss, images, use_reentrant=False)
                else:
                    loss = model(images).loss
                loss.backward()
            return [p.grad.clone() for p in model.parameters() if p.grad is not None]

        model.train()
        want = gradients(recompute=False)
        first, second = seen
        assert not torch.equal(first, second)
        got = gradients(recompute=True)
        for again, expected in zip(seen, (first, first, second, second), strict=True):
            assert torch.equal(again, expected)
        assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))
        with pytest.raises(RuntimeError, match="samples is not set"):
            model(images)

    def test_recomputing_is_refused_where_the_pass_is_not_known(self, model, images):
        masking = replace_random_masking(model.vit.embeddings, self.SAMPLER)
        model.train()
        losses = []
        for first in (0, 3):
            masking.samples = torch.arange(first, first + 3)
            losses.append(checkpoint(lambda x: model(x).loss, images, use_reentrant=False))
        with pytest.raises(RuntimeError, match=r"2 passes wait.*backward after each forward"):
            sum(losses).backward()
        del losses  # a pass that is given up is in nobody's way
        for given_up in (True, False):
            masking.samples = torch.arange(3)
            loss = checkpoint(lambda x: model(x).loss, images, use_reentrant=False)
            if given_up:
                del loss
        loss.backward()
        masking.samples = torch.arange(3)
        loss = checkpoint(lambda x: model(x).loss, images.requires_grad_(), use_reentrant=True)
        with pytest.raises(RuntimeError, match=r"0 passes wait.*use_reentrant=False"):
            loss.backward()

    def test_a_model_is_copied_and_pickled_with_it(self, model, images):
        masking = replace_random_masking(model.vit.embeddings, self.SAMPLER)
        masking.samples = torch.arange(3)
        loss = model.train()(images).loss
        for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            other.vit.embeddings.random_masking.samples = torch.arange(3)
            assert torch.equal(other(images).loss, loss)

    def test_weights_are_saved_as_before(self, model):
        before = set(model.state_dict())
        replace_random_masking(model.vit.embeddings, self.SAMPLER)
        assert set(model.state_dict()) == before


class Method(torch.nn.Module):
    """The signature that MAE and AudioMAE have."""

    def random_masking(self, x, mask_ratio):
        raise NotImplementedError


SIZE = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}


class TestTimm:
    SAMPLER = smnoise.OptimBlue((4, 4), 0.75)

    @pytest.fixture
    def images(self):
        return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))

    @pytest.mark.parametrize(
        "changes",
        [{}, {"patch_drop_rate": 0.5}, {"reg_tokens": 4}, {"class_token": False, "global_pool": "avg"}],
    )
    def test_visible_patches_are_those_of_the_sampler(self, images, changes):
        torch.manual_seed(0)
        model = timm.models.VisionTransformer(**SIZE, **changes)
        drop = replace_patch_drop(model, self.SAMPLER)
        drop.samples = range(3)
        x = torch.arange(3.0 * (model.num_prefix_tokens + 16) * 2).view(3, -1, 2)
        keep = self.SAMPLER(range(3)).ids_keep + model.num_prefix_tokens
        prefix = torch.arange(model.num_prefix_tokens).expand(3, -1)
        want = torch.stack([row[ids] for row, ids in zip(x, torch.cat([prefix, keep], 1), strict=True)])
        assert torch.equal(drop(x), want)
        assert torch.equal(drop.masks.ids_keep + model.num_prefix_tokens, keep)

        drop.samples = range(3)
        loss = model(images).square().mean()
        loss.backward()
        assert all(p.grad is not None for p in model.blocks.parameters())
        drop.samples = range(3)
        assert model.forward_features(images).shape == (3, model.num_prefix_tokens + 4, 32)

    def check_hidden_patches_do_not_matter(self, model, drop, image):
        hidden = self.SAMPLER([0]).mask.view(1, 1, 4, 4).repeat_interleave(8, 2).repeat_interleave(8, 3)
        outputs = []
        for change in (0.0, hidden * 7.0, ~hidden * 7.0):
            drop.samples = [0]
            outputs.append(model(image + change))
        assert torch.equal(outputs[0], outputs[1])
        assert not torch.allclose(outputs[0], outputs[2])

    def test_patches_that_are_hidden_do_not_matter(self, images):
        model = timm.models.VisionTransformer(**SIZE)
        drop = replace_patch_drop(model, self.SAMPLER)
        self.check_hidden_patches_do_not_matter(model, drop, images[:1])

    def test_nothing_is_dropped_in_evaluation(self, images):
        model = timm.models.VisionTransformer(**SIZE).eval()
        want = model(images)
        drop = replace_patch_drop(model, self.SAMPLER)
        assert torch.equal(model(images), want)
        assert not drop.training

    def test_samples_of_an_evaluation_are_not_those_of_the_next_training_pass(self, images):
        model = timm.models.VisionTransformer(**SIZE)
        drop = replace_patch_drop(model, self.SAMPLER)
        drop.samples = range(3)
        model(images)
        assert drop.masks is not None
        drop.samples = range(3)
        model.eval()(images)
        assert drop.masks is None
        with pytest.raises(RuntimeError, match="samples is not set"):
            model.train()(images)

    def test_recomputed_activations_have_the_masks_of_the_pass(self, images):
        torch.manual_seed(0)
        model = timm.models.VisionTransformer(**SIZE)
        drop = replace_patch_drop(model, self.SAMPLER)
        gradients = []
        for run in (model, lambda x: checkpoint(model, x, use_reentrant=False)):
            model.zero_grad()
            drop.samples = torch.arange(7, 10)
            run(images).square().mean().backward()
            gradients.append([p.grad for p in model.parameters()])
        assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))

    @pytest.mark.parametrize("rate", [0.0, 0.5])
    @pytest.mark.parametrize("rope", [False, True])
    def test_eva_and_its_rotary_positions(self, images, rope, rate):
        """Positions must follow the tokens: with all else equal, a model on visible patches alone."""
        torch.manual_seed(0)
        model = timm.models.Eva(**SIZE, use_rot_pos_emb=rope, patch_drop_rate=rate)
        drop = replace_patch_drop(model, self.SAMPLER)
        drop.samples = range(3)
        assert model.forward_features(images).shape == (3, 5, 32)
        self.check_hidden_patches_do_not_matter(model, drop, images[:1])
        assert model.eval()(images).shape == (3, 1000)

    def test_again_with_other_masks(self):
        model = timm.models.Eva(**SIZE)
        replace_patch_drop(model, self.SAMPLER)
        assert replace_patch_drop(model, smnoise.OptimBlue((4, 4), 0.5)).return_indices
        assert model.patch_drop.sampler.mask_ratio == 0.5

    def test_compiled(self, images):
        torch.manual_seed(0)
        model = timm.models.VisionTransformer(**SIZE)
        drop = replace_patch_drop(model, self.SAMPLER)
        compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
        for first in (0, 10):
            samples = torch.arange(first, first + 3)
            drop.samples = samples
            want = model(images)
            drop.samples = samples
            torch.testing.assert_close(compiled(images), want)

    def test_a_model_without_patch_drop(self):
        with pytest.raises(TypeError, match="no patch_drop"):
            replace_patch_drop(torch.nn.Linear(2, 2), self.SAMPLER)

    def test_samples_and_grid_must_fit(self, images):
        model = timm.models.VisionTransformer(**SIZE)
        with pytest.raises(ValueError, match=r"grid \(1, 4, 5\) is not the model's, \(4, 4\)"):
            replace_patch_drop(model, smnoise.OptimBlue((4, 5), 0.75))
        assert not isinstance(model.patch_drop, PatchDrop)
        replace_patch_drop(model, self.SAMPLER)
        with pytest.raises(RuntimeError, match="samples is not set"):
            model(images)
        flexible = timm.models.VisionTransformer(**SIZE, dynamic_img_size=True)
        drop = replace_patch_drop(flexible, smnoise.OptimBlue((4, 5), 0.75))
        drop.samples = range(3)
        with pytest.raises(ValueError, match="make the sampler for the model's grid"):
            flexible(images)
