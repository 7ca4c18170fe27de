# SPDX-License-Identifier: Apache-2.0
"""Sharded checkpoints that were altered: nothing outside their folder is read, and no part is made up."""

import hashlib
import json

import pytest
import torch
from safetensors.torch import save_file

from smnoise.convert import load_model
from smnoise.errors import CheckpointError
from smnoise.models.videomae import VideoMAE
from smnoise.train.run import checkpoint

RECIPE = {"model": "tiny", "frames": 4, "size": 8, "tubelet": 2, "patch": 4}


def shard(folder, number, parts):
    """A file as torch.distributed writes it: parts {name: (tensor, offsets)}."""
    name = f"shard-0000{number}-model-00001-of-00001.safetensors"
    told = json.dumps({key: {"saved_offsets": at} for key, (_, at) in parts.items()})
    tensors = {key: tensor.contiguous() for key, (tensor, _) in parts.items()}
    save_file(tensors, folder / name, {"DCP_VERSION": "1.0", "format": "pt", "DCP_SHARDING_INFO": told})
    return name


def manifest(folder, names):
    digests = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
    (folder / "manifest.json").write_text(json.dumps(digests))


@pytest.fixture
def halves(tmp_path):
    """A whole checkpoint of two processes, and the weights in it."""
    folder = tmp_path / "checkpoints" / "step-00000001"
    folder.mkdir(parents=True)
    state = VideoMAE("tiny", (2, 2, 2), patch=4).state_dict()
    first, second = {}, {}
    for name, tensor in state.items():
        if len(tensor) > 1:
            cut = len(tensor) // 2
            first[f"model.{name}"] = tensor[:cut], [0] * tensor.dim()
            second[f"model.{name}"] = tensor[cut:], [cut] + [0] * (tensor.dim() - 1)
        else:
            first[f"model.{name}"] = tensor, [0] * tensor.dim()
    (folder / "state.json").write_text(json.dumps({"step": 1, "recipe": RECIPE}))
    names = [shard(folder, 1, first), shard(folder, 2, second), "state.json"]
    manifest(folder, names)
    return folder, names, state


def test_a_sharded_checkpoint_is_read_as_a_run_and_by_its_folder(halves, tmp_path):
    folder, _, state = halves
    for source in (tmp_path, folder):
        loaded = load_model(source).state_dict()
        assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize("where", ["../../outside", "sub/inside", "/tmp/absolute"])
def test_a_manifest_that_names_files_elsewhere_is_refused_and_they_are_not_read(halves, where, monkeypatch):
    folder, names, _ = halves
    name = f"shard-{where}.safetensors"
    manifest(folder, names)
    told = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(
        json.dumps({name: told[names[0]], "state.json": told["state.json"]})
    )
    read = []
    monkeypatch.setattr(checkpoint, "_sha256", read.append)
    with pytest.raises(CheckpointError, match="its manifest lists"):
        checkpoint.read(folder)
    assert not read


def test_a_file_that_the_manifest_does_not_list_is_refused(halves):
    folder, *_ = halves
    shard(folder, 3, {"model.mask_token": (torch.zeros(1, 1, 96), [0, 0, 0])})
    with pytest.raises(CheckpointError, match="does not list"):
        checkpoint.read(folder)


def test_a_part_that_is_missing_is_not_made_up(halves):
    folder, names, _ = halves
    (folder / names[0]).unlink()
    manifest(folder, names[1:])
    with pytest.raises(CheckpointError, match="do not fill its shape"):
        checkpoint.read(folder)


@pytest.mark.parametrize("told", ["{", "{}", "[]", '{"model.a": {"saved_offsets": ["x"]}}', '{"model.a": 1}'])
def test_a_shard_that_does_not_say_which_part_it_is(tmp_path, told):
    (tmp_path / "state.json").write_text("{}")
    name = "shard-00001-model-00001-of-00001.safetensors"
    save_file({"model.a": torch.ones(2)}, tmp_path / name, {"DCP_SHARDING_INFO": told})
    manifest(tmp_path, [name, "state.json"])
    with pytest.raises(CheckpointError, match="which parts"):
        checkpoint.read(tmp_path)


def test_json_of_any_depth_or_size(halves, monkeypatch):
    folder, names, _ = halves
    (folder / "manifest.json").write_text("[" * 100_000)
    with pytest.raises(CheckpointError, match="not a whole checkpoint"):
        checkpoint.read(folder)
    manifest(folder, names)
    monkeypatch.setattr(checkpoint, "MOST_JSON_BYTES", 10)
    with pytest.raises(CheckpointError, match="more than 10"):
        checkpoint.read(folder)
