# SPDX-License-Identifier: Apache-2.0
"""What a step does besides the step: agreeing to stop, the first pass under DDP, where batches and masks are made."""

import torch
from media import write_clips_and_sounds
from torch.nn.parallel import DistributedDataParallel

import smnoise
from smnoise.data.numbered import loader
from smnoise.train import audio, loop, video, world
from smnoise.train.world import World, settle


class Told(World):
    """Two processes, of which the other one is told to stop at a step of the clock's."""

    def largest_each(self, *numbers):
        messages.append(numbers)
        return [max(numbers[0], float(clock.step >= clock.other)), numbers[1]]


class Clock:
    """A step takes so many seconds."""

    def __init__(self, seconds, other=10**9):
        self.seconds, self.other, self.step = seconds, other, 0

    def perf_counter(self):
        return self.step * self.seconds


def steps_until_stop(monkeypatch, seconds, other, most=10):
    global clock, messages
    clock, messages = Clock(seconds, other), []
    monkeypatch.setattr(world.time, "perf_counter", clock.perf_counter)
    stopping = world.Stopping(Told(0, 2), lambda: False, 0, most)
    clock.step = 1
    while not stopping(clock.step):
        clock.step += 1
    return clock.step


def test_processes_ask_one_another_once_a_second_and_stop_in_time(monkeypatch):
    assert steps_until_stop(monkeypatch, 0.001, 500, most=10_000) - 500 <= 1001  # a second of steps
    assert len(messages) < 4
    for most in (1, 10):
        assert steps_until_stop(monkeypatch, 0.001, 500, most) - 500 <= most + 1
        assert len(messages) <= 500 // most + 3
    for seconds in (0.6, 5.0):
        assert steps_until_stop(monkeypatch, seconds, 50) - 50 <= 1  # steps that take long: after each


def test_a_process_that_is_alone_looks_after_every_step():
    asked = []
    stopping = world.Stopping(world.ALONE, lambda: asked.append(1) or len(asked) == 3, 0, 100)
    assert [stopping(step) for step in (1, 2, 3)] == [False, False, True]


class Seen(DistributedDataParallel):
    """Stands for DDP: the model itself, which says what it was given."""

    def __init__(self, model):
        torch.nn.Module.__init__(self)
        self.module, self.given = model, []

    def forward(self, inputs, masks):
        self.given.append((inputs.dtype, tuple(inputs.shape), torch.is_autocast_enabled("cpu"), inputs))
        return self.module(inputs, masks)


def first_pass(module, config, monkeypatch):
    """What `settle` gives the model in a run of one process, as if it were several."""
    seen = []

    def recorded(train, loss, device):
        stand_in = Seen(train)
        settle(stand_in, loss, device)
        assert all(p.grad is None for p in train.parameters())
        seen.extend(stand_in.given)

    monkeypatch.setattr(loop, "settle", recorded)
    module.pretrain(config)
    return seen


def settings(tmp_path, **more):
    return {"data": write_clips_and_sounds(tmp_path), "out": tmp_path / "run", "model": "tiny", "patch": 8,
            "mask_ratio": 0.75, "batch_size": 2, "epochs": 1, "warmup_epochs": 0, "workers": 0, "device": "cpu",
            **more}  # fmt: skip


def test_the_first_pass_has_dtype_and_autocast_of_training(tmp_path, monkeypatch, one_thread):
    """Else a batch that fits may die of memory before step 1, and --compile compiles everything twice."""
    config = video.Config(**settings(tmp_path, dtype="bfloat16"), frames=4, stride=2, size=32)
    ((dtype, shape, autocast, clips),) = first_pass(video, config, monkeypatch)
    assert (dtype, shape, autocast) == (torch.uint8, (2, 3, 4, 32, 32), True)
    assert not clips.any()
    config = audio.Config(**settings(tmp_path, dtype="bfloat16", out=tmp_path / "sounds"), rate=8000, frames=32,
                          mels=32)  # fmt: skip
    ((dtype, shape, autocast, _),) = first_pass(audio, config, monkeypatch)
    assert (dtype, shape, autocast) == (torch.float32, (2, 32, 32), True)


class OfTheLoader(torch.Tensor):
    """Sample numbers in host memory; a copy to the device is a tensor like others."""

    def to(self, device, **_):
        moved.append(device)
        return self.as_subclass(torch.Tensor)


def test_masks_are_made_where_the_model_is(tmp_path, monkeypatch, one_thread):
    """Of sample numbers that went to the device, 8 bytes a clip, and not copied there when they are made."""
    global moved
    moved, kinds = [], []
    real = loop.loader

    def batches(*arguments, **more):
        for batch in real(*arguments, **more):
            yield batch | {"sample": batch["sample"].as_subclass(OfTheLoader)}

    class Sampler(smnoise.Green3D):
        def __call__(self, samples, *rest, **more):
            kinds.append(type(samples))
            return super().__call__(samples, *rest, **more)

    config = video.Config(**settings(tmp_path), frames=4, stride=2, size=32)
    monkeypatch.setattr(loop, "loader", batches)
    monkeypatch.setattr(
        video.Config, "sampler", lambda self: Sampler(self.grid, self.mask_ratio, seed=self.seed)
    )
    video.pretrain(config)
    assert moved
    assert set(moved) == {torch.device("cpu")}
    assert kinds.pop(0) is range  # the run looks for signs of flicker before its first step
    assert set(kinds) == {torch.Tensor}


def test_memory_is_pinned_for_a_gpu_alone(monkeypatch):
    """On a machine with one, a run on the CPU would make a context there."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    clips = torch.utils.data.TensorDataset(torch.zeros(3))
    assert not loader(clips, range(3), 1, 0).pin_memory
    assert not loader(clips, range(3), 1, 0, torch.device("cpu")).pin_memory
    assert loader(clips, range(3), 1, 0, torch.device("cuda", 1)).pin_memory
