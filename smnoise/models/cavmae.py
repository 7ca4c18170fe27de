# SPDX-License-Identifier: Apache-2.0
"""CAV-MAE (Gong et al., ICLR 2023), a picture and its sound in one model, written from tables of the published recipe;
the picture may be a clip.

Each modality has blocks of its own, over its visible tokens. A shared block sees both together, for reconstruction, and
each by itself, for the contrast; it has a set of norms for each of the three. One decoder fills in both.

Letters: B batch, T frames of tokens of the clip, L tokens, V visible, M hidden, P values of a patch; a and v for sound
and picture.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .. import ops
from ..compat import import_timm
from ..masks import MaskBatch
from ..samplers.coupled import MaskPair
from .audiomae import as_clips, gather_patches, sinusoid_2d, vit_blocks
from .common import Size, check_masks, find_size, init_linears, run_blocks
from .contrast import Contrast, contrast
from .lean import lean
from .videomae import IMAGENET_MEAN, IMAGENET_STD, Cubes, bytes_or_unit_floats, sinusoid

# The depth counts a modality's own blocks and the shared one. base is the published recipe; the others are ours.
SIZES = {
    "nano": Size(64, 3, 4, 64, 2, 4),
    "tiny": Size(192, 6, 3, 96, 2, 3),
    "small": Size(384, 12, 6, 256, 4, 8),
    "base": Size(768, 12, 12, 512, 8, 16),
}
LAYOUTS = ("own", "cavmae")


class Parts(NamedTuple):
    """What the loss is made of, float32 scalars."""

    video: Tensor
    """Mean squared error over the hidden cubes of the picture."""
    audio: Tensor
    """Over the hidden patches of the sound."""
    contrast: Tensor
    """How badly a clip's sound is told from the sounds of others, in nats."""
    accuracy: Tensor
    """How often it is told, 0 .. 1. No gradient."""


class JointBlock(nn.Module):
    """A transformer block with one attention and one MLP, and norms for tokens of both, of sound and of the picture."""

    attn: Any  # one of timm's, which have no types
    mlp: Any

    def __init__(self, width: int, heads: int):
        super().__init__()
        (block,) = vit_blocks(width, 1, heads)
        self.attn, self.mlp = block.attn, block.mlp
        norm = partial(nn.LayerNorm, width, eps=1e-6)
        self.norm1, self.norm1_a, self.norm1_v = norm(), norm(), norm()
        self.norm2, self.norm2_a, self.norm2_v = norm(), norm(), norm()

    def forward(self, x: Tensor, of: str) -> Tensor:
        """x [B, N, width] with the norms `of`: "" both together, "_a" sound, "_v" picture."""
        norm1, norm2 = self.get_submodule(f"norm1{of}"), self.get_submodule(f"norm2{of}")
        x = x + self.attn(norm1(x))
        return x + self.mlp(norm2(x))


class CAVMAE(Cubes):
    """Encoders over the visible tokens of picture and sound, a shared block, one decoder, and a contrast.

    Args:
        size: "nano", "tiny", "small", "base", or a `Size`; its depth less `joint_depth` is that of a modality's own
            blocks.
        grid: tokens of the clip along (T, H, W).
        audio_grid: patches of the sound along (time, frequency).
        tubelet, patch: frames and pixels of a cube; frames and mel bins of a patch of sound are `patch` too.
        layout: "own": tokens of the sound are numbered time * F + freq, positions are those of `VideoMAE` and
            `AudioMAE` here, and the picture's target is normalised in each channel, as VideoMAE's. "cavmae": as in the
            published weights, for one frame: tokens of the sound are numbered freq * T + time, both modalities have
            2D positions, and a patch is normalised over all its channels together.
        joint_depth: shared blocks.
        contrast_weight: of the contrast in the loss; 0.01 is the published one.
        temperature: of the contrast.
        both_directions: contrast also in the other direction, pictures for each sound; the mean of both.
        normalise_target: predict each patch less its mean, over its deviation.
        mean, std: normalisation of the pixels.
        checkpoint_blocks: recompute activations in the backward pass, to save memory.

    Raises ValueError for sizes and layouts that do not go together.
    """

    video_modality: Tensor
    audio_modality: Tensor
    video_positions: Tensor
    audio_positions: Tensor
    video_decoder_positions: Tensor
    audio_decoder_positions: Tensor

    def __init__(
        self,
        size: str | Size = "base",
        grid: tuple[int, int, int] = (8, 14, 14),
        audio_grid: tuple[int, int] = (64, 8),
        *,
        tubelet: int = 2,
        patch: int = 16,
        layout: str = "own",
        joint_depth: int = 1,
        contrast_weight: float = 0.01,
        temperature: float = 0.05,
        both_directions: bool = False,
        normalise_target: bool = True,
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
        checkpoint_blocks: bool = False,
    ):
        super().__init__(tubelet, patch, 3, mean, std)
        if isinstance(size, str):
            size = find_size(size, SIZES)
        if layout not in LAYOUTS:
            raise ValueError(f"layout must be one of {', '.join(LAYOUTS)}; got {layout!r}")
        if not 0 < joint_depth < size.depth:
            raise ValueError(f"joint_depth must be in 1..{size.depth - 1}, got {joint_depth}")
        if not temperature > 0 or not contrast_weight >= 0:
            raise ValueError(
                "temperature must be positive and contrast_weight not negative, got "
                f"{temperature} and {contrast_weight}"
            )
        if size.mlp_ratio != 4:
            raise ValueError(f"CAVMAE has MLPs of 4 times the width, got mlp_ratio {size.mlp_ratio}")
        if layout == "cavmae" and grid[0] * tubelet != 1:
            raise ValueError(
                f"layout cavmae is of one frame, got {grid[0]} of {tubelet}; take layout own for clips"
            )
        import_timm()
        self.size, self.layout, self.joint_depth = size, layout, joint_depth
        self.grid, self.audio_grid = (grid[0], grid[1], grid[2]), (audio_grid[0], audio_grid[1])
        self.contrast_weight, self.temperature = contrast_weight, temperature
        self.both_directions, self.normalise_target = both_directions, normalise_target
        self.checkpoint_blocks = checkpoint_blocks

        own = partial(vit_blocks, size.width, size.depth - joint_depth, size.heads)
        norm = partial(nn.LayerNorm, size.width, eps=1e-6)
        self.video_embed = nn.Linear(self.values, size.width)
        self.audio_embed = nn.Linear(patch * patch, size.width)
        self.video_blocks, self.audio_blocks = own(), own()
        self.joint_blocks = nn.ModuleList(JointBlock(size.width, size.heads) for _ in range(joint_depth))
        self.norm, self.norm_a, self.norm_v = norm(), norm(), norm()
        self.bridge = nn.Linear(size.width, size.decoder_width)
        self.decoder = vit_blocks(size.decoder_width, size.decoder_depth, size.decoder_heads)
        self.decoder_norm = nn.LayerNorm(size.decoder_width, eps=1e-6)
        self.video_head = nn.Linear(size.decoder_width, self.values)
        self.audio_head = nn.Linear(size.decoder_width, patch * patch)
        for name, width in (("", size.width), ("decoder_", size.decoder_width)):
            for modality in ("video", "audio"):
                setattr(self, f"{modality}_{name}modality", nn.Parameter(torch.zeros(1, 1, width)))
        self.mask_token = nn.Parameter(torch.zeros(1, 1, size.decoder_width))
        for name, width in (("", size.width), ("decoder_", size.decoder_width)):
            self.register_buffer(f"video_{name}positions", self._of_video(width), persistent=False)
            self.register_buffer(f"audio_{name}positions", self._of_audio(width), persistent=False)
        self._init_weights()
        lean(self)

    def _of_video(self, width: int) -> Tensor:
        t, h, w = self.grid
        return sinusoid_2d((h, w), width) if self.layout == "cavmae" else sinusoid(t * h * w, width)

    def _of_audio(self, width: int) -> Tensor:
        return sinusoid_2d(self.audio_order, width)

    @property
    def audio_order(self) -> tuple[int, int]:
        """The grid of the sound in the order of its tokens: (time, frequency), or (frequency, time) in CAV-MAE's."""
        return self.audio_grid if self.layout == "own" else self.audio_grid[::-1]

    def _init_weights(self) -> None:
        init_linears(self)
        for embed in (self.video_embed, self.audio_embed):
            nn.init.xavier_uniform_(embed.weight)
        for name, parameter in self.named_parameters():
            if name.endswith("modality") or name == "mask_token":
                nn.init.normal_(parameter, std=0.02)

    def no_weight_decay(self) -> set[str]:
        """Parameters without weight decay, besides biases and other vectors: none, as published."""
        return set()

    def _blocks(self, blocks: nn.ModuleList, x: Tensor, *constants) -> Tensor:
        return run_blocks(blocks, x, *constants, recompute=self.checkpoint_blocks and self.training)

    def check(self, pixels: Tensor, spectrograms: Tensor) -> None:
        """Raises TypeError or ValueError for clips and spectrograms of other shapes than the model's."""
        if self.grid_of(pixels) != self.grid:
            raise ValueError(f"the clips have grid {self.grid_of(pixels)}, the model {self.grid}")
        want = tuple(n * self.patch for n in self.audio_grid)
        if spectrograms.dim() != 3 or tuple(spectrograms.shape[1:]) != want:
            raise ValueError(
                f"spectrograms must be [B, {want[0]}, {want[1]}], got {tuple(spectrograms.shape)}"
            )
        if not spectrograms.is_floating_point():
            raise TypeError(f"spectrograms must be normalised floats, got {spectrograms.dtype}")
        if len(pixels) != len(spectrograms):
            raise ValueError(f"{len(pixels)} clips beside {len(spectrograms)} spectrograms; give pairs")

    def in_order(self, spectrograms: Tensor) -> Tensor:
        """Spectrograms [B, time, mel] with the axes of `audio_order`."""
        return spectrograms if self.layout == "own" else spectrograms.transpose(1, 2)

    def encode_video(self, pixels: Tensor, ids: Tensor) -> Tensor:
        """Own features of the cubes ids [B, V] of clips [B, 3, frames, height, width]: [B, V, width], before the shared
        block."""
        cubes = self.cubes(bytes_or_unit_floats(pixels), ids).flatten(2)
        x = self.video_embed(cubes) + self.video_positions[ids] + self.video_modality
        return self._blocks(self.video_blocks, x)

    def encode_audio(self, spectrograms: Tensor, ids: Tensor) -> Tensor:
        """Own features of the patches ids [B, V] of spectrograms [B, time, mel]: [B, V, width]."""
        patches = gather_patches(self.in_order(spectrograms), ids, self.patch)
        x = self.audio_embed(patches) + self.audio_positions[ids] + self.audio_modality
        return self._blocks(self.audio_blocks, x)

    def join(self, audio: Tensor, video: Tensor) -> tuple[Tensor, Tensor]:
        """Own features of both, through the shared block together: the same shapes, normalised."""
        x = self.norm(self._blocks(self.joint_blocks, torch.cat([audio, video], dim=1), ""))
        return x[:, : audio.shape[1]], x[:, audio.shape[1] :]

    def alone(self, features: Tensor, modality: str) -> Tensor:
        """Own features of one modality, "audio" or "video", through the shared block by themselves: normalised."""
        of = {"audio": "_a", "video": "_v"}[modality]
        return getattr(self, f"norm{of}")(self._blocks(self.joint_blocks, features, of))

    def decode(self, audio: Tensor, video: Tensor, masks: MaskPair) -> tuple[Tensor, Tensor]:
        """Joint features [B, V, width] of the visible tokens: predictions of the hidden patches of the sound
        [B, M, P], and of the hidden cubes of the picture [B, M, P], channel fastest."""
        rows = []
        for name, features in (("audio", audio), ("video", video)):
            own: MaskBatch = getattr(masks, name)
            tokens = ops.decoder_tokens(
                self.bridge(features),
                self.mask_token.flatten(),
                getattr(self, f"{name}_decoder_positions"),
                own.need("ids_keep"),
                own.need("ids_mask"),
            )
            rows.append(tokens + getattr(self, f"{name}_decoder_modality"))
        both = self.decoder_norm(self._blocks(self.decoder, torch.cat(rows, dim=1)))
        of_audio, of_video = both.split([row.shape[1] for row in rows], dim=1)
        return (
            self.audio_head(of_audio[:, audio.shape[1] :]),
            self.video_head(of_video[:, video.shape[1] :]),
        )

    def audio_loss(self, prediction: Tensor, spectrograms: Tensor, ids: Tensor) -> Tensor:
        """Mean squared error of predicted patches ids [B, M], a float32 scalar."""
        cube = (1, self.patch, self.patch)
        pictures = as_clips(self.in_order(spectrograms))
        return ops.patch_loss(
            prediction, pictures, ids, cube, eps_inside=True, normalise=self.normalise_target
        )

    def video_loss(self, prediction: Tensor, pixels: Tensor, ids: Tensor) -> Tensor:
        """Mean squared error of predicted cubes ids [B, M], a float32 scalar."""
        pixels = bytes_or_unit_floats(pixels)
        if self.layout == "own":
            return ops.patch_loss(prediction, pixels, ids, self.cube, normalise=self.normalise_target)
        # Over all channels together: they are the frames of a picture of one channel, each by mean and std first.
        target = self.cubes(pixels, ids).flatten(2)
        if self.normalise_target:
            var, mean = torch.var_mean(target, dim=-1, keepdim=True, correction=1)
            target = (target - mean) / (var + 1e-6).sqrt()
        channel_first = prediction.float().unflatten(2, (-1, self.channels)).transpose(2, 3).flatten(2)
        return (channel_first - target).square().mean()

    def forward(
        self, pixels: Tensor, spectrograms: Tensor, masks: MaskPair, contrast_masks: MaskPair | None = None
    ) -> tuple[Tensor, Parts]:
        """Loss and its parts for a batch.

        Args:
            pixels: [B, 3, frames, height, width], uint8, or float in [0, 1] (not yet normalised).
            spectrograms: float [B, time, mel], already normalised, of the same seconds.
            masks: of the clips' grid and of (1, *audio_order), on the same device.
            contrast_masks: others for the contrast alone, which then costs a pass of the own blocks of its own (after
                TG-DP, arXiv 2604.08147). By default the contrast sees the tokens of `masks`.

        Returns:
            loss, a float32 scalar: the errors of both, and contrast_weight times the contrast; its parts.
        """
        self.check(pixels, spectrograms)
        for pair in (masks, contrast_masks):
            if pair is not None:
                check_masks(pair.video, self.grid, len(pixels), "clips")
                check_masks(pair.audio, (1, *self.audio_order), len(pixels), "spectrograms")
        audio = self.encode_audio(spectrograms, masks.audio.need("ids_keep"))
        video = self.encode_video(pixels, masks.video.need("ids_keep"))
        to_audio, to_video = self.decode(*self.join(audio, video), masks)
        video_loss = self.video_loss(to_video, pixels, masks.video.need("ids_mask"))
        audio_loss = self.audio_loss(to_audio, spectrograms, masks.audio.need("ids_mask"))
        if contrast_masks is not None:
            audio = self.encode_audio(spectrograms, contrast_masks.audio.need("ids_keep"))
            video = self.encode_video(pixels, contrast_masks.video.need("ids_keep"))
        found: Contrast = contrast(
            self.alone(audio, "audio").mean(dim=1),
            self.alone(video, "video").mean(dim=1),
            self.temperature,
            self.both_directions,
        )
        loss = video_loss + audio_loss + self.contrast_weight * found.loss
        return loss, Parts(video_loss, audio_loss, found.loss, found.accuracy)

    def predict(self, pixels: Tensor, spectrograms: Tensor, masks: MaskPair) -> tuple[Tensor, Tensor]:
        """Predictions of the hidden patches of the sound, and of the hidden cubes of the picture, as of `decode`, for
        any pairing of clips and sounds."""
        self.check(pixels, spectrograms)
        audio = self.encode_audio(spectrograms, masks.audio.need("ids_keep"))
        video = self.encode_video(pixels, masks.video.need("ids_keep"))
        return self.decode(*self.join(audio, video), masks)

    @torch.no_grad()
    def errors(self, pixels: Tensor, spectrograms: Tensor, masks: MaskPair) -> tuple[Tensor, Tensor]:
        """The reconstruction errors of the sound and of the picture, float32 scalars, for any pairing of clips and
        sounds: the rows of a batch need not belong together, only their masks."""
        to_audio, to_video = self.predict(pixels, spectrograms, masks)
        return (
            self.audio_loss(to_audio, spectrograms, masks.audio.need("ids_mask")),
            self.video_loss(to_video, pixels, masks.video.need("ids_mask")),
        )

    @torch.no_grad()
    def features(self, pixels: Tensor | None, spectrograms: Tensor | None) -> Tensor:
        """Frozen features, nothing hidden: float [B, width], the mean of the tokens. Of both, through the shared block
        together; of one alone, where the other is None, as the contrast has them."""
        return self.tokens(pixels, spectrograms).mean(dim=1)

    @torch.no_grad()
    def tokens(self, pixels: Tensor | None, spectrograms: Tensor | None) -> Tensor:
        """Frozen features of every token, nothing hidden: float [B, L, width], of the sound before those of the
        picture."""
        own = {}
        if spectrograms is not None:
            own["audio"] = self.encode_audio(spectrograms, self._all(spectrograms, self.audio_positions))
        if pixels is not None:
            own["video"] = self.encode_video(pixels, self._all(pixels, self.video_positions))
        if not own:
            raise ValueError("features need clips, spectrograms, or both")
        if len(own) == 1:
            ((name, features),) = own.items()
            return self.alone(features, name)
        return torch.cat(self.join(own["audio"], own["video"]), dim=1)

    @staticmethod
    def _all(batch: Tensor, positions: Tensor) -> Tensor:
        return torch.arange(len(positions), device=batch.device).expand(len(batch), -1)
