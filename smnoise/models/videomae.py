# SPDX-License-Identifier: Apache-2.0
"""VideoMAE (Tong et al., NeurIPS 2022) for pretraining, written from the paper's recipe tables.

Only visible cubes are read and embedded; only hidden cubes get a target, all of them or, with dual masking, those that
are decoded. Any grid works, also other than the one the model was made for: positions are a function of the token
number.

Letters: B batch, C channels, L tokens, V visible, M masked, D decoded (M without dual masking), P = tubelet * patch *
patch pixels of a cube.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from .. import ops
from ..compat import import_timm
from ..dual import DualMasks
from ..masks import MaskBatch
from .common import Size, check_masks, find_size, init_linears, run_blocks
from .lean import lean

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# base is the published recipe; the others keep its rule, a decoder of half the width and 4 blocks.
# tiny and nano are ours, for laptops, tests and studies of many runs.
SIZES = {
    "nano": Size(64, 3, 4, 64, 2, 4),
    "tiny": Size(192, 6, 3, 96, 2, 3),
    "small": Size(384, 12, 6, 192, 4, 3),
    "base": Size(768, 12, 12, 384, 4, 6),
    "large": Size(1024, 24, 16, 512, 4, 8),
    "huge": Size(1280, 32, 16, 640, 4, 8),
}


class Cubes(nn.Module):
    """Base of what reads clips: their cubes, normalised by mean and std.

    Args:
        tubelet, patch: frames and pixels (along both sides) of a cube.
        channels: colour channels; mean and std must have as many values.
        mean, std: normalisation of the input, for pixels in [0, 1].
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, tubelet: int, patch: int, channels: int, mean: tuple[float, ...], std: tuple[float, ...]
    ):
        super().__init__()
        if not len(mean) == len(std) == channels:
            raise ValueError(f"mean and std need {channels} values each, got {len(mean)} and {len(std)}")
        self.tubelet, self.patch, self.channels = tubelet, patch, channels
        self.cube = (tubelet, patch, patch)
        self.register_buffer("mean", torch.tensor(mean), persistent=False)
        self.register_buffer("std", torch.tensor(std), persistent=False)

    @property
    def values(self) -> int:
        """The number of values of a cube, over all channels."""
        return self.channels * self.tubelet * self.patch * self.patch

    def grid_of(self, pixels: Tensor) -> tuple[int, int, int]:
        """Return the tokens along (T, H, W) of clips [B, C, T, H, W], of any dtype. Raises ValueError where cubes do
        not fit.
        """
        if pixels.dim() != 5 or pixels.shape[1] != self.channels:
            raise ValueError(f"pixels must be [B, {self.channels}, T, H, W], got {tuple(pixels.shape)}")
        if any(n % c for n, c in zip(pixels.shape[2:], self.cube, strict=True)):
            raise ValueError(
                f"frames, height and width {tuple(pixels.shape[2:])} must be multiples of the cube {self.cube}"
            )
        t, h, w = (n // c for n, c in zip(pixels.shape[2:], self.cube, strict=True))
        return t, h, w

    def cubes(self, pixels: Tensor, ids: Tensor) -> Tensor:
        """Gather the cubes `ids`, int64 [B, N], of clips [B, C, T, H, W], uint8 or floats in [0, 1], normalised by the
        model's mean and std: float32 [B, N, C, P], the pixels of a cube ordered (frame, row, column).
        """
        unit = 1 / 255 if pixels.dtype == torch.uint8 else 1.0
        return ops.gather_patches(pixels, ids, self.cube, unit / self.std, -self.mean / self.std)


class VideoMAE(Cubes):
    """Encoder over the visible tokens, narrow decoder over all (with dual masking fewer), loss on the hidden ones.

    Args:
        size: "nano", "tiny", "small", "base", "large", "huge", or a `Size`.
        grid: tokens along (T, H, W) of the usual clip; others may be given at run time.
        tubelet, patch: frames and pixels (along both sides) of a cube.
        channels: colour channels; mean and std must have as many values.
        mean, std: normalisation of the input, for pixels in [0, 1]; ImageNet's by default.
        checkpoint_blocks: recompute activations in the backward pass, to save memory.
    """

    encoder_positions: Tensor
    decoder_positions: Tensor

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
        super().__init__(tubelet, patch, channels, mean, std)
        if isinstance(size, str):
            size = find_size(size, SIZES)
        import_timm()
        from timm.models.beit import Block  # query and value have a bias, key has none, as in VideoMAE

        def blocks(width: int, depth: int, heads: int) -> nn.ModuleList:
            norm = partial(nn.LayerNorm, eps=1e-6)
            return nn.ModuleList(
                Block(width, heads, mlp_ratio=size.mlp_ratio, qkv_bias=True, norm_layer=norm)
                for _ in range(depth)
            )

        t, h, w = grid
        self.size, self.grid = size, (t, h, w)
        self.checkpoint_blocks = checkpoint_blocks
        # The 3D convolution of the original as a matrix: the same numbers, in the same order (C, t, h, w).
        self.embed = nn.Linear(self.values, size.width)
        self.encoder = blocks(size.width, size.depth, size.heads)
        self.encoder_norm = nn.LayerNorm(size.width, eps=1e-6)
        self.bridge = nn.Linear(size.width, size.decoder_width, bias=False)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, size.decoder_width))
        self.decoder = blocks(size.decoder_width, size.decoder_depth, size.decoder_heads)
        self.decoder_norm = nn.LayerNorm(size.decoder_width, eps=1e-6)
        self.head = nn.Linear(size.decoder_width, self.values)

        constants = {
            "encoder_positions": sinusoid(t * h * w, size.width),
            "decoder_positions": sinusoid(t * h * w, size.decoder_width),
        }
        for name, value in constants.items():
            self.register_buffer(name, value, persistent=False)
        self._init_weights()
        lean(self)

    def _init_weights(self) -> None:
        # Left at PyTorch's defaults, as in the original: the patch embedding and the bridge.
        for module in (self.encoder, self.decoder, self.head):
            init_linears(module)
        nn.init.trunc_normal_(self.mask_token, std=0.02, a=-0.02, b=0.02)

    def no_weight_decay(self) -> set[str]:
        """Return the names of parameters without weight decay, besides biases and other vectors."""
        return {"mask_token"}

    def encode(self, cubes: Tensor, ids_keep: Tensor) -> Tensor:
        """Encode normalised cubes, float32 [B, V, C, P], at ids_keep, int64 [B, V]: float [B, V, width]."""
        x = self.embed(cubes.flatten(2)) + self.encoder_positions[ids_keep]
        return self.encoder_norm(self._blocks(self.encoder, x))

    def decode(self, features: Tensor, ids_keep: Tensor, ids_decode: Tensor) -> Tensor:
        """Predict cubes.

        Args:
            features: float [B, V, width], of the visible tokens.
            ids_keep, ids_decode: int64 [B, V] and [B, D], the visible tokens and those that are predicted. The decoder
                sees these V + D tokens alone.

        Returns the normalised pixels of the cubes ids_decode, float [B, D, P * C], channel fastest.
        """
        mask_token = self.mask_token.flatten()
        x = ops.decoder_tokens(
            self.bridge(features), mask_token, self.decoder_positions, ids_keep, ids_decode
        )
        x = self._blocks(self.decoder, x)
        return self.head(self.decoder_norm(x[:, ids_keep.shape[1] :]))

    def forward(self, pixels: Tensor, masks: MaskBatch | DualMasks) -> tuple[Tensor, Tensor]:
        """Loss and prediction for a batch.

        Args:
            pixels: [B, C, T, H, W], uint8, or float in [0, 1] (not yet normalised).
            masks: ids_keep and ids_mask for the clips' own grid, on the same device; or what `smnoise.dual.dual` made
                of two masks, to decode only some of the hidden cubes.

        Returns:
            loss, a float32 scalar: mean squared error over the decoded cubes, which are hidden ones, each channel of
            each less its mean, divided by (its unbiased deviation + 1e-6); prediction [B, D, P * C].
        """
        pixels, prediction = self.predict(pixels, masks)
        return ops.patch_loss(prediction, pixels, decoded(masks), self.cube), prediction

    def predict(self, pixels: Tensor, masks: MaskBatch | DualMasks) -> tuple[Tensor, Tensor]:
        """The pixels as they were read, and what the decoder says of the decoded cubes, [B, D, values]. Arguments as of
        `forward`."""
        grid = self.grid_of(pixels)
        encoder = masks.encoder if isinstance(masks, DualMasks) else masks
        check_masks(encoder, grid, len(pixels), "clips")
        self._extend_positions(encoder.num_tokens)
        pixels = bytes_or_unit_floats(pixels)
        ids_keep, ids_decode = encoder.need("ids_keep"), decoded(masks)
        features = self.encode(self.cubes(pixels, ids_keep), ids_keep)
        return pixels, self.decode(features, ids_keep, ids_decode)

    @torch.no_grad()
    def losses(self, prediction: Tensor, pixels: Tensor, masks: MaskBatch | DualMasks) -> Tensor:
        """The loss of each clip, float32 [B], of the prediction that `forward` gave for these arguments: a clip's does
        not depend on the others. No gradient."""
        ids, pixels = decoded(masks), bytes_or_unit_floats(pixels)
        rows = [slice(b, b + 1) for b in range(len(ids))]
        return torch.stack([ops.patch_loss(prediction[r], pixels[r], ids[r], self.cube) for r in rows])

    @torch.no_grad()
    def features(self, pixels: Tensor) -> Tensor:
        """Frozen features of clips [B, C, T, H, W], uint8 or floats in [0, 1], nothing hidden: float [B, width], the
        mean over the cubes.
        """
        return self.tokens(pixels).mean(dim=1)

    @torch.no_grad()
    def tokens(self, pixels: Tensor) -> Tensor:
        """Frozen features of clips [B, C, T, H, W], uint8 or floats in [0, 1], as `features` but without the mean:
        float [B, L, width], in the order of the tokens.
        """
        t, h, w = self.grid_of(pixels)
        self._extend_positions(t * h * w)
        ids = torch.arange(t * h * w, device=pixels.device).expand(len(pixels), -1)
        return self.encode(self.cubes(bytes_or_unit_floats(pixels), ids), ids)

    def _blocks(self, blocks: nn.ModuleList, x: Tensor) -> Tensor:
        return run_blocks(blocks, x, recompute=self.checkpoint_blocks and self.training)

    def _extend_positions(self, tokens: int) -> None:
        if tokens > len(self.encoder_positions):
            for name in ("encoder_positions", "decoder_positions"):
                table = getattr(self, name)
                setattr(self, name, sinusoid(tokens, table.shape[1]).to(table))


def decoded(masks: MaskBatch | DualMasks) -> Tensor:
    """The hidden tokens that are decoded, int64 [B, D]."""
    return masks.ids_decode if isinstance(masks, DualMasks) else masks.need("ids_mask")


def sinusoid(tokens: int, width: int) -> Tensor:
    """VideoMAE's fixed positions: float32 [tokens, width], a sinusoid over the flat token number, sine on even
    and cosine on odd channels, base 10000."""
    channel = torch.arange(width)
    wavelength = 10000.0 ** ((channel // 2 * 2).double() / width)
    angle = torch.arange(tokens, dtype=torch.float64)[:, None] / wavelength
    return torch.where(channel % 2 == 0, angle.sin(), angle.cos()).float()


def bytes_or_unit_floats(pixels: Tensor) -> Tensor:
    """Return clips of any shape as the ops take them: uint8 as it is; floats, which are in [0, 1], as float32. Raises
    TypeError for anything else.
    """
    if pixels.dtype != torch.uint8 and not pixels.is_floating_point():
        raise TypeError(f"pixels must be uint8, or floats in [0, 1]; got {pixels.dtype}")
    return pixels if pixels.dtype == torch.uint8 else pixels.float()
