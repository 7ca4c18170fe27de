# SPDX-License-Identifier: Apache-2.0
"""Files and folders of others that hold no weights, or those of another model: they are named."""

import gzip
import io
import json
import os
import pathlib
import pickle
import struct

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from smnoise.convert import convert_files, load_model, read
from smnoise.convert.states import unwrapped
from smnoise.errors import CheckpointError
from smnoise.train.pretrained.find import pretrained

from .official import VIDEO, WIDTHS, official_video, same_bits, save_official

STATE = official_video()


class Nested(dict):
    """As EasyDict, yacs and OmegaConf are: a dict with attributes."""

    def __init__(self, **values):
        super().__init__(values)
        self.frozen = True


def npz() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, a=np.ones(3))
    return stream.getvalue()


LOOKS = {
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n", "git lfs pull"),
    "annex": (b"/annex/objects/SHA256E-s3--00", "git annex get"),
    "page": (b"\n<!DOCTYPE html><html><body>Sign in</body></html>", "web site"),
    "old page": (b"<HTML><HEAD>", "web site"),
    "xml": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "web site"),
    "answer": (b'{"error": "not found"}', "JSON"),
    "text": (b"Access denied\n", "text"),
    "empty": (b"", "empty"),
    "zeros": (bytes(4096), "zeros"),
    "gzip": (gzip.compress(b"a"), "gzip"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(90), "HDF5"),
    "npy": (b"\x93NUMPY\x01\x00", "NumPy"),
    "npz": (npz(), "it holds a.npy"),
    "pickle": (pickle.dumps({"a": 1}, 2), "not of torch.save"),
    "noise": (b"\x07\x99\xfe\x01" * 20, "neither safetensors nor"),
}


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors", "a.ckpt"])
@pytest.mark.parametrize("what", LOOKS)
def test_files_that_are_something_else_are_named(tmp_path, what, name):
    content, words = LOOKS[what]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=words):
        read(tmp_path / name)


def test_which_of_several_weights_is_told(tmp_path):
    torch.save({"model_ema": {k: v + 1 for k, v in STATE.items()}, "model": STATE}, tmp_path / "two.pth")
    converted = convert_files(tmp_path / "two.pth", tmp_path / "out", "official", **WIDTHS)
    assert same_bits(converted.state, STATE)
    assert "read from 'model'; the file also has 'model_ema'" in converted.notes


def test_weights_that_are_no_numbers_are_told_and_not_used(tmp_path):
    name = next(n for n, v in STATE.items() if v.dim() > 1)
    torch.save({"model": {**STATE, name: torch.full_like(STATE[name], torch.nan)}}, tmp_path / "nan.pth")
    converted = convert_files(tmp_path / "nan.pth", tmp_path / "out", "smnoise", grid=VIDEO.grid, **WIDTHS)
    assert [note for note in converted.notes if note.startswith("warning: 1 tensors hold NaN or Inf")]
    with pytest.raises(CheckpointError, match="weights that are NaN or Inf"):
        pretrained(tmp_path / "out")


def test_the_content_decides_not_the_name(tmp_path):
    save_file(STATE, tmp_path / "a.pth")
    torch.save({"state_dict": STATE}, tmp_path / "b.safetensors")
    torch.save({"model_state_dict": {"model": STATE}}, tmp_path / "c.pth.tar")
    for name in ("a.pth", "b.safetensors", "c.pth.tar"):
        assert same_bits(read(tmp_path / name).state, STATE)


def safetensors_of(header, data=bytes(16)) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


@pytest.mark.parametrize(
    "content",
    [
        safetensors_of({"a": {"dtype": "F32", "shape": [2**40, 2**20], "data_offsets": [0, 2**62]}}),
        safetensors_of({n: {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]} for n in "ab"}),
        safetensors_of({"a": {"dtype": "F99", "shape": [4], "data_offsets": [0, 16]}}),
        safetensors_of({"a": {"dtype": "F32", "shape": [-4], "data_offsets": [0, 16]}}),
        safetensors_of({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 15]}}),
        safetensors_of({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}, bytes(15)),
        safetensors_of({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}, bytes(17)),
        safetensors_of({"a": 1}),
        struct.pack("<Q", 10**8) + b"{" + bytes(16),
        struct.pack("<Q", 2**33) + b"{" + bytes(16),
    ],
)
def test_headers_of_safetensors_that_lie(tmp_path, content):
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        read(tmp_path / "a.safetensors")


def test_things_that_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "pipe.pth")
    for path in (tmp_path / "pipe.pth", pathlib.Path("/dev/zero")):
        with pytest.raises(CheckpointError, match="must be a folder, or end in"):
            read(path)


def parts_of(folder, places, files=None):
    """A folder as transformers writes large models."""
    folder.mkdir()
    for name in set(places.values()) if files is None else files:
        save_file({key: STATE[key] for key, value in places.items() if value == name}, folder / name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    return folder


def test_a_folder_of_parts_is_read_and_what_its_index_lists_is_checked(tmp_path):
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    places = {key: names[i % 2] for i, key in enumerate(STATE)}
    folder = parts_of(tmp_path / "good", places)
    assert same_bits(read(folder).state, STATE)
    with pytest.raises(CheckpointError, match="more than the limit"):
        read(folder, max_bytes=10_000)
    (folder / names[1]).unlink()
    with pytest.raises(CheckpointError, match="are not there"):
        read(folder)
    save_file({"x": torch.ones(1)}, folder / names[1])
    with pytest.raises(CheckpointError, match="is not the file that"):
        read(folder)
    for number, where in enumerate(["../good/" + names[0], "/etc/passwd", "..", "", "a/b.safetensors"]):
        with pytest.raises(CheckpointError, match="no name of a file"):
            read(parts_of(tmp_path / f"bad {number}", dict.fromkeys(STATE, where), []))
    for text in ("{}", '{"weight_map": []}', '{"weight_map": {"a": 1}}', "[" * 100_000):
        (folder / "model.safetensors.index.json").write_text(text)
        with pytest.raises(CheckpointError, match="index"):
            read(folder)


def test_folders_of_other_programs_are_named(tmp_path):
    folders = {
        "mp_rank_00_model_states.pt": "DeepSpeed checkpoint: name .*mp_rank_00",
        "zero_pp_rank_0_mp_rank_00_model_states.pt": "ZeRO stage 3",
        "global_step10/latest": "DeepSpeed checkpoints: name .*global_step10",
        "__0_0.distcp": "dcp_to_torch",
        "shard-00001-model-00001-of-00001.safetensors": "without its manifest",
        "flax_model.msgpack": "another framework",
        "log.jsonl": "no checkpoint yet",
        "checkpoint-799.pth": "name a file of it, such as .*checkpoint-799.pth",
    }
    for number, (file, words) in enumerate(folders.items()):
        folder = tmp_path / str(number)
        (folder / file).parent.mkdir(parents=True)
        (folder / file).write_bytes(b"")
        with pytest.raises(CheckpointError, match=f"neither.*{words}"):
            read(folder)


def test_lightnings_prefix_is_cut_off(tmp_path):
    wrapped = {f"net.model.{name}": tensor for name, tensor in STATE.items()}
    hyper = Nested(model=Nested(lr=1e-3))
    torch.save({"pytorch-lightning_version": "2.5", "state_dict": wrapped, "hyper_parameters": hyper, "callbacks": {}},
               tmp_path / "last.ckpt")  # fmt: skip
    assert same_bits(unwrapped(read(tmp_path / "last.ckpt").state), STATE)
    assert load_model(tmp_path / "last.ckpt", grid=VIDEO.grid, **WIDTHS).grid == VIDEO.grid


def state_of(prefixes):
    return {name: tensor for name, tensor in STATE.items() if name.startswith(prefixes)}


def image(channels=3, **more):
    return {
        "patch_embed.proj.weight": torch.ones(8, channels, 4, 4),
        "blocks.0.norm1.weight": torch.ones(8),
        **more,
    }


def video(**more):
    return {
        "patch_embed.proj.weight": torch.ones(8, 3, 2, 4, 4),
        "blocks.0.norm1.weight": torch.ones(8),
        **more,
    }


HEAD = {"head.weight": torch.ones(5, 8), "fc_norm.weight": torch.ones(8)}
DECODER = {"decoder_embed.weight": torch.ones(4, 8), "decoder_pred.weight": torch.ones(48, 4)}
OURS = VIDEO.build().state_dict()
OTHERS = {
    "fine-tuned VideoMAE": (video(**HEAD), "fine-tuned VideoMAE.*with its decoder"),
    "its encoder": (video(), "encoder of a VideoMAE.*with its decoder"),
    "the encoder of pretraining": (state_of("encoder."), "encoder of a VideoMAE.*with its decoder"),
    "MAE-ST": (video(**DECODER), "MAE-ST"),
    "image MAE": (image(**DECODER), "an image MAE.*not of pictures"),
    "image MAE in VideoMAE's names": (
        STATE | {"encoder.patch_embed.proj.weight": torch.ones(8, 3, 4, 4)},
        "an image MAE",
    ),
    "ViT": (image(**HEAD), "image model.*not of pictures"),
    "fine-tuned AudioMAE": (image(1, **HEAD), "fine-tuned AudioMAE.*with its decoder"),
    "its encoder ": (image(1), "encoder of sounds alone"),
    "AST": ({"module.v.patch_embed.proj.weight": torch.ones(8, 1, 4, 4)}, "Audio Spectrogram Transformer"),
    "CAV-MAE": ({"patch_embed_a.proj.weight": torch.ones(8, 1, 4, 4)}, "CAV-MAE"),
    "EAT": ({"modality_encoders.IMAGE.local_encoder.proj.weight": torch.ones(1)}, "EAT"),
    "ViTMAE": ({"vit.embeddings.patch_embeddings.projection.weight": torch.ones(8, 3, 4, 4)}, "ViTMAE"),
    "fine-tuned HF": (
        {
            "videomae.embeddings.patch_embeddings.projection.weight": torch.ones(8, 3, 2, 4, 4),
            "classifier.weight": torch.ones(5, 8),
        },
        "fine-tuned VideoMAE",
    ),
    "HF encoder": (
        {"embeddings.patch_embeddings.projection.weight": torch.ones(8, 3, 2, 4, 4)},
        "encoder of a",
    ),
    "our classifier": (
        {"encoder.embed.weight": torch.ones(8, 96), "head.weight": torch.ones(5, 8)},
        "fine-tuned model of smnoise",
    ),
    "our encoder": (
        {n: t for n, t in OURS.items() if n.startswith(("embed", "encoder"))},
        "encoder of smnoise",
    ),
    "nothing known": ({"layers.0.weight": torch.ones(1)}, "begins with layers.0.weight"),
}


@pytest.mark.parametrize("what", OTHERS)
def test_weights_of_other_models_are_named(tmp_path, what):
    state, words = OTHERS[what]
    torch.save({"model": state}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=words) as error:
        load_model(tmp_path / "a.pth")
    assert str(error.value).startswith(str(tmp_path / "a.pth"))


WITHOUT = {
    "optimiser": (torch.optim.AdamW([torch.nn.Parameter(torch.ones(1))]).state_dict(), "of an optimiser"),
    "optimiser alone": ({"optimizer": {"state": {}, "param_groups": []}, "epoch": 3}, "but no model"),
    "ZeRO": ({"optimizer_state_dict": {}, "ds_version": "0.9"}, "DeepSpeed.*mp_rank_00"),
    "ZeRO 3": ({"module": {n: t.new_empty(0) for n, t in STATE.items()}}, "ZeRO stage 3"),
    "V-JEPA": ({"encoder": STATE, "predictor": STATE, "target_encoder": STATE}, "V-JEPA"),
    "meta": ({n: t.to("meta") for n, t in STATE.items()}, "without values"),
    "nothing": ({}, "it has nothing"),
    "a number": (3, "holds a int"),
    "a model": (torch.nn.Linear(1, 1), "whole pickled model"),
}


@pytest.mark.parametrize("what", WITHOUT)
def test_files_without_weights_are_named(tmp_path, what):
    content, words = WITHOUT[what]
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=words):
        read(tmp_path / "a.pth")


def test_a_run_of_fine_tuning_is_named(tmp_path):
    from smnoise.train.run import checkpoint

    model = torch.nn.Linear(1, 1)
    recipe = {"recipe": {"classes": ["a", "b"]}}
    checkpoint.save(tmp_path, 1, model, torch.optim.SGD(model.parameters()), recipe)
    with pytest.raises(CheckpointError, match="run of fine-tuning"):
        read(tmp_path)


@pytest.mark.parametrize("change", [{"num_attention_heads": 3}, {"num_attention_heads": "x"},
                                    {"num_attention_heads": 0}, {"decoder_num_attention_heads": -2},
                                    {"num_frames": 10**12}, {"image_size": 10**9}])  # fmt: skip
def test_a_config_of_huggingface_that_cannot_be(tmp_path, change):
    convert_files(
        save_official(tmp_path / "v.pth"), tmp_path / "hf", "huggingface", grid=VIDEO.grid, **WIDTHS
    )
    path = tmp_path / "hf" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CheckpointError):
        load_model(tmp_path / "hf")
