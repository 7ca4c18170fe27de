# SPDX-License-Identifier: Apache-2.0
"""Attentive probe: a learned query looks at the frozen tokens, a linear layer at what it found (as V-JEPA is scored).

The mean over tokens, which the linear probe sees, throws away where and when things are; this probe can use them.
It is trained by AdamW for a fixed number of epochs, without any choice on the test set; its weights and order are
functions of the seed. Letters: N clips, L tokens, D channels, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, scaled_dot_product_attention

from ..data.draws import permutation, torch_seeded
from .linear import scores_of
from .logistic import Labelled

HEAD_WIDTH = 64


class AttentiveClassifier(nn.Module):
    """Logits float [B, C] of tokens [B, L, D]: standardised, one cross-attention with a learned query, LayerNorm,
    linear.

    Args:
        mean, scale: float [D], what standardises a channel.
        classes: C.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: Tensor, scale: Tensor, classes: int):
        super().__init__()
        width = len(mean)
        self.heads = width // HEAD_WIDTH if width % HEAD_WIDTH == 0 else 1
        self.register_buffer("mean", mean.float())
        self.register_buffer("scale", scale.float())
        self.query = nn.Parameter(0.02 * torch.randn(width))
        self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(3))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)
        nn.init.trunc_normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """Compute logits, float [B, C], of tokens, float [B, L, D]."""
        x = (tokens.float() - self.mean) * self.scale
        key, value = (
            layer(x).unflatten(2, (self.heads, -1)).transpose(1, 2) for layer in (self.key, self.value)
        )
        query = self.query.view(1, self.heads, 1, -1).expand(len(x), -1, -1, -1)
        found = scaled_dot_product_attention(query, key, value).flatten(1)
        return self.head(self.norm(self.out(found)))


class Attentive(NamedTuple):
    """Scores on the test set."""

    accuracy: float
    """NaN for several labels a clip."""
    mean_average_precision: float
    losses: list[float]
    """Of the training set, each epoch's mean."""
    classifier: AttentiveClassifier


def attentive_probe(
    train_x: Tensor,
    train_y: Tensor | Sequence[int],
    test_x: Tensor,
    test_y: Tensor | Sequence[int],
    *,
    epochs: int = 20,
    batch_size: int = 64,
    lr: float = 1e-3,
    weight_decay: float = 0.05,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Attentive:
    """Train an attentive probe on the training set, and score it on the test set.

    Args:
        train_x, test_x: tokens [N, L, D] and [M, L, D] of any float type, on the CPU; float16 halves their memory.
        train_y, test_y: as in `linear_probe`.
        epochs, batch_size, lr, weight_decay: of AdamW; the rate warms up over a twentieth of the steps, then falls to 0
            by half a cosine.
        seed: 0 .. 2^64 - 1, of the first weights and of the order of the clips.
        device: where it is trained.

    Raises ValueError and TypeError as `linear_probe` does, and for tokens that are not [N, L, D]; FloatingPointError
    where training diverges.
    """
    device = torch.device(device)
    if train_x.dim() != 3 or test_x.dim() != 3 or epochs < 1 or batch_size < 1 or not lr > 0:
        raise ValueError(
            f"need tokens [N, L, D], 1 epoch, 1 clip a batch and a positive lr; got {tuple(train_x.shape)}, "
            f"{tuple(test_x.shape)}, epochs={epochs}, batch_size={batch_size}, lr={lr}"
        )
    # By their means: finite, of one width, with labels that fit. The tokens themselves stay as small as they are.
    train = Labelled.checked("train", train_x.mean(dim=1, dtype=torch.float32), train_y)
    test = Labelled.checked("test", test_x.mean(dim=1, dtype=torch.float32), test_y, classes=train.y.shape[1])
    train.check_test(test)
    mean, scale = standard(train_x)
    with torch_seeded(seed, 0, torch.device("cpu")):
        model = AttentiveClassifier(mean, scale, train.y.shape[1]).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=weight_decay)
    starts = range(0, len(train_x), batch_size)
    steps = epochs * len(starts)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, steps))
    losses = []
    for epoch in range(epochs):
        order = torch.from_numpy(permutation(seed, epoch, len(train_x)))
        total = torch.zeros((), device=device)
        for start in starts:
            rows = order[start : start + batch_size]
            logits = model(train_x[rows].to(device))
            target = train.y[rows].float().to(device)
            if train.several:
                loss = binary_cross_entropy_with_logits(logits, target, reduction="sum") / len(rows)
            else:
                loss = cross_entropy(logits, target)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.detach() * len(rows)
        losses.append(total.item() / len(train_x))
        if not math.isfinite(losses[-1]):
            raise FloatingPointError(
                f"the attentive probe diverged in epoch {epoch + 1}: lower its lr of {lr}"
            )
    with torch.no_grad():
        logits = torch.cat([model(part.to(device)).cpu() for part in test_x.split(batch_size)])
    right, precision = scores_of(logits, test.y.cpu(), train.several)
    return Attentive(right, precision.value, losses, model)


def standard(tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and 1 / deviation of each channel of tokens [N, L, D], float64 [D]; 0 for a channel that is constant."""
    total = sum(part.double().sum(dim=(0, 1)) for part in tokens.split(256))
    mean = total / (tokens.shape[0] * tokens.shape[1])
    square = sum((part.double() - mean).square().sum(dim=(0, 1)) for part in tokens.split(256))
    deviation = (square / (tokens.shape[0] * tokens.shape[1])).sqrt()
    return mean, torch.where(deviation > 1e-6 * deviation.max(), 1 / deviation, 0.0)


def rate(step: int, steps: int) -> float:
    """Share of the learning rate in step `step`, counted from 0."""
    warm = max(1, steps // 20)
    if step < warm:
        return (step + 1) / warm
    return 0.5 + 0.5 * math.cos(math.pi * (step - warm) / max(1, steps - warm))
