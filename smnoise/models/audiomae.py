# SPDX-License-Identifier: Apache-2.0
"""AudioMAE (Huang et al., NeurIPS 2022) for pretraining, written from tables of the published recipe.

Only visible patches are read and embedded; only hidden patches get a target. A spectrogram may have any length
at run time: positions are computed for its grid, and the local decoder's windows need not fit.

Letters: B batch, T and F patches along time and frequency, L = T * F tokens, V visible, M masked,
P = patch * patch values of a patch. Token number: time * F + freq.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from .. import ops
from ..compat import import_timm
from ..masks import MaskBatch
from .common import Size, check_masks, find_size, gather_tokens, init_linears, run_blocks
from .lean import lean
from .local_attention import LocalBlock

# base is the published recipe; tiny and small are ours, for laptops, tests and small sets. The decoder's depth
# is the local one's; a global decoder of these sizes has half as many blocks (published: 16 and 8).
SIZES = {
    "tiny": Size(192, 6, 3, 96, 4, 3),
    "small": Size(384, 12, 6, 256, 8, 8),
    "base": Size(768, 12, 12, 512, 16, 16),
}
WINDOW = (4, 4)
SHIFTS = ((0, 0), (2, 0))  # of even and odd blocks: windows move along time only


class AudioEncoder(nn.Module):
    """The part that is kept for fine-tuning: patches and a class token through transformer blocks.

    Made by `AudioMAE`, see there for the arguments. `size` is the `Size` in use, `blocks` the blocks.
    """

    def __init__(
        self, size: Size, grid: tuple[int, int], *, patch: int, positions: str, checkpoint_blocks: bool
    ):
        super().__init__()
        self.size, self.grid, self.patch = size, grid, patch
        self.checkpoint_blocks = checkpoint_blocks
        self.embed = nn.Linear(patch * patch, size.width)
        self.class_token = nn.Parameter(torch.empty(1, 1, size.width))
        self.positions = Positions(grid, size.width, positions)
        self.blocks = vit_blocks(size.width, size.depth, size.heads)
        init_linears(self.blocks)
        nn.init.xavier_uniform_(self.embed.weight)  # its bias stays at PyTorch's default, as in MAE
        nn.init.normal_(self.class_token, std=0.02)

    def grid_of(self, spectrograms: Tensor) -> tuple[int, int]:
        """Return the patches (T, F) of spectrograms, float [B, time, mel]. Raises TypeError or ValueError where they do
        not fit.
        """
        mel = self.grid[1] * self.patch
        if spectrograms.dim() != 3 or spectrograms.shape[2] != mel:
            raise ValueError(f"spectrograms must be [B, time, {mel} mel], got {tuple(spectrograms.shape)}")
        if not spectrograms.is_floating_point():
            raise TypeError(f"spectrograms must be normalised floats, got {spectrograms.dtype}")
        frames = spectrograms.shape[1]
        if frames == 0 or frames % self.patch:
            raise ValueError(
                f"time must be a multiple of the patch of {self.patch} frames, got {frames}: pad it"
            )
        return frames // self.patch, self.grid[1]

    def forward(
        self, patches: Tensor, ids: Tensor | None, grid: tuple[int, int], attend: Tensor | None = None
    ) -> Tensor:
        """Features before the last norm: float [B, 1 + V, width], the class token first.

        Args:
            patches: float32 [B, V, P].
            ids: int64 or int32 [B, V], their token numbers; None where they are all L in order.
            grid: (T, F) that the token numbers refer to.
            attend: which of the tokens attention may look at, bool [B, 1, 1, 1 + V]; None: all.
        """
        positions = self.positions(grid)
        tokens = self.embed(patches) + (positions if ids is None else positions[ids])
        # The class token's own position is a row of zeros.
        tokens = torch.cat([self.class_token.to(tokens.dtype).expand(len(tokens), -1, -1), tokens], dim=1)
        seen = () if attend is None else (attend,)
        return run_blocks(self.blocks, tokens, *seen, recompute=self.checkpoint_blocks and self.training)


class AudioMAE(nn.Module):
    """Encoder over the visible patches, decoder over all, loss on the hidden ones.

    Args:
        size: "tiny", "small", "base", or a `Size`, whose decoder_depth is taken as it is.
        grid: patches along (time, frequency) of the usual spectrogram. Other lengths may be given at run time,
            the number of mel bins is grid[1] * patch throughout.
        patch: frames and mel bins of a patch.
        decoder: "local" (published default): attention in windows of 4 x 4 patches, moved by 2 along time in
            every other block, without the class token. "global": standard blocks over all tokens.
        positions: "right": the code of a token is that of its time and frequency. "published": the released
            weights were trained with the table of the transposed grid, read in the order of the tokens, so
            token i has the code of row i // T and column i % T of a grid (F, T). Every code is distinct, but
            on the usual grid a patch 8 later is coded as nearer than the next one. For those weights only, at
            their length: at another length the same place gets another code.
        normalise_target: predict each patch less its mean, over its deviation; False for the values themselves,
            which pictures need.
        checkpoint_blocks: recompute activations in the backward pass, to save memory.

    The parts: `encoder` (an `AudioEncoder`), `encoder_norm`, and the decoder.
    """

    def __init__(
        self,
        size: str | Size = "base",
        grid: tuple[int, int] = (64, 8),
        *,
        patch: int = 16,
        decoder: str = "local",
        positions: str = "right",
        normalise_target: bool = True,
        checkpoint_blocks: bool = False,
    ):
        super().__init__()
        if decoder not in ("local", "global"):
            raise ValueError(f"decoder must be 'local' or 'global', got {decoder!r}")
        if len(grid) != 2:
            raise ValueError(f"grid must be (time, frequency) in patches, got {grid}")
        if isinstance(size, str):
            size = find_size(size, SIZES)
            if decoder == "global":
                size = replace(size, decoder_depth=size.decoder_depth // 2)
        if size.mlp_ratio != 4:
            raise ValueError(f"AudioMAE has MLPs of 4 times the width, got mlp_ratio {size.mlp_ratio}")
        time, freq = grid
        self.size, self.grid, self.patch = size, (time, freq), patch
        self.local, self.normalise_target = decoder == "local", normalise_target
        self.checkpoint_blocks = checkpoint_blocks
        self.encoder = AudioEncoder(
            size, self.grid, patch=patch, positions=positions, checkpoint_blocks=checkpoint_blocks
        )
        self.encoder_norm = nn.LayerNorm(size.width, eps=1e-6)
        width, depth, heads = size.decoder_width, size.decoder_depth, size.decoder_heads
        self.bridge = nn.Linear(size.width, width)
        self.mask_token = nn.Parameter(torch.empty(1, 1, width))
        self.decoder_positions = Positions(self.grid, width, positions)
        if self.local:
            self.decoder = nn.ModuleList(
                LocalBlock(width, heads, WINDOW, SHIFTS[i % 2]) for i in range(depth)
            )
        else:
            self.decoder = vit_blocks(width, depth, heads)
        self.decoder_norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, patch * patch)
        for module in (self.bridge, self.decoder, self.head):
            init_linears(module)
        nn.init.normal_(self.mask_token, std=0.02)
        lean(self)

    def no_weight_decay(self) -> set[str]:
        """Parameters without weight decay, besides biases and other vectors: none, as in AudioMAE's pretraining, where
        both tokens decay."""
        return set()

    def decode(self, features: Tensor, ids_keep: Tensor, ids_mask: Tensor, grid: tuple[int, int]) -> Tensor:
        """Predict the hidden patches.

        Args:
            features: float [B, 1 + V, width], normalised, the class token first.
            ids_keep, ids_mask: int64 [B, V] and [B, M], the visible and the hidden tokens.
            grid: (T, F) that the token numbers refer to.

        Returns float [B, M, P] in the order of ids_mask.
        """
        features = self.bridge(features)
        class_token, visible = features[:, :1], features[:, 1:]
        mask_token, positions = self.mask_token.flatten(), self.decoder_positions(grid)
        x = ops.decoder_tokens(visible, mask_token, positions, ids_keep, ids_mask, in_grid=True)
        recompute = self.checkpoint_blocks and self.training
        if self.local:
            x = run_blocks(self.decoder, x, grid, recompute=recompute)
        else:
            x = run_blocks(self.decoder, torch.cat([class_token.to(x.dtype), x], dim=1), recompute=recompute)
            x = x[:, 1:]
        return self.head(self.decoder_norm(gather_tokens(x, ids_mask)))

    def forward(self, spectrograms: Tensor, masks: MaskBatch) -> tuple[Tensor, Tensor]:
        """Loss and prediction for a batch.

        Args:
            spectrograms: float [B, time, mel], already normalised (subtract the set's mean, divide by twice its
                deviation); time a multiple of patch.
            masks: ids_keep and ids_mask for grid (1, T, F) of these spectrograms, on the same device.

        Returns:
            loss, a float32 scalar: mean squared error over the hidden patches; prediction [B, M, P], the values
            of a patch ordered (time, mel), mel fastest.
        """
        prediction = self.predict(spectrograms, masks)
        return self._loss(prediction, as_clips(spectrograms), masks.need("ids_mask")), prediction

    def predict(self, spectrograms: Tensor, masks: MaskBatch) -> Tensor:
        """What the decoder says of the hidden patches, [B, M, values]. Arguments as of `forward`."""
        grid = self.encoder.grid_of(spectrograms)
        check_masks(masks, (1, *grid), len(spectrograms), "spectrograms")
        ids_keep, ids_mask = masks.need("ids_keep"), masks.need("ids_mask")
        visible = gather_patches(spectrograms, ids_keep, self.patch)
        features = self.encoder_norm(self.encoder(visible, ids_keep, grid))
        return self.decode(features, ids_keep, ids_mask, grid)

    def _loss(self, prediction: Tensor, clips: Tensor, ids: Tensor) -> Tensor:
        cube = (1, self.patch, self.patch)
        return ops.patch_loss(prediction, clips, ids, cube, eps_inside=True, normalise=self.normalise_target)

    @torch.no_grad()
    def losses(self, prediction: Tensor, spectrograms: Tensor, masks: MaskBatch) -> Tensor:
        """The loss of each spectrogram, float32 [B], of the prediction that `forward` gave for these arguments: one's
        does not depend on the others. No gradient."""
        ids, clips = masks.need("ids_mask"), as_clips(spectrograms)
        rows = [slice(b, b + 1) for b in range(len(ids))]
        return torch.stack([self._loss(prediction[r], clips[r], ids[r]) for r in rows])

    @torch.no_grad()
    def features(self, spectrograms: Tensor) -> Tensor:
        """Frozen features of spectrograms, float [B, time, mel], nothing hidden: float [B, width], the mean over the
        patches after the encoder's last norm.
        """
        return self.tokens(spectrograms).mean(dim=1)

    @torch.no_grad()
    def tokens(self, spectrograms: Tensor) -> Tensor:
        """Frozen features of spectrograms, float [B, time, mel], as `features` but without the mean: float [B, L,
        width], in the order of the patches.
        """
        grid = self.encoder.grid_of(spectrograms)
        tokens = self.encoder(to_patches(spectrograms, self.patch), None, grid)
        return self.encoder_norm(tokens[:, 1:])


class Positions(nn.Module):
    """The fixed code of each token of a grid; for kind see `AudioMAE`. Nothing of it is saved."""

    usual: Tensor

    def __init__(self, grid: tuple[int, int], width: int, kind: str):
        super().__init__()
        if kind not in ("right", "published"):
            raise ValueError(f"positions must be 'right' or 'published', got {kind!r}")
        self.grid, self.width, self.transposed = grid, width, kind == "published"
        self.register_buffer("usual", self._table(grid), persistent=False)

    def forward(self, grid: tuple[int, int]) -> Tensor:
        """Return the codes of a grid's tokens: float32 [T * F, width]."""
        if not self.transposed and grid[1] == self.grid[1] and grid[0] <= self.grid[0]:
            return self.usual[: grid[0] * grid[1]]  # a place has its code at any length
        return self.usual if grid == self.grid else self._table(grid, self.usual.device)

    def _table(self, grid: tuple[int, int], device: torch.device | None = None) -> Tensor:
        return sinusoid_2d(grid[::-1] if self.transposed else grid, self.width, device)


def sinusoid_2d(grid: tuple[int, int], width: int, device: torch.device | None = None) -> Tensor:
    """MAE's fixed positions: float32 [rows * columns, width] for a grid of rows and columns, row by row.

    The first half of the channels codes the column, the second half the row. Each half holds the sines, then
    the cosines, of its coordinate times 10000 ** (-k / (width / 4)), k = 0 .. width / 4 - 1.
    """
    if width % 4:
        raise ValueError(f"2D positions need a width that is a multiple of 4, got {width}")
    count = partial(torch.arange, dtype=torch.float64, device=device)
    frequency = 10000.0 ** (-count(width // 4) / (width // 4))
    angles = [count(n)[:, None] * frequency for n in grid]
    row, column = (torch.cat([angle.sin(), angle.cos()], dim=1) for angle in angles)
    return torch.cat([column.repeat(grid[0], 1), row.repeat_interleave(grid[1], dim=0)], dim=1).float()


def vit_blocks(width: int, depth: int, heads: int) -> nn.ModuleList:
    """timm's standard transformer blocks, with a bias for query, key and value."""
    import_timm()
    from timm.models.vision_transformer import Block

    norm = partial(nn.LayerNorm, eps=1e-6)
    return nn.ModuleList(Block(width, heads, qkv_bias=True, norm_layer=norm) for _ in range(depth))


def to_patches(spectrograms: Tensor, patch: int) -> Tensor:
    """Spectrograms [B, T * patch, F * patch] as float32 [B, L, P], mel fastest within a patch."""
    x = spectrograms.float().unflatten(2, (-1, patch)).unflatten(1, (-1, patch))
    return x.transpose(2, 3).flatten(3).flatten(1, 2)


def as_clips(spectrograms: Tensor) -> Tensor:
    """Spectrograms [B, time, mel] as the training ops take them: float32 [B, 1, 1, time, mel]."""
    return spectrograms.float()[:, None, None]


def gather_patches(spectrograms: Tensor, ids: Tensor, patch: int) -> Tensor:
    """Gather the patches `ids`, int64 [B, N], of spectrograms, float [B, time, mel], as float32 [B, N, P]; the others
    are not read.
    """
    clips = as_clips(spectrograms)
    one = clips.new_ones(1)
    return ops.gather_patches(clips, ids, (1, patch, patch), one, one - one)[:, :, 0]


def from_patches(patches: Tensor, grid: tuple[int, int]) -> Tensor:
    """Put patches together again: float [B, L, P] of grid (T, F) become spectrograms [B, T * patch, F * patch]."""
    patch = round(patches.shape[2] ** 0.5)
    x = patches.unflatten(2, (patch, patch)).unflatten(1, grid)
    return x.transpose(2, 3).flatten(3).flatten(1, 2)


def patch_statistics(patches: Tensor) -> tuple[Tensor, Tensor]:
    """Compute mean and deviation of patches, float [..., P], both [..., 1]. The deviation is the root of (unbiased
    variance + 1e-6), as AudioMAE divides by.
    """
    var, mean = torch.var_mean(patches, dim=-1, keepdim=True, correction=1)
    return mean, (var + 1e-6).sqrt()
