# SPDX-License-Identifier: Apache-2.0
"""AudioMAE's local decoder block: Swin-V2 attention in small windows, on any grid.

timm's two Swin-V2 blocks are not used: one has another temperature and position bias, the other moves its
windows along both axes, and in both tokens attend to padding where windows do not fit. Here padding is never
seen. It also takes the place of the roll by which the original moves windows: there a token's logit for one from
the other end gets -100, here they do not meet.

Letters: B batch, T and F tokens along time and frequency, L = T * F, W windows, N tokens of a window, D width.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from .lean import mlp

MIN_TEMPERATURE = 0.01
BIAS_HIDDEN = 384
BIAS_DROPOUT = 0.1


class LocalBlock(nn.Module):
    """Window attention, then an MLP of four times the width, each normalised after it (res-post-norm).

    Args:
        width: D, a multiple of heads.
        heads: attention heads.
        window: tokens of a window along (time, frequency).
        shift: how far the first full window lies from the edge, along (time, frequency).
    """

    def __init__(self, width: int, heads: int, window: tuple[int, int], shift: tuple[int, int]):
        super().__init__()
        self.attention = WindowAttention(width, heads, window, shift)
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.norm2 = nn.LayerNorm(width, eps=1e-6)

    def forward(self, x: Tensor, grid: tuple[int, int], real: Tensor | None = None) -> Tensor:
        """Send x, float [B, L, D], the tokens of grid (T, F) in order, through the block: float [B, L, D].

        real: bool [B, L], False for padding, which the others do not see; None: all are real.
        """
        x = x + self.norm1(self.attention(x, grid, real))
        first, _, second = self.mlp
        return x + self.norm2(mlp(x, first.weight, first.bias, second.weight, second.bias))  # type: ignore[arg-type]


class WindowAttention(nn.Module):
    """Cosine attention among the tokens of a window; for the arguments see `LocalBlock`."""

    def __init__(self, width: int, heads: int, window: tuple[int, int], shift: tuple[int, int]):
        super().__init__()
        self.heads, self.window = heads, window
        self.before = [-s % w for s, w in zip(shift, window, strict=True)]  # padding before the first token
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.temperature = nn.Parameter(torch.ones(heads))
        # Dropout behind both layers, as AudioMAE's patched block has it and newer timm has not. The last bias is one
        # number for all pairs of a head, which is nothing to a softmax, but for the pairs that dropout sets to zero.
        self.position_bias = nn.Sequential(
            nn.Linear(2, BIAS_HIDDEN),
            nn.ReLU(),
            nn.Dropout(BIAS_DROPOUT),
            nn.Linear(BIAS_HIDDEN, heads),
            nn.Dropout(BIAS_DROPOUT),
        )
        self.register_buffer("offsets", log_offsets(window), persistent=False)
        self.register_load_state_dict_pre_hook(_with_last_bias)

    def forward(self, x: Tensor, grid: tuple[int, int], real: Tensor | None = None) -> Tensor:
        """Let x, float [B, L, D], the tokens of grid (T, F) in order, attend to each other within windows: float [B, L,
        D].

        real: as of `LocalBlock.forward`.
        """
        # Each [B, L, heads, D / heads].
        query, key, value = self.qkv(x).unflatten(-1, (3, self.heads, -1)).unbind(2)
        query = unit(query) / self.temperature.clamp(min=MIN_TEMPERATURE)[:, None]
        query, key, value = (self._windows(v.to(value.dtype), grid) for v in (query, unit(key), value))
        # Windows and heads share an axis, for attention kernels know four axes only.
        mixed = nn.functional.scaled_dot_product_attention(
            query.flatten(1, 2),
            key.flatten(1, 2),
            value.flatten(1, 2),
            self._bias(grid, real).flatten(-4, -3).to(value.dtype),
            scale=1.0,
        )
        return self.project(self._tokens(mixed.view_as(value), grid))

    def _bias(self, grid: tuple[int, int], given: Tensor | None) -> Tensor:
        """What is added to the logits: [W, heads, N, N]; where rows have padding of their own, [B, W, heads, N, N]."""
        bias = self.position_bias(self.offsets).permute(2, 0, 1)
        if given is None:
            real = torch.ones(1, grid[0] * grid[1], 1, 1, device=bias.device)
            real = self._windows(real, grid)[0, :, 0, :, 0]
        else:
            real = self._windows(given.to(torch.float32)[..., None, None], grid)[:, :, 0, :, 0]
        # Padding sees padding, so that no row is all -inf: its softmax would be NaN.
        apart = real[..., None, :, None] != real[..., None, None, :]
        return bias.expand(*real.shape[:-1], -1, -1, -1).masked_fill(apart, float("-inf"))

    def _windows(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """Tokens [B, L, heads, D / heads] as windows [B, W, heads, N, D / heads], zeros where there is none."""
        time, freq = ((b, -(n + b) % w) for n, b, w in zip(grid, self.before, self.window, strict=True))
        x = x.unflatten(1, grid)
        if any((*freq, *time)):  # padding by nothing would still copy
            x = nn.functional.pad(x, (0, 0, 0, 0, *freq, *time))
        x = x.unflatten(2, (-1, self.window[1])).unflatten(1, (-1, self.window[0]))
        return x.permute(0, 1, 3, 5, 2, 4, 6).flatten(4, 5).flatten(1, 2)

    def _tokens(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """The way back: windows [B, W, heads, N, D / heads] as tokens [B, L, D]."""
        top, left = self.before
        columns = -(-(left + grid[1]) // self.window[1])
        x = x.unflatten(3, self.window).unflatten(1, (-1, columns)).permute(0, 1, 4, 2, 5, 3, 6)
        x = x.flatten(5).flatten(3, 4).flatten(1, 2)
        return x[:, top : top + grid[0], left : left + grid[1]].flatten(1, 2)


def _with_last_bias(attention: WindowAttention, state: dict[str, Tensor], prefix: str, *_) -> None:
    """Weights of before there was one: zeros are the same function."""
    if f"{prefix}position_bias.3.weight" in state:
        weight = state[f"{prefix}position_bias.3.weight"]
        state.setdefault(f"{prefix}position_bias.3.bias", weight.new_zeros(len(weight)))


def unit(x: Tensor) -> Tensor:
    """Scale x, floats of any shape, to float32 vectors of length 1 along the last axis, also under autocast."""
    return nn.functional.normalize(x.float(), dim=-1)


def log_offsets(window: tuple[int, int]) -> Tensor:
    """float32 [N, N, 2]: how far token i of a window lies from token j along (time, frequency), as
    sign(d) * log(1 + |d|)."""
    axes = torch.meshgrid(*map(partial(torch.arange, dtype=torch.float32), window), indexing="ij")
    place = torch.stack(axes, dim=-1).flatten(0, 1)
    offset = place[:, None] - place[None]
    return offset.sign() * offset.abs().log1p()
