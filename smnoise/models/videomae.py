# SPDX-License-Identifier: Apache-2.0
"""VideoMAE (Tong et al., NeurIPS 2022) for pretraining, written from the paper's recipe tables.

Only visible cubes are read and embedded; only hidden cubes get a target. Any grid works, also other than the
one the model was made for: positions are a function of the token number.

Letters: B batch, C channels, L tokens, V visible, M masked, P = tubelet * patch * patch pixels of a cube.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from ..compat import import_timm
from ..masks import MaskBatch
from .common import Size, check_masks, find_size, gather_tokens, init_linears, run_blocks

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


# base is the published recipe; the others keep its rule, a decoder of half the width and 4 blocks.
# tiny is ours, for laptops and tests.
SIZES = {
    "tiny": Size(192, 6, 3, 96, 2, 3),
    "small": Size(384, 12, 6, 192, 4, 3),
    "base": Size(768, 12, 12, 384, 4, 6),
    "large": Size(1024, 24, 16, 512, 4, 8),
    "huge": Size(1280, 32, 16, 640, 4, 8),
}


class VideoMAE(nn.Module):
    """Encoder over the visible tokens, narrow decoder over all, loss on the hidden ones.

    Args:
        size: "tiny", "small", "base", "large", "huge", or a `Size`.
        grid: tokens along (T, H, W) of the usual clip; others may be given at run time.
        tubelet, patch: frames and pixels (along both sides) of a cube.
        channels: colour channels; mean and std must have as many values.
        mean, std: normalisation of the input, for pixels in [0, 1]; ImageNet's by default.
        checkpoint_blocks: recompute activations in the backward pass, to save memory.
    """

    def __init__(
        self,
        size: str | Size = "base",
        grid: tuple[int, int, int] = (8, 14, 14),
        *,
        tubelet: int = 2,
        patch: int = 16,
        channels: int = 3,
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
        checkpoint_blocks: bool = False,
    ):
        super().__init__()
        if isinstance(size, str):
            size = find_size(size, SIZES)
        if not len(mean) == len(std) == channels:
            raise ValueError(f"mean and std need {channels} values each, got {len(mean)} and {len(std)}")
        import_timm()
        from timm.models.beit import Block  # query and value have a bias, key has none, as in VideoMAE

        def blocks(width: int, depth: int, heads: int) -> nn.ModuleList:
            norm = partial(nn.LayerNorm, eps=1e-6)
            return nn.ModuleList(Block(width, heads, qkv_bias=True, norm_layer=norm) for _ in range(depth))

        self.size, self.grid = size, tuple(grid)
        self.tubelet, self.patch, self.channels = tubelet, patch, channels
        self.checkpoint_blocks = checkpoint_blocks
        cube = channels * tubelet * patch * patch
        # The 3D convolution of the original as a matrix: the same numbers, in the same order (C, t, h, w).
        self.embed = nn.Linear(cube, size.width)
        self.encoder = blocks(size.width, size.depth, size.heads)
        self.encoder_norm = nn.LayerNorm(size.width, eps=1e-6)
        self.bridge = nn.Linear(size.width, size.decoder_width, bias=False)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, size.decoder_width))
        self.decoder = blocks(size.decoder_width, size.decoder_depth, size.decoder_heads)
        self.decoder_norm = nn.LayerNorm(size.decoder_width, eps=1e-6)
        self.head = nn.Linear(size.decoder_width, cube)

        tokens = grid[0] * grid[1] * grid[2]
        constants = {
            "encoder_positions": sinusoid(tokens, size.width),
            "decoder_positions": sinusoid(tokens, size.decoder_width),
            "mean": torch.tensor(mean).view(channels, 1),
            "std": torch.tensor(std).view(channels, 1),
        }
        for name, value in constants.items():
            self.register_buffer(name, value, persistent=False)
        self._init_weights()

    def _init_weights(self) -> None:
        # Left at PyTorch's defaults, as in the original: the patch embedding and the bridge.
        for module in (self.encoder, self.decoder, self.head):
            init_linears(module)
        nn.init.trunc_normal_(self.mask_token, std=0.02, a=-0.02, b=0.02)

    def no_weight_decay(self) -> set[str]:
        """Parameters without weight decay, besides biases and other vectors."""
        return {"mask_token"}

    def grid_of(self, pixels: Tensor) -> tuple[int, int, int]:
        """Tokens along (T, H, W) of clips [B, C, T, H, W]; ValueError where cubes do not fit."""
        if pixels.dim() != 5 or pixels.shape[1] != self.channels:
            raise ValueError(f"pixels must be [B, {self.channels}, T, H, W], got {tuple(pixels.shape)}")
        cube = (self.tubelet, self.patch, self.patch)
        if any(n % c for n, c in zip(pixels.shape[2:], cube, strict=True)):
            raise ValueError(
                f"frames, height and width {tuple(pixels.shape[2:])} must be multiples of the cube {cube}"
            )
        return tuple(n // c for n, c in zip(pixels.shape[2:], cube, strict=True))

    def cubes(self, pixels: Tensor) -> Tensor:
        """Clips [B, C, T, H, W] as [B, L, C, P], the pixels of a cube ordered (frame, row, column)."""
        t, h, w = self.grid_of(pixels)
        x = pixels.reshape(len(pixels), self.channels, t, self.tubelet, h, self.patch, w, self.patch)
        return x.permute(0, 2, 4, 6, 1, 3, 5, 7).reshape(len(pixels), t * h * w, self.channels, -1)

    def encode(self, visible: Tensor, ids_keep: Tensor) -> Tensor:
        """Visible cubes [B, V, C, P] in [0, 1], at ids_keep [B, V]: features [B, V, width]."""
        x = self.embed(((visible - self.mean) / self.std).flatten(2))
        x = self._blocks(self.encoder, x + self.encoder_positions[ids_keep])
        return self.encoder_norm(x)

    def decode(self, features: Tensor, ids_keep: Tensor, ids_mask: Tensor) -> Tensor:
        """Features [B, V, width]: normalised pixels of the hidden cubes, [B, M, P * C], channel fastest."""
        visible = self.bridge(features) + self.decoder_positions[ids_keep]
        hidden = self.mask_token + self.decoder_positions[ids_mask]
        x = self._blocks(self.decoder, torch.cat([visible, hidden], dim=1))
        return self.head(self.decoder_norm(x[:, ids_keep.shape[1] :]))

    def forward(self, pixels: Tensor, masks: MaskBatch) -> tuple[Tensor, Tensor]:
        """Loss and prediction for a batch.

        Args:
            pixels: [B, C, T, H, W], uint8, or float in [0, 1] (not yet normalised).
            masks: ids_keep and ids_mask for the clips' own grid, on the same device.

        Returns:
            loss, a float32 scalar: mean squared error over the hidden cubes; prediction [B, M, P * C].
        """
        grid = self.grid_of(pixels)
        check_masks(masks, grid, len(pixels), "clips")
        self._extend_positions(masks.num_tokens)
        ids_keep, ids_mask = masks.need("ids_keep"), masks.need("ids_mask")
        cubes = self.cubes(pixels)
        visible, hidden = (as_unit_floats(gather_tokens(cubes, ids)) for ids in (ids_keep, ids_mask))
        prediction = self.decode(self.encode(visible, ids_keep), ids_keep, ids_mask)
        with torch.autocast(pixels.device.type, enabled=False):
            loss = nn.functional.mse_loss(prediction.float(), normalised_target(hidden))
        return loss, prediction

    @torch.no_grad()
    def features(self, pixels: Tensor) -> Tensor:
        """Frozen features of clips [B, C, T, H, W], nothing hidden: float [B, width], the mean over the cubes."""
        cubes = as_unit_floats(self.cubes(pixels))
        self._extend_positions(cubes.shape[1])
        ids = torch.arange(cubes.shape[1], device=cubes.device).expand(len(cubes), -1)
        return self.encode(cubes, ids).mean(dim=1)

    def _blocks(self, blocks: nn.ModuleList, x: Tensor) -> Tensor:
        return run_blocks(blocks, x, recompute=self.checkpoint_blocks and self.training)

    def _extend_positions(self, tokens: int) -> None:
        if tokens > len(self.encoder_positions):
            for name in ("encoder_positions", "decoder_positions"):
                table = getattr(self, name)
                setattr(self, name, sinusoid(tokens, table.shape[1]).to(table))


def sinusoid(tokens: int, width: int) -> Tensor:
    """VideoMAE's fixed positions: float32 [tokens, width], a sinusoid over the flat token number, sine on even
    and cosine on odd channels, base 10000."""
    channel = torch.arange(width)
    wavelength = 10000.0 ** ((channel // 2 * 2).double() / width)
    angle = torch.arange(tokens, dtype=torch.float64)[:, None] / wavelength
    return torch.where(channel % 2 == 0, angle.sin(), angle.cos()).float()


def as_unit_floats(x: Tensor) -> Tensor:
    """uint8 as float32 in [0, 1]; floats, which are so already, as float32."""
    if x.dtype != torch.uint8 and not x.is_floating_point():
        raise TypeError(f"pixels must be uint8, or floats in [0, 1]; got {x.dtype}")
    return x.float() / 255 if x.dtype == torch.uint8 else x.float()


def cube_statistics(cubes: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and unbiased standard deviation of each channel of each cube [..., C, P]: [..., C, 1] both."""
    std, mean = torch.std_mean(cubes, dim=-1, keepdim=True, correction=1)
    return mean, std


def normalised_target(hidden: Tensor) -> Tensor:
    """VideoMAE's target for cubes [B, M, C, P] in [0, 1]: each channel of each cube less its mean, divided by
    (its unbiased deviation + 1e-6): [B, M, P * C], channel fastest."""
    mean, std = cube_statistics(hidden)
    return ((hidden - mean) / (std + 1e-6)).transpose(-1, -2).flatten(2)
