# SPDX-License-Identifier: Apache-2.0
"""Sizes of models that files do not tell, and sizes of other programs."""

import dataclasses
import json

import pytest
import torch
from safetensors.torch import save_file

from smnoise.convert import convert_files, convert_state, load_model
from smnoise.errors import CheckpointError

from .official import GLOBAL, VIDEO, WIDTHS, official_audio, official_video, same_bits


def test_heads_are_those_of_published_widths_or_of_64_each_and_fit():
    def heads(width, decoder_width, **options):
        config = dataclasses.replace(
            VIDEO,
            size=dataclasses.replace(
                VIDEO.size, width=width, decoder_width=decoder_width, heads=1, decoder_heads=1
            ),
        )
        with torch.device("meta"):
            state = config.build().state_dict()
        official = convert_state(state, "official", config=config).state
        size = convert_state(official, "smnoise", grid=VIDEO.grid, **options).config.size
        return size.heads, size.decoder_heads

    assert heads(768, 384) == (12, 6)
    assert heads(1408, 512) == (16, 8)
    assert heads(64, 64) == (1, 1)
    assert heads(192, 128) == (3, 2)
    with pytest.raises(CheckpointError, match="name decoder_heads"):
        heads(192, 96)
    with pytest.raises(ValueError, match="heads"):
        heads(768, 384, heads=7)


ODD = [
    0,
    -1,
    1.5,
    "x",
    None,
    [],
    [1],
    {},
    True,
    10**30,
    float("nan"),
    float("inf"),
    1e308,
    ["a"] * 3,
    [None] * 3,
]


@pytest.mark.parametrize("config", [VIDEO, GLOBAL], ids=["video", "audio"])
def test_whatever_stands_in_a_config_is_an_error_of_ours(tmp_path, config):
    save_file(config.build().state_dict(), tmp_path / "model.safetensors")
    good = json.loads(json.dumps({"smnoise": 1, "model": config.model, **dataclasses.asdict(config)}))
    changes = [good | {name: value} for name in good for value in ODD]
    changes += [good | {"size": good["size"] | {name: value}} for name in good["size"] for value in ODD]
    for change in changes:
        (tmp_path / "config.json").write_text(json.dumps(change))
        try:
            load_model(tmp_path)
        except CheckpointError:
            continue
        assert change == good or change | {"normalise_target": True} == good


@pytest.mark.parametrize("grid", [(1,), (2, 3), (0, 1, 1), "abc", (1.5, 1, 1)])
def test_grids_that_cannot_be(grid):
    with pytest.raises(ValueError, match="grid"):
        convert_state(official_video(), "smnoise", grid=grid, **WIDTHS)


def test_videomae_v2_giant_is_read(tmp_path):
    """Its ratio of 48 / 11 in encoder and decoder; here of a small width."""
    size = dataclasses.replace(VIDEO.size, width=88, heads=2, decoder_width=32, mlp_ratio=48 / 11)
    config = dataclasses.replace(VIDEO, size=size)
    torch.manual_seed(0)
    state = config.build().state_dict()
    assert state["encoder.0.mlp.fc1.weight"].shape == (384, 88)
    assert state["decoder.0.mlp.fc1.weight"].shape == (139, 32)
    for to in ("official", "huggingface"):
        there = convert_state(state, to, config=config)
        back = convert_state(there.state, "smnoise", grid=VIDEO.grid, **WIDTHS)
        assert back.config == config
        assert same_bits(back.state, state)
    torch.save({"model": convert_state(state, "official", config=config).state}, tmp_path / "g.pth")
    convert_files(tmp_path / "g.pth", tmp_path / "ours", grid=VIDEO.grid, **WIDTHS)
    assert load_model(tmp_path / "ours").size == size


def test_an_audiomae_of_another_ratio_is_refused(tmp_path):
    state = official_audio(GLOBAL)
    state["blocks.0.mlp.fc1.weight"] = torch.ones(48, 16)
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"blocks.0.mlp.fc1.weight is \[48, 16\], not \[64, 16\]"):
        load_model(tmp_path / "a.pth", grid=(8, 4), **WIDTHS)


def test_the_heads_of_our_own_small_models_come_along(tmp_path):
    """nano's 4 heads of 16 are no published ones, and an official file would be read with 1."""
    config = dataclasses.replace(VIDEO, size=dataclasses.replace(VIDEO.size, width=64, heads=4))
    torch.manual_seed(0)
    state = config.build().state_dict()
    save_file(state, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(
        json.dumps({"smnoise": 1, "model": "videomae", **dataclasses.asdict(config)})
    )
    convert_files(tmp_path, tmp_path / "official.pth", "official")
    assert load_model(tmp_path / "official.pth").size == config.size
    raw = torch.load(tmp_path / "official.pth", weights_only=True)
    assert set(raw) == {"model", "smnoise"}
