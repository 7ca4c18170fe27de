# SPDX-License-Identifier: Apache-2.0
"""Weights there and back in the same bits, keys that do not fit, the official AudioMAE's arithmetic, hostile files."""

import argparse
import json
import os
from functools import partial

import pytest
import torch
from torch import nn

from smnoise import White3D
from smnoise.__main__ import main
from smnoise.compat import import_timm
from smnoise.convert import AudioConfig, VideoConfig, convert_files, convert_state, detect, load_model, read
from smnoise.errors import CheckpointError
from smnoise.models.common import Size
from smnoise.models.videomae import SIZES, sinusoid
from smnoise.train.run import checkpoint

from .official import (
    AUDIO,
    GLOBAL,
    VIDEO,
    WIDTHS,
    load_small,
    official_audio,
    official_video,
    same_bits,
    save_official,
)

OFFICIAL = {
    "videomae": (VIDEO, official_video),
    "audiomae local": (AUDIO, official_audio),
    "audiomae global": (GLOBAL, partial(official_audio, GLOBAL)),
}


def old_huggingface(state: dict, joined: bool) -> dict:
    """Names of earlier transformers, and if joined one matrix for query, key and value."""
    renamed = {n.replace("query.bias", "q_bias").replace("value.bias", "v_bias"): t for n, t in state.items()}
    if joined:
        for start in [n.removesuffix("query.weight") for n in state if n.endswith("query.weight")]:
            parts = [renamed.pop(f"{start}{part}.weight") for part in ("query", "key", "value")]
            renamed[f"{start}qkv.weight"] = torch.cat(parts)
    return renamed


@pytest.mark.parametrize("kind", OFFICIAL)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_official_there_and_back(kind, dtype):
    config, official = OFFICIAL[kind]
    state = {name: tensor.to(dtype) for name, tensor in official().items()}
    state["mask_token"].view(-1)[0] = -0.0
    ours = convert_state(state, "smnoise", grid=config.grid, **WIDTHS)
    assert ours.config == config
    config.build().load_state_dict(ours.state)  # strict: every name and shape
    back = convert_state(ours.state, "official", config=config, leftovers=ours.leftovers)
    assert same_bits(back.state, state)


@pytest.mark.parametrize("to", ["huggingface", "official"])
def test_ours_there_and_back(to):
    state = VIDEO.build().state_dict()
    there = convert_state(state, to, config=VIDEO)
    back = convert_state(there.state, "smnoise", grid=VIDEO.grid, **WIDTHS)
    assert back.config == VIDEO
    assert same_bits(back.state, state)


@pytest.mark.parametrize("config", [AUDIO, GLOBAL])
def test_our_audio_there_and_back(config):
    state = config.build().state_dict()
    there = convert_state(state, "official", config=config)
    back = convert_state(there.state, "smnoise", grid=config.grid, **WIDTHS)
    assert back.config == config
    assert same_bits(back.state, state)


def test_official_to_huggingface_and_back_without_a_stop():
    state = official_video()
    there = convert_state(state, "huggingface", grid=VIDEO.grid, **WIDTHS)
    assert detect(there.state) == ("videomae", "huggingface")
    assert same_bits(convert_state(there.state, "official", **WIDTHS).state, state)


@pytest.mark.parametrize("joined", [False, True])
def test_earlier_names_of_huggingface(joined):
    ours = VIDEO.build().state_dict()
    state = old_huggingface(convert_state(ours, "huggingface", config=VIDEO).state, joined)
    assert same_bits(convert_state(state, "smnoise", config=VIDEO).state, ours)


def test_a_bias_of_keys_is_left_out_if_it_is_zero():
    state = official_video()
    want = convert_state(state, "smnoise", config=VIDEO).state
    query, value = (state.pop(f"encoder.blocks.0.attn.{n}_bias") for n in "qv")
    for key in (torch.zeros(8), torch.ones(8)):
        state["encoder.blocks.0.attn.qkv.bias"] = torch.cat([query, key, value])
        if key.any():
            with pytest.raises(CheckpointError, match=r"unknown: encoder.blocks.0.attn.k_bias"):
                convert_state(state, "smnoise", config=VIDEO)
        else:
            got = convert_state(state, "smnoise", config=VIDEO)
            assert same_bits(got.state, want)
            assert any("zero" in note for note in got.notes)


def test_wrappers_prefixes_are_cut_off():
    state = official_video()
    wrapped = {f"module._orig_mod.{name}": tensor for name, tensor in state.items()}
    assert same_bits(convert_state(wrapped, "official", **WIDTHS).state, state)
    with pytest.raises(CheckpointError, match="twice"):
        convert_state(state | {"module.mask_token": state["mask_token"]}, "smnoise", **WIDTHS)


def test_keys_that_do_not_fit_are_all_listed():
    state = official_video()
    del state["decoder.norm.bias"]
    state["encoder.blocks.0.gamma_1"] = torch.ones(8)
    state["decoder.head.weight"] = torch.ones(95, 4)
    with pytest.raises(CheckpointError) as error:
        convert_state(state, "smnoise", **WIDTHS)
    message = str(error.value)
    assert "3 keys" in message
    assert "missing: decoder.norm.bias [4]" in message
    assert "unknown: encoder.blocks.0.gamma_1 [8]" in message
    assert "wrong shape: decoder.head.weight is [95, 4], not [96, 4]" in message


def test_states_of_other_models():
    with pytest.raises(CheckpointError, match="begins with fc"):
        detect({"fc.weight": torch.ones(1)})
    with pytest.raises(CheckpointError, match="nothing"):
        detect({})
    encoder = {n: t for n, t in official_video().items() if n.startswith("encoder.")}
    with pytest.raises(CheckpointError, match="with its decoder"):
        convert_state(encoder, "smnoise", **WIDTHS)
    with pytest.raises(CheckpointError, match="not a dense tensor of floats"):
        convert_state(official_video() | {"step": torch.tensor(3)}, "smnoise")
    with pytest.raises(CheckpointError, match="'epoch' is a int"):
        convert_state(official_video() | {"epoch": 3}, "smnoise")
    oblong = official_video() | {"encoder.patch_embed.proj.weight": torch.ones(8, 3, 2, 4, 2)}
    with pytest.raises(CheckpointError, match="not square"):
        convert_state(oblong, "smnoise", **WIDTHS)


def test_options_that_do_not_fit():
    state = official_video()
    with pytest.raises(ValueError, match="to must be one of"):
        convert_state(state, "timm")
    with pytest.raises(CheckpointError, match="name heads"):
        convert_state(state, "smnoise")
    with pytest.raises(ValueError, match="given by the config"):
        convert_state(state, "smnoise", config=VIDEO, heads=2)
    with pytest.raises(ValueError, match="positions is for AudioMAE"):
        convert_state(state, "smnoise", positions="right", **WIDTHS)
    with pytest.raises(ValueError, match="transformers has no AudioMAE"):
        convert_state(official_audio(), "huggingface")
    with pytest.raises(ValueError, match="give its config"):
        convert_state(VIDEO.build().state_dict(), "official")
    with pytest.raises(CheckpointError, match="config is of audiomae"):
        convert_state(state, "smnoise", config=AUDIO)


@pytest.mark.parametrize("size", ["small", "base", "large", "huge"])
def test_published_sizes_need_no_options(size):
    config = VideoConfig(SIZES[size], (8, 14, 14), 2, 16)
    with torch.device("meta"):
        state = config.build().state_dict()
    assert convert_state(convert_state(state, "official", config=config).state, "smnoise").config == config


def test_tables_of_video_positions_are_checked():
    state = official_video()
    state["encoder.pos_embed"], state["pos_embed"] = sinusoid(24, 8)[None], sinusoid(24, 4)[None]
    got = convert_state(state, "smnoise", grid=VIDEO.grid, **WIDTHS)
    assert any("pos_embed is the table" in note for note in got.notes)
    state["pos_embed"] = state["pos_embed"] + 0.1
    with pytest.raises(CheckpointError, match="not the fixed sinusoid"):
        convert_state(state, "smnoise", grid=VIDEO.grid, **WIDTHS)
    with pytest.raises(CheckpointError, match="name the grid"):
        convert_state(state, "smnoise", grid=(1, 3, 4), **WIDTHS)


@pytest.mark.parametrize("positions", ["right", "published"])
def test_the_table_decides_the_order_of_audio_positions(positions):
    config = AudioConfig(AUDIO.size, (8, 4), 4, "local", positions)
    got = convert_state(official_audio(config), "smnoise", grid=(8, 4), **WIDTHS)
    assert got.config == config
    assert any(f"positions {positions!r}" in note for note in got.notes)
    other = "right" if positions == "published" else "published"
    with pytest.raises(ValueError, match="the table in the file"):
        convert_state(official_audio(config), "smnoise", grid=(8, 4), positions=other, **WIDTHS)


def test_tables_that_are_neither_or_absent():
    state = official_audio()
    tables = {n: state.pop(n) for n in ("pos_embed", "decoder_pos_embed")}
    with pytest.raises(CheckpointError, match="name grid"):
        convert_state(state, "smnoise", **WIDTHS)
    got = convert_state(state, "smnoise", grid=(8, 4), positions="published", **WIDTHS)
    assert got.config == AUDIO
    learned = state | tables | {"pos_embed": torch.randn(1, 33, 16)}
    with pytest.raises(CheckpointError, match="learned"):
        convert_state(learned, "smnoise", grid=(8, 4), **WIDTHS)
    mixed = state | tables | {"decoder_pos_embed": official_audio(GLOBAL)["decoder_pos_embed"]}
    with pytest.raises(CheckpointError, match="decoder_pos_embed is not"):
        convert_state(mixed, "smnoise", grid=(8, 4), **WIDTHS)


def test_rounding_of_a_table_comes_back_and_leftovers_must_belong():
    state = official_audio()
    state["pos_embed"] = state["pos_embed"] * (1 + 1e-6)
    got = convert_state(state, "smnoise", grid=(8, 4), **WIDTHS)
    back = convert_state(got.state, "official", config=AUDIO, leftovers=got.leftovers)
    assert same_bits(back.state, state)
    anew = convert_state(got.state, "official", config=AUDIO)
    assert any(note.startswith("made anew") for note in anew.notes)
    with pytest.raises(CheckpointError, match="leftovers of another model: x"):
        convert_state(got.state, "official", config=AUDIO, leftovers={"x": torch.ones(1)})
    assert [*got.leftovers] == ["pos_embed"]


def published_audio_forward(state: dict, config: AudioConfig, spectrograms, masks) -> torch.Tensor:
    """AudioMAE from its tables: convolution, table of the file, timm's blocks. Prediction [B, M, P]."""
    import_timm()
    from timm.models.swin_transformer_v2_cr import SwinTransformerV2CrBlock
    from timm.models.vision_transformer import Block

    norm = partial(nn.LayerNorm, eps=1e-6)

    def part(module, prefix):
        module.load_state_dict({n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)})
        return module.eval()

    def local_block(i):
        block = SwinTransformerV2CrBlock(8, 2, config.grid, (4, 4), norm_layer=norm).eval()
        block.shift_size = (2 * (i % 2), 0)
        block._init_buffers()
        prefix = f"decoder_blocks.{i}."
        weights = {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}
        weights["attn.logit_scale"] = -weights.pop("attn.tau").log()
        block.load_state_dict(weights)
        return block

    batch = torch.arange(len(spectrograms))[:, None]
    x = nn.functional.conv2d(
        spectrograms[:, None], state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], stride=4
    )
    x = x.flatten(2).transpose(1, 2) + state["pos_embed"][:, 1:]
    x = torch.cat([state["cls_token"].expand(len(x), -1, -1), x[batch, masks.ids_keep]], dim=1)
    x = part(norm(16), "norm.")(part(Block(16, 2, qkv_bias=True, norm_layer=norm), "blocks.0.")(x))
    x = part(nn.Linear(16, 8), "decoder_embed.")(x)
    hidden = state["mask_token"].expand(len(x), masks.num_masked, -1)
    x = torch.cat([x[:, :1], torch.cat([x[:, 1:], hidden], dim=1)[batch, masks.ids_restore]], dim=1)
    x = x + state["decoder_pos_embed"]
    if config.decoder == "local":
        x = x[:, 1:].unflatten(1, config.grid)
        for i in range(2):
            x = local_block(i)(x)
        x = x.flatten(1, 2)
    else:
        for i in range(2):
            x = part(Block(8, 2, qkv_bias=True, norm_layer=norm), f"decoder_blocks.{i}.")(x)
        x = x[:, 1:]
    x = part(nn.Linear(8, 16), "decoder_pred.")(part(norm(8), "decoder_norm.")(x))
    return x[batch, masks.ids_mask]


@pytest.mark.parametrize(
    "config", [AudioConfig(AUDIO.size, (8, 8), 4, "local", "published"), AUDIO, GLOBAL], ids=str
)
def test_converted_audiomae_computes_what_the_published_one_does(config):
    state = official_audio(config)
    converted = convert_state(state, "smnoise", grid=config.grid, **WIDTHS)
    model = converted.config.build().eval()
    model.load_state_dict(converted.state)
    masks = White3D((1, *config.grid), 0.75)([0, 1])
    random = torch.Generator().manual_seed(5)
    spectrograms = torch.randn(2, 4 * config.grid[0], 4 * config.grid[1], generator=random)
    with torch.no_grad():
        _, prediction = model(spectrograms, masks)
        want = published_audio_forward(state, config, spectrograms, masks)
    torch.testing.assert_close(prediction, want, atol=1e-4, rtol=1e-4)


def test_files_there_and_back(tmp_path):
    source = save_official(
        tmp_path / "checkpoint.pth", args=argparse.Namespace(lr=1.5e-4, opt_betas=[0.9, 0.95])
    )
    convert_files(source, tmp_path / "ours", grid=VIDEO.grid, **WIDTHS)
    assert sorted(os.listdir(tmp_path)) == ["checkpoint.pth", "ours"]
    assert sorted(os.listdir(tmp_path / "ours")) == ["config.json", "model.safetensors"]
    for out, to in (("hf", "huggingface"), ("official", "official"), ("official.pth", "official")):
        convert_files(tmp_path / "ours", tmp_path / out, to)
    convert_files(tmp_path / "hf", tmp_path / "back.pth", "official")
    for name in ("official", "official.pth", "back.pth"):
        assert same_bits(read(tmp_path / name).state, official_video()), name
    assert read(tmp_path / "official").config == VIDEO


def test_leftovers_are_kept_beside_the_weights(tmp_path):
    state = official_audio()
    state["pos_embed"] = state["pos_embed"] * (1 + 1e-6)
    source = save_official(tmp_path / "audio.pth", state)
    convert_files(source, tmp_path / "ours", grid=AUDIO.grid, **WIDTHS)
    assert (tmp_path / "ours" / "leftovers.safetensors").is_file()
    convert_files(tmp_path / "ours", tmp_path / "back.pth", "official")
    assert same_bits(read(tmp_path / "back.pth").state, state)


def test_the_last_bias_of_a_position_network_is_a_weight_in_both_layouts():
    state = official_audio()
    biases = [n for n in state if n.endswith("attn.meta_mlp.fc2.bias")]
    assert biases
    for number, name in enumerate(biases):
        state[name] = torch.randn(state[name].shape, generator=torch.Generator().manual_seed(number))
    ours = convert_state(state, "smnoise", grid=AUDIO.grid, **WIDTHS)
    assert not ours.leftovers
    for number, name in enumerate(biases):
        assert torch.equal(ours.state[f"decoder.{number}.attention.position_bias.3.bias"], state[name])
    assert same_bits(convert_state(ours.state, "official", config=AUDIO).state, state)


def test_weights_of_runs_from_before_there_was_a_last_bias_have_zeros():
    state = {n: t for n, t in AUDIO.build().state_dict().items() if not n.endswith("position_bias.3.bias")}
    there = convert_state(state, "official", config=AUDIO)
    assert any("the run had none" in note for note in there.notes)
    assert not any(t.any() for n, t in there.state.items() if n.endswith("meta_mlp.fc2.bias"))
    back = convert_state(there.state, "smnoise", grid=AUDIO.grid, **WIDTHS)
    assert same_bits({n: back.state[n] for n in state}, state)
    AUDIO.build().load_state_dict(back.state)


def test_load_model_of_every_layout_without_touching_random_state(tmp_path):
    source = save_official(tmp_path / "official.pth")
    convert_files(source, tmp_path / "ours", grid=VIDEO.grid, **WIDTHS)
    convert_files(tmp_path / "ours", tmp_path / "hf", "huggingface")
    before = torch.get_rng_state()
    models = [load_small(source), load_model(tmp_path / "ours"), load_model(tmp_path / "hf")]
    assert torch.equal(torch.get_rng_state(), before)
    for model in models:
        assert model.grid == VIDEO.grid
        assert same_bits(model.state_dict(), models[0].state_dict())


def test_a_training_run_and_a_checkpoint_of_it(tmp_path):
    model = VideoConfig(SIZES["tiny"], (2, 2, 2), 2, 4).build()
    recipe = {"model": "tiny", "frames": 4, "size": 8, "tubelet": 2, "patch": 4}
    folder = checkpoint.save(
        tmp_path / "run", 3, model, torch.optim.SGD(model.parameters()), {"recipe": recipe}
    )
    for source in (tmp_path / "run", folder):
        loaded = load_model(source)
        assert loaded.grid == (2, 2, 2)
        assert same_bits(loaded.state_dict(), model.state_dict())
    checkpoint.save(tmp_path / "other", 1, model, torch.optim.SGD(model.parameters()), {"recipe": {}})
    with pytest.raises(CheckpointError, match="no checkpoint of VideoMAE, AudioMAE or CAV-MAE"):
        load_model(tmp_path / "other")


def test_an_audio_run(tmp_path):
    options = {"decoder": "global", "positions": "right", "normalise_target": False}
    recipe = {"model": "tiny", "frames": 32, "mels": 16, "patch": 4, **options}
    config = AudioConfig(Size(192, 6, 3, 96, 2, 3), (8, 4), 4, **options)
    model = config.build()
    checkpoint.save(tmp_path, 1, model, torch.optim.SGD(model.parameters()), {"recipe": recipe})
    assert read(tmp_path).config == config
    assert same_bits(load_model(tmp_path).state_dict(), model.state_dict())


def test_the_command(tmp_path, capsys):
    source = str(save_official(tmp_path / "official.pth"))
    options = ["--heads", "2", "--decoder-heads", "2", "--grid", "2", "3", "4"]
    assert main(["convert", source, str(tmp_path / "ours"), *options]) == 0
    assert "smnoise layout" in capsys.readouterr().out
    assert (
        main(["convert", str(tmp_path / "ours"), str(tmp_path / "hf"), "--to", "huggingface", "--json"]) == 0
    )
    assert json.loads(capsys.readouterr().out)["config"]["grid"] == [2, 3, 4]
    for arguments in (
        [source, str(tmp_path / "ours"), *options],
        [str(tmp_path / "absent.pth"), str(tmp_path / "new")],
        [source, str(tmp_path / "new")],
        [source, str(tmp_path / "new"), "--to", "timm"],
    ):
        assert main(["convert", *arguments]) == 2
        assert capsys.readouterr().err.startswith("smnoise convert: ")
    assert not (tmp_path / "new").exists()
