# SPDX-License-Identifier: Apache-2.0
"""Nothing in a training step waits for a value: under torch's fake tensors, which have none, a whole step of each
trainer runs, from sample numbers to the optimiser. What asks for a value (`item`, `tolist`, a branch, a boolean index)
raises there, as it would wait for a GPU.

Fine-tuning on sounds draws its augmentation on the CPU, of sample numbers that never leave it. There these have values,
and what is drawn goes to the GPU from pinned memory, so that the host goes on."""

from contextlib import contextmanager

import pytest
import torch
from media import write_clips_and_sounds
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from smnoise import Ragged
from smnoise.data.audio.augment import sent
from smnoise.data.numbered import loader
from smnoise.train import audio, finetune_audio, finetune_video, video
from smnoise.train.optim import adamw
from smnoise.train.world import ALONE

pytestmark = pytest.mark.slow

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
    "video, bandit": lambda f, t: pretraining(
        video, f, t, frames=4, stride=2, size=32, views=2, sigmas="bandit"
    ),
    "video, schedule": lambda f, t: pretraining(
        video, f, t, frames=4, stride=2, size=32, epochs=40, sigmas="widen"
    ),
    "audio, bandit": lambda f, t: pretraining(
        audio, f, t, rate=8000, frames=32, mels=32, mask="green-2d", sigmas="bandit", bandit_reward="hardest"
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


def step(config, made, batch, mode, loss, keep=()):
    """As the loop takes one. keep: what of the batch keeps its values."""
    given = {name: v for name, v in batch.items() if isinstance(v, torch.Tensor) and name not in keep}
    batch = batch | {name: mode.from_tensor(v) for name, v in given.items()}
    optimizer = adamw([{"params": list(made.model.parameters())}], config)
    made.model.train()
    if (bandit := getattr(getattr(made, "sigmas", None), "bandit", None)) is not None:
        bandit.table, bandit.tallies = mode.from_tensor(bandit.table), mode.from_tensor(bandit.tallies)
    loss(made.model, batch, 1, 0).backward()
    torch.nn.utils.clip_grad_norm_(made.model.parameters(), 1.0)
    optimizer.step()


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_step_waits_for_no_value(name, files, tmp_path):
    config, made = PROGRAMS[name](files, tmp_path)
    batch = batch_of(config, made)
    with without_values(made.model) as mode:
        step(config, made, batch, mode, made.loss)


@pytest.fixture
def copies(monkeypatch):
    """Of each call that brings a tensor to a device: whether it came from pinned memory, where that was a GPU, and
    whether the host goes on."""
    found: list[tuple[bool, bool]] = []
    pinned, real = [], torch.Tensor.to

    def pin_memory(tensor):
        pinned.append(tensor.clone())
        return pinned[-1]

    def to(tensor, *args, **more):
        if not args or not isinstance(args[0], torch.device):
            return real(tensor, *args, **more)
        found.append((any(tensor is p for p in pinned), more.get("non_blocking", False)))
        return real(tensor, CPU, *args[1:], **more)

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin_memory)
    monkeypatch.setattr(torch.Tensor, "to", to)
    return found


def test_what_is_drawn_for_a_gpu_goes_there_from_pinned_memory(copies):
    assert sent(torch.tensor([3, 4]), torch.device("cuda")).tolist() == [3, 4]
    assert sent(torch.tensor([3, 4]), CPU).tolist() == [3, 4]
    assert copies == [(True, True), (False, True)]


@pytest.mark.parametrize("loss", ["softmax", "binary"])
def test_a_step_of_fine_tuning_on_sounds_waits_for_no_value(loss, files, tmp_path, request):
    """It draws on the CPU, of sample numbers that never leave it: they alone have values here."""
    settings = {"mixup": 0.5, "drop_time": 0.25, "drop_freq": 0.25, "smoothing": 0.0, "loss": loss}
    config, made = fine_tuning(
        finetune_audio, files, "wav", tmp_path, rate=8000, frames=32, mels=32, **settings
    )
    batch, (_, inputs) = batch_of(config, made), finetune_audio.pretrained(config)
    grid, copies = tuple(made.recipe["encoder"]["grid"]), request.getfixturevalue("copies")
    taken = []

    def loss_of(model, given, *_):
        made = finetune_audio.loss_of(config, model, grid, inputs, given, CPU, True)
        taken.extend(copies)
        return made

    with without_values(torch.nn.ModuleList([made.model, inputs])) as mode:
        step(config, made, batch, mode, loss_of, keep=("sample",))
    # The batch, what mixup draws, stripes, and tokens that are left: seven at least go there.
    assert sum(goes_on for _, goes_on in taken) >= 3 + 2 + 1 + 1


def test_a_step_on_whole_files_waits_for_no_value(files, tmp_path, monkeypatch):
    """Lengths have values on the CPU, where the loader put them; those on the device have none, which the sampler looks
    at on a CPU alone."""
    monkeypatch.setattr(Ragged, "_lengths", lambda self, lengths, samples: lengths)
    settings = {"rate": 8000, "frames": 32, "mels": 32, "mask": "green-2d", "whole_files": True}
    config, made = pretraining(audio, files, tmp_path, **settings, sigmas="bandit")
    batch = batch_of(config, made)
    with without_values(made.model) as mode:
        step(config, made, batch, mode, made.loss, keep=("length",))


def test_a_bandit_is_read_when_it_learns_and_not_before(files, tmp_path):
    """The same step, then the update, which waits."""
    config, made = PROGRAMS["video, bandit"](files, tmp_path)
    batch = batch_of(config, made)
    with without_values(made.model) as mode:
        step(config, made, batch, mode, made.loss)
        assert made.sigmas.end(2, ALONE) is None
        with pytest.raises(DataDependentOutputException):
            made.sigmas.end(config.bandit_every, ALONE)


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
