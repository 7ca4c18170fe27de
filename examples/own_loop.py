# SPDX-License-Identifier: Apache-2.0
"""A masked autoencoder of video in one file, to fork: data, mask, model, loss, loop. Needs av, timm and torch.

    python examples/own_loop.py VIDEOS --steps 500          # VIDEOS: a folder of .mp4 files

Masks are made on the device in each step: `masks = sampler(samples)`, a function of the seed and the number of the
sample alone. So are crops and the order of clips; that is why nothing of it needs to be saved.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import av
import torch
from torch import nn
from torch.nn.functional import mse_loss

import smnoise
from smnoise.compat import import_timm

import_timm()  # beside a CPU build of torch, torchvision cannot be imported without it
from timm.layers import Mlp  # noqa: E402
from timm.models.vision_transformer import Block  # noqa: E402

FRAMES, SIZE, TUBELET, PATCH = 16, 64, 2, 16
GRID = (FRAMES // TUBELET, SIZE // PATCH, SIZE // PATCH)
TOKENS, PIXELS = GRID[0] * GRID[1] * GRID[2], TUBELET * PATCH * PATCH * 3


def read_videos(folder: Path) -> list[torch.Tensor]:
    """Every frame of every video, float32 [frames, 3, height, width] in 0 .. 1, the shorter side SIZE pixels."""
    videos = []
    for path in sorted(folder.glob("*.mp4")):
        with av.open(str(path)) as container:
            images = [
                torch.from_numpy(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)
            ]
        frames = torch.stack(images).permute(0, 3, 1, 2).float() / 255
        scale = SIZE / min(frames.shape[2:])
        shape = [max(SIZE, round(n * scale)) for n in frames.shape[2:]]
        videos.append(nn.functional.interpolate(frames, size=shape, mode="bilinear", antialias=True))
    return videos


def clip_of(videos: list[torch.Tensor], sample: int) -> torch.Tensor:
    """Clip number `sample`: FRAMES frames from anywhere in a video, cropped anywhere: [3, FRAMES, SIZE, SIZE]."""
    random = torch.Generator().manual_seed(sample)
    video = videos[sample % len(videos)]
    first, top, left = (
        int(torch.randint(max(1, n - size + 1), (), generator=random))
        for n, size in zip((len(video), *video.shape[2:]), (FRAMES, SIZE, SIZE), strict=True)
    )
    frames = torch.arange(first, first + FRAMES).clamp(max=len(video) - 1)
    return video[frames, :, top : top + SIZE, left : left + SIZE].transpose(0, 1)


def patches_of(clips: torch.Tensor) -> torch.Tensor:
    """[B, 3, FRAMES, SIZE, SIZE] as [B, TOKENS, PIXELS], tokens numbered t, y, x with x fastest."""
    t, h, w = GRID
    cut = clips.reshape(-1, 3, t, TUBELET, h, PATCH, w, PATCH)
    return cut.permute(0, 2, 4, 6, 3, 5, 7, 1).reshape(-1, TOKENS, PIXELS)


class Autoencoder(nn.Module):
    """The encoder sees the visible tokens alone; the decoder fills in the others."""

    def __init__(self, width: int = 192, depth: int = 6, decoder_depth: int = 2):
        super().__init__()
        self.embed = Mlp(PIXELS, width, width)
        self.positions = nn.Parameter(0.02 * torch.randn(TOKENS, width))
        self.encoder = nn.Sequential(*(Block(width, 3) for _ in range(depth)), nn.LayerNorm(width))
        self.mask_token = nn.Parameter(torch.zeros(width))
        self.decoder = nn.Sequential(*(Block(width, 3) for _ in range(decoder_depth)), nn.LayerNorm(width))
        self.predict = nn.Linear(width, PIXELS)

    def forward(self, patches: torch.Tensor, masks: smnoise.MaskBatch) -> torch.Tensor:
        """The loss: mean squared error of the hidden patches, each normalised by its own mean and deviation."""
        keep, hide = masks.ids_keep, masks.ids_mask
        rows = torch.arange(len(patches), device=patches.device)[:, None]
        visible = self.encoder(self.embed(patches[rows, keep]) + self.positions[keep])
        hidden = self.mask_token + self.positions[hide]
        decoded = self.decoder(torch.cat([visible + self.positions[keep], hidden], dim=1))
        target = patches[rows, hide]
        target = (target - target.mean(dim=2, keepdim=True)) / (target.std(dim=2, keepdim=True) + 1e-3)
        return mse_loss(self.predict(decoded[:, keep.shape[1] :]), target)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("videos", type=Path)
    parser.add_argument("--mask", default="green-3d", help="anything that smnoise.sampler_of takes")
    parser.add_argument("--mask-ratio", type=float, default=0.9)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    given = parser.parse_args()

    videos = read_videos(given.videos)
    torch.manual_seed(0)
    model = Autoencoder().to(given.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=1e-3, total_steps=given.steps, pct_start=0.1
    )
    sampler = smnoise.sampler_of(given.mask, GRID, given.mask_ratio, seed=0)

    for step in range(given.steps):
        samples = smnoise.sample_indices(step, given.batch_size)  # with several processes: rank=, world_size=
        clips = torch.stack([clip_of(videos, n) for n in samples.tolist()]).to(given.device)
        loss = model(patches_of(clips), sampler(samples.to(given.device)))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 10 == 0 or step == given.steps - 1:
            print(f"step {step:5}  loss {loss.item():.4f}", flush=True)
    torch.save(model.state_dict(), "own_loop.pt")


if __name__ == "__main__":
    main()
