# SPDX-License-Identifier: Apache-2.0
"""CAV-MAE's weights by files and on the command line: there and back to the bit, and what is wrong with others."""

import pytest
import torch

from smnoise.cli import main
from smnoise.convert import convert_files, convert_state, detect, load_model, write
from smnoise.convert.cavmae import config_of, to_cavmae
from smnoise.errors import CheckpointError
from smnoise.models.cavmae import CAVMAE
from smnoise.models.common import Size

SIZE = Size(64, 3, 1, 64, 2, 1)


def model_of(layout: str) -> CAVMAE:
    grids = ((1, 2, 2), (8, 8)) if layout == "cavmae" else ((4, 2, 2), (8, 2))
    return CAVMAE(SIZE, *grids, tubelet=1, patch=16, layout=layout)


@pytest.fixture
def official():
    """As a run of theirs leaves them: behind DataParallel, with norms that nobody uses."""
    weights = to_cavmae(model_of("cavmae"))
    weights["blocks_a.0.norm1_v.weight"] = torch.full((64,), 0.5)
    weights["pos_embed_a"] = weights["pos_embed_a"] + 1e-5
    return {f"module.{name}": tensor for name, tensor in weights.items()}


def test_there_and_back_gives_the_same_bits(official, tmp_path, capsys):
    torch.save(official, tmp_path / "theirs.pth")
    folder, back = tmp_path / "ours", tmp_path / "back.pth"
    assert main(["convert", str(tmp_path / "theirs.pth"), str(folder)]) == 0
    said = capsys.readouterr().out
    assert "read as cavmae in the official layout" in said
    assert "heads 1 assumed" in said
    assert "grids (1, 2, 2) and (8, 8)" in said
    assert main(["convert", str(folder), str(back), "--to", "official"]) == 0
    found = torch.load(back, weights_only=True)["model"]
    assert found.keys() == {name.removeprefix("module.") for name in official}
    assert all(torch.equal(found[name.removeprefix("module.")], tensor) for name, tensor in official.items())
    model = load_model(folder)
    assert isinstance(model, CAVMAE)
    assert (model.size, model.layout, model.audio_grid) == (SIZE, "cavmae", (8, 8))
    assert torch.equal(model.bridge.weight, official["module.decoder_embed.weight"])


def test_half_precision_stays(official):
    half = {name: tensor.half() for name, tensor in official.items()}
    found = convert_state(half, "smnoise", heads=1, decoder_heads=1)
    assert {tensor.dtype for tensor in found.state.values()} == {torch.float16}
    assert torch.equal(found.state["norm_a.weight"], half["module.norm_a.weight"])
    back = convert_state(found.state, "official", config=found.config, leftovers=found.leftovers).state
    assert all(torch.equal(back[name.removeprefix("module.")], tensor) for name, tensor in half.items())


def test_our_own_layout_goes_through_a_folder(tmp_path):
    model = model_of("own")
    assert detect(model.state_dict()) == ("cavmae", "smnoise")
    write(convert_state(model.state_dict(), "smnoise", config=config_of(model)), tmp_path / "ours")
    again = load_model(tmp_path / "ours")
    assert isinstance(again, CAVMAE)
    assert config_of(again) == config_of(model)
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in model.state_dict().items())
    with pytest.raises(ValueError, match="layout own numbers tokens otherwise"):
        convert_files(tmp_path / "ours", tmp_path / "theirs", "official")


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        (lambda w: w.pop("module.norm_v.bias"), {}, r"lack norm_v\.bias"),
        (lambda w: w.update({"module.extra": torch.zeros(2)}), {}, "have an unknown extra"),
        (lambda w: w["module.norm.weight"].fill_(float("nan")), {}, "not finite"),
        (lambda w: w["module.pos_embed_v"].zero_(), {}, "other positions"),
        (lambda w: w.update({"module.pos_embed_a": torch.zeros(64)}), {}, "there is no pos_embed_a"),
        (
            lambda w: w.update({"module.blocks_a.2000000.norm1.bias": torch.zeros(64)}),
            {},
            "depth must be a whole number",
        ),
        (lambda w: None, {"heads": 5}, "multiples of 5"),
    ],
)
def test_wrong_weights_are_refused(official, change, options, words):
    change(official)
    with pytest.raises(CheckpointError, match=words):
        convert_state(official, "smnoise", **options)


def test_wrong_wishes_are_refused(official, tmp_path):
    with pytest.raises(ValueError, match="transformers has no CAV-MAE"):
        convert_state(official, "huggingface")
    with pytest.raises(ValueError, match="grid is told by the weights"):
        convert_state(official, "smnoise", grid=(1, 2, 2))
    tuned = {name: tensor for name, tensor in official.items() if "decoder" not in name}
    torch.save(tuned, tmp_path / "tuned.pth")
    with pytest.raises(CheckpointError, match="a CAV-MAE without its decoder"):
        convert_files(tmp_path / "tuned.pth", tmp_path / "out")
