# SPDX-License-Identifier: Apache-2.0
"""The lean layers give what the layers give that they replace, keep less, and leave others alone."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from smnoise.compat import import_timm
from smnoise.models import lean

import_timm()
from timm.layers import Mlp as TimmMlp  # noqa: E402
from timm.models import beit, vision_transformer  # noqa: E402


def blocks():
    torch.manual_seed(0)
    found = nn.ModuleList(b.Block(32, 2, qkv_bias=True) for b in (beit, vision_transformer))
    for parameter in found.parameters():  # biases that are zero would hide mistakes
        nn.init.normal_(parameter, std=0.2)
    return found


def gradients(module, x, through=lambda module: module):
    x = x.clone().requires_grad_()
    y = through(nn.Sequential(*module))(x)
    y.square().mean().backward()
    return [y.detach(), x.grad, *(p.grad for p in module.parameters())]


def test_blocks_and_their_gradients_are_those_of_timm():
    plain = blocks()
    replaced = copy.deepcopy(plain)
    lean.lean(replaced)
    assert list(replaced.state_dict()) == list(plain.state_dict())
    assert {type(b.mlp) for b in replaced} == {lean.Mlp}
    x = torch.randn(3, 7, 32)
    for ours, theirs in zip(gradients(replaced, x), gradients(plain, x), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(32,), (5, 32), (2, 3, 32), (2, 1, 3, 32), (2, 0, 32)])
@pytest.mark.parametrize("bias", [True, False])
def test_linear_takes_any_number_of_axes(shape, bias):
    torch.manual_seed(0)
    layer = lean.Linear(32, 8, bias=bias)
    x = torch.randn(shape)
    y = layer(x)
    assert y.shape == (*shape[:-1], 8)
    torch.testing.assert_close(y, F.linear(x, layer.weight, layer.bias), rtol=1e-5, atol=1e-6)


def test_linear_takes_rows_that_are_not_contiguous():
    layer, x = lean.Linear(6, 4), torch.randn(6, 5, 2).transpose(0, 2)
    torch.testing.assert_close(layer(x), F.linear(x, layer.weight, layer.bias))


def test_float64_has_exact_gradients():
    shapes = (2, 3, 4), (5, 4), (5,), (6, 5), (6,)
    assert torch.autograd.gradcheck(
        lean.mlp, [torch.randn(s, dtype=torch.float64, requires_grad=True) for s in shapes]
    )


def test_second_derivatives_are_refused():
    x = torch.randn(2, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(lean.Linear(4, 3)(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiable"):
        gradient.sum().backward()


def test_autocast_is_obeyed_and_left_as_it_was():
    module, x = lean.Mlp(lean.Linear(8, 16), lean.Linear(16, 8)), torch.randn(4, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert module(x).dtype == module.fc1(x).dtype == torch.bfloat16
        assert torch.is_autocast_enabled("cpu")
        torch.testing.assert_close(module(x).float(), module.fc2(F.gelu(module.fc1(x))).float())
    module(x.requires_grad_()).sum().backward()
    assert module.fc1.weight.grad.dtype == torch.float32


def kept(module, x) -> int:
    """Bytes that autograd keeps for the backward pass, weights not counted."""
    held = {}
    weights = {p.data_ptr() for p in module.parameters()}

    def keep(tensor):
        if tensor.data_ptr() not in weights:
            held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        y = module(x)
    del y
    return sum(held.values())


def test_an_mlp_keeps_its_input_and_what_goes_into_the_gelu_only():
    plain = TimmMlp(32, 128)
    x = torch.randn(64, 32, requires_grad=True)
    expected = x.nbytes + 4 * x.nbytes
    assert kept(lean.Mlp(plain.fc1, plain.fc2), x) == expected
    assert kept(plain, x) == expected + 4 * x.nbytes


def test_what_a_lean_mlp_cannot_do_stays_timms():
    module = nn.ModuleList([TimmMlp(8, drop=0.1), TimmMlp(8, norm_layer=nn.LayerNorm)])
    lean.lean(module)
    assert {type(m) for m in module} == {TimmMlp}


@pytest.mark.skipif(not lean.ONEDNN, reason="this torch has no oneDNN")
def test_the_product_is_a_proper_op():
    x, weight, bias = torch.randn(4, 6), torch.randn(5, 6), torch.randn(5)
    for sample in ((x, weight, bias), (x, weight, None), (weight.t(), torch.randn(3, 5), None)):
        torch.library.opcheck(torch.ops.smnoise.onednn_product.default, sample)


def test_compiled_blocks_give_the_same():
    module = blocks()
    lean.lean(module)
    x = torch.randn(2, 5, 32)
    eager = gradients(module, x)
    module.zero_grad(set_to_none=True)
    compiled = gradients(module, x, partial(torch.compile, fullgraph=True))
    for ours, theirs in zip(compiled, eager, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        lean.Linear(6, 4)(torch.randn(6, 4))
