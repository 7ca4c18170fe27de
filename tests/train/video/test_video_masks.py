# SPDX-License-Identifier: Apache-2.0
"""Masks of the VideoMAE trainer: any sampler, dual masking, what the checkpoint says of them."""

import hashlib
import json
import sys
from dataclasses import replace

import pytest
import torch

import smnoise
from smnoise import CheckpointError, pools
from smnoise.models.videomae import VideoMAE
from smnoise.samplers import custom
from smnoise.train.pretrained import video as video_runs
from smnoise.train.pretrained.find import pretrained
from smnoise.train.pretrained.video import trained
from smnoise.train.run import checkpoint, log
from smnoise.train.video import pretrain

from .runs import losses, weights


@pytest.mark.parametrize(
    ("change", "words"),
    [({"mask": "audiomae-2d", "mask_ratio": 0.8}, "mask audiomae-2d: mask_ratio must be two numbers"),
     ({"decoder_mask": "audiomae-2d"}, "mask audiomae-2d: mask_ratio must be two numbers")],
)  # fmt: skip
def test_a_mask_of_the_wrong_type_is_a_wrong_setting(config, change, words):
    with pytest.raises(ValueError, match=words):
        replace(config, **change)


def test_a_run_with_masks_of_a_function(config, tmp_path, monkeypatch):
    """What needs its weights alone does not need the function; what needs its masks imports it, or says what to do."""
    module = tmp_path / "masks_of_a_function.py"
    module.write_text(
        "from smnoise.ops import random_words\n"
        "def f(seed, samples, grid):\n    return random_words(seed, samples, 15, grid[0] * grid[1] * grid[2])\n"
    )
    monkeypatch.setattr(custom, "FUNCTIONS", {})
    for known in ("strategies", "samplers.named"):
        monkeypatch.setattr(f"smnoise.{known}.FUNCTIONS", custom.FUNCTIONS)
    monkeypatch.syspath_prepend(tmp_path)
    config = replace(config, mask="masks_of_a_function:f", epochs=1)
    pretrain(config)
    want = config.sampler()

    custom.FUNCTIONS.clear()
    assert pretrained(config.out, "video").sampler() == want
    custom.FUNCTIONS.clear()
    sys.modules.pop("masks_of_a_function")
    module.unlink()
    found = pretrained(config.out, "video")
    with pytest.raises(CheckpointError, match=r"masks of a function: .*No module named.*PYTHONPATH"):
        found.sampler()


def test_with_dual_masking_a_run_is_resumed_bit_for_bit(config, tmp_path):
    """And is another run than one that decodes all."""
    dual = replace(config, decoder_mask="running-cell", decode_ratio=0.3, epochs=2)
    whole = weights(pretrain(dual))
    pretrain(everything := replace(dual, decoder_mask="none", out=tmp_path / "all"))
    assert losses(dual.out) != losses(everything.out)
    stopped = replace(dual, out=tmp_path / "stopped")
    asked = iter([False, True])
    pretrain(stopped, stop=lambda: next(asked))
    resumed = weights(pretrain(replace(stopped, resume=True)))
    assert all(torch.equal(whole[n], resumed[n]) for n in whole)
    said = next(r["event"] for r in log.read(dual.out) if "event" in r)
    assert "8 of 32 tokens visible, 7 decoded" in said
    with pytest.raises(CheckpointError, match=r"decode_ratio: 0\.3 then, 0\.4 now"):
        pretrain(replace(dual, decode_ratio=0.4, resume=True))


@pytest.mark.parametrize("decoder", ["white", "running-cell"])
def test_encoder_and_decoder_masks_do_not_go_together(config, decoder):
    """Of one seed a white decoder would show just what a white encoder sees."""
    dual = replace(config, mask="white", mask_ratio=0.5, decoder_mask=decoder, size=128)
    encoder, decoder = dual.sampler()(range(50)), dual.decoder_sampler()(range(50))
    both = (~encoder.mask & ~decoder.mask).double().mean().item()
    assert both == pytest.approx(0.25, abs=0.01)


def rewrite_recipe(run, change):
    """Change the recipe of a run's newest checkpoint, which stays whole."""
    state = checkpoint.steps(run)[0] / "state.json"
    said = json.loads(state.read_text())
    change(said["recipe"])
    state.write_text(json.dumps(said))
    manifest = state.with_name("manifest.json")
    digest = hashlib.sha256(state.read_bytes()).hexdigest()
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"state.json": digest}))


@pytest.mark.parametrize("dual_masking", [True, False])
def test_a_checkpoint_of_before_recipes_held_samplers_is_resumed(config, dual_masking):
    """It names its masks by words: green, and no decoder mask where there was none yet."""

    def of_old(recipe):
        del recipe["sampler"], recipe["decoder_sampler"]
        recipe |= {"mask": "green", "mask_ratio": config.mask_ratio, "boundary": "field"}
        if dual_masking:
            recipe["decoder_mask"] = "none"
        else:
            del recipe["decode_ratio"]

    pretrain(replace(config, epochs=1))
    rewrite_recipe(config.out, of_old)
    _, settings = trained(config.out)
    assert settings.sampler() == config.sampler()
    with pytest.raises(CheckpointError, match=r"sampler, boundary: field then, wrap now"):
        pretrain(replace(config, epochs=1, boundary="wrap", resume=True))
    pretrain(replace(config, epochs=1, resume=True))


def rows(config, function, monkeypatch):
    """The masks that a run trains on, in order."""
    seen, forward = [], VideoMAE.forward
    monkeypatch.setattr(
        VideoMAE, "forward", lambda self, x, masks: seen.append(masks) or forward(self, x, masks)
    )
    function(config)
    return seen


@pytest.mark.parametrize(
    "given",
    [
        {"mask": "tube", "mask_ratio": 0.75},
        {"mask": "videomae-tube", "mask_ratio": None},
        {"mask": "green-2d-tube", "mask_ratio": 0.75, "sigma1": (0.5, 0.9), "sigma2": (1.5, 2.0)},
        {"mask": "random", "mask_ratio": None, "num_visible": 6, "per": "frame"},
        {"mask": '{"sampler": "Red3D", "boundary": "wrap", "num_visible": 7}', "mask_ratio": None},
        {"mask": "optim-blue", "mask_ratio": 0.75},
    ],
    ids=lambda given: given["mask"][:20],
)
def test_any_mask_trains_and_its_checkpoint_names_it(config, given, monkeypatch):
    config = replace(config, epochs=1, **given)
    seen = rows(config, pretrain, monkeypatch)
    sampler = config.sampler()
    assert torch.equal(seen[0].ids_keep, sampler(range(len(seen[0].ids_keep))).ids_keep)
    named = checkpoint.find(config.out)[1]["recipe"]["sampler"]
    assert smnoise.from_json(json.dumps({"seed": config.seed, **named})) == sampler
    assert trained(config.out)[1].sampler() == sampler


def test_a_mask_from_a_file_and_from_a_pool(config, tmp_path, monkeypatch):
    sampler = smnoise.Red3D(config.grid, num_visible=7)
    (tmp_path / "mask.json").write_text(sampler.to_json())
    assert replace(config, mask=f"@{tmp_path / 'mask.json'}", mask_ratio=None).sampler() == sampler
    pool = tmp_path / "pool.safetensors"
    pools.save(pools.build_masks(sampler, 5), pool)
    config = replace(config, mask=str(pool), mask_ratio=None, epochs=1)
    pretrain(config)
    found = video_runs.of_run(config.out)
    assert torch.equal(found.sampler()([3]).mask, config.sampler()([3]).mask)
    pool.unlink()
    assert video_runs.of_run(config.out).model is not None  # needs no masks
    with pytest.raises(CheckpointError, match=r"drew its masks from the pool .*pool\.safetensors, but"):
        found.sampler()
