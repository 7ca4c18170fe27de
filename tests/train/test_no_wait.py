# SPDX-License-Identifier: Apache-2.0
"""Nothing in a training step waits for a value: under torch's fake tensors, which have none, a whole step of each
trainer runs, from sample numbers to the optimiser. What asks for a value (`item`, `tolist`, a branch, a boolean index)
raises there, as it would wait for a GPU.

Fine-tuning on sounds is not among them: it draws its augmentation on the CPU, of sample numbers that never leave it,
which looks the same to fake tensors."""

from contextlib import contextmanager

import pytest
import torch
from media import write_clips_and_sounds
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from smnoise.data.numbered import loader
from smnoise.train import audio, finetune_video, video
from smnoise.train.optim import adamw
from smnoise.train.world import ALONE

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = write_clips_and_sounds(tmp_path_factory.mktemp("files"))
    for suffix in ("mp4", "wav"):
        (folder / f"{suffix}.txt").write_text("".join(f"{n}.{suffix} {n % 2}\n" for n in range(3)))
    return folder


def pretraining(module, files, tmp_path, **settings):
    config = module.Config(data=files, out=tmp_path, batch_size=2, workers=0, device="cpu", model="tiny", patch=8,
                           mask_ratio=0.75, **settings)  # fmt: skip
    made = module.job(config, CPU, True, ALONE)
    if module is audio:
        made.begin({"mean": -5.0, "std": 3.0})
    return config, made


def fine_tuning(module, files, suffix, tmp_path, **settings):
    config = module.Config(train=files / f"{suffix}.txt", test=files / f"{suffix}.txt", out=tmp_path, batch_size=2,
                           workers=0, device="cpu", from_scratch=True, model="tiny", patch=8, **settings)  # fmt: skip
    return module.job(config, CPU, True)


PROGRAMS = {
    "video": lambda f, t: pretraining(video, f, t, frames=4, stride=2, size=32),
    "video, tubes": lambda f, t: pretraining(video, f, t, frames=4, stride=2, size=32, mask="tube"),
    "video, blocks": lambda f, t: pretraining(video, f, t, frames=4, stride=2, size=32, mask="block"),
    "video, dual masking": lambda f, t: pretraining(
        video, f, t, frames=4, stride=2, size=32, decoder_mask="running-cell"
    ),
    "audio": lambda f, t: pretraining(
        audio, f, t, rate=8000, frames=32, mels=32, views=2, view_masks="partition"
    ),
    "audio, global decoder": lambda f, t: pretraining(
        audio, f, t, rate=8000, frames=32, mels=32, decoder="global"
    ),
    "finetune video": lambda f, t: fine_tuning(finetune_video, f, "mp4", t, frames=4, stride=2, size=32),
}


@contextmanager
def without_values(model: torch.nn.Module):
    """Within, the model's weights, and all that is computed, have shapes and no values."""
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        for module in model.modules():
            for name, parameter in module._parameters.items():
                if parameter is not None:
                    module._parameters[name] = torch.nn.Parameter(mode.from_tensor(parameter.detach()))
            for name, buffer in module._buffers.items():
                if buffer is not None:
                    module._buffers[name] = mode.from_tensor(buffer)
        yield mode


def batch_of(config, made) -> dict:
    rows = config.batch_size * made.views
    return next(iter(loader(made.clips, range(rows), rows, 0)))


def step(config, made, batch, mode, loss):
    """As the loop takes one."""
    batch = {name: mode.from_tensor(v) if isinstance(v, torch.Tensor) else v for name, v in batch.items()}
    optimizer = adamw([{"params": list(made.model.parameters())}], config)
    made.model.train()
    loss(made.model, batch, 1, 0).backward()
    torch.nn.utils.clip_grad_norm_(made.model.parameters(), 1.0)
    optimizer.step()


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_step_waits_for_no_value(name, files, tmp_path):
    config, made = PROGRAMS[name](files, tmp_path)
    batch = batch_of(config, made)
    with without_values(made.model) as mode:
        step(config, made, batch, mode, made.loss)


def test_a_step_that_waits_is_found(files, tmp_path):
    config, made = PROGRAMS["video"](files, tmp_path)

    def waiting(*given):
        loss = made.loss(*given)
        return loss if loss.item() else 2 * loss

    batch = batch_of(config, made)
    with without_values(made.model) as mode, pytest.raises(DataDependentOutputException):
        step(config, made, batch, mode, waiting)


@pytest.mark.parametrize("name", ["video", "video, dual masking", "audio"])
def test_a_step_makes_no_outputs_that_its_model_does_not_read(name, files, tmp_path):
    config, made = PROGRAMS[name](files, tmp_path)
    masks = made.loss(lambda inputs, masks: (masks,), batch_of(config, made), 1, 0)
    of_encoder = getattr(masks, "encoder", masks)
    outputs = {
        n for n in ("mask", "ids_keep", "ids_mask", "ids_restore") if getattr(of_encoder, n) is not None
    }
    assert outputs == ({"mask", "ids_keep"} if "dual" in name else {"ids_keep", "ids_mask"})
