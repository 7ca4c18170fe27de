# SPDX-License-Identifier: Apache-2.0
"""Files of weights that are damaged, too large, or mean harm, and configs that cannot be: refused, and nothing lost."""

import json
import os
import pickle
import zipfile
from dataclasses import asdict

import pytest
import torch

from smnoise.convert import convert_files, load_model
from smnoise.convert import files as convert_module
from smnoise.errors import CheckpointError

from .official import VIDEO, WIDTHS, load_small, official_video, save_official


class Bomb:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("write", [torch.save, lambda it, path: path.write_bytes(pickle.dumps(it, 2))])
def test_a_pickle_that_runs_code_is_refused(tmp_path, write):
    write({"model": {}, "args": Bomb(tmp_path / "boom")}, tmp_path / "evil.pth")
    with pytest.raises(CheckpointError, match=r"nothing in it was run: it asks for \w+\.mkdir") as error:
        load_small(tmp_path / "evil.pth")
    assert "weights_only" not in str(error.value)  # torch advises to switch it off
    assert not (tmp_path / "boom").exists()


def test_an_old_torch_reads_no_pickles(tmp_path, monkeypatch):
    source = save_official(tmp_path / "official.pth")
    monkeypatch.setattr(torch, "__version__", "2.9.1+cpu")
    monkeypatch.setattr(torch, "load", None)
    with pytest.raises(CheckpointError, match="CVE-2026-24747"):
        load_small(source)


def test_files_that_are_too_large(tmp_path):
    source = save_official(tmp_path / "official.pth")
    with pytest.raises(CheckpointError, match="more than the limit"):
        load_small(source, max_bytes=source.stat().st_size - 1)
    with zipfile.ZipFile(tmp_path / "packed.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10**6))
    with pytest.raises(CheckpointError, match="unpacked it has 1000000 bytes"):
        load_small(tmp_path / "packed.pth", max_bytes=10**5)
    wide = official_video() | {"mask_token": torch.zeros(1).expand(10**6, 10**6)}
    with pytest.raises(CheckpointError, match="claims"):
        load_small(save_official(tmp_path / "wide.pth", wide))


@pytest.mark.parametrize("name", ["model.safetensors", "model.pth", "model.bin"])
@pytest.mark.parametrize("content", [b"", b"\x80\x04", b"\xff" * 100, b"PK\x03\x04" + bytes(50)])
def test_damaged_files(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=name):
        load_model(tmp_path / name)


def test_truncated_files(tmp_path):
    source = save_official(tmp_path / "official.pth")
    convert_files(source, tmp_path / "ours", grid=VIDEO.grid, **WIDTHS)
    for path in (source, tmp_path / "ours" / "model.safetensors"):
        path.write_bytes(path.read_bytes()[:-40])
        with pytest.raises(CheckpointError):
            load_small(path)


def test_paths_that_are_not_weights(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_model(tmp_path / "absent.pth")
    with pytest.raises(CheckpointError, match="neither"):
        load_model(tmp_path)
    (tmp_path / "model.npz").write_bytes(b"")
    with pytest.raises(CheckpointError, match="end in"):
        load_model(tmp_path / "model.npz")
    torch.save([1], tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match="holds a list"):
        load_model(tmp_path / "list.pth")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"smnoise": 2}, "newer smnoise"),
        ({"model": "jepa"}, "KeyError"),
        ({"patch": 0}, "patch must be a whole number"),
        ({"patch": "4"}, "patch must be a whole number"),
        ({"size": {"width": 8, "depth": 10**9}}, "TypeError"),
        (
            {"size": {**asdict(VIDEO.size), "depth": 10**9}},
            "depth",
        ),
        ({"grid": [60000, 60000, 60000]}, "tokens must be"),
        ({"grid": [2, 3]}, "has 3 axes"),
        ({"extra": 1}, "TypeError"),
        ({"patch": 5}, "wrong shape"),
    ],
)
def test_a_config_that_cannot_be(tmp_path, change, message):
    convert_files(save_official(tmp_path / "official.pth"), tmp_path / "ours", grid=VIDEO.grid, **WIDTHS)
    path = tmp_path / "ours" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CheckpointError, match=message):
        load_model(tmp_path / "ours")


@pytest.mark.parametrize("text", ["", "[1]", "{", "[" * 100_000])
def test_a_config_that_is_none(tmp_path, text):
    convert_files(save_official(tmp_path / "official.pth"), tmp_path / "ours", grid=VIDEO.grid, **WIDTHS)
    (tmp_path / "ours" / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        load_model(tmp_path / "ours")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "vit"}, "only videomae"),
        ({"use_mean_pooling": True}, "use_mean_pooling"),
        ({"hidden_act": "relu"}, "hidden_act"),
        ({"patch_size": 0}, "no sizes"),
        ({"image_size": "x"}, "no sizes"),
        ({"intermediate_size": 8}, None),
    ],
)
def test_a_huggingface_config_of_something_else(tmp_path, change, message):
    convert_files(
        save_official(tmp_path / "v.pth"), tmp_path / "hf", "huggingface", grid=VIDEO.grid, **WIDTHS
    )
    path = tmp_path / "hf" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    if message is None:  # the weights tell
        assert load_model(tmp_path / "hf").size == VIDEO.size
        return
    with pytest.raises(CheckpointError, match=message):
        load_model(tmp_path / "hf")


def test_settings_of_huggingface_that_are_ours_otherwise_are_told(tmp_path):
    convert_files(
        save_official(tmp_path / "v.pth"), tmp_path / "hf", "huggingface", grid=VIDEO.grid, **WIDTHS
    )
    path = tmp_path / "hf" / "config.json"
    changes = {"layer_norm_eps": 1e-12, "norm_pix_loss": False}
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    notes = "\n".join(convert_files(tmp_path / "hf", tmp_path / "ours").notes)
    assert "layer_norm_eps 1e-12" in notes
    assert "norm_pix_loss" in notes


def test_nothing_is_overwritten_and_nothing_half_written(tmp_path, monkeypatch):
    source = save_official(tmp_path / "official.pth")
    before = source.read_bytes()
    with pytest.raises(CheckpointError, match="exists already"):
        convert_files(source, source, "official")
    assert source.read_bytes() == before
    with pytest.raises(CheckpointError, match="only the official layout"):
        convert_files(source, tmp_path / "hf.pth", "huggingface", **WIDTHS)

    def disk_is_full(*_, **__):
        raise OSError("no space left on device")

    monkeypatch.setattr(convert_module.json, "dumps", disk_is_full)
    monkeypatch.setattr(torch, "save", disk_is_full)
    for out in ("ours", "copy.pth"):
        with pytest.raises(CheckpointError, match="no space"):
            convert_files(source, tmp_path / out, "official", **WIDTHS)
    assert os.listdir(tmp_path) == ["official.pth"]
