# SPDX-License-Identifier: Apache-2.0
"""MaskStream: the batches of successive steps."""

import json

import pytest
import torch
from functorch.compile import make_boxed_compiler
from torch._dynamo.backends.common import aot_autograd

from smnoise import Green3D, MaskStream

SAMPLER = Green3D((2, 4, 4), 0.75, seed=2**64 - 5)


def test_each_call_is_the_next_step():
    stream = MaskStream(SAMPLER, 3, rank=1, world_size=2, step=5)
    for step in (5, 6, 7):
        want = SAMPLER(batch_size=3, step=step, rank=1, world_size=2)
        assert torch.equal(stream().ids_restore, want.ids_restore)
    stream.step.fill_(5)
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
    monkeypatch.setattr(Green3D, "_masks", lambda *a: made.append(a))
    SAMPLER.prepare(outputs="mask", batch_size=5)
    ((_, _, _, samples, backend, outputs),) = made
    assert (len(samples), samples.device.type, backend, outputs) == (5, "cpu", "auto", "mask")
    with pytest.raises(ValueError, match="torch knows"):
        SAMPLER.prepare("nonsense")
