# SPDX-License-Identifier: Apache-2.0
"""MaskStream: the batches of successive steps."""

import json
import multiprocessing
import pickle
import threading

import pytest
import torch
from functorch.compile import make_boxed_compiler
from torch._dynamo.backends.common import aot_autograd
from torch.utils._python_dispatch import TorchDispatchMode

import smnoise
from smnoise import Green3D, MaskStream, SigmaSchedule, sigma_table
from smnoise.backends import cpu

SAMPLER = Green3D((2, 4, 4), 0.75, seed=2**64 - 5)


def test_each_call_is_the_next_step():
    stream = MaskStream(SAMPLER, 3, rank=1, world_size=2, step=5)
    for step in (5, 6, 7):
        want = SAMPLER(batch_size=3, step=step, rank=1, world_size=2)
        assert torch.equal(stream().ids_restore, want.ids_restore)
    assert stream.step == 8
    stream.step = 5
    assert torch.equal(stream().mask, SAMPLER(batch_size=3, step=5, rank=1, world_size=2).mask)


def test_in_compiled_code_the_counter_goes_on():
    torch._dynamo.reset()
    stream = MaskStream(SAMPLER, 4)

    @torch.compile(fullgraph=True)
    def train():
        return stream().mask.float()

    for step in range(3):
        assert torch.equal(train().bool(), SAMPLER(batch_size=4, step=step).mask)


def test_what_a_sampler_refuses_is_refused_when_the_stream_is_made():
    with pytest.raises(ValueError, match="rank"):
        MaskStream(SAMPLER, 4, rank=2, world_size=2)
    with pytest.raises(ValueError, match="outputs"):
        MaskStream(SAMPLER, 4, outputs="masks")
    with pytest.raises(ValueError, match="step must be in 0"):
        MaskStream(SAMPLER, 4, step=2**62)
    with pytest.raises(TypeError, match=r"sampler must be one of smnoise's.* got None"):
        MaskStream(None, 4)


def test_a_checkpoint_goes_on_with_the_next_batch():
    stream = MaskStream(SAMPLER, 3, rank=1, world_size=2)
    stream(), stream()
    state = json.loads(json.dumps(stream.state_dict()))
    other = MaskStream(SAMPLER, 3, rank=1, world_size=2)
    other.load_state_dict(state)
    assert torch.equal(other().ids_restore, stream().ids_restore)
    for wrong in ({}, {"step": 1, "seed": 2}, {"steps": 1}, {"step": -1}, {"step": 2**62}):
        with pytest.raises(ValueError, match=r"state of a MaskStream|step must be"):
            other.load_state_dict(wrong)
    with pytest.raises(TypeError, match="step must be"):
        other.load_state_dict({"step": 1.5})
    assert other.state_dict() == {"step": 3}


def test_a_compiled_step_with_a_stream_can_become_a_cuda_graph():
    """torch's CUDA graph trees leave out a graph that changes an input whose address may change from call to call."""
    torch._dynamo.reset()
    stream = MaskStream(SAMPLER, 4)
    changed, static = [], []

    def compiler(graph, inputs):
        context = torch._guards.TracingContext.get()
        changed.append({i for i, info in enumerate(context.fw_metadata.input_info) if info.mutates_data})
        static.append(set(context.fw_metadata.static_input_indices))
        return graph.forward

    backend = aot_autograd(fw_compiler=make_boxed_compiler(compiler))

    @torch.compile(fullgraph=True, backend=backend)
    def train():
        return stream().mask.float()

    for step in range(3):
        assert torch.equal(train().bool(), SAMPLER(batch_size=4, step=step).mask)
    (inputs,), (kept,) = changed, static
    assert inputs
    assert inputs <= kept


def test_prepare_makes_what_the_first_masks_need(monkeypatch):
    made = []
    monkeypatch.setattr(Green3D, "__call__", lambda *a, **kw: made.append((a, kw)))
    SAMPLER.prepare(outputs="mask", batch_size=5)
    (((_, samples), given),) = made
    assert (len(samples), samples.device.type) == (5, "cpu")
    assert given == {"outputs": "mask", "backend": "auto"}
    with pytest.raises(ValueError, match="torch knows"):
        SAMPLER.prepare("nonsense")


def test_a_bias_and_a_table_go_with_a_batch():
    stream = MaskStream(SAMPLER, 3, rank=1, world_size=2, step=4)
    bias, table = (
        torch.rand(3, 32, generator=torch.Generator().manual_seed(0)),
        sigma_table([1.0] + 31 * [0.0]),
    )
    for step, given in enumerate(({"bias": bias, "bias_weight": 0.5}, {"sigma_table": table}, {}), start=4):
        want = SAMPLER(batch_size=3, step=step, rank=1, world_size=2, **given)
        assert torch.equal(stream(**given).ids_restore, want.ids_restore)
    assert not torch.equal(SAMPLER([9]).mask, SAMPLER([9], sigma_table=table).mask)


@pytest.mark.parametrize("ahead", [0, 1])
def test_a_schedule_gives_each_batch_the_table_of_its_step(ahead):
    schedule = SigmaSchedule("easy-to-hard", total_steps=16)
    stream = MaskStream(SAMPLER, 2, step=3, sigma_table=schedule, ahead=ahead)
    for step in range(3, 7):
        assert torch.equal(stream().mask, SAMPLER(batch_size=2, step=step, sigma_table=schedule(step)).mask)
    fixed = MaskStream(SAMPLER, 2, sigma_table=schedule(0), ahead=ahead)
    assert torch.equal(fixed().mask, SAMPLER(batch_size=2, step=0, sigma_table=schedule(0)).mask)


def test_masks_made_ahead_are_the_same_and_so_is_the_state():
    plain, ahead = (MaskStream(SAMPLER, 3, rank=1, world_size=2, ahead=a) for a in (0, 1))
    for _ in range(3):
        assert torch.equal(plain().ids_restore, ahead().ids_restore)
        assert plain.state_dict() == ahead.state_dict()
    other = MaskStream(SAMPLER, 3, rank=1, world_size=2, ahead=1)
    other(), other.load_state_dict(ahead.state_dict())
    assert torch.equal(other().mask, plain().mask)
    ahead.step = 0
    assert torch.equal(ahead().mask, SAMPLER(batch_size=3, step=0, rank=1, world_size=2).mask)
    copy = pickle.loads(pickle.dumps(ahead))
    assert torch.equal(copy().mask, ahead().mask)
    with pytest.raises(ValueError, match="ahead must be in 0"):
        MaskStream(SAMPLER, 3, ahead=2)
    with pytest.raises(ValueError, match="leave bias and sigma_table out"):
        ahead(bias=torch.zeros(3, 32))


def test_masks_are_made_ahead_in_a_thread_of_their_own():
    threads = []

    def scores(seed, samples, grid):
        threads.append((threading.current_thread().name, cpu.threads()))
        return torch.ones(len(samples), 4).cumsum(1) + samples[:, None]

    smnoise.register("scores of this thread")(scores)
    stream = MaskStream(smnoise.Custom((1, 2, 2), num_visible=1, name="scores of this thread"), 2, ahead=1)
    stream(), stream(), stream()
    mine = threading.current_thread().name
    assert [name == mine for name, _ in threads[:4]] == [True, True, False, False]
    assert {count for name, count in threads if name != mine} == {1}


def test_what_goes_wrong_in_the_thread_reaches_the_caller():
    def scores(seed, samples, grid):
        if samples[0] == 4 and wrong:
            raise OSError("no scores")
        return torch.ones(len(samples), 4)

    wrong = [True]
    smnoise.register("scores but for step 2")(scores)
    stream = MaskStream(smnoise.Custom((1, 2, 2), num_visible=1, name="scores but for step 2"), 2, ahead=1)
    stream(), stream()
    with pytest.raises(OSError, match="no scores"):
        stream()
    assert stream.step == 2
    wrong.clear()
    assert stream().ids_keep.tolist() == [[0], [0]]
    assert stream.step == 3


def test_a_forked_child_makes_what_its_parent_had_made_ahead():
    stream = MaskStream(SAMPLER, 2, ahead=1)
    stream()
    child = multiprocessing.get_context("fork").Pool(1)
    with child:
        rows = child.apply(_next_rows, (stream,))
    assert rows == SAMPLER(batch_size=2, step=1).ids_keep.tolist()


def _next_rows(stream):
    return stream().ids_keep.tolist()


def test_a_batch_takes_two_operations():
    """In a captured graph each is a launch: the masks, and the samples of the next batch."""
    stream, seen = MaskStream(SAMPLER, 3), []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            seen.append(str(function))
            return function(*args, **(kwargs or {}))

    with Watch():
        stream()
    assert [name for name in seen if "empty" not in name] == [
        "smnoise.color_mask.default",
        "aten.add_.Tensor",
    ]
