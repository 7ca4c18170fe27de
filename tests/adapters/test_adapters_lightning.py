# SPDX-License-Identifier: Apache-2.0
"""Masks in a LightningModule: which ones come with accumulation, short batches, validation, and after a restart."""

import pytest
import torch
from torch.utils.data import DataLoader

import smnoise
from smnoise.adapters.lightning import StepMasks
from smnoise.compat import import_timm

import_timm()  # Lightning's metrics import torchvision, which needs the same care
lightning = pytest.importorskip("lightning", reason="needs lightning")

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec"),
    pytest.mark.filterwarnings("ignore:.*treespec"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory"),
    pytest.mark.filterwarnings("ignore:You.re resuming from a checkpoint that ended before"),
]
SAMPLER = smnoise.Green3D((2, 4, 4), 0.75)


class Pretraining(lightning.LightningModule):
    """As in the adapter's docstring, with a model of one weight; keeps what it saw."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))
        self.masks = StepMasks(SAMPLER, batch_size=4)
        self.seen, self.steps, self.validated = [], [], []

    def training_step(self, clips, batch_idx):
        masks = self.masks(self.trainer, len(clips))
        self.seen.append(masks.mask)
        self.steps.append(self.trainer.global_step)
        return (self.weight * clips.sum()).square()

    def validation_step(self, clips, batch_idx):
        with pytest.raises(RuntimeError, match="follows training batches"):
            self.masks(self.trainer, len(clips))
        samples = range(batch_idx * 4, batch_idx * 4 + len(clips))
        self.validated.append(self.masks.sampler(samples, device=clips.device).mask)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1e-6)


def fit(folder, epochs, checkpoint=None, **options):
    model = Pretraining()
    trainer = lightning.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, default_root_dir=folder,
        enable_progress_bar=False, enable_model_summary=False, **options,
    )  # fmt: skip
    clips = DataLoader(torch.ones(10, 3), batch_size=4)  # two batches of 4 and one of 2
    trainer.fit(model, clips, clips, ckpt_path=checkpoint, weights_only=False)
    return model


def masks_of(batches):
    """Those of whole batches of 4, less what a last batch of 2 leaves out."""
    return [SAMPLER(range(4 * n, 4 * n + (2 if n % 3 == 2 else 4))).mask for n in batches]


def same(got, want):
    return len(got) == len(want) and all(torch.equal(g, w) for g, w in zip(got, want, strict=True))


def test_each_batch_has_masks_of_its_own(tmp_path):
    model = fit(tmp_path, 2, enable_checkpointing=False)
    assert same(model.seen, masks_of(range(6)))
    assert same(model.validated[-3:], masks_of(range(3)))


def test_batches_of_an_accumulated_step_do_not_share_masks(tmp_path):
    model = fit(tmp_path, 2, enable_checkpointing=False, accumulate_grad_batches=2)
    assert same(model.seen, masks_of(range(6)))
    assert model.steps == [0, 0, 1, 2, 2, 3]  # what global_step would have said


@pytest.mark.parametrize("every", [3, 4])  # after an epoch, and amid the second one
def test_a_resumed_run_goes_on_with_the_next_masks(tmp_path, every):
    def fit_with_checkpoints(checkpoint=None):
        keep = lightning.pytorch.callbacks.ModelCheckpoint(tmp_path, every_n_train_steps=every, save_top_k=-1)
        return fit(tmp_path, 3, checkpoint, callbacks=[keep])

    assert same(fit_with_checkpoints().seen, masks_of(range(9)))
    resumed = fit_with_checkpoints(next(tmp_path.glob(f"*step={every}.ckpt")))
    # Amid an epoch Lightning begins with the loader's first, full batch again.
    rows = [len(mask) for mask in resumed.seen]
    want = [SAMPLER(range(4 * n, 4 * n + r)).mask for n, r in zip(range(every, 9), rows, strict=True)]
    assert same(resumed.seen, want)


def test_ranks_have_masks_of_their_own(tmp_path):
    """A strategy that says of itself what one of three processes would; no other is started."""
    strategy = lightning.pytorch.strategies.SingleDeviceStrategy(torch.device("cpu"))
    strategy.global_rank, strategy.world_size = 1, 3
    model = fit(tmp_path, 1, strategy=strategy, use_distributed_sampler=False, enable_checkpointing=False)
    for n in (0, 1):
        assert torch.equal(model.seen[n], SAMPLER(batch_size=4, step=n, rank=1, world_size=3).mask)


def test_a_larger_batch_is_refused(tmp_path):
    with pytest.raises(ValueError, match="batch_size must be in 1"):
        StepMasks(SAMPLER, 0)
    with pytest.raises(ValueError, match="5 rows, but batch_size=4"):
        StepMasks(SAMPLER, 4).samples(None, 5)
