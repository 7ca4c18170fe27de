# SPDX-License-Identifier: Apache-2.0
"""Models and masks through huggingface_hub's mixin: folders on this disk, and its own client
with a filled cache in place of the network."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import smnoise
from smnoise import pools
from smnoise.models.audiomae import AudioMAE
from smnoise.models.videomae import VideoMAE

pytest.importorskip("huggingface_hub", reason="needs huggingface_hub")
from smnoise.adapters import hub
from smnoise.adapters.hub import Pretrained

GRID = (2, 2, 2)
SAMPLER = smnoise.Green3D(GRID, 0.5, sigma1=(0.5, 0.9), seed=7)


def same_weights(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    one, two = first.state_dict(), second.state_dict()
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def video() -> VideoMAE:
    torch.manual_seed(1)
    return VideoMAE("nano", GRID, tubelet=1, patch=8, channels=2, mean=(0.4, 0.6), std=(0.2, 0.3))


@pytest.mark.parametrize(
    "model",
    [
        video,
        lambda: AudioMAE("tiny", (4, 2), decoder="global", positions="published", normalise_target=False),
        lambda: AudioMAE("tiny", (8, 4)),
    ],
)
def test_a_model_and_its_masks_come_back(model, tmp_path):
    model = model()
    Pretrained(model, SAMPLER).save_pretrained(tmp_path)
    before = torch.get_rng_state()
    found = Pretrained.from_pretrained(tmp_path)
    assert torch.equal(torch.get_rng_state(), before)
    assert found.sampler == SAMPLER
    assert type(found.model) is type(model)
    assert same_weights(found.model, model)
    assert hub.config_of(found.model) == hub.config_of(model)
    assert not list(tmp_path.glob(".*writing*"))


def test_the_model_computes_the_same(tmp_path):
    model = video()
    Pretrained(model).save_pretrained(tmp_path)
    found = Pretrained.from_pretrained(str(tmp_path))
    assert found.sampler is None
    clips, masks = torch.rand(2, 2, 2, 16, 16), SAMPLER([0, 1])
    assert torch.equal(found.model(clips, masks)[0], model(clips, masks)[0])


@pytest.mark.parametrize("name", smnoise.STRATEGIES)
def test_masks_of_every_strategy_come_back(name, tmp_path):
    grid = (36,) if name.endswith("-1d") else (6, 6) if name.endswith("bars") else (4, 6, 6)
    sampler = smnoise.strategy(name, grid, num_visible=12, seed=5)
    Pretrained(sampler=sampler).save_pretrained(tmp_path)
    found = Pretrained.from_pretrained(tmp_path)
    assert found.model is None
    assert found.sampler == sampler
    assert torch.equal(found.sampler([3]).mask, sampler([3]).mask)


def test_a_pool_comes_along(tmp_path):
    pool = pools.build_noise(smnoise.Green3D((2, 4, 4), 0.5), 4)
    sampler = smnoise.PoolSampler(pool, (2, 4, 4), 0.5, seed=3)
    Pretrained(sampler=sampler).save_pretrained(tmp_path)
    found = Pretrained.from_pretrained(tmp_path).sampler
    assert torch.equal(found([5, 6]).mask, sampler([5, 6]).mask)


def test_saving_again_leaves_nothing_of_what_was_there(tmp_path):
    Pretrained(video(), SAMPLER).save_pretrained(tmp_path)
    Pretrained(sampler=smnoise.Tube(GRID, 0.5)).save_pretrained(tmp_path)
    found = Pretrained.from_pretrained(tmp_path)
    assert (found.model, found.sampler) == (None, smnoise.Tube(GRID, 0.5))


def test_the_card(tmp_path):
    told = {"data": "ten clips of a cat", "results": "none"}
    Pretrained(video(), SAMPLER).save_pretrained(tmp_path, model_card_kwargs=told)
    card = (tmp_path / "README.md").read_text()
    assert card.startswith("---\n")
    assert "library_name: smnoise" in card
    assert "clips of 2 frames of 16 x 16 pixels" in card
    assert "ten clips of a cat" in card
    assert SAMPLER.to_json() in card
    assert "- Steps or epochs: not told" in card
    assert "{{" not in card


class Hub:
    """What huggingface_hub's client is asked for when a folder is pushed; it keeps the files where its cache has them,
    so that its own code finds them again without a network."""

    def __init__(self, cache: Path):
        self.cache = cache

    def create_repo(self, repo_id, **options):
        return SimpleNamespace(repo_id=repo_id)

    def upload_folder(self, *, repo_id, folder_path, **options):
        repository = self.cache / f"models--{repo_id.replace('/', '--')}"
        shutil.copytree(folder_path, repository / "snapshots" / COMMIT)
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text(COMMIT)
        return COMMIT


COMMIT = "0" * 40


def test_pushed_and_loaded_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", lambda token=None: Hub(tmp_path))
    model = video()
    assert Pretrained(model, SAMPLER).push_to_hub("me/mine") == COMMIT
    pushed = tmp_path / "models--me--mine" / "snapshots" / COMMIT
    assert {path.name for path in pushed.iterdir()} == {
        "README.md", "config.json", "masks.json", "model.safetensors",
    }  # fmt: skip
    found = Pretrained.from_pretrained("me/mine", cache_dir=tmp_path, local_files_only=True)
    assert same_weights(found.model, model)
    assert found.sampler == SAMPLER
    assert 'Pretrained.from_pretrained("me/mine")' in (pushed / "README.md").read_text()


def test_without_a_network_a_name_is_an_error_of_the_hub(tmp_path):
    from huggingface_hub.errors import LocalEntryNotFoundError

    with pytest.raises(LocalEntryNotFoundError):
        Pretrained.from_pretrained("nobody/nothing", local_files_only=True, cache_dir=tmp_path)


def test_a_videomae_of_transformers_is_read(tmp_path):
    smnoise.compat.import_timm()
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    config = transformers.VideoMAEConfig(
        image_size=16, patch_size=8, num_frames=2, tubelet_size=1, hidden_size=48, num_hidden_layers=1,
        num_attention_heads=3, intermediate_size=192, decoder_num_attention_heads=3, decoder_hidden_size=24,
        decoder_num_hidden_layers=1, decoder_intermediate_size=96, use_mean_pooling=False,
    )  # fmt: skip
    transformers.VideoMAEForPreTraining(config).save_pretrained(tmp_path)
    found = Pretrained.from_pretrained(tmp_path)
    assert isinstance(found.model, VideoMAE)
    assert found.model.grid == (2, 2, 2)
    assert found.model.size.heads == 3


def test_a_run_takes_its_place(tmp_path):
    from smnoise.train.pretrained.find import pretrained

    torch.manual_seed(2)
    model = VideoMAE("nano", GRID, tubelet=1, patch=8)
    Pretrained(model, SAMPLER).save_pretrained(tmp_path)
    assert same_weights(pretrained(tmp_path).model, model)


@pytest.mark.parametrize(
    ("wrong", "kind", "words"),
    [
        (lambda: Pretrained(), ValueError, "a model, a sampler, or both"),
        (lambda: Pretrained(torch.nn.Linear(1, 1)), TypeError, "VideoMAE or AudioMAE of smnoise, got Linear"),
        (lambda: Pretrained(sampler="green-3d"), TypeError, "sampler must be one of smnoise's"),
    ],
)
def test_what_is_neither_is_refused(wrong, kind, words):
    with pytest.raises(kind, match=words):
        wrong()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not the JSON of a sampler"),
        (
            json.dumps({"sampler": "Custom", "grid": [2, 2, 2], "mask_ratio": 0.5, "name": "os:system"}),
            "os:system",
        ),
    ],
)
def test_masks_of_strangers(text, words, tmp_path):
    """No function is imported because a folder names it."""
    (tmp_path / "masks.json").write_text(text)
    with pytest.raises(smnoise.CheckpointError, match=words):
        Pretrained.from_pretrained(tmp_path)


def test_an_empty_folder(tmp_path):
    with pytest.raises(smnoise.CheckpointError, match="neither weights nor masks"):
        Pretrained.from_pretrained(tmp_path)
