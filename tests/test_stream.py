# SPDX-License-Identifier: Apache-2.0
"""MaskStream: the batches of successive steps."""

import pytest
import torch

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
