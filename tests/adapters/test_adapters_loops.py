# SPDX-License-Identifier: Apache-2.0
"""Masks in loops that others run: no number comes twice, over epochs, ranks, accumulation, evaluation and restarts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

import smnoise
from smnoise.adapters._numbers import EVALUATION, Numbers
from smnoise.compat import import_timm

import_timm()  # transformers and Lightning import torchvision, which needs the same care
SAMPLER = smnoise.Green3D((2, 8, 8), 0.75)


class Clips(Dataset):
    """What VideoMAE is called with, and no number."""

    def __init__(self, count=10):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return {"pixel_values": torch.full((1, 3), float(index))}


def numbers_of(masks: list[torch.Tensor], most=400, first=0) -> list[int]:
    """The sample numbers that masks [B, L] are of."""
    known = {
        row.numpy().tobytes(): n for n, row in enumerate(SAMPLER(range(first, first + most)).mask, first)
    }
    assert len(known) == most
    return [known[row.cpu().numpy().tobytes()] for batch in masks for row in batch]


@pytest.mark.parametrize("world", [1, 2, 3])
def test_no_two_ranks_share_a_number(world):
    ranks = [Numbers() for _ in range(world)]
    seen = [
        n for rows in (4, 4, 1, 3) for r, of in enumerate(ranks) for n in of.take(rows, 4, r, world).tolist()
    ]
    assert len(set(seen)) == len(seen) == 12 * world
    assert {of.consumed for of in ranks} == {4 * 4 * world}
    more = Numbers(ranks[0].consumed).take(2, 2, 0, 1).tolist()  # another batch and number of ranks
    assert not set(more) & set(seen)


def test_more_rows_than_promised_are_refused():
    with pytest.raises(ValueError, match="a batch has 5 rows, more than the 4 promised"):
        Numbers().take(5, 4, 0, 1)


class Tiny(torch.nn.Module):
    """Called as VideoMAEForPreTraining is; keeps the masks."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))
        self.seen, self.evaluated = [], []

    def forward(self, pixel_values, bool_masked_pos):
        (self.seen if self.training else self.evaluated).append(bool_masked_pos)
        return {"loss": (self.weight * pixel_values).square().mean()}


class TestTrainer:
    @pytest.fixture(autouse=True)
    def needed(self):
        pytest.importorskip("accelerate", reason="needs accelerate")
        pytest.importorskip("transformers", minversion="5")

    def trainer(self, folder, callback=None, model=None, **options):
        from transformers import Trainer, TrainingArguments

        from smnoise.adapters.trainer import MaskCallback

        given = {
            "num_train_epochs": 3,
            "per_device_train_batch_size": 4,
            "per_device_eval_batch_size": 5,
        } | options
        arguments = TrainingArguments(
            str(folder), use_cpu=True, report_to=[], disable_tqdm=True, logging_strategy="no",
            dataloader_pin_memory=False, **({"save_strategy": "no"} | given),
        )  # fmt: skip
        return Trainer(
            model or Tiny(), arguments, train_dataset=Clips(), eval_dataset=Clips(6),
            callbacks=[callback or MaskCallback(SAMPLER)],
        )  # fmt: skip

    @pytest.mark.parametrize("accumulate", [1, 2])
    def test_each_epoch_has_other_masks(self, tmp_path, accumulate):
        trainer = self.trainer(tmp_path, gradient_accumulation_steps=accumulate)
        trainer.train()
        seen = numbers_of(trainer.model.seen)
        assert len(seen) == len(set(seen)) == 30  # ten clips, three times
        assert [len(batch) for batch in trainer.model.seen] == [4, 4, 2] * 3

    def test_evaluation_has_the_same_masks_each_time(self, tmp_path):
        trainer = self.trainer(tmp_path, eval_strategy="epoch")
        trainer.evaluate()  # before training too
        trainer.train()
        trainer.evaluate()
        evaluated = numbers_of(trainer.model.evaluated, first=EVALUATION)
        assert evaluated == [EVALUATION + n for n in (0, 1, 2, 3, 4, 5)] * 5
        assert len(set(numbers_of(trainer.model.seen))) == 30

    def test_a_resumed_run_goes_on_with_the_next_masks(self, tmp_path):
        whole = self.trainer(tmp_path / "whole")
        whole.train()
        first = self.trainer(tmp_path / "part", num_train_epochs=2, save_strategy="epoch")
        first.train()
        last = sorted((tmp_path / "part").glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))[0]
        rest = self.trainer(tmp_path / "part", num_train_epochs=3)
        rest.train(resume_from_checkpoint=str(last))  # after the first epoch
        assert numbers_of(rest.model.seen) == numbers_of(whole.model.seen)[10:]

    def test_another_accumulation_after_a_restart_repeats_nothing(self, tmp_path):
        first = self.trainer(
            tmp_path, num_train_epochs=1, save_strategy="epoch", gradient_accumulation_steps=3
        )
        first.train()
        (folder,) = tmp_path.glob("checkpoint-*")
        rest = self.trainer(tmp_path, num_train_epochs=4, gradient_accumulation_steps=1)
        rest.train(resume_from_checkpoint=str(folder))
        assert rest.model.seen
        assert not set(numbers_of(rest.model.seen)) & set(numbers_of(first.model.seen))

    def test_train_called_again_goes_on(self, tmp_path):
        trainer = self.trainer(tmp_path, num_train_epochs=1)
        trainer.train()
        trainer.train()
        assert len(set(numbers_of(trainer.model.seen))) == 20

    def test_a_compiled_model_has_new_masks_too(self, tmp_path):
        trainer = self.trainer(
            tmp_path, torch_compile=True, torch_compile_backend="eager", num_train_epochs=2
        )
        trainer.train()
        assert len(set(numbers_of(trainer.model.seen))) == 20

    def test_masks_of_the_data_are_refused(self, tmp_path):
        trainer = self.trainer(tmp_path)
        batch = {"pixel_values": torch.ones(1, 3), "bool_masked_pos": SAMPLER([0]).mask}
        with pytest.raises(ValueError, match="leave them out of the data set"):
            trainer.model(**batch)
        with pytest.raises(ValueError, match="called without pixel_values"):
            trainer.model(torch.ones(1, 3))

    def test_the_real_model_and_another_grid(self, tmp_path):
        from transformers import VideoMAEConfig, VideoMAEForPreTraining

        from smnoise.adapters.trainer import MaskCallback

        config = VideoMAEConfig(
            image_size=32, patch_size=4, num_frames=4, hidden_size=24, num_hidden_layers=1, num_attention_heads=2,
            intermediate_size=48, decoder_hidden_size=24, decoder_num_hidden_layers=1,
            decoder_num_attention_heads=2, decoder_intermediate_size=48,
        )  # fmt: skip
        model = VideoMAEForPreTraining(config)
        self.trainer(tmp_path, model=model)
        assert model(pixel_values=torch.rand(2, 4, 3, 32, 32)).loss.isfinite()
        with pytest.raises(ValueError, match=r"grid is \(8, 4, 4\), the model's \(2, 8, 8\)"):
            self.trainer(tmp_path, MaskCallback(smnoise.Green3D((8, 4, 4), 0.9)), model)

    def test_two_processes_share_no_mask(self, tmp_path):
        program = Path(__file__).with_name("two_ranks.py")
        done = subprocess.run(
            [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", program, tmp_path],
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(program.parent)},
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        seen = [numbers_of(torch.load(tmp_path / f"rank{rank}.pt")) for rank in (0, 1)]
        assert [len(numbers) for numbers in seen] == [10, 10]  # five clips each, twice
        assert len({*seen[0], *seen[1]}) == 20


class TestAccelerate:
    def test_numbers_are_kept_with_the_accelerator(self, tmp_path):
        accelerate = pytest.importorskip("accelerate", reason="needs accelerate")
        from smnoise.adapters.trainer import LoopMasks

        accelerator = accelerate.Accelerator(cpu=True)
        masks = LoopMasks(SAMPLER, 4, accelerator)
        seen = [masks(rows).mask for _ in range(3) for rows in (4, 4, 2)]
        accelerator.save_state(str(tmp_path / "state"))
        following = masks(4).mask
        assert len(set(numbers_of([*seen, following]))) == 34
        again = LoopMasks(SAMPLER, 4, other := accelerate.Accelerator(cpu=True))
        other.load_state(str(tmp_path / "state"))
        assert torch.equal(again(4).mask, following)


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.filterwarnings("ignore:.*LeafSpec")
@pytest.mark.filterwarnings("ignore:.*treespec")
@pytest.mark.filterwarnings("ignore:Checkpoint directory")
class TestLightning:
    def module(self):
        pytest.importorskip("lightning", reason="needs lightning")
        from smnoise.adapters.lightning_module import MaskedModule

        class Pretraining(MaskedModule):
            def loss(self, batch, masks):
                return self.model(batch["pixel_values"], masks.bool_masked_pos())["loss"]

            def configure_optimizers(self):
                return torch.optim.SGD(self.parameters(), lr=1e-6)

        return Pretraining(Tiny(), SAMPLER, batch_size=4)

    def fit(self, folder, module, epochs, checkpoint=None, **options):
        import lightning

        trainer = lightning.Trainer(
            max_epochs=epochs, accelerator="cpu", logger=False, default_root_dir=folder, num_sanity_val_steps=0,
            enable_progress_bar=False, enable_model_summary=False, **options,
        )  # fmt: skip
        trainer.fit(
            module, DataLoader(Clips(), 4), DataLoader(Clips(6), 4), ckpt_path=checkpoint, weights_only=False
        )
        return trainer

    def test_each_epoch_has_other_masks(self, tmp_path):
        module = self.module()
        self.fit(tmp_path, module, 3, accumulate_grad_batches=2)
        seen = numbers_of(module.model.seen)
        assert len(seen) == len(set(seen)) == 30
        assert numbers_of(module.model.evaluated, first=EVALUATION) == [EVALUATION + n for n in range(6)] * 3

    def test_fit_called_again_and_a_resumed_run_repeat_nothing(self, tmp_path):
        module = self.module()
        trainer = self.fit(tmp_path, module, 1)
        trainer.save_checkpoint(tmp_path / "one.ckpt")
        self.fit(tmp_path, module, 1)  # a new trainer, which counts from 0
        twice = numbers_of(module.model.seen)
        assert len(set(twice)) == 20
        resumed = self.module()
        self.fit(tmp_path, resumed, 2, checkpoint=tmp_path / "one.ckpt")
        assert numbers_of(resumed.model.seen) == twice[10:]

    def test_a_checkpoint_without_the_number_is_refused(self):
        with pytest.raises(RuntimeError, match="does not say how many masks"):
            self.module().on_load_checkpoint({})
