# SPDX-License-Identifier: Apache-2.0
"""Linear layers and MLPs that train in less time on a CPU and in less memory anywhere, under timm's names.

- A float32 product on a CPU with AVX-512 is oneDNN's, where torch takes MKL's: 5 to 20 % less time, alone, on an AMD
  processor. Gradients of weights are torch's own, since oneDNN takes 0 to 20 % more for them, and so is all without
  AVX-512, where neither is ahead. Which it is follows from the processor, so that a run that goes on has the same sums.
- An MLP keeps what goes into its GELU but not what comes out, and computes that anew in the backward pass: a quarter
  of what a transformer block keeps, for a hundredth of its time.

The numbers are those of the layers that are replaced, but for the order of sums; names of parameters stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from ..compat import import_timm
from ..ops._library import LIBRARY

ONEDNN = (
    torch.backends.cpu.get_cpu_capability() == "AVX512"
    and torch.backends.mkldnn.is_available()
    and hasattr(torch.ops.mkldnn, "_linear_pointwise")
)


def lean(module: nn.Module) -> None:
    """Make every nn.Linear within and every timm Mlp without dropout and norm a lean one."""
    import_timm()
    from timm.layers import Mlp as TimmMlp
    from timm.models.beit import Attention

    child: Any  # one of timm's, which have no types
    for layer in list(module.modules()):
        if type(layer) is nn.Linear:
            layer.__class__ = Linear
        elif isinstance(layer, Attention):
            layer.qkv_bias_separate = True  # which calls the layer, where it would else take its weight
        for name, child in layer.named_children():
            if (
                type(child) is TimmMlp
                and isinstance(child.norm, nn.Identity)
                and child.drop1.p == child.drop2.p == 0
            ):
                setattr(layer, name, Mlp(child.fc1, child.fc2))


class Linear(nn.Linear):
    """nn.Linear; see the module's head."""

    def forward(self, x: Tensor) -> Tensor:
        """Compute x @ weight.T + bias of x, float [..., D]: float [..., E]."""
        if _onednn(x, self.weight) and not torch.is_autocast_enabled("cpu"):
            return _by_rows(_Linear, x, self.weight, self.bias)
        return F.linear(x, self.weight, self.bias)


class Mlp(nn.Module):
    """fc2 of the GELU of fc1; see the module's head."""

    def __init__(self, fc1: nn.Linear, fc2: nn.Linear):
        super().__init__()
        self.fc1, self.fc2 = fc1, fc2

    def forward(self, x: Tensor) -> Tensor:
        """Compute fc2 of the GELU of fc1 of x, float [..., D]: float [..., E]."""
        return mlp(x, self.fc1.weight, self.fc1.bias, self.fc2.weight, self.fc2.bias)


def mlp(x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor) -> Tensor:
    """gelu(x @ weight1.T + bias1) @ weight2.T + bias2, in autocast's type where that is on.

    All are floats: x [..., D], weight1 [H, D], bias1 [H], weight2 [E, H], bias2 [E]; the result is [..., E].
    """
    weights: Sequence[Tensor] = (weight1, bias1, weight2, bias2)
    device = x.device.type
    if torch.is_autocast_enabled(device):
        x, *weights = (t.to(torch.get_autocast_dtype(device)) for t in (x, *weights))
        with torch.autocast(device, enabled=False):
            return _by_rows(_Mlp, x, *weights)
    return _by_rows(_Mlp, x, *weights)


def _by_rows(function: type[torch.autograd.Function], x: Tensor, *weights: Tensor | None) -> Tensor:
    """The functions below know rows [N, D] only."""
    y = function.apply(x.reshape(-1, x.shape[-1]), *weights)
    return y.reshape(*x.shape[:-1], y.shape[-1])


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        ctx.biased = bias is not None
        return _product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        return (
            _product(gradient, weight.t()) if needs_x else None,
            _of_weight(gradient, x) if needs_weight else None,
            gradient.sum(0) if needs_bias and ctx.biased else None,
        )


class _Mlp(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight1, bias1, weight2, bias2):
        inner = _product(x, weight1, bias1)
        ctx.save_for_backward(x, inner, weight1, weight2)
        return _product(F.gelu(inner), weight2, bias2)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        x, inner, weight1, weight2 = ctx.saved_tensors
        of_weight2 = _of_weight(gradient, F.gelu(inner))
        of_inner = torch.ops.aten.gelu_backward(_product(gradient, weight2.t()), inner)
        return (
            _product(of_inner, weight1.t()) if ctx.needs_input_grad[0] else None,
            _of_weight(of_inner, x),
            of_inner.sum(0),
            of_weight2,
            gradient.sum(0),
        )


def _of_weight(gradient: Tensor, x: Tensor) -> Tensor:
    return gradient.t() @ x


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x @ weight.T + bias: [N, D], [E, D], [E]: [N, E]."""
    if _onednn(x, weight):
        return torch.ops.smnoise.onednn_product(x, weight, bias)
    return F.linear(x, weight, bias)


def _onednn(x: Tensor, weight: Tensor) -> bool:
    fits = x.shape[-1] == weight.shape[-1]  # torch's own product says better what does not
    return ONEDNN and fits and x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32


# Of its own, so that a compiler takes it as it is.
LIBRARY.define(
    "onednn_product(Tensor x, Tensor weight, Tensor? bias) -> Tensor", tags=(torch.Tag.pt2_compliant_tag,)
)
LIBRARY.impl(
    "onednn_product",
    lambda x, weight, bias: torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], ""),
    "CPU",
)
torch.library.register_fake(
    "smnoise::onednn_product", lambda x, weight, bias: x.new_empty((len(x), len(weight))), lib=LIBRARY
)
