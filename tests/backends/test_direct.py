# SPDX-License-Identifier: Apache-2.0
"""A sampler's call goes past torch's dispatcher where nothing wants to know of it: same masks, and only there."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode

import smnoise
from smnoise.backends import cpu

GRID = (3, 5, 6)
SAMPLERS = {
    "random": smnoise.Random(GRID, 0.7),
    "random, per frame": smnoise.Random(GRID, 0.7, per="frame"),
    "white, moved": smnoise.White3D(GRID, num_visible=1, origin=(2, -3, 1 << 20)),
    "tube": smnoise.Tube(GRID, 0.7),
    "red tube": smnoise.Red2D(GRID, 0.7, tube=True),
    "red": smnoise.Red2D(GRID, 0.7),
    "line": smnoise.Green1D((50,), 0.7),
    "green": smnoise.Green3D(GRID, 0.7, boundary="wrap"),
    "optim blue": smnoise.OptimBlue((5, 6), 0.7),
    "blocks": smnoise.Block(GRID, 0.5),
}
RANDOM = SAMPLERS["random"]


class Dispatched(TorchDispatchMode):
    """Sends all calls through torch's dispatcher, and notes which."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.seen.append(str(function))
        return function(*args, **(kwargs or {}))


def equal(got, want) -> bool:
    pairs = zip(got[:4], want[:4], strict=True)
    return got[4:] == want[4:] and all(a is b is None or torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("isa", cpu.CODES)
@pytest.mark.parametrize("name", SAMPLERS)
def test_the_same_masks_as_through_the_dispatcher(name, isa, monkeypatch):
    if isa not in (*cpu.isas(), "block"):
        pytest.skip(f"this machine has no {isa}")
    monkeypatch.setattr(cpu, "_forced_isa", isa)
    sampler, where = SAMPLERS[name], torch.tensor([3, -1, 2**63 - 1])
    seeds = (None, 2**64 - 1, -5, torch.tensor([7]))
    for outputs in (smnoise.ops.ALL_OUTPUTS, "mask", "ids_restore", "ids_keep,ids_mask"):
        for seed in seeds:
            for call in (
                {"samples": where},
                {"samples": range(5)},
                {"batch_size": 3, "step": 2, "rank": 1, "world_size": 2},
            ):
                with Dispatched() as mode:
                    want = sampler(**call, seed=seed, outputs=outputs)
                assert any(name.startswith("smnoise.") for name in mode.seen)
                assert equal(sampler(**call, seed=seed, outputs=outputs), want)
    assert equal(sampler(where), sampler(where, backend="reference"))


def test_the_last_steps_there_are():
    last = (2**63 - 1) // 6 - 1
    assert equal(
        RANDOM(batch_size=3, step=last, rank=1, world_size=2), RANDOM(range(6 * last + 3, 6 * last + 6))
    )
    for wrong in (
        {"step": last + 1},
        {"step": -1},
        {"step": 0, "rank": 2},
        {"step": True},
        {"step": 0, "batch_size": 0},
    ):
        with pytest.raises((ValueError, TypeError)):
            RANDOM(**{"batch_size": 3, "world_size": 2, **wrong})
    with pytest.raises(ValueError, match="give either samples"):
        RANDOM(step=1)


def test_what_looks_on_sees_the_op():
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        RANDOM(batch_size=2, step=0)
    assert "smnoise::color_mask" in {event.key for event in profile.key_averages()}
    with FakeTensorMode():
        assert isinstance(RANDOM(batch_size=2, step=0).mask, FakeTensor)
    graph = make_fx(lambda samples: RANDOM(samples).mask)(torch.arange(2))
    assert "smnoise.color_mask" in graph.code
    assert RANDOM(torch.arange(2, device="meta")).mask.device.type == "meta"
    with torch.device("meta"):
        assert equal(RANDOM(batch_size=2, step=0), RANDOM([0, 1]))
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert equal(RANDOM(batch_size=2, step=0), RANDOM([0, 1]))


def test_tensors_that_are_not_plain_are_refused_as_ever():
    for wrong, error in (
        (torch.arange(3).to_sparse(), TypeError),
        (torch.arange(3.0), TypeError),
        (torch.arange(4).view(2, 2), ValueError),
    ):
        with pytest.raises(error):
            RANDOM(wrong)
    for wrong in (torch.arange(2), torch.tensor(1.0), torch.tensor(1, device="meta"), 2**64, "1"):
        with pytest.raises((TypeError, ValueError)):
            RANDOM([1], seed=wrong)


def test_pieces_of_a_tensor_are_read_in_their_order():
    samples = torch.arange(20)
    assert equal(RANDOM(samples[::3]), RANDOM(range(0, 20, 3)))
    assert equal(RANDOM(samples.int()), RANDOM(range(20)))
    assert equal(RANDOM(samples[:0]), RANDOM([]))


def test_a_sampler_that_makes_its_masks_otherwise_is_asked_for_them():
    class Shown(smnoise.White3D):
        def _masks(self, *given, **tables):
            masks = super()._masks(*given, **tables)
            return masks._replace(mask=~masks.mask)

    del smnoise.samplers.KINDS["Shown"]
    assert torch.equal(Shown(GRID, 0.7)([4]).mask, ~RANDOM([4]).mask)
